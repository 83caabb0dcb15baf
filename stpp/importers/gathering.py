"""From the shapes of an export to images and masks: which labels are classes, and which images have no shapes.

Where shapes overlap, the later one counts. Pixels without a shape are class 0. The labels of `GROUNDS` stand for class
0, `__ignore__` for 255, wherever no class is called so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from stpp.common.labels import IGNORE
from stpp.common.wording import counted
from stpp.importers import BACKGROUND, GROUNDS, IGNORED, Annotated, Export
from stpp.importers.drawing import LARGEST, Stroke, painted
from stpp.importers.parsing import Mistakes
from stpp.importers.pictures import ImageFiles, size_of, stem, within

Colour = Sequence[int]
OTHER_SIZE = "an image has another size than when it was annotated; give the images that were annotated"


class Area(NamedTuple):
    """The pixels of an image that have one label."""

    label: str
    stroke: Stroke


class Drawn(NamedTuple):
    """An image as an export describes it.

    `name` is what the export calls it, and the import, too; `areas` are in the order in which they are drawn, `size` is
    height and width where the export tells. An image without areas is all class 0 where it was `saved` so, by a file of
    its own; else nobody has annotated it. `place` is where the image lies in the export, where its name does not say.
    """

    name: str
    areas: Sequence[Area]
    size: tuple[int, int] | None = None
    saved: bool = False
    place: str = ""


class Notes:
    """What is said of an export beside its masks: what was left out, counted, and what was taken for granted."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.remarks: list[str] = []

    def phrases(self) -> list[str]:
        """What was left out."""
        return [f"{count} {what}" for what, count in self.left_out.items()]


def numbers_of(names: Sequence[str]) -> dict[str, int]:
    """The mask value of each label, given the classes in label order."""
    found = {name: number for number, name in enumerate(names)} | ({} if IGNORED in names else {IGNORED: IGNORE})
    for ground in GROUNDS:
        found.setdefault(ground, 0)
    return found


def classes_of_labels(labels: Sequence[str]) -> list[str]:
    """Class 0 is the background, then the labels in their order."""
    return [BACKGROUND, *(label for label in labels if label not in (*GROUNDS, IGNORED))]


def refuse_others(labels: Iterable[str], classes: Sequence[str], mistakes: Mistakes) -> None:
    """Add a mistake for each label that stands for no class."""
    for label in sorted({*labels} - numbers_of(classes).keys()):
        mistakes.add(f"no class for the label {label}; the classes are {', '.join(classes)}")


def gathered(
    headline: str,
    drawn: Sequence[Drawn],
    labels: Mapping[str, Colour | None],
    classes: Sequence[str] | None,
    pictures: ImageFiles,
    mistakes: Mistakes,
    notes: Notes,
    files: Sequence[Path],
) -> Export:
    """An export of images with shapes.

    `labels` are those that the export declares, in its order, with their colours where it has such. Without `classes`,
    they are the background and these. Raises Problems where an image is missing or has another size, where a label is
    no class, and for all `mistakes`.
    """
    names = list(classes or classes_of_labels(list(labels)))
    numbers = numbers_of(names)
    refuse_others({area.label for image in drawn for area in image.areas}, names, mistakes)
    images = []
    if not drawn and not mistakes:
        mistakes.add("no image is listed")
    taken: dict[Path, str] = {}
    for image in drawn:
        path = pictures.find(image.place or image.name, mistakes, exact=bool(image.place) and pictures.own)
        if path is not None and taken.setdefault(path, image.name) != image.name:
            mistakes.add(f"one image for two names, {taken[path]} and {image.name}", path)
        if path is None or (size := size_of(path, mistakes)) is None:
            continue
        if image.size not in (None, size):
            mistakes.add(OTHER_SIZE, path)
            continue
        if size[0] * size[1] > LARGEST:
            mistakes.add("an image is too large", path)
            continue
        strokes = [(numbers.get(area.label, IGNORE), area.stroke) for area in image.areas]
        draw = partial(painted, *size, strokes) if strokes or image.saved else None
        images.append(Annotated(stem(within(image.name)), path, path.suffix, draw))
    mistakes.refuse(headline)
    empty = sum(image.saved and not image.areas for image in drawn)
    waiting = sum(not image.saved and not image.areas for image in drawn)
    if empty:
        notes.remarks.append(f"{counted(empty, 'image')} without a shape, by a file that says so: all {names[0]}")
    if waiting:
        notes.remarks.append(f"{counted(waiting, 'image')} without a shape: unlabeled, with no mask")
    return Export(names, images, files, notes.phrases(), palette_of(names, labels), notes.remarks)


def palette_of(names: Sequence[str], colours: Mapping[str, Colour | None]) -> list[Colour]:
    """The colours of the classes, black for the background; none unless all are known."""
    known = dict.fromkeys(GROUNDS, (0, 0, 0)) | {name: colour for name, colour in colours.items() if colour}
    return [known[name] for name in names] if all(name in known for name in names) and any(colours.values()) else []


def from_hex(text: str) -> list[int] | None:
    """[r, g, b] of a colour "#rrggbb"; None for another text."""
    digits = text.removeprefix("#")
    try:
        return list(bytes.fromhex(digits)) if len(digits) == 6 else None
    except ValueError:
        return None
