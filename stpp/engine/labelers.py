"""What an unlabeled image is to become: labels, how sure they are, and which of them count."""

from math import log

import torch
from torch import Tensor

from stpp.engine.distributed import Team
from stpp.labels import IGNORE


def hard_labels(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The class of each pixel, int64 (N, H, W), and its probability, float32 (N, H, W), without gradients."""
    confidence, labels = logits.detach().softmax(dim=1).max(dim=1)
    return labels, confidence


def sharpened(probabilities: Tensor, temperature: float) -> Tensor:
    """p^(1/T) / sum of p^(1/T) over the classes, (N, C, H, W): the nearer to hard labels, the lower T."""
    powers = probabilities ** (1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


def entropy(logits: Tensor) -> Tensor:
    """The entropy of each pixel's distribution, in nats, float32 (N, H, W), without gradients."""
    probabilities = logits.detach().softmax(dim=1)
    return -torch.special.xlogy(probabilities, probabilities).sum(dim=1)


def sureness(logits: Tensor, confidence: Tensor) -> Tensor:
    """How sure a network is of each image, in [0, 1], float32 (N,): the mean of (1 - H / ln C) max p (AugSeg).

    `confidence` is that of `hard_labels`.
    """
    return ((1 - entropy(logits) / log(logits.shape[1])) * confidence).flatten(1).mean(dim=1)


def agreement_weights(logits: Tensor, labels: Tensor, confidence: Tensor, agree: float, disagree: float) -> Tensor:
    """Weights of pseudo-labels by whether a network agrees with them now, float32 (N, H, W), without gradients (DMT).

    With p the network's probability of the label: p^`agree` where it predicts the label; else p^`disagree`, or 0 where
    the network is surer of another class than `confidence`, (N, H, W), says of the label. True labels, whose confidence
    is 1, have weight 1, as have ignored pixels, 255.
    """
    probabilities = logits.detach().softmax(dim=1)
    most, predicted = probabilities.max(dim=1)
    labels = labels.long()
    given = probabilities.gather(1, (labels * (labels != IGNORE))[:, None])[:, 0]
    weights = torch.where(predicted == labels, given**agree, (most <= confidence) * given**disagree)
    return weights.masked_fill((confidence == 1) | (labels == IGNORE), 1.0)


def percentile(values: Tensor, percent: float, team: Team) -> Tensor:
    """The percentile, linearly interpolated, of `values` of one shape in all processes of the team; a scalar."""
    ordered = team.gather(values.detach().float()).flatten().sort().values
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below].lerp(ordered[above], place - below)
