"""Losses: each is a mean over the whole team's pixels, and gives gradients to its first argument alone."""

import math

import torch.nn.functional as F
from torch import Tensor

from stpp.engine.distributed import Team
from stpp.labels import IGNORE


def cross_entropy(logits: Tensor, masks: Tensor, team: Team) -> Tensor:
    """Cross-entropy of `logits`, averaged over all valid pixels; zero where there are none.

    `logits` float (N, C, H, W) and `masks` integers (N, H, W), 255 = ignore, are this process's share of the batch; the
    result is that of the whole team.
    """
    total = F.cross_entropy(logits, masks.long(), ignore_index=IGNORE, reduction="sum")
    return team.sum(total) / team.sum((masks != IGNORE).sum()).clamp(min=1)


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each pixel, float32 (N, H, W); 0 where `labels`, integers (N, H, W), are 255."""
    return F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="none")


def average(values: Tensor, counted: Tensor, team: Team) -> Tensor:
    """The sum of `values`, of any shape, over the team, divided by that of `counted`; zero where nothing is counted.

    What is counted is the choice of a method: valid pixels, all pixels, or the pixels that are kept.
    """
    return team.sum(values.sum()) / team.sum(counted.sum()).clamp(min=1)


def squared_error(probabilities: Tensor, targets: Tensor, valid: Tensor, team: Team) -> Tensor:
    """Squared difference of two probability maps (N, C, H, W), averaged over classes and `valid` pixels (N, H, W).

    No gradient reaches `targets`. Zero where no pixel is valid.
    """
    squares = (probabilities - targets.detach()).square() * valid[:, None]
    return team.sum(squares.sum()) / (team.sum(valid.sum()) * probabilities.shape[1]).clamp(min=1)


def sigmoid_ramp(progress: float) -> float:
    """exp(-5 (1 - t)^2) for t = `progress` clipped to [0, 1]: from 0.0067 to 1 (Tarvainen and Valpola, 2017)."""
    return math.exp(-5 * (1 - min(1.0, max(0.0, progress))) ** 2)
