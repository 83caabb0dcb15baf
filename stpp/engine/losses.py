"""Losses: each is a mean over the whole team's pixels, and gives gradients to its first argument alone."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stpp.common.labels import IGNORE
from stpp.engine.distributed import Team

SupervisedLoss = Callable[..., Tensor]
"""From logits, masks and the team to a scalar, as `cross_entropy`."""

LEAST = 1e-6
"""What is left of 1 - p where a network is sure: powers below 1 have no gradient at 0."""


def cross_entropy(logits: Tensor, masks: Tensor, team: Team) -> Tensor:
    """Cross-entropy of `logits`, averaged over all valid pixels; zero where there are none.

    `logits` float (N, C, H, W) and `masks` integers (N, H, W), 255 = ignore, are this process's share of the batch; the
    result is that of the whole team.
    """
    total = F.cross_entropy(logits, masks.long(), ignore_index=IGNORE, reduction="sum")
    return team.sum(total) / team.sum((masks != IGNORE).sum()).clamp(min=1)


def supervised_loss(training: Mapping[str, Any], class_weights: Tensor | None = None) -> SupervisedLoss:
    """The loss on labels that the settings of a training ask for; `class_weights`, float32 (C,), are what they mean."""
    if training["loss"]:
        asked = {name: training["loss"][name] for name in ("pseudo_labeled", "soft", "focal", "dice")}
        return partial(balanced_loss, class_weights=class_weights, ohem=training["ohem"], **asked)
    return partial(hard_cross_entropy, **training["ohem"]) if training["ohem"] else cross_entropy


def balanced_loss(
    logits: Tensor,
    masks: Tensor,
    team: Team,
    confidence: Tensor | None = None,
    *,
    class_weights: Tensor | None = None,
    pseudo_labeled: float = 1.0,
    soft: bool = False,
    focal: float = 0.0,
    dice: float = 0.0,
    ohem: Mapping[str, Any] | None = None,
) -> Tensor:
    """The weighted mean of the pixels' losses, and `dice` times the Dice loss; shapes as for `cross_entropy`.

    A pixel's loss is its cross-entropy, times (1 - p) ** `focal` with p the probability of its label (Lin et al., ICCV
    2017). Its weight is that of its class, times `pseudo_labeled` where `confidence`, float32 (N, H, W), says that it
    has no true label, by less than 1. With `soft`, a label is as probable as it is confident, and all other classes
    have equal parts of the rest. Of `ohem`, see `hard_pixels`, which alone count then.
    """
    hard, valid = pixel_cross_entropy(logits, masks), masks != IGNORE
    losses = softened(hard, logits, confidence) if soft and confidence is not None else hard
    if focal:
        losses = losses * (-torch.expm1(-hard)).clamp(min=LEAST) ** focal
    source = valid.to(losses.dtype)
    if confidence is not None:
        source = source * torch.where(confidence < 1, pseudo_labeled, 1.0)
    weights = source
    if class_weights is not None:
        weights = weights * class_weights[masks.long() * valid]
    if ohem:
        weights = weights * hard_pixels(hard, valid, team, **ohem)
    # Ignored pixels have weight 0, but not loss 0 where labels are soft.
    total = team.sum((losses * weights).sum()) / _or_one(team.sum(weights.sum()))
    return total + dice * dice_loss(logits, masks, source, team) if dice else total


def softened(losses: Tensor, logits: Tensor, confidence: Tensor) -> Tensor:
    """Cross-entropy with labels of this confidence, all other classes having equal parts of the rest: (N, H, W).

    `losses` are those of `pixel_cross_entropy`.
    """
    every = -logits.log_softmax(dim=1).sum(dim=1)
    return confidence * losses + (1 - confidence) * (every - losses) / (logits.shape[1] - 1)


def dice_loss(logits: Tensor, masks: Tensor, weights: Tensor, team: Team) -> Tensor:
    """1 - the mean Dice coefficient of the classes in the team's batch, of soft predictions (Milletari, 3DV 2016).

    That of a class is 2 sum(p g) / (sum(p) + sum(g)): its probability p and its label g, 0 or 1, over all pixels by
    their `weights` (N, H, W), which are 0 where `masks` are 255. Zero where no pixel counts.
    """
    classes = torch.arange(logits.shape[1], device=masks.device)
    probabilities = logits.softmax(dim=1) * weights[:, None]
    labels = (masks[:, None] == classes[:, None, None]) * weights[:, None]
    known = team.sum(labels.sum(dim=(0, 2, 3)))
    both = team.sum((probabilities * (labels > 0)).sum(dim=(0, 2, 3)))
    coefficients = 2 * both / _or_one(team.sum(probabilities.sum(dim=(0, 2, 3))) + known)
    return ((1 - coefficients) * (known > 0)).sum() / (known > 0).sum().clamp(min=1)


def _or_one(total: Tensor) -> Tensor:
    """A divisor: 1 where it would be 0."""
    return torch.where(total > 0, total, torch.ones_like(total))


def hard_cross_entropy(logits: Tensor, masks: Tensor, team: Team, *, threshold: float, kept: int) -> Tensor:
    """Cross-entropy averaged over the hard pixels, whose true class has a probability of at most `threshold` (OHEM).

    Of each batch at least `kept` pixels an image count, the hardest ones, and all valid ones where there are fewer. The
    batch is that of the whole team. Shapes as for `cross_entropy`.
    """
    losses = pixel_cross_entropy(logits, masks)
    hard = hard_pixels(losses, masks != IGNORE, team, threshold=threshold, kept=kept)
    return average(losses * hard, hard, team)


def hard_pixels(losses: Tensor, valid: Tensor, team: Team, *, threshold: float, kept: int) -> Tensor:
    """The pixels that count for `hard_cross_entropy`, bool (N, H, W).

    `losses` are those of `pixel_cross_entropy`, `valid`, bool (N, H, W), says which pixels have a label.
    """
    probabilities = (-losses.detach()).exp().masked_fill(~valid, 1.0)
    (most,) = team.largest(len(valid))  # shares differ by an image at most; what is gathered is of one size
    everyone = F.pad(probabilities, (0, 0, 0, 0, 0, most - len(valid)), value=1.0)
    # Counted on the CPU: nothing here waits for a GPU.
    least, pixels = kept * int(team.sum(torch.tensor(len(valid)))), team.gather(everyone).flatten()
    hardest = pixels.kthvalue(min(least, len(pixels))).values
    return valid & ((probabilities <= hardest.clamp(min=threshold)) | (team.sum(valid.sum()) < least))


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


def judged(scores: Tensor, real: bool, counted: Tensor, team: Team) -> Tensor:
    """Binary cross-entropy of a discriminator's logits with "real" or "not real", averaged over what is `counted`.

    `scores` and `counted` are of one shape; what is not counted has weight 0. Gradients reach `scores`.
    """
    return average(F.softplus(-scores if real else scores) * counted, counted, team)


def sigmoid_ramp(progress: float) -> float:
    """exp(-5 (1 - t)^2) for t = `progress` clipped to [0, 1]: from 0.0067 to 1 (Tarvainen and Valpola, 2017)."""
    return math.exp(-5 * (1 - min(1.0, max(0.0, progress))) ** 2)
