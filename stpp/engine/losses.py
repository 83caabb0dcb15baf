"""Losses: each is a mean over the whole team's pixels, and gives gradients to its first argument alone."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stpp.engine.distributed import Team
from stpp.labels import IGNORE

SupervisedLoss = Callable[[Tensor, Tensor, Team], Tensor]
"""From logits, masks and the team to a scalar, as `cross_entropy`."""


def cross_entropy(logits: Tensor, masks: Tensor, team: Team) -> Tensor:
    """Cross-entropy of `logits`, averaged over all valid pixels; zero where there are none.

    `logits` float (N, C, H, W) and `masks` integers (N, H, W), 255 = ignore, are this process's share of the batch; the
    result is that of the whole team.
    """
    total = F.cross_entropy(logits, masks.long(), ignore_index=IGNORE, reduction="sum")
    return team.sum(total) / team.sum((masks != IGNORE).sum()).clamp(min=1)


def supervised_loss(training: Mapping[str, Any]) -> SupervisedLoss:
    """The loss on labels that the settings of a training ask for."""
    return partial(hard_cross_entropy, **training["ohem"]) if training["ohem"] else cross_entropy


def hard_cross_entropy(logits: Tensor, masks: Tensor, team: Team, *, threshold: float, kept: int) -> Tensor:
    """Cross-entropy averaged over the hard pixels, whose true class has a probability of at most `threshold` (OHEM).

    Of each batch at least `kept` pixels an image count, the hardest ones, and all valid ones where there are fewer. The
    batch is that of the whole team. Shapes as for `cross_entropy`.
    """
    losses, valid = pixel_cross_entropy(logits, masks), masks != IGNORE
    probabilities = (-losses.detach()).exp().masked_fill(~valid, 1.0)
    (most,) = team.largest(len(masks))  # shares differ by an image at most; what is gathered is of one size
    everyone = F.pad(probabilities, (0, 0, 0, 0, 0, most - len(masks)), value=1.0)
    least = kept * int(team.sum(torch.tensor(len(masks), device=masks.device)))
    if least > int(team.sum(valid.sum())):
        return average(losses, valid, team)
    hardest = team.gather(everyone).flatten().kthvalue(least).values
    hard = valid & (probabilities <= hardest.clamp(min=threshold))
    return average(losses * hard, hard, team)


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each pixel, float32 (N, H, W); 0 where `labels`, integers (N, H, W), are 255."""
    return F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="none")


def average(values: Tensor, counted: Tensor, team: Team) -> Tensor:
    """The sum of `values`, of any shape, over the team, divided by that of `counted`; zero where nothing is counted.

    What is counted is the choice of a method: valid pixels, all pixels, or the pixels that are kept.
    """
    return team.sum(values.sum()) / team.sum(counted.sum()).clamp(min=1)


def soft_cross_entropy(logits: Tensor, targets: Tensor, valid: Tensor, team: Team) -> Tensor:
    """Cross-entropy with probabilities as targets, both (N, C, H, W), averaged over `valid` pixels (N, H, W).

    No gradient reaches `targets`. Zero where no pixel is valid. Its gradient is also that of the Kullback-Leibler
    divergence, which differs by the targets' own entropy.
    """
    return average(-(targets.detach() * logits.log_softmax(dim=1)).sum(dim=1) * valid, valid, team)


def squared_error(probabilities: Tensor, targets: Tensor, valid: Tensor, team: Team) -> Tensor:
    """Squared difference of two probability maps (N, C, H, W), averaged over classes and `valid` pixels (N, H, W).

    No gradient reaches `targets`. Zero where no pixel is valid.
    """
    squares = (probabilities - targets.detach()).square() * valid[:, None]
    return team.sum(squares.sum()) / (team.sum(valid.sum()) * probabilities.shape[1]).clamp(min=1)


def sigmoid_ramp(progress: float) -> float:
    """exp(-5 (1 - t)^2) for t = `progress` clipped to [0, 1]: from 0.0067 to 1 (Tarvainen and Valpola, 2017)."""
    return math.exp(-5 * (1 - min(1.0, max(0.0, progress))) ** 2)
