"""How masks are named after their images: patterns such as `{stem}_mask`, and which would fit what lies in folders."""

import posixpath
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stpp.common.labels import STEM

SAMPLE = 200  # masks that a guess looks at; the patterns that it finds are tried on all


class Names(NamedTuple):
    """Patterns of the names of images and of masks."""

    image: str
    mask: str


def stem_of(name: str, pattern: str) -> str | None:
    """What stands for `{stem}` in a name, with the folders before it; None where the name does not fit the pattern.

    A pattern is about the name without its suffix, or with it where the pattern has one, as `{stem}.png`. One without
    `{stem}` is the name of the only image or mask in each folder.
    """
    folder, base = posixpath.split(name)
    whole = base if "." in pattern.rpartition("}")[2] else posixpath.splitext(base)[0]
    if STEM not in pattern:
        return folder if whole == pattern else None
    before, after = pattern.split(STEM)
    if len(whole) <= len(before) + len(after) or not (whole.startswith(before) and whole.endswith(after)):
        return None
    return posixpath.join(folder, whole[len(before) : len(whole) - len(after)])


def by_stem(names: Iterable[str], pattern: str) -> dict[str, list[str]]:
    """The names that fit a pattern, by what stands for `{stem}` in them."""
    found: dict[str, list[str]] = {}
    for name in names:
        if (stem := stem_of(name, pattern)) is not None:
            found.setdefault(stem, []).append(name)
    return found


def guess(images: Sequence[str], masks: Sequence[str]) -> list[tuple[Names, int]]:
    """Patterns that would bring images and masks together, and how many images each would give a mask, most first."""
    bases = [[posixpath.splitext(posixpath.basename(name))[0] for name in names] for names in (images, masks)]
    backwards = [[base[::-1] for base in found] for found in bases]
    candidates = _candidates(*bases) | {_swapped(names) for names in _candidates(*backwards)}
    if all(len({*found}) == 1 for found in bases):
        candidates.add(Names(bases[0][0], bases[1][0]))
    found = []
    for names in candidates:
        both = by_stem(images, names.image).keys() & by_stem(masks, names.mask).keys()
        if both:
            found.append((names, len(both)))
    return sorted(found, key=lambda item: (-item[1], len("".join(item[0])), item[0]))


def _candidates(images: Sequence[str], masks: Sequence[str]) -> set[Names]:
    """Patterns by what image and mask have after the beginning that they share, the most frequent ones."""
    ordered = sorted(images)
    counts: Counter[Names] = Counter()
    for mask in masks[:: max(1, len(masks) // SAMPLE)]:
        at = bisect_left(ordered, mask)
        for image in {*ordered[max(0, at - 1) : at + 1]}:
            shared = posixpath.commonprefix([image, mask])
            if start := re.sub(r"[^A-Za-z0-9]+$", "", shared):  # what separates is part of the pattern
                counts[Names(STEM + image[len(start) :], STEM + mask[len(start) :])] += 1
    return {names for names, _ in counts.most_common(8)}


def _swapped(names: Names) -> Names:
    """A pattern of names that were written backwards."""
    return Names(*(text.removeprefix(STEM)[::-1] + STEM for text in names))


def differ_in_case(images: Iterable[str], masks: Iterable[str]) -> int:
    """How many masks have the name of an image but for upper and lower case."""
    known = {posixpath.splitext(name)[0].casefold() for name in images}
    return sum(posixpath.splitext(name)[0].casefold() in known for name in masks)
