"""How well two label masks agree: confusion matrix, IoU per class, mean IoU, pixel accuracy.

A confusion matrix is the sum of those of its parts, so a whole data set is scored by adding up one matrix an image and
taking the IoU once at the end (the evaluation of PASCAL VOC and of the ST++ paper).
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from stpp.common.labels import IGNORE

Confusion = NDArray[np.int64]
"""A confusion matrix (C, C): true class by row, predicted class by column."""

_BLOCK = 2**18
"""Pixels that are counted at a time: their arrays stay in the cache."""


def confusion_matrix(predicted: NDArray[np.uint8], true: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Count pixels by true class (row) and predicted class (column): int64 (classes, classes).

    Both masks are uint8 of the same shape, any number of axes. Pixels that are 255 in `true` are left out, whatever is
    predicted there. ValueError for other dtypes, different shapes, a true value that is neither 255 nor below
    `classes`, and a predicted value outside 0..classes-1 (255 too) on a pixel that counts.
    """
    if predicted.dtype != np.uint8 or true.dtype != np.uint8:
        raise ValueError(f"masks must be uint8, not {predicted.dtype} (predicted) and {true.dtype} (true)")
    if predicted.shape != true.shape:
        raise ValueError(f"masks differ in shape: predicted {predicted.shape}, true {true.shape}")
    if predicted.max(initial=0) >= classes:
        predicted = np.where(true == IGNORE, IGNORE, predicted)
    joint = joint_histogram([true, predicted], classes)
    if joint[:classes, classes].any():
        raise ValueError(f"predicted mask holds {IGNORE} on a pixel that counts, expected 0..{classes - 1}")
    return joint[:classes, :classes].copy()


def joint_histogram(masks: Sequence[NDArray[np.uint8]], classes: int) -> NDArray[np.int64]:
    """Count the pixels with each combination of values of K masks: int64, K axes of classes + 1 bins.

    The last bin of an axis is for pixels that are 255 in that mask. The masks are uint8 of one shape. ValueError for a
    value that is neither below `classes` nor 255.
    """
    side = classes + 1
    counts = np.zeros(side ** len(masks), np.int64)
    flat = [mask.ravel() for mask in masks]
    for start in range(0, flat[0].size, _BLOCK):
        first, *others = (_bins(pixels[start : start + _BLOCK], classes) for pixels in flat)
        codes = first.astype(np.min_scalar_type(len(counts) - 1))
        for bins in others:
            codes *= side
            codes += bins
        ends = np.append(np.flatnonzero(codes[1:] != codes[:-1]), len(codes) - 1)
        if len(ends) < len(codes) // 4:  # as in masks of things: counting run by run takes half the time
            np.add.at(counts, codes[ends], np.diff(ends, prepend=-1))
        else:
            counts += np.bincount(codes, minlength=len(counts))
    return counts.reshape([side] * len(masks))


def _bins(values: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """`values` with `classes` instead of 255. ValueError for other values that are no classes."""
    if values.max() < classes:
        return values
    if np.count_nonzero(values >= classes) > np.count_nonzero(values == IGNORE):
        wrong = values[(values >= classes) & (values != IGNORE)][0]
        raise ValueError(f"mask holds the value {wrong}, expected 0..{classes - 1} or {IGNORE}")
    return np.minimum(values, np.uint8(classes))


def iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of each class, p_cc / (row c + column c - p_cc), in [0, 1]: float64 (classes,).

    NaN where a class occurs in neither mask. The same for `confusion` and its transpose.
    """
    both = np.diagonal(confusion)
    either = confusion.sum(axis=0) + confusion.sum(axis=1) - both
    return np.divide(both, either, out=np.full(len(confusion), np.nan), where=either > 0)


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Mean of `iou` over the classes that occur in either mask, in [0, 1]; NaN if none does."""
    values = iou(confusion)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def pixel_accuracy(confusion: NDArray[np.int64]) -> float:
    """Share of the counted pixels whose class is right, in [0, 1]; NaN if no pixel was counted."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def total(confusions: Iterable[Confusion], classes: int) -> Confusion:
    """Sum of confusion matrices, int64 (C, C); zeros for none."""
    return sum(confusions, start=np.zeros((classes, classes), dtype=np.int64))
