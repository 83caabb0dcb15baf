"""How rare the classes are in masks, and what makes up for it: weights of classes, and repetition of images."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stpp.common.labels import IGNORE

Weighting = Literal["median_frequency", "inverse_sqrt"]


def class_pixels(masks: Iterable[NDArray[np.uint8]], classes: int) -> NDArray[np.int64]:
    """How many pixels each class has in each of N masks, uint8 (H, W), 255 = ignore: int64 (N, classes)."""
    counts = [np.bincount(mask.reshape(-1), minlength=IGNORE + 1)[:classes] for mask in masks]
    return np.array(counts, np.int64).reshape(-1, classes)


def class_weights(pixels: NDArray[np.int64], weighting: Weighting) -> NDArray[np.float64]:
    """The weight of each class in a loss, float64 (C,); 1 for a class that no image has.

    `pixels` (N, C) are those of `class_pixels`. "median_frequency": median f / f, where f is the share of a class in
    the pixels of the images that have it (Eigen and Fergus, ICCV 2015). "inverse_sqrt": the root of median f / f, where
    f is its share in the pixels of all images. The median is over the classes that occur.
    """
    total, seen = pixels.sum(axis=0), pixels.sum(axis=0) > 0
    around = ((pixels > 0) * pixels.sum(axis=1, keepdims=True)).sum(axis=0)
    frequency = total[seen] / (around[seen] if weighting == "median_frequency" else pixels.sum())
    weights = np.ones(len(total))
    weights[seen] = np.median(frequency) / frequency
    return weights if weighting == "median_frequency" else np.sqrt(weights)


def image_repeats(pixels: NDArray[np.int64], rare: float) -> NDArray[np.float64]:
    """How often each image is to be seen, over an image of frequent classes: float64 (N,), at least 1.

    The largest of sqrt(rare / f) over its classes, where f is the share of images that have the class, `pixels` > 0 of
    `class_pixels` (N, C): repeat factor sampling (Gupta, Dollar and Girshick, CVPR 2019).
    """
    present = pixels > 0
    factors = np.sqrt(rare * len(present) / present.sum(axis=0).clip(min=1))
    return np.where(present, factors, 1.0).max(axis=1).clip(min=1)
