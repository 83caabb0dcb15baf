"""Parts of one image in another one: boxes (CutMix), classes (ClassMix), and who is mixed with whom.

The unlabeled images of a batch are pairs, the first with the second, the third with the fourth, and so on: each is the
partner of the other. A pair stays within one process, so that results do not depend on the number of processes, and no
image meets itself. Papers take the next image of the batch, a permutation of it, or a second draw of images instead;
since batches are drawn at random, a partner is a random other image in each case.
"""

from collections.abc import Callable
from math import exp, log, sqrt
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stpp.engine.batch import Batch
from stpp.models.network import Maps

Sampler = Callable[[np.random.Generator, int, int], NDArray[np.bool_]]
"""Draws which pixels come from the partner: bool (height, width), for an image of that height and width."""


Values = TypeVar("Values", Tensor, Maps)


def partners(values: Values) -> Values:
    """`values` (U, ...) of unlabeled images, or their stored maps, in the order of their partners; U is even."""
    if isinstance(values, Maps):
        return values.each(partners)
    return values.view(-1, 2, *values.shape[1:]).flip(1).reshape(values.shape)


def mixed(mask: Tensor, own: Values, other: Values) -> Values:
    """`own`, but `other` where `mask`, bool (U, H, W); both are (U, H, W), as labels, or (U, C, H, W), as images.

    At a place of a stored map, the mask is that of the nearest pixel.
    """
    if isinstance(own, Maps):
        assert isinstance(other, Maps)
        pixels = mask[:, None].float()
        return own.each(
            lambda mine, theirs: torch.where(F.interpolate(pixels, mine.shape[2:]) > 0, theirs, mine), other
        )
    return torch.where(mask if own.ndim == mask.ndim else mask[:, None], other, own)


def boxes(batch: Batch, sampler: Sampler, part: str, p: float = 1.0) -> Tensor:
    """Which pixels of each unlabeled image come from its partner, bool (U, H, W); with probability `p`, else none do.

    `part` names the random numbers.
    """
    count, height, width = batch.valid["weak"].shape
    masks = np.zeros((count, height, width), dtype=bool)
    for number in range(count):
        rng = batch.draws("unlabeled", number, part)
        if rng.random() < p:
            masks[number] = sampler(rng, height, width)
    return batch.placed(masks)


def patches(batch: Batch, sampler: Sampler, part: str, sureness: Tensor) -> Tensor:
    """Which pixels of each unlabeled image come from the labeled image of its place, bool (U, H, W) (AugSeg).

    The less sure a network is of an image, `sureness` (U,) in [0, 1], the more often any do. There must be as many
    labeled images.
    """
    draws = [batch.draws("unlabeled", number, f"{part} or none").random() for number in range(len(sureness))]
    unsure = batch.placed(np.array(draws, np.float32)) < 1 - sureness
    return boxes(batch, sampler, part) & unsure[:, None, None]


def half_of_classes(batch: Batch, labels: Tensor, classes: int, part: str) -> Tensor:
    """The pixels of half of the classes of each unlabeled image, bool (U, H, W) (ClassMix).

    Of the n classes that occur in `labels` (U, H, W), floor(n / 2) are drawn, all equally likely.
    """
    draws = np.stack([batch.draws("unlabeled", number, part).random(classes) for number in range(len(labels))])
    present = torch.stack([(labels == label).flatten(1).any(1) for label in range(classes)], dim=1)
    scores = batch.placed(draws).masked_fill(~present, -1)
    ranks = scores.argsort(dim=1, descending=True).argsort(dim=1)
    chosen = ranks < present.sum(dim=1, keepdim=True) // 2
    return chosen.gather(1, labels.flatten(1).long()).view_as(labels)


def fitting_box(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    """The box of UniMatch: an area of 2 to 40 %, height / width of 0.3 to 1 / 0.3, wherever it fits.

    The area is drawn once; shape and place are drawn anew until the box is inside of the image.
    """
    area = rng.uniform(0.02, 0.4) * height * width
    while True:
        ratio = rng.uniform(0.3, 1 / 0.3)
        tall, wide = int(sqrt(area * ratio)), int(sqrt(area / ratio))
        left, top = int(rng.integers(width)), int(rng.integers(height))
        if left + wide <= width and top + tall <= height:
            return _box(height, width, top, left, tall, wide)


def half_box(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    """The box of CutMix-Seg: half of the image, of any shape, wherever it is inside."""
    return _inside(rng, height, width, 0.5, 1.0)


def three_boxes(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    """The boxes of CPS: three, each of a third of 25 to 50 % of the image; what an odd number of them covers."""
    masks = [_inside(rng, height, width, rng.uniform(0.25, 0.5), 3.0) for _ in range(3)]
    return np.logical_xor.reduce(masks)


def wide_box(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    """The box of U2PL: half of the image, more than half as wide as it, wherever it is inside."""
    wide = int(rng.integers(width // 2 + 1, width)) if width > 2 else width
    tall = min(height, round(height * width / 2 / wide))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    return _box(height, width, top, left, tall, wide)


def beta_box(a: float, b: float) -> Sampler:
    """The box of AugSeg: a share of 1 - Beta(a, b) of the image, of the image's shape, cut off where it leaves it.

    Its centre is any pixel but those of the first eighth of the rows and of the columns.
    """

    def sample(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
        side = sqrt(1 - rng.beta(a, b))
        tall, wide = int(height * side), int(width * side)
        y, x = int(rng.integers(height // 8, height)), int(rng.integers(width // 8, width))
        top, left = max(0, y - tall // 2), max(0, x - wide // 2)
        bottom, right = min(height, y + tall // 2), min(width, x + wide // 2)
        return _box(height, width, top, left, bottom - top, right - left)

    return sample


def _inside(rng: np.random.Generator, height: int, width: int, area: float, parts: float) -> NDArray[np.bool_]:
    """A box of `area` / `parts` of the image: its sides share the area as a uniform draw of their logarithms says."""
    share = exp(rng.random() * log(area))
    tall, wide = (round(side / sqrt(parts)) for side in (height * share, width * area / share))
    top, left = (round(rng.random() * (length - side)) for length, side in ((height, tall), (width, wide)))
    return _box(height, width, top, left, tall, wide)


def _box(height: int, width: int, top: int, left: int, tall: int, wide: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), dtype=bool)
    mask[top : top + tall, left : left + wide] = True
    return mask
