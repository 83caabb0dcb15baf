"""Classes that a mirrored image turns into each other, such as `left_door` and `right_door`."""

import re
from collections.abc import Sequence

from stpp.settings.config import Config

SIDES = {"left": "right", "right": "left", "l": "r", "r": "l", "lt": "rt", "rt": "lt", "lh": "rh", "rh": "lh"}


def mirrored(names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of class names that differ by left and right alone, in the order of the names."""
    known = {_words(name): name for name in names}
    pairs = []
    for words, name in known.items():
        other = known.get(tuple(SIDES.get(word, word) for word in words), name)
        if other != name and (other, name) not in pairs:
            pairs.append((name, other))
    return pairs


def _words(name: str) -> tuple[str, ...]:
    """`backLeft_door` as ("back", "left", "door")."""
    parts = re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name)
    return tuple(part.lower() for part in parts if part)


def doubted_flips(config: Config, names: Sequence[str]) -> str:
    """A warning where classes differ by left and right and the configuration mirrors images, else ""."""
    if not (pairs := mirrored(names)):
        return ""
    student = config.augmentation.student
    flips = {
        "augmentation.teacher.labeled.flip: 0": config.augmentation.teacher.labeled.flip,
        "augmentation.student.labeled.flip: 0": student.labeled.flip,
        "augmentation.student.unlabeled.flip: 0": student.unlabeled.flip,
        "labeling.flip: false": config.labeling.flip,
    }
    if not (given := [setting for setting, value in flips.items() if value]):
        return ""
    one, other = pairs[0]
    more = f" and {len(pairs) - 1} more pairs" if len(pairs) > 1 else ""
    return (
        f"The classes {one} and {other}{more} differ by left and right, and a mirrored image shows one as the other, "
        f"so flips teach the opposite of the labels. Set {', '.join(given)}"
    )
