"""Label Studio: its JSON export, with brush strokes, polygons, rectangles and ellipses; or brush labels as PNG files.

JSON: regions are drawn in their order. Of several annotations of a task the last one counts that was not cancelled. A
task without one has no mask. An image is found by the file name in its address, without the eight hexadecimal digits
that an upload puts before it.

PNG: `task-N-annotation-M-by-K-tag-LABEL-I.png`, drawn in the order of M and I. The files name tasks, not images, so
tasks by number are taken for images by name where there are as many of both, of equal sizes.

Labels are classes in alphabetical order.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, RootModel

from stpp.common.errors import StppError
from stpp.common.wording import listed
from stpp.importers import Export, Labels
from stpp.importers.drawing import LARGEST, Stroke, bitmap, ellipse, from_png, in_px, polygon, rectangle, turned
from stpp.importers.gathering import Area, Drawn, Notes, gathered
from stpp.importers.outlining import Patch, parts
from stpp.importers.parsing import BROKEN, Foreign, Mistakes, files_of, read_json
from stpp.importers.pictures import ImageFiles

NAMES = ("label-studio",)
SUMMARY = "a JSON export of Label Studio, or the folder of its brush labels as PNG files"
SIGNS = {".json": (r'"original_width"|"from_name"|"completed_by"',)}
FILE = True
MASKS_NAMED = r"task-\d+-annotation-\d+-by-"
WRITES = "tasks.json, to be imported into a project: brush strokes or polygons as predictions"
AREAS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels")
REST = ("keypointlabels", "choices", "textarea", "rating", "relation", "taxonomy", "vectorlabels")
TASK = re.compile(r"task-(\d+)-annotation-(\d+)-by-.*-tag-(.+)-(\d+)\.png", re.DOTALL)
UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")


class LabelStudioRegion(Foreign):
    """A region of an annotation; its `value` depends on its type."""

    type: str = ""
    value: dict[str, Any] = Field(default_factory=dict)
    original_width: int | None = None
    original_height: int | None = None


class LabelStudioAnnotation(Foreign):
    """What one person drew in an image."""

    result: list[LabelStudioRegion] = Field(default_factory=list)
    was_cancelled: bool | None = False


class LabelStudioTask(Foreign):
    """An image and its annotations."""

    id: int | None = None
    data: dict[str, Any]
    annotations: list[LabelStudioAnnotation] | None = None
    predictions: list[LabelStudioAnnotation] | None = None


class LabelStudioFile(RootModel[list[LabelStudioTask]]):
    """All of a file."""


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The images of an export. Raises Problems where files are not Label Studio's or not whole, StppError where there
    are none.
    """
    mistakes, notes = Mistakes(), Notes()
    pictures = ImageFiles(source, images)
    strokes = sorted(path for path in source.rglob("*.png") if TASK.fullmatch(path.name)) if source.is_dir() else []
    if strokes and not any(source.rglob("*.json")):
        files, drawn = strokes, _of_strokes(source, strokes, pictures, mistakes, notes)
    else:
        files = files_of(source, "*.json", "the JSON export of Label Studio, or the folder of its PNG files")
        read = [read_json(path, LabelStudioFile, "JSON export of Label Studio", mistakes) for path in files]
        tasks = [task for content in read if content is not None for task in content.root]
        drawn = [_drawn(task, pictures, mistakes, notes) for task in tasks]
    labels: dict[str, None] = dict.fromkeys(sorted({area.label for image in drawn for area in image.areas}))
    headline = f"{source} as an export of Label Studio"
    return gathered(headline, drawn, labels, classes, pictures, mistakes, notes, files)


def _of_strokes(
    source: Path, files: Sequence[Path], pictures: ImageFiles, mistakes: Mistakes, notes: Notes
) -> list[Drawn]:
    """The images that tasks of PNG files are taken for. Raises StppError where there are more or fewer."""
    tasks: defaultdict[int, list[tuple[int, int, str, Path]]] = defaultdict(list)
    for path in files:
        task, annotation, label, number = TASK.fullmatch(path.name).groups()  # type: ignore[union-attr]
        tasks[int(task)].append((int(annotation), int(number), label, path))
    names = [name for name in pictures.names if not TASK.fullmatch(name.rpartition("/")[2])]
    if len(names) != len(tasks):
        raise StppError(
            f"the PNG files in {source} are of {len(tasks)} tasks, but there are {len(names)} images in "
            f"{pictures.folder}. The files do not say of which image they are: name the folder of these very images "
            "with --images, or export the project as JSON"
        )
    drawn = []
    for name, number in zip(names, sorted(tasks)):
        areas, sizes = [], set()
        for _, _, label, path in sorted(tasks[number]):
            try:
                sizes.add(_of_file(path).shape)
                areas.append(Area(label, bitmap(partial(_of_file, path))))
            except (OSError, ValueError) as error:
                mistakes.add(str(error), path)
        if len(sizes) > 1:
            mistakes.add("PNG files of one task differ in size", f"task {number}")
        for height, width in sizes:
            drawn.append(Drawn(name, areas, (height, width)))
    pairs = [f"task {number} is {name}" for name, number in zip(names, sorted(tasks))]
    notes.remarks.append(
        f"the PNG files name tasks, not images, so these were taken in their order: {listed(pairs)}. Check them; the "
        "JSON export names the images"
    )
    return drawn


def _of_file(path: Path) -> NDArray[np.bool_]:
    return from_png(path.read_bytes())


# --- JSON -------------------------------------------------------------------------------------------------------------


def _drawn(task: LabelStudioTask, pictures: ImageFiles, mistakes: Mistakes, notes: Notes) -> Drawn:
    """The image of a task and its areas."""
    done = [annotation for annotation in task.annotations or () if not annotation.was_cancelled]
    made = done or list(task.predictions or ())
    if len(made) > 1:
        notes.left_out["annotations of tasks that have a later one"] += len(made) - 1
    areas = []
    size = None
    name = _image_name(task.data, pictures)
    for region in made[-1].result if made else ():
        if region.type not in AREAS:
            notes.left_out[f"of type {region.type}, which has no area"] += 1
            continue
        try:
            if not (region.original_height and region.original_width):
                raise ValueError("no size of the image")
            size = region.original_height, region.original_width
            (label,) = region.value[region.type]
            areas.append(Area(str(label), _stroke(region.type, region.value, *size)))
        except BROKEN as error:
            mistakes.add_broken(f"a region of type {region.type}", error, f"task {task.id}")
    return Drawn(name, areas, size, saved=bool(done))


def _image_name(data: dict[str, Any], pictures: ImageFiles) -> str:
    """The name of the image of a task, from its address: of a file, an upload, a storage or a site."""
    texts = [value for value in data.values() if isinstance(value, str) and value]
    address = next((text for text in texts if re.search(r"\.\w{2,5}(\?|$)", text)), "")
    try:
        split = urlsplit(address)
    except ValueError:
        return address
    path = parse_qs(split.query).get("d", [unquote(split.path)])[0].lstrip("/")
    folder, _, base = path.rpartition("/")
    bare = UPLOADED.sub("", base, count=1)
    if pictures.has(bare) and not pictures.has(base):
        return bare
    uploaded = folder.startswith("data/") or split.scheme
    return base if uploaded else path


def _stroke(kind: str, value: dict[str, Any], height: int, width: int) -> Stroke:
    """The pixels of a region. Raises one of `BROKEN`."""
    if not 0 < height * width <= LARGEST:
        raise ValueError(f"an image of {width} x {height} pixels")

    def x_of(share: Any) -> float:
        return in_px(float(share) / 100, width)

    def y_of(share: Any) -> float:
        return in_px(float(share) / 100, height)

    if kind == "brushlabels":
        return bitmap(partial(decoded, bytes(value["rle"]), height, width))
    if kind == "polygonlabels":
        return polygon([[(x_of(x), y_of(y)) for x, y in value["points"]]])
    x, y, degrees = x_of(value["x"]), y_of(value["y"]), float(value.get("rotation") or 0)
    if kind == "ellipselabels":
        return polygon([ellipse(x, y, x_of(value["radiusX"]), y_of(value["radiusY"]), degrees)])
    right, bottom = x + x_of(value["width"]), y + y_of(value["height"])
    return polygon([turned(rectangle(x, y, right, bottom), degrees, (x, y))])


# --- brush strokes ----------------------------------------------------------------------------------------------------
#
# Label Studio packs the RGBA values of a picture, row by row, as bits (its package `rle`, after thi.ng/rle-pack): the
# number of values in 32 bits, the bits of a value less 1 in 5, and four times the bits of a length less 1 in 4; then
# runs: a bit that says whether one value is repeated, which of the four lengths comes in 2, the length less 1, and the
# value, or so many values.

LENGTHS = (3, 4, 8, 16)
"""Bits of the lengths that are written."""


def decoded(packed: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels, bool (H, W), that a brush stroke covers: those whose alpha is not 0. Raises ValueError where it does
    not fill the picture.
    """
    bits = "".join(f"{byte:08b}" for byte in packed)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        if at > len(bits):
            raise ValueError("RLE that ends early")
        return int(bits[at - count : at], 2)

    total, size = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    if total != height * width * 4:
        raise ValueError(f"RLE of {total} values for {width} x {height} pixels")
    values = np.zeros(total, np.uint32)
    done = 0
    while done < total:
        repeats = take(1)
        end = done + take(lengths[take(2)]) + 1
        if end > total:
            raise ValueError("RLE that is too long")
        values[done:end] = take(size) if repeats else [take(size) for _ in range(end - done)]
        done = end
    return values.reshape(height, width, 4)[..., 3] != 0


def encoded(pixels: NDArray[np.bool_]) -> list[int]:
    """What `decoded` reads: pixels that are covered are (255, 255, 255, 255), the others 0."""
    flat = pixels.reshape(-1)
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    sizes = np.diff(np.append(starts, flat.size)) * 4
    bits = [f"{flat.size * 4:032b}", f"{7:05b}", *(f"{length - 1:04b}" for length in LENGTHS)]
    for covered, size in zip(flat[starts].tolist(), sizes.tolist()):
        while size:
            some = min(size, 2 ** LENGTHS[-1])
            which = next(place for place, length in enumerate(LENGTHS) if some <= 2**length)
            bits.append(f"1{which:02b}{some - 1:0{LENGTHS[which]}b}{'1' * 8 if covered else '0' * 8}")
            size -= some
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


# --- writing ----------------------------------------------------------------------------------------------------------


def files(labels: Labels, tolerance: float | None) -> dict[str, Callable[[Path], None]]:
    """The one file. Its images are named by path; where Label Studio does not serve them so, change `image`."""
    return {"tasks.json": partial(_write, labels, tolerance)}


def _write(labels: Labels, tolerance: float | None, path: Path) -> None:
    tasks = []
    for id_, name in labels.images.items():
        mask = labels.mask(id_)
        height, width = mask.shape
        result = [
            {"id": str(number), "from_name": "label", "to_name": "image", "image_rotation": 0}
            | {"original_width": width, "original_height": height}
            | _region(part, height, width)
            for number, part in enumerate(parts(mask, labels.classes, tolerance), start=1)
        ]
        data = {"image": f"/data/local-files/?d={quote(name)}"}
        tasks.append({"data": data, "predictions": [{"model_version": "stpp", "result": result}]})
    path.write_text(json.dumps(tasks), encoding="utf-8")


def _region(part: Patch, height: int, width: int) -> dict[str, Any]:
    """The type and the value of a region."""
    if part.outline is None:
        value = {"format": "rle", "rle": encoded(part.whole(height, width)), "brushlabels": [part.label]}
        return {"type": "brushlabels", "value": value}
    points = (part.outline * 100 / (width, height)).tolist()
    return {"type": "polygonlabels", "value": {"points": points, "closed": True, "polygonlabels": [part.label]}}
