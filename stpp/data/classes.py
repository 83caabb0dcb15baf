"""Names and colours of the classes, and what the values in mask files mean, from the data settings."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from posixpath import expanduser
from typing import Any, NamedTuple

from stpp.common.errors import StppError
from stpp.common.labels import encoding_of
from stpp.common.terminal import CONTROL
from stpp.data.lists import locate
from stpp.store.masks import voc_palette

Colour = list[int]

VOC_CLASSES = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]

# Names and colours of the 19 classes that count, in the order of their training ids (Cityscapes scripts).
CITYSCAPES = {
    "road": [128, 64, 128],
    "sidewalk": [244, 35, 232],
    "building": [70, 70, 70],
    "wall": [102, 102, 156],
    "fence": [190, 153, 153],
    "pole": [153, 153, 153],
    "traffic light": [250, 170, 30],
    "traffic sign": [220, 220, 0],
    "vegetation": [107, 142, 35],
    "terrain": [152, 251, 152],
    "sky": [70, 130, 180],
    "person": [220, 20, 60],
    "rider": [255, 0, 0],
    "car": [0, 0, 142],
    "truck": [0, 0, 70],
    "bus": [0, 60, 100],
    "train": [0, 80, 100],
    "motorcycle": [0, 0, 230],
    "bicycle": [119, 11, 32],
}


LABEL_MAP = "labelmap.txt"
"""The file with names and colours of the classes that CVAT puts beside masks."""


class Classes(NamedTuple):
    """The classes of a data set: names and [r, g, b] in label order, and the `encoding` that masks are read with.

    `encoding` is None where the settings give none that holds. `files` that this rests on come with their
    `record.stamp_or_none`; `problems` are sentences. `known` are the colours of masks (#rrggbb -> class) by a label map
    beside them.
    """

    names: list[str]
    palette: list[Colour]
    encoding: dict[str, Any] | None
    files: dict[str, list[int] | None]
    problems: list[str]
    known: Mapping[str, int] = {}


def classes_of(data: Mapping[str, Any]) -> Classes:
    """The classes from `classes`, else from `classes_file`, else those of the layout; colours likewise.

    A classes file has one name a line, with a colour `#rrggbb` behind it where wanted; blank lines and lines that begin
    with "#" are skipped. Without colours those of PASCAL VOC serve.
    """
    problems: list[str] = []
    files: dict[str, list[int] | None] = {}
    names, colours = list(data.get("classes") or []), [_colour(text) for text in data.get("colors") or []]
    from_file = data.get("classes_file") if not names else None
    if from_file is not None:
        try:
            path, files = locate(from_file, Path(expanduser(data["root"])), "classes file", "classes_file")
        except StppError as error:
            problems.append(str(error))
        else:
            try:
                names, in_file = read_classes(path)
            except UnicodeDecodeError as error:
                problems.append(f"The classes file {path} is not UTF-8 text ({error}); save it as such.")
                return Classes([], [], None, files, problems)
            colours = colours or in_file
            problems += [
                f"The classes file {path} has the control character {found[0]!a} in {name!a}; rename the class."
                for name in names
                if (found := CONTROL.search(name))
            ]
            if "" in names:
                problems.append(f"The classes file {path} has a colour without a name; write the name before it.")
            if not names:
                problems.append(f"The classes file {path} has no names; expected one class name per line.")
    elif not names and data["layout"] == "voc":
        names = list(VOC_CLASSES)
    elif not names and data["layout"] == "cityscapes":
        names = list(CITYSCAPES)
        colours = colours or list(CITYSCAPES.values())

    if not names and not problems:
        problems.append("The classes are not known: give `classes` (a list of names) or `classes_file`.")
    if names and not 2 <= len(names) <= 255:
        problems.append(f"There are {len(names)} classes; expected 2 to 255 (255 itself means ignore in masks).")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        problems.append(
            f"Class names must differ from each other, but {_quoted(twice)} occur more than once: rename all but one."
        )
    if 0 < len(colours) < len(names):
        problems.append(f"There are {len(colours)} colours for {len(names)} classes; give one for each, or none.")
    palette = colours[: len(names)] if len(colours) >= len(names) else voc_palette(len(names))

    encoding = encoding_of(data, len(names))
    if not 2 <= len(names) <= 255:
        return Classes(names, palette, None, files, problems)
    contradictions = list(_encoding_problems(encoding))
    known = _known(Path(expanduser(data["root"])) / LABEL_MAP, names)
    return Classes(names, palette, None if contradictions else encoding, files, problems + contradictions, known)


def _known(label_map: Path, names: Sequence[str]) -> dict[str, int]:
    """The colours of those classes that a label map names, if there is one."""
    try:
        given, colours = read_classes(label_map)
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = zip(given, colours) if len(given) == len(colours) else ()
    return {f"#{bytes(colour).hex()}": names.index(name) for name, colour in pairs if name in names}


def _encoding_problems(encoding: Mapping[str, Any]) -> Iterable[str]:
    for name in ("label_map", "palette_map"):
        for raw, class_ in (encoding[name] or {}).items():
            if class_ != "ignore" and not (isinstance(class_, int) and 0 <= class_ < encoding["classes"]):
                last = encoding["classes"] - 1
                yield f"{name} maps {raw} to {class_!r}; expected a class index from 0 to {last}, or `ignore`."
    if encoding["label_map"] and encoding["palette_map"]:
        yield "label_map and palette_map are both given: masks are read by value or by colour; keep one of them."


def read_classes(path: Path) -> tuple[list[str], list[Colour]]:
    """The names in a classes file, as `read_labels` reads it, and their colours as far as it has them.

    A first name `__ignore__`, as labelme has it for the ignored value, is not a class and has no colour of a class.
    """
    labels = read_labels(path)
    if labels and labels[0][0] == "__ignore__":
        del labels[0]
    return [name for name, _ in labels], [colour for _, colour in labels if colour]


def read_labels(path: Path) -> list[tuple[str, Colour | None]]:
    """The names in a text file, one a line, each with the colour `#rrggbb` behind it, or None.

    Lines `name:red,green,blue::`, as CVAT writes them into labelmap.txt, are read as well. Raises OSError and
    UnicodeDecodeError.
    """
    found: list[tuple[str, Colour | None]] = []
    text = path.read_text(encoding="utf-8-sig")
    for line in (line.strip(" \t") for line in text.split("\n")):  # other separators are part of a name, and refused
        if line and not line.startswith("#"):
            if cvat := re.fullmatch(r"(.*?):(\d{1,3}),(\d{1,3}),(\d{1,3}):[^:]*:[^:]*", line):
                found.append((cvat[1], [min(255, int(cvat[at])) for at in (2, 3, 4)]))
                continue
            name, colour = re.fullmatch(r"(.*?)[ \t,]*(#[0-9a-fA-F]{6})?", line).groups()  # type: ignore[union-attr]
            found.append((name, _colour(colour) if colour else None))
    return found


def _colour(text: str) -> Colour:
    return [int(text[at : at + 2], 16) for at in (1, 3, 5)]


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
