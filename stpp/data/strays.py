"""Files among the images that are probably none of them: masks, smaller versions, and copies of val and test images."""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from heapq import nsmallest
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from stpp.data.images import read_image
from stpp.data.inspection import Look
from stpp.data.readers import ImageError, open_stream
from stpp.data.sources import Entry
from stpp.errors import shortened
from stpp.wording import listed

SMALLEST = 8  # unlabeled images that are decoded, those with the fewest bytes a pixel
FEW = 8  # colours: no photograph has so few
MASK_WORDS = ("mask", "label", "seg", "annot", "truth", "manual", "lesion", "roi")
SHORT_MASK_WORDS = {"gt", "lab", "lbl", "ann", "target"}
SMALL_WORDS = ("thumb", "preview", "small")
NEAR = 10  # of 256 bits, in which the glances of near-equal images differ at most
PLAIN = 24  # bits: a glance that has no more of one kind is of a plain area, and like that of any other
COPIES = 1000  # unlabeled images that are read because their sizes are those of val and test images


def masks_among(entries: Sequence[Entry], images: Mapping[str, Look]) -> Iterator[str]:
    """Warnings of unlabeled images that look like masks, by their names or by their few colours."""
    unlabeled = [entry for entry in entries if entry.subset == "unlabeled" and not images[entry.image].error]
    groups: dict[str, list[Entry]] = defaultdict(list)
    known = {entry.id for entry in entries}
    text = "\n".join(entry.id for entry in unlabeled).lower()  # a million names are searched at once
    words = [word for word in (*MASK_WORDS, *SHORT_MASK_WORDS, *SMALL_WORDS) if word in text]
    for entry in unlabeled if words else ():
        if any(word in entry.id.lower() for word in words) and (affix := _affix(entry.id, known)):
            groups[affix.lower()].append(entry)
    named: set[str] = set()
    for affix, members in groups.items():
        word = affix.strip("_-. ")
        small = any(part in word for part in SMALL_WORDS)
        if small or any(part in word for part in MASK_WORDS) or word in SHORT_MASK_WORDS:
            named.update(entry.id for entry in members)
            what = "smaller versions of these" if small else "masks"
            yield (
                f"{len(members):,} unlabeled images have the name of another image and {affix!r}, for example "
                f"{members[0].image}: are they {what}? They would be trained on as images; move them elsewhere."
            )
    plain = [entry for entry in _plainest(unlabeled, images) if entry.id not in named and _has_few_colours(entry.image)]
    labeled = [entry for entry in entries if entry.subset == "labeled" and not images[entry.image].error]
    if plain and not any(_has_few_colours(entry.image) for entry in _plainest(labeled, images)[:2]):
        count = f"{len(plain)} of the {min(SMALLEST, len(unlabeled))} smallest files among the unlabeled images"
        yield (
            f"{count} have no more than {FEW} colours, for example {listed([entry.image for entry in plain])}: are "
            "they masks, or empty? They would be trained on as images; move them elsewhere."
        )


def _affix(id_: str, known: set[str]) -> str:
    """What a name has before or behind that of another image in its folder, with what separates them; or ""."""
    folder, name = posixpath.split(id_)
    for separator in "_-. ":
        at = name.rfind(separator)
        if at > 0 and not name[at + 1 :].isdigit() and posixpath.join(folder, name[:at]) in known:
            return name[at:]
        at = name.find(separator)
        if at > 0 and not name[:at].isdigit() and posixpath.join(folder, name[at + 1 :]) in known:
            return name[: at + 1]
    return ""


def _plainest(entries: Iterable[Entry], images: Mapping[str, Look]) -> list[Entry]:
    """Those with the fewest bytes a pixel."""

    def density(entry: Entry) -> tuple[float, str]:
        look = images[entry.image]
        return look.size / max(1, look.height * look.width), entry.id

    return nsmallest(SMALLEST, entries, key=density)


def _has_few_colours(path: str) -> bool:
    try:
        pixels = read_image(path)
    except ImageError:
        return False
    packed = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    return len(packed.ravel()) > 4 * FEW and len(np.unique(packed)) <= FEW


def smaller_versions(entries: Sequence[Entry], images: Mapping[str, Look]) -> Iterator[str]:
    """Warnings of folders whose unlabeled images are those of another folder, at half the size or less."""
    folders = Counter(entry.id.rpartition("/")[0] for entry in entries)
    if len(folders) < 2:
        return
    times = Counter(entry.id.rpartition("/")[2] for entry in entries)
    by_name: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if times[name := entry.id.rpartition("/")[2]] > 1:
            by_name[name].append(entry)
    small: dict[str, list[str]] = defaultdict(list)
    for same in by_name.values():
        largest = max((images[entry.image] for entry in same), key=lambda look: look.width)
        for entry in same:
            look = images[entry.image]
            shape = abs(look.width * largest.height - look.height * largest.width)
            alike = shape <= 0.05 * look.width * largest.height
            if alike and entry.subset == "unlabeled" and 0 < 2 * look.width <= largest.width:
                small[posixpath.dirname(entry.id)].append(entry.image)
    for folder, found in small.items():
        if 2 * len(found) > folders[folder]:
            yield (
                f"{len(found):,} of {folders[folder]:,} unlabeled images in {folder} are images of another folder at "
                f"half the size or less, for example {found[0]}: are they thumbnails? Move them elsewhere."
            )


# --- copies -----------------------------------------------------------------------------------------------------------


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
        f"{one} and {two}: what is measured on images that were trained on flatters. Take them out of one of the two."
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
