"""Files among the images that are probably none of them: masks, and smaller versions of others."""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest

import numpy as np

from stpp.common.wording import counted, listed
from stpp.data.images import read_image
from stpp.data.inspection import Look
from stpp.data.readers import ImageError
from stpp.data.sources import Entry

SMALLEST = 8  # unlabeled images that are decoded, those with the fewest bytes a pixel
FEW = 8  # colours: no photograph has so few
MASK_WORDS = ("mask", "label", "seg", "annot", "truth", "manual", "lesion", "roi")
SHORT_MASK_WORDS = {"gt", "lab", "lbl", "ann", "target"}
SMALL_WORDS = ("thumb", "preview", "small")


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
                f"{counted(len(members), 'unlabeled image')} with the name of another image and {affix!r}, for example "
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
