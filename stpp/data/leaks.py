"""Val and test images that training knows already: copies of them, and their neighbours in a sequence."""

import posixpath
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from stpp.common.errors import shortened
from stpp.data.inspection import Look
from stpp.data.readers import ImageError, open_stream
from stpp.data.sources import Entry

NEAR = 10  # of 256 bits, in which the glances of near-equal images differ at most
RELATED = 64  # the same of frames of one scene: those of unrelated pictures differ in 118 of 256 bits, give or take 14
OFTEN = (
    0.1  # share of val or test images with a related neighbour from which on they are said to be frames of a sequence
)
PLAIN = 24  # bits: a glance that has no more of one kind is of a plain area, and like that of any other
COPIES = 1000  # unlabeled images that are read because their sizes are those of val and test images


def copies(entries: Sequence[Entry], images: Mapping[str, Look]) -> Iterator[str]:
    """Warnings of val and test images that are trained on under another name, byte for byte or nearly so."""
    by_digest: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.subset != "unlabeled" and (digest := images[entry.image].sha256):
            by_digest[digest].append(entry)
    for entry in _of_the_same_size(entries, images):
        by_digest[_digest(entry.image)].append(entry)
    equal: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for same in by_digest.values():
        for held_out in ("val", "test"):
            if measured := next((entry for entry in same if entry.subset == held_out), None):
                for twin in {entry.subset: entry for entry in same if entry.subset != held_out}.values():
                    if (twin.subset, held_out) != ("test", "val"):
                        equal[held_out, twin.subset].append((measured.image, twin.image))
    for (held_out, other), pairs in equal.items():
        yield _shared(held_out, other, pairs, "byte for byte")
    alike = {name for pairs in equal.values() for pair in pairs for name in pair}
    for held_out in ("val", "test"):
        if found := _near(entries, images, held_out, alike):
            yield _shared(held_out, "labeled", found, "or nearly so")


def _of_the_same_size(entries: Iterable[Entry], images: Mapping[str, Look]) -> list[Entry]:
    """The unlabeled images that have the size of a val or test image, in bytes and pixels; `COPIES` at most."""

    def size(entry: Entry) -> tuple[int, int, int]:
        look = images[entry.image]
        return look.size, look.height, look.width

    entries = list(entries)
    held_out = {size(entry) for entry in entries if entry.subset in ("val", "test")}
    found = (entry for entry in entries if held_out and entry.subset == "unlabeled" and size(entry) in held_out)
    return [entry for entry in islice(found, COPIES) if not images[entry.image].error]


def _digest(path: str) -> str:
    """SHA-256 (hex) of a file, or a name of its own for one that cannot be read."""
    try:
        with open_stream(path) as stream:
            return sha256(stream.read()).hexdigest()
    except (OSError, ImageError):
        return f"unread {path}"


def _shared(held_out: str, other: str, pairs: Sequence[tuple[str, str]], how: str) -> str:
    one, two = (shortened(name, 300) for name in pairs[0])
    return (
        f"{held_out} and {other} share {len(pairs):,} {'image' if len(pairs) == 1 else 'images'}, {how}, for example "
        f"{one} and {two}: results on images that were trained on are too good. Remove these from one of the two."
    )


def _near(entries: Iterable[Entry], images: Mapping[str, Look], held_out: str, but: set[str]) -> list[tuple[str, str]]:
    """Pairs of images, one held out and one labeled, whose glances differ by `NEAR` bits at most."""
    named: dict[str, list[str]] = {held_out: [], "labeled": []}
    for entry in entries:
        if entry.subset in named and entry.image not in but and _tells(images[entry.image].glance):
            named[entry.subset].append(entry.image)
    labeled = _bits(images[path].glance for path in named["labeled"])
    pairs = []
    for path in named[held_out] if len(labeled) else ():
        apart = np.bitwise_count(labeled ^ _bits([images[path].glance])).sum(axis=1)
        if apart.min() <= NEAR:
            pairs.append((path, named["labeled"][int(apart.argmin())]))
    return pairs


def _tells(glance: str) -> bool:
    """Whether a glance is of a picture in which something can be seen."""
    ones = int(glance, 16).bit_count() if glance else 0
    return PLAIN <= ones <= 256 - PLAIN


def _bits(glances: Iterable[str]) -> NDArray[np.uint8]:
    return np.array([list(bytes.fromhex(glance)) for glance in glances], np.uint8).reshape(-1, 32)


# --- neighbours in a sequence -----------------------------------------------------------------------------------------


def neighbours(entries: Sequence[Entry], images: Mapping[str, Look]) -> Iterator[str]:
    """Warnings of val and test images that look like a labeled image whose name differs from theirs by its last number.

    Such are frames of a video, slices of a volume, tiles of a scene. What is asked is the next smaller and the next
    larger number.
    """
    labeled: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for entry in entries:
        if entry.subset == "labeled" and (place := _place(entry.id)) and _tells(images[entry.image].glance):
            labeled[place[0]].append((place[1], entry.image))
    for series in labeled.values():
        series.sort()
    for held_out in ("val", "test"):
        members = [entry for entry in entries if entry.subset == held_out]
        pairs = []
        for entry in members:
            if (place := _place(entry.id)) and _tells(images[entry.image].glance):
                series = labeled.get(place[0], [])
                at = bisect_left(series, (place[1], ""))
                beside = [image for _, image in series[max(0, at - 1) : at + 1]]
                alike = [image for image in beside if _apart(images[entry.image], images[image]) <= RELATED]
                pairs += [(entry.image, alike[0])] if alike else []
        if pairs and len(pairs) >= OFTEN * len(members):
            one, two = (shortened(name, 300) for name in pairs[0])
            yield (
                f"{len(pairs):,} of {len(members):,} {held_out} images look like a labeled image with the next number, "
                f"for example {one} and {two}: are they of one video, patient or scene? If so, results on {held_out} "
                "are too good. Set data.group_by, which keeps what belongs together on one side of a split."
            )


def _place(id_: str) -> tuple[str, int] | None:
    """The name of a sequence and the number in it: the last number of the image's name; None without one."""
    folder, name = posixpath.split(id_)
    found = list(re.finditer(r"[0-9]{1,12}", name))
    if not found:
        return None
    last = found[-1]
    return posixpath.join(folder, f"{name[: last.start()]}\0{name[last.end() :]}"), int(last[0])


def _apart(one: Look, two: Look) -> int:
    """In how many bits two glances differ."""
    return (int(one.glance, 16) ^ int(two.glance, 16)).bit_count()
