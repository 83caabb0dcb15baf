"""Which pseudo-labeled images are used first: the most stable ones (ST++) or, as a control, a random draw.

`select_reliable` and `select_random` split a list of image ids into a reliable and an unreliable part, of
floor(N * share) ids and the rest, each in the order of the list. A `Rearranged` changes which of them come first.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stpp.common.errors import StppError
from stpp.plan.counts import reliable_count
from stpp.scoring.stability import most_stable_first

Rearranged = Callable[[NDArray[np.int64], int], NDArray[np.int64]]
"""From positions of images, int64 (N,), the best ones first, and how many are to be reliable, to another order."""


def select_reliable(
    ids: Sequence[str], scores: Sequence[float], share: float, rearranged: Sequence[Rearranged] = ()
) -> tuple[list[str], list[str]]:
    """Split `ids` into the floor(N * share) ids of the highest scores, ties in list order, and the others.

    (ST++, Algorithm 2; the paper's share is 0.5.) `scores[i]` belongs to `ids[i]`. What `rearranged` has changes the
    order of the images before, one after the other. StppError if the share is not in (0, 1] or leaves no reliable
    image; ValueError for scores that are too few, too many or not finite.
    """
    values = np.asarray(scores, np.float64)
    if values.shape != (len(ids),) or not np.isfinite(values).all():
        raise ValueError(f"expected {len(ids)} finite scores, one an image, got {values}")
    order, count = most_stable_first(values), _count(len(ids), share)
    for rearrange in rearranged:
        order = rearrange(order, count)
    return _split(ids, order[:count])


def constant_last(predicted: NDArray[np.bool_], labeled: NDArray[np.bool_]) -> Rearranged:
    """Images whose mask is of one class come last, but for as many as the labeled set has.

    `predicted` (N, C) and `labeled` (L, C) say which classes are in the mask of an unlabeled and of a labeled image. If
    k of the L labeled images have class c alone, floor(count k / L) of the images with class c alone, the first ones,
    keep their places: their share of the `count` reliable images is not above that of the labeled ones. Neither part
    changes its order.
    """

    def rearranged(order: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        alone, known = predicted[order], labeled[labeled.sum(axis=1) == 1]
        alone = alone & (alone.sum(axis=1) == 1)[:, None]
        allowed = count * known.sum(axis=0) // max(1, len(labeled))
        late = (alone & (alone.cumsum(axis=0) > allowed)).any(axis=1)
        return np.concatenate([order[~late], order[late]])

    return rearranged


def balanced_first(predicted: NDArray[np.bool_]) -> Rearranged:
    """The images come first that give each predicted class its share of the reliable images.

    `predicted` (N, C) says which classes are in the mask of an image. A class that is in n of N images is to be in
    floor(n count / N) of the `count` reliable ones. The rarest class takes the best of its images, then the next class
    takes as many as it still lacks; the best of the others follow.
    """

    def rearranged(order: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        present = predicted[order]
        totals = present.sum(axis=0)
        first = np.zeros(len(order), bool)
        for rare in np.argsort(totals, kind="stable"):
            wanted = totals[rare] * count // len(order) - (first & present[:, rare]).sum()
            left = min(wanted, count - first.sum())
            first[np.flatnonzero(present[:, rare] & ~first)[: max(0, left)]] = True
        return np.concatenate([order[first], order[~first]])

    return rearranged


def select_random(ids: Sequence[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Split `ids` into floor(N * share) ids drawn uniformly without replacement, and the others.

    For one seed a larger share contains the draw of a smaller one. StppError as for `select_reliable`.
    """
    count = _count(len(ids), share)
    return _split(ids, np.random.default_rng(seed).permutation(len(ids))[:count])


CONFIDENCES = 256
"""The steps in which confidence is kept, n / 255."""


def class_steps(counts: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """For each class the least confidence, in steps of 1/255, of the `share` of its pixels that counts as reliable.

    `counts[c, n]` is how many pixels of class c have the confidence n / 255; the result is int64 (C,). Of a class's N
    pixels, the one at place floor(N share) from the surest, from 0, is the last that counts, and all that are as sure
    (DMT: its class-balanced threshold, over all pixels instead of every 16th one). All count where N share < 1, and
    for a share of 1.
    """
    totals = counts.sum(axis=1)
    wanted = np.array([reliable_count(int(total), share) for total in totals])
    surest_first = counts[:, ::-1].cumsum(axis=1)  # at place i: pixels with a confidence of at least 255 - i
    steps = CONFIDENCES - 1 - (surest_first <= wanted[:, None]).sum(axis=1)
    return np.where((wanted < 1) | (wanted >= totals), 0, steps)


def aligned_steps(
    counts: NDArray[np.int64], frequency: NDArray[np.float64], share: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each class the confidence from which its pixels count, so that the classes are as frequent as they should be.

    Of N pixels in `counts` (C, 256), as for `class_steps`, `share` N are wanted, those of class c `frequency[c]` times
    as many, the surest ones: all, where there are fewer. Pixels above the step, int64 (C,), count, and of those at the
    step a part, float64 (C,), which is to be drawn: many are equally sure (DARS: He, Yang and Qi, ICCV 2021).
    """
    totals = counts.sum(axis=1)
    wanted = np.minimum(totals, np.rint(share * totals.sum() * frequency).astype(np.int64))
    surest_first = counts[:, ::-1].cumsum(axis=1)  # at place i: pixels with a confidence of at least 255 - i
    steps = CONFIDENCES - 1 - (surest_first < wanted[:, None]).sum(axis=1)
    at = np.take_along_axis(counts, steps[:, None], axis=1)[:, 0]
    above = np.take_along_axis(surest_first, (CONFIDENCES - 1 - steps)[:, None], axis=1)[:, 0] - at
    return steps, (wanted - above) / at.clip(min=1)


def _count(total: int, share: float) -> int:
    if not 0 < share <= 1:
        raise StppError(f"The reliable share is {share}; it must be above 0 and at most 1 (the paper uses 0.5).")
    count = reliable_count(total, share)
    if count == 0:
        raise StppError(
            f"A reliable share of {share} of {total} unlabeled images is no image, so there is nothing to train the "
            "first phase on: raise the share or add unlabeled images."
        )
    return count


def _split(ids: Sequence[str], chosen: NDArray[np.int64]) -> tuple[list[str], list[str]]:
    wanted = np.zeros(len(ids), bool)
    wanted[chosen] = True
    return (
        [image for image, reliable in zip(ids, wanted) if reliable],
        [image for image, reliable in zip(ids, wanted) if not reliable],
    )
