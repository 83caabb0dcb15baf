"""Which images differ most from each other and from those that are known."""

import numpy as np
from numpy.typing import NDArray

LIKE = 0.25
"""An image is like one that is known or taken if it is nearer to it than this share of the usual distance.

Chosen by the features of MobileNetV2 on four sets of photographs: most copies of JPEG quality 95 are nearer, and no two
images of a set are.
"""
SAME = 1e-3
"""Distance of features of length 1 below which images are alike, however near all others are."""


def farthest_first(
    features: NDArray[np.float32],
    known: NDArray[np.float32],
    count: int,
    avoided: NDArray[np.float32] | None = None,
) -> list[int]:
    """The numbers of at most `count` rows of `features`, each the farthest from the known ones and those before it.

    `features` (N, D) and `known` (M, D) are rows of length 1; the distance is Euclidean, and the first of equally far
    rows is taken. Without known rows, the first row begins. Rows that are `LIKE` one that is known, taken or `avoided`,
    (K, D), are left out; the usual distance is the median of those from a row to the nearest known one. This is the
    farthest-first traversal, which is at most twice as far from covering all rows as the best choice is (Gonzalez,
    Theoretical Computer Science, 1985; for labelling: Sener and Savarese, ICLR 2018).
    """
    apart = np.full(len(features), np.inf, np.float32)
    for row in known:
        np.minimum(apart, _distances(features, row), out=apart)
    alike = max(SAME, LIKE * float(np.median(apart))) if len(known) and len(features) else SAME
    for row in [] if avoided is None else avoided:
        apart[_distances(features, row) < alike] = 0
    chosen: list[int] = []
    while len(chosen) < min(count, len(features)):
        number = int(apart.argmax())
        if apart[number] < alike:
            break
        chosen.append(number)
        np.minimum(apart, _distances(features, features[number]), out=apart)
    return chosen


def _distances(features: NDArray[np.float32], row: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.linalg.norm(features - row, axis=1)
    return found
