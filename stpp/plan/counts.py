"""Numbers and sizes that are known before anything is computed; standard library only."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

GROWTH = 1.5
"""Where the length of trainings is sought, each one that is tried takes so many times as long as the one before."""


UNLABELED_SHOWN = Fraction(1, 4)
"""The part of the bytes of the report's images that unlabeled ones may take."""
CANDIDATES = 10
"""For each image to label next that is asked for, so many of the least stable ones are looked at."""
LONGEST_ENCODED = 512
"""The side in px to which larger images are reduced to be told apart: what an image is of shows at that size."""


def reliable_count(total: int, share: float) -> int:
    """floor(total * share), where the share is the simple fraction that was meant.

    In floating point 0.29 * 100 is 28.999999999999996.
    """
    return int(Fraction(share).limit_denominator(10**6) * total)


def stored_views(settings: Mapping[str, Any]) -> int:
    """How many views of each training image a stage `encode` with these settings keeps.

    A method's own views of one draw, `seen`, are kept together.
    """
    return int(settings["views"]) * len(settings.get("seen", ("strong",)))


def labeled_repeat(role: str, labeled: int, pseudo_labeled: int) -> int:
    """How often an epoch sees each labeled image, the authors' rule.

    For the teacher 2 below 200 labeled images, else 1; for a student ceil(pseudo-labeled / labeled), at least 1.
    """
    if role == "teacher":
        return 2 if labeled < 200 else 1
    return max(1, -(-pseudo_labeled // max(1, labeled)))
