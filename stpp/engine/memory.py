"""The contrastive term of U2PL: reliable pixels are drawn to the mean of their class, and away from what is not of it.

What a pixel is surely not, an uncertain network says as well: the classes that it ranks low. Such pixels fill a memory
of each class, from which the negatives of a class are drawn.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stpp.common.labels import IGNORE
from stpp.engine.batch import Batch
from stpp.engine.distributed import Team

SURE = 0.3
"""Least probability of its class that makes a reliable pixel an anchor."""
OF_LABELED = 3
"""A labeled pixel may be taken for the classes of so many ranks, the first ones."""
TEMPERATURE = 0.5


class Pixels(NamedTuple):
    """The pixels of labeled and then of unlabeled images, P each.

    `student` and `teacher` are their features, float (N, P, D), `probabilities` the teacher's, (N, P, C), `labels`
    int64 (N, P), 255 = ignore; `low` and `high`, bool (N, P), say where the entropy is low and where it is high, both
    of them everywhere in labeled images.
    """

    student: Tensor
    teacher: Tensor
    probabilities: Tensor
    labels: Tensor
    low: Tensor
    high: Tensor

    def of_classes(self) -> Tensor:
        """Which pixels have the label of each class, bool (N, C, P)."""
        classes = torch.arange(self.probabilities.shape[2], device=self.labels.device)
        return self.labels[:, None] == classes[:, None]


class Memory(nn.Module):
    """For each class up to `size` features of pixels that are surely not of it, of which the oldest go first."""

    features: Tensor
    counts: Tensor

    def __init__(self, classes: int, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(classes, size, width))
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.int64))

    def add(self, label: int, features: Tensor) -> None:
        """Have `features` (K, D) as well; `counts` counts all that there ever were."""
        size, begin = self.features.shape[1], int(self.counts[label])
        new = features[-size:]
        at = torch.arange(begin + len(features) - len(new), begin + len(features), device=new.device) % size
        self.features[label, at] = new
        self.counts[label] += len(features)

    def drawn(self, numbers: Tensor) -> Tensor:
        """The features at `numbers` in [0, 1) (N, C, ...) of each class: (N, C, ..., D)."""
        known = self.counts.clamp(max=self.features.shape[1]).view(1, -1, *[1] * (numbers.ndim - 2))
        at = (numbers * known).long().clamp(max=self.features.shape[1] - 1)
        classes = torch.arange(len(self.counts), device=at.device).view(known.shape)
        return self.features[classes, at]


def contrast(pixels: Pixels, memory: Memory, batch: Batch, anchors: int, negatives: int, team: Team) -> Tensor:
    """The loss of the anchors: up to so many of each class and image, each with so many negatives; a scalar.

    The mean of the anchors of each class, and then of the classes that have anchors and negatives.
    """
    own = pixels.of_classes() & pixels.low[:, None]
    sure = pixels.probabilities.transpose(1, 2) > SURE
    total = team.sum((own.to(pixels.teacher.dtype) @ pixels.teacher).sum(dim=0))
    counts = team.sum(own.sum(dim=(0, 2)))
    prototypes = F.normalize(total / counts[:, None].clamp(min=1), dim=1)
    at, taken = some(own & sure, uniform(batch, "anchors", own.shape[2]), anchors)
    taken &= ((counts > 0) & (memory.counts > 0))[None, :, None]
    features = F.normalize(gathered(pixels.student, at), dim=3)
    drawn = memory.drawn(uniform(batch, "negatives", at.shape[1] * at.shape[2] * negatives).view(*at.shape, negatives))
    alike = torch.einsum("nckd,cd->nck", features, prototypes)[..., None]
    unlike = torch.einsum("nckd,nckjd->nckj", features, F.normalize(drawn, dim=4))
    scores = torch.cat([alike, unlike], dim=3) / TEMPERATURE
    losses = scores.logsumexp(dim=3) - scores[..., 0]
    of_class = team.sum((losses * taken).sum(dim=(0, 2)))
    taken_of_class = team.sum(taken.sum(dim=(0, 2)))
    present = taken_of_class > 0
    return (of_class / taken_of_class.clamp(min=1)).sum() / present.sum().clamp(min=1)


def remember(pixels: Pixels, memory: Memory, batch: Batch, labeled: int, lowest: int, most: int, team: Team) -> None:
    """Add to the memory up to `most` pixels of each class and image that are surely not of that class.

    Of unlabeled images these are uncertain ones that rank the class at `lowest` or below, from 0; of the `labeled`
    ones, the first ones, those that rank it high though their label is another one.
    """
    ranks = pixels.probabilities.argsort(dim=2, descending=True).argsort(dim=2).transpose(1, 2)
    known = (pixels.labels != IGNORE)[:, None]
    unlike = known & torch.cat(
        [(ranks < OF_LABELED)[:labeled] & ~pixels.of_classes()[:labeled], (ranks >= lowest)[labeled:]]
    )
    at, taken = some(unlike & pixels.high[:, None], uniform(batch, "memory", unlike.shape[2]), most)
    features = gathered(pixels.teacher, at)
    everything, chosen = (
        torch.cat([whole(part[:labeled], team), whole(part[labeled:], team)]) for part in (features, taken.byte())
    )
    for label in range(len(memory.counts)):
        memory.add(label, everything[:, label][chosen[:, label] > 0])


def some(of: Tensor, numbers: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The places (N, C, k) of up to `most` pixels of each class among those that are `of` it, bool (N, C, P).

    Also which of the places are taken, bool (N, C, k). The pixels with the largest `numbers`, (N, P), are.
    """
    scores = numbers[:, None].masked_fill(~of, -1)
    best = scores.topk(min(most, of.shape[2]), dim=2)
    return best.indices, best.values >= 0


def gathered(features: Tensor, at: Tensor) -> Tensor:
    """The features (N, P, D) at the places (N, C, k): (N, C, k, D)."""
    flat = at.flatten(1)[..., None].expand(-1, -1, features.shape[2])
    return features.gather(1, flat).view(*at.shape, features.shape[2])


def uniform(batch: Batch, part: str, count: int) -> Tensor:
    """So many numbers of U(0, 1) for each labeled and then for each unlabeled image, float32 (N, count)."""
    device = batch.images.device
    drawn = []
    for stream, images in (("labeled", batch.images), ("unlabeled", batch.views["weak"])):
        for number in range(len(images)):
            seed = int(batch.draws(stream, number, part).integers(2**63))
            drawn.append(torch.rand(count, generator=torch.Generator(device).manual_seed(seed), device=device))
    return torch.stack(drawn)


def whole(values: Tensor, team: Team) -> Tensor:
    """`values` (n, ...) of all processes, one after another; zeros stand for images that a process has fewer."""
    (most,) = team.largest(len(values))
    padded = F.pad(values, (*[0] * (2 * values.ndim - 1), most - len(values)))
    return team.gather(padded).flatten(0, 1)


def at_places(values: Tensor, like: Tensor) -> Tensor:
    """`values` (N, H, W) of the pixels that are nearest to the places of `like` (N, D, h, w): (N, h w)."""
    rows, columns = (_nearest(a, b) for a, b in zip(values.shape[-2:], like.shape[-2:]))
    return values[:, rows][:, :, columns].flatten(1)


def _nearest(pixels: int, places: int) -> Sequence[int]:
    found: list[int] = np.floor(np.arange(places) * pixels / places).astype(int).tolist()
    return found
