"""Readings of masks that nothing forbids and that are probably wrong, told by evidence: palettes, numbers of pixels,
names of classes.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stpp.common.labels import IGNORE
from stpp.data import hints
from stpp.data.images import class_of
from stpp.data.inspection import Look

DECODED = 16  # masks that are decoded once more to tell numbers of objects from classes
LEFT_OUT = 0.1  # the share of the labeled pixels that may be left out without a word
CORRECT = "Then correct ignore_value, label_map or palette_map."
Decode = Callable[[str, Mapping[str, Any]], NDArray[Any]]

NO_CLASS = {"ignore", "ignored", "void", "unlabeled", "unlabelled", "unannotated", "unknown", "undefined", "dontcare"}


def contradicted(
    masks: Mapping[str, Look],
    encoding: Mapping[str, Any],
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    known: Mapping[str, int],
) -> tuple[str, str]:
    """A problem and a warning, or "": what in `masks` (path -> look at a whole mask) contradicts their encoding."""
    if encoding["palette_map"]:
        return "", ""
    if text := _palettes(masks, names, palette, known):
        return ("", text) if encoding["label_map"] else (text, "")
    if not encoding["label_map"] and encoding["ignore_value"] == 255 and (text := hints.mixed(masks.values())):
        return text, ""
    return "", ""


def doubted(
    masks: Mapping[str, Look], encoding: Mapping[str, Any], names: Sequence[str], decode: Decode
) -> Iterator[str]:
    """Warnings of masks all of whose values have a class, and perhaps the wrong one.

    `decode` gives the raw values of a mask, (H, W); it is asked for a few at most.
    """
    if not (encoding["label_map"] or encoding["palette_map"]) and numbers_objects(masks, encoding, decode):
        yield hints.instances(list(masks.values()), encoding["ignore_value"], names)
    yield from _left_out(masks, encoding)
    yield from _no_classes(names)


def _palettes(
    masks: Mapping[str, Look], names: Sequence[str], palette: Sequence[Sequence[int]], known: Mapping[str, int]
) -> str:
    """For palette masks in which one number has different colours: a sentence, or ""."""
    seen: dict[str, dict[str, str]] = defaultdict(dict)  # number -> colour -> the first mask that has it
    pixels: Counter[str] = Counter()
    for path, look in masks.items():
        for raw, colour in look.colours.items():
            seen[raw].setdefault(colour, path)
            pixels[colour] += look.values[raw]
    differing = {raw: found for raw, found in seen.items() if len(found) > 1}
    if not differing:
        return ""
    raw, found = next(iter(differing.items()))
    (one, first), (other, second) = list(found.items())[:2]
    return (
        f"The palettes of the masks differ: value {raw} is {one} in {first} and {other} in {second}, so the colours "
        "may be right and the numbers not. If the numbers are right, say so by a label_map, such as {0: 0, 1: 1}; else "
        f"read the masks by colour. {hints.for_colours(pixels, names, palette, known)}"
    )


def numbers_objects(masks: Mapping[str, Look], encoding: Mapping[str, Any], decode: Decode) -> bool:
    """Whether the values of masks number objects: without a gap, and most of them in one patch."""
    ignore_value = encoding["ignore_value"]
    if not hints.are_instances(masks.values(), ignore_value):
        return False
    largest = sorted(masks, key=lambda path: -len(masks[path].values))[:DECODED]
    patches = [is_one for path in largest for is_one in one_patch(decode(path, encoding), {0, ignore_value})]
    return sum(patches) >= 0.8 * len(patches)


def one_patch(mask: NDArray[Any], but: Iterable[int | None]) -> list[bool]:
    """Whether the pixels of each value of a mask, (H, W), are one patch or fewer than it has holes, `but` for some.

    By the Euler number, of patches less holes: pixels - pairs of neighbours + squares of four (Gray 1971), where
    neighbours share a side.
    """
    values, packed = np.unique(mask, return_inverse=True)
    packed = packed.reshape(mask.shape)
    across, down = packed[:, 1:] == packed[:, :-1], packed[1:] == packed[:-1]
    square = across[1:] & across[:-1] & down[:, 1:]
    counts = [
        np.bincount(part.ravel(), minlength=len(values))
        for part in (packed, packed[:, 1:][across], packed[1:][down], packed[1:, 1:][square])
    ]
    euler = counts[0] - counts[1] - counts[2] + counts[3]
    return [bool(number <= 1) for value, number in zip(values.tolist(), euler) if value not in but]


def void(masks: Mapping[str, Look], encoding: Mapping[str, Any], names: Sequence[str]) -> str:
    """A sentence where 0 seems to mean that nobody labeled a pixel, so that all classes are off by one; else ""."""
    found = hints.values_of(masks.values())
    last = len(names) - 1
    ground = names[0].strip("_ ").lower() in hints.GROUND | NO_CLASS
    if encoding["label_map"] or encoding["palette_map"] or ground or last < 2 or str(last) in found:
        return ""
    if not all("0" in look.values for look in masks.values()):
        return ""
    if hints.are_instances(masks.values(), encoding["ignore_value"]):
        return ""
    return (
        f"Value 0 occurs in all {len(masks)} masks, and {last}, for the last class {names[last]}, in none: if 0 means "
        f"that a pixel was not labeled, and 1 is {names[0]}, all classes are off by one. If so, write: first_label: 1"
    )


def _left_out(masks: Mapping[str, Look], encoding: Mapping[str, Any]) -> Iterable[str]:
    found = hints.values_of(masks.values())
    ignored = {raw: count for raw, count in found.items() if class_of(raw, encoding) == IGNORE}
    total, left_out = found.total(), sum(ignored.values())
    if left_out > LEFT_OUT * total:
        most = sorted(ignored, key=lambda raw: -ignored[raw])[:3]
        parts = ", ".join(f"{raw}: {100 * ignored[raw] / total:.1f} %" for raw in most)
        where = max(masks, key=lambda path: sum(masks[path].values.get(raw, 0) for raw in ignored))
        yield (
            f"{100 * left_out / total:.1f} % of the pixels of the masks are left out ({parts}), most in {where}. Is "
            f"one of these values an object? {hints.for_noise(found, encoding) or CORRECT}"
        )


def _no_classes(names: Sequence[str]) -> Iterable[str]:
    """A warning of names that are of no class."""
    for class_, name in enumerate(names):
        if re.sub("[^a-z]", "", name.lower()) in NO_CLASS:
            rest = (
                ". Then write: first_label: 1" if class_ == 0 else f", and write label_map: {{{class_}: ignore, ...}}"
            )
            yield (
                f"The class {class_} is called {name}, so its pixels are learned as a class of that name. If they are "
                f"to be left out, take the name out of the classes{rest}"
            )
