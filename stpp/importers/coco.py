"""COCO: one JSON file with images, categories and annotations, as polygons or run lengths (RLE); and panoptic COCO.

Annotations are drawn in the order of the file, categories are classes in the order of their ids. A region that is
marked as a crowd is drawn as 255 below all others. Annotations without a segmentation, such as boxes and keypoints, are
left out.

Panoptic: PNG files in a folder that is called like the JSON file; the number of a segment is R + 256 G + 65536 B, and a
pixel without a segment is 255.
"""

import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stpp.common.labels import IGNORE
from stpp.data.images import raw_values
from stpp.importers import IGNORED, Annotated, Export, Labels
from stpp.importers.drawing import Stroke, bitmap, from_runs, polygon, ring_of, runs_of
from stpp.importers.gathering import Area, Colour, Drawn, Notes, classes_of_labels, gathered, palette_of
from stpp.importers.outlining import Patch, parts
from stpp.importers.parsing import BROKEN, Foreign, Mistakes, files_of, read_json
from stpp.importers.pictures import ImageFiles, size_of, stem, within

NAMES = ("coco",)
SUMMARY = "a JSON file of COCO, instances or panoptic, or a folder with such files"
SIGNS = {".json": (r'"images"\s*:\s*\[|"annotations"\s*:\s*\[', r'"categories"\s*:\s*\[|"segmentation"\s*:')}
FILE = True
WRITES = "annotations.json, with RLE or polygons"
TITLE = "file of COCO"


class CocoImage(Foreign):
    """An image."""

    id: int | str
    file_name: str
    height: int | None = None
    width: int | None = None


class CocoCategory(Foreign):
    """A class; panoptic ones have a colour."""

    id: int
    name: str
    color: tuple[int, int, int] | None = None


class CocoSegment(Foreign):
    """A segment of a panoptic image."""

    id: int
    category_id: int
    iscrowd: int = 0


class CocoAnnotation(Foreign):
    """What is drawn in an image: a segmentation, or a file with segments."""

    image_id: int | str
    category_id: int | None = None
    segmentation: Any = None
    iscrowd: int | None = 0
    file_name: str | None = None
    segments_info: list[CocoSegment] | None = None


class CocoFile(Foreign):
    """All of a file."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The images of one file, or of all below a folder. Raises Problems where they are not COCO's, do not agree in
    their categories, or are not whole; StppError where there is none.
    """
    files = files_of(source, "*.json", "the JSON file of COCO, or the folder that holds it")
    mistakes, notes = Mistakes(), Notes()
    contents = {path: content for path in files if (content := read_json(path, CocoFile, TITLE, mistakes)) is not None}
    named: dict[int, CocoCategory] = {}
    for path, content in contents.items():
        for category in content.categories:
            if named.setdefault(category.id, category).name != category.name:
                mistakes.add(f"category {category.id} is {named[category.id].name} in one file and another here", path)
    labels = {named[id_].name: named[id_].color for id_ in sorted(named)}
    pictures = ImageFiles(source, images)
    if any(annotation.segments_info is not None for content in contents.values() for annotation in content.annotations):
        return _panoptic(source, contents, labels, classes, pictures, mistakes, notes)
    drawn = [image for path, content in contents.items() for image in _drawn(path, content, mistakes, notes)]
    return gathered(f"{source} as an export of COCO", drawn, labels, classes, pictures, mistakes, notes, list(contents))


def _drawn(path: Path, content: CocoFile, mistakes: Mistakes, notes: Notes) -> list[Drawn]:
    """The images of a file with their areas."""
    names = {category.id: category.name for category in content.categories}
    sizes = {image.id: _size(image) for image in content.images}
    areas: defaultdict[int | str, list[Area]] = defaultdict(list)
    crowds: defaultdict[int | str, list[Area]] = defaultdict(list)
    for annotation in content.annotations:
        if annotation.image_id not in sizes:
            mistakes.add("an annotation of an image that the file does not list", f"{annotation.image_id} in {path}")
        elif annotation.category_id not in names:
            mistakes.add(
                "an annotation with a category that the file does not list", f"{annotation.category_id} in {path}"
            )
        elif not annotation.segmentation:
            notes.left_out["annotations without a segmentation, such as boxes"] += 1
        else:
            try:
                stroke = _stroke(annotation.segmentation, sizes[annotation.image_id])
            except BROKEN as error:
                mistakes.add_broken("an annotation", error, f"image {annotation.image_id} in {path}")
                continue
            if annotation.iscrowd:
                notes.left_out["crowd regions, drawn as 255"] += 1
                crowds[annotation.image_id].append(Area(IGNORED, stroke))
            else:
                areas[annotation.image_id].append(Area(names[annotation.category_id], stroke))
    return [Drawn(image.file_name, [*crowds[image.id], *areas[image.id]], sizes[image.id]) for image in content.images]


def _size(image: CocoImage) -> tuple[int, int] | None:
    return (image.height, image.width) if image.height and image.width else None


def _stroke(segmentation: Any, size: tuple[int, int] | None) -> Stroke:
    """The pixels of a segmentation: a list of polygons, or the RLE of an image of this size. Raises ValueError."""
    if isinstance(segmentation, list):
        try:
            return polygon([ring_of([float(value) for value in numbers]) for numbers in segmentation])
        except TypeError:
            raise ValueError("a polygon that is not a list of numbers") from None
    try:
        height, width = map(int, segmentation["size"])
        counts = segmentation["counts"]
    except BROKEN:
        raise ValueError("a segmentation that is neither polygons nor RLE") from None
    if size not in (None, (height, width)):
        raise ValueError(f"RLE of {width} x {height} pixels in an image of another size")
    if isinstance(counts, list):
        return bitmap(partial(_by_columns, array("q", counts), height, width))
    if isinstance(counts, str):
        return bitmap(lambda: _by_columns(unpacked(counts), height, width))
    raise ValueError("RLE without counts")


def _by_columns(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    return from_runs(runs, width, height).T


# COCO packs the lengths of runs as text: from the third on less the one before the last, in groups of 5 bits from the
# lowest on, each with a sixth that says whether more follow, and 48 for the characters to be readable (pycocotools,
# maskApi.c, rleToString). pycocotools itself makes a picture of arbitrary pixels where a text is too short.


def unpacked(text: str) -> list[int]:
    """The lengths of the runs in a text. Raises ValueError where it is none of COCO's."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 60:
            raise ValueError("RLE with characters that COCO does not use")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (1 << shift) if group & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("RLE that ends early")
    return runs


def packed(runs: Sequence[int]) -> str:
    """The text that `unpacked` reads."""
    text = []
    for place, run in enumerate(runs):
        value = run - (runs[place - 2] if place > 2 else 0)
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)
            text.append(chr(group + (32 if more else 0) + 48))
    return "".join(text)


# --- panoptic ---------------------------------------------------------------------------------------------------------


def _panoptic(
    source: Path,
    contents: Mapping[Path, CocoFile],
    labels: Mapping[str, Colour | None],
    classes: Sequence[str] | None,
    pictures: ImageFiles,
    mistakes: Mistakes,
    notes: Notes,
) -> Export:
    """The images of panoptic files; without a class for what is nothing, since each pixel has a segment."""
    names = list(classes or classes_of_labels(list(labels))[1:])
    numbers = {name: number for number, name in enumerate(names)}
    found = []
    for path, content in contents.items():
        called = {category.id: category.name for category in content.categories}
        files = {image.id: image.file_name for image in content.images}
        for annotation in content.annotations:
            mask = path.with_suffix("") / str(annotation.file_name)
            if not _is_below(path, annotation.file_name) or not mask.is_file():
                mistakes.add(f"there is no PNG file of an image in {path.with_suffix('')}", str(annotation.file_name))
                continue
            if (image := pictures.find(files.get(annotation.image_id, ""), mistakes)) is None:
                continue
            classes_by_segment = {}
            for segment in annotation.segments_info or ():
                name = called.get(segment.category_id)
                if name not in numbers:
                    mistakes.add(
                        f"no class for category {segment.category_id}; the classes are {', '.join(names)}", path
                    )
                notes.left_out["crowd regions, drawn as 255"] += segment.iscrowd
                classes_by_segment[segment.id] = IGNORE if segment.iscrowd else numbers.get(str(name), IGNORE)
            if (size := size_of(mask, mistakes)) != size_of(image, mistakes) and size is not None:
                mistakes.add("an image has another size than its PNG file", image)
            name = stem(within(files[annotation.image_id]))
            found.append(Annotated(name, image, image.suffix, partial(_segments, mask, classes_by_segment)))
    mistakes.refuse(f"{source} as an export of COCO, panoptic")
    notes.left_out = +notes.left_out
    return Export(names, found, list(contents), notes.phrases(), palette_of(names, labels), notes.remarks)


def _is_below(path: Path, name: str | None) -> bool:
    try:
        return name is not None and within(name) == name
    except ValueError:
        return False


def _segments(mask: Path, classes: Mapping[int, int]) -> NDArray[np.uint8]:
    """The mask of a panoptic PNG, given the class of each segment; what is in no segment is 255."""
    colours = raw_values(mask, {"palette_map": {"#000000": 0}})
    ids = colours >> 16 | colours & 0xFF00 | (colours & 0xFF) << 16
    known, places = np.unique(ids, return_inverse=True)
    return np.array([classes.get(int(id_), IGNORE) for id_ in known], np.uint8)[places].reshape(ids.shape)


# --- writing ----------------------------------------------------------------------------------------------------------


def files(labels: Labels, tolerance: float | None) -> dict[str, Callable[[Path], None]]:
    """The one file; a category for each class, with the number of the class and 1 as its id, and an annotation for each
    class of an image, or for each of its polygons.
    """
    return {"annotations.json": partial(_write, labels, tolerance)}


def _write(labels: Labels, tolerance: float | None, path: Path) -> None:
    numbers = {name: number for number, name in enumerate([*labels.classes, IGNORED], start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (id_, name) in enumerate(labels.images.items(), start=1):
        mask = labels.mask(id_)
        height, width = mask.shape
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for part in parts(mask, labels.classes, tolerance):
            one = {"id": len(annotations) + 1, "image_id": image_id, "category_id": numbers[part.label], "iscrowd": 0}
            annotations.append(one | _segmentation(part, height, width))
    used = {annotation["category_id"] for annotation in annotations}
    categories = [{"id": id_, "name": name} for name, id_ in numbers.items() if name != IGNORED or id_ in used]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content), encoding="utf-8")


def _segmentation(part: Patch, height: int, width: int) -> dict[str, Any]:
    """The segmentation of an annotation, its area in pixels, and its box."""
    if part.outline is not None:
        segmentation: Any = [part.outline.ravel().tolist()]
    else:
        segmentation = {"size": [height, width], "counts": packed(runs_of(part.whole(height, width).T))}
    return {
        "segmentation": segmentation,
        "area": int(part.pixels.sum()),
        "bbox": [part.left, part.top, part.pixels.shape[1], part.pixels.shape[0]],
    }
