"""What an unlabeled image is to become: labels, how sure they are, and which of them count."""

from math import log

import torch
from torch import Tensor

from stpp.common.labels import IGNORE
from stpp.engine.batch import Batch, Moment
from stpp.engine.distributed import Team


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


def note_labels(batch: Batch, labels: Tensor, at: Moment) -> None:
    """Note how far one class prevails among the labels that a step gives, and among the true ones that it sees.

    `labels`, integers (U, H, W), are those of the weak views, which still are in the places of their images. The notes
    are the `largest_share` of them, without padding, as `largest_class`, and that of the labeled images' masks as
    `largest_true`: of as many pixels of the same step, so that the two can be compared.
    """
    own = labels.masked_fill(~batch.valid["weak"], IGNORE)
    at.notes["largest_class"] = largest_share(own, at.team)
    at.notes["largest_true"] = largest_share(batch.masks, at.team)


def largest_share(labels: Tensor, team: Team) -> Tensor:
    """The share of the most frequent class in the team's `labels`, integers (N, H, W), 255 = ignore.

    A scalar in [0, 1], without gradients; zero where no pixel has a label.
    """
    # `bincount` on a GPU would wait for all that was queued; image by image, fewer threads add to one number at a time.
    flat = labels.flatten(1).long()
    counts = flat.new_zeros(len(flat), IGNORE + 1).scatter_add_(1, flat, torch.ones_like(flat))
    known = team.sum(counts.sum(dim=0)[:IGNORE])
    return known.max() / known.sum().clamp(min=1)
