"""Contrasted features of places: a place is to be like its counterpart, and unlike places of other classes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stpp.common.labels import IGNORE
from stpp.engine.batch import Batch
from stpp.engine.distributed import Team

CELL = 8
"""The side of a place, in pixels."""
CHUNK = 2048
"""Anchors whose products with all negatives are in memory at a time."""


class Places(NamedTuple):
    """The places of images, CELL pixels wide and high.

    `directions` are float (N, h, w, D) of length 1; `labels`, int64 (N, h, w), are those of a network, and 255 where a
    place is not wholly of the image; `confidence`, float32 (N, h, w), are the probabilities of these labels. Only
    `directions` have gradients.
    """

    directions: Tensor
    labels: Tensor
    confidence: Tensor


def places(directions: Tensor, logits: Tensor, valid: Tensor) -> Places:
    """Those of directions (N, D, h, w), logits (N, C, h, w) and `valid` pixels, bool (N, H, W)."""
    confidence, labels = logits.detach().softmax(dim=1).max(dim=1)
    whole = F.adaptive_avg_pool2d(valid.float()[:, None], (labels.shape[1], labels.shape[2]))[:, 0] == 1
    return Places(directions.movedim(1, 3), labels.masked_fill(~whole, IGNORE), confidence)


def pooled(features: Tensor, images: Tensor) -> Tensor:
    """Means of features (N, D, h, w) over the places of `images` (N, C, H, W)."""
    height, width = (-(-side // CELL) for side in images.shape[-2:])
    return F.adaptive_avg_pool2d(features, (height, width))


def chosen(batch: Batch, found: Places, part: str, most: int) -> tuple[Tensor, Tensor]:
    """Up to `most` places of each unlabeled image, drawn at random: directions (U k, D) without gradients, labels."""
    count = min(most, found.labels[0].numel())
    orders = [
        batch.draws("unlabeled", number, part).permutation(found.labels[0].numel())[:count]
        for number in range(len(found.labels))
    ]
    at = torch.from_numpy(np.stack(orders)).to(found.labels.device)
    directions = found.directions.detach().flatten(1, 2)
    drawn = directions.gather(1, at[..., None].expand(-1, -1, directions.shape[2]))
    return drawn.flatten(0, 1), found.labels.flatten(1).gather(1, at).flatten()


def of_team(directions: Tensor, labels: Tensor, team: Team) -> tuple[Tensor, Tensor]:
    """Those of all processes, one after another; those with fewer give more that have the label 255."""
    (most,) = team.largest(len(labels))
    missing = most - len(labels)
    labels = team.gather(F.pad(labels, (0, missing), value=IGNORE)).flatten()
    return team.gather(F.pad(directions, (0, 0, 0, missing))).flatten(0, 1), labels


def contrast(
    anchors: Tensor, positives: Tensor, labels: Tensor, negatives: tuple[Tensor, Tensor], temperature: float
) -> Tensor:
    """-ln(e^p / (e^p + sum of e^n)) of each anchor, (A,) (InfoNCE: van den Oord, Li and Vinyals, 2018).

    p is the product of an anchor with its positive, both (A, D), and n that with a negative of another class, divided
    by the temperature. `negatives` are directions (K, D) and labels (K,), 255 for none. Gradients reach the anchors
    alone.
    """

    def losses(anchors: Tensor, positives: Tensor, labels: Tensor) -> Tensor:
        alike = (anchors * positives).sum(dim=1, keepdim=True) / temperature
        others = anchors @ negatives[0].T / temperature
        of_others = (negatives[1] != labels[:, None]) & (negatives[1] != IGNORE)
        everything = torch.cat([alike, others.masked_fill(~of_others, float("-inf"))], dim=1)
        return everything.logsumexp(dim=1) - alike[:, 0]

    parts = zip(*(torch.split(each, CHUNK) for each in (anchors, positives.detach(), labels)))
    found = [checkpoint(losses, *part, use_reentrant=False) for part in parts]
    return torch.cat(found) if found else anchors.sum(dim=1)


class Bank(nn.Module):
    """Directions and labels of earlier steps, which are saved with the state of a training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.directions, self.labels = torch.zeros(0, width), torch.zeros(0, dtype=torch.int64)

    def keep(self, directions: Tensor, labels: Tensor) -> None:
        """Have these, and no longer those that are there."""
        self.directions, self.labels = directions.detach().clone(), labels.clone()

    def beside(self, directions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """These and those of the bank."""
        own = self.directions.to(directions.device), self.labels.to(labels.device)
        return torch.cat([directions, own[0]]), torch.cat([labels, own[1]])

    def get_extra_state(self) -> dict[str, Tensor]:
        return {"directions": self.directions, "labels": self.labels}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        self.directions, self.labels = state["directions"], state["labels"]
