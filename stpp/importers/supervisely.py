"""Supervisely: meta.json with the classes, and for each data set `ann/IMAGE.json` beside `img/IMAGE`.

Objects are drawn in their order, polygons with their holes. Points, lines, graphs and the like have no area and are
left out. Classes are in the order of meta.json. A file without an object says that nothing is there; an image without a
file has no mask.
"""

import base64
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stpp.common.errors import StppError
from stpp.importers import Export
from stpp.importers.drawing import Stroke, bitmap, from_png, polygon, rectangle
from stpp.importers.gathering import Area, Colour, Drawn, Notes, from_hex, gathered
from stpp.importers.parsing import BROKEN, Foreign, Mistakes, read_json
from stpp.importers.pictures import ImageFiles

NAMES = ("supervisely",)
SUMMARY = "the folder of a Supervisely project, with meta.json, and ann/ and img/ in each data set"
SIGNS = {".json": (r'"classTitle"\s*:|"objects"\s*:\s*\[\s*\]|"projectType"',)}
ANNOTATIONS, IMAGES = "ann", "img"
LONGEST = 2**26
"""Bytes of the PNG of a bitmap."""
AREAS = ("bitmap", "polygon", "rectangle")


class SuperviselyClass(Foreign):
    """A class of the project."""

    title: str
    color: str = ""


class SuperviselyMeta(Foreign):
    """What holds for a whole project."""

    classes: list[SuperviselyClass]


class SuperviselyPoints(Foreign):
    """The corners of an object."""

    exterior: list[tuple[float, float]]
    interior: list[list[tuple[float, float]]] = Field(default_factory=list)


class SuperviselyBitmap(Foreign):
    """The pixels of an object: a PNG, compressed once more, in base64; its place is x, y."""

    data: str
    origin: tuple[int, int]


class SuperviselyObject(Foreign):
    """An object."""

    classTitle: str  # noqa: N815 (as the file has it)
    geometryType: str  # noqa: N815
    bitmap: SuperviselyBitmap | None = None
    points: Any = None


class SuperviselySize(Foreign):
    """Of an image, in px."""

    height: int
    width: int


class SuperviselyImage(Foreign):
    """A file of annotations."""

    size: SuperviselySize
    objects: list[SuperviselyObject]


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The images of all data sets of a project. Raises Problems where its files are broken, StppError where there is no
    meta.json.
    """
    meta = source / "meta.json"
    if not meta.is_file():
        raise StppError(f"there is no {meta}; give the folder of the whole Supervisely project")
    mistakes, notes = Mistakes(), Notes()
    project = read_json(meta, SuperviselyMeta, "meta.json of Supervisely", mistakes)
    labels: dict[str, Colour | None] = {one.title: from_hex(one.color) for one in project.classes} if project else {}
    pictures = ImageFiles(source, images)
    files = sorted(path for path in source.glob("**/ann/**/*.json") if path.is_file())
    drawn = []
    for path in files:
        if (content := read_json(path, SuperviselyImage, "file of Supervisely", mistakes)) is not None:
            size = content.size.height, content.size.width
            place = _image_of(path.relative_to(source)).as_posix()
            areas = _areas(path, content, mistakes, notes)
            drawn.append(Drawn(_name(place), areas, size, saved=True, place=place))
    known = {image.place for image in drawn}
    alone = [name for name in pictures.names if IMAGES in name.split("/")[:-1] and name not in known]
    drawn += [Drawn(_name(name), [], place=name) for name in alone]
    headline = f"{source} as a project of Supervisely"
    return gathered(headline, drawn, labels, classes, pictures, mistakes, notes, [meta, *files])


def _image_of(path: Path) -> Path:
    """Where the image of a file of annotations lies."""
    return Path(*(IMAGES if part == ANNOTATIONS else part for part in path.with_suffix("").parts))


def _name(place: str) -> str:
    """The path of an image, without the folder that all images of a data set are in."""
    return "/".join(part for part in place.split("/") if part != IMAGES)


def _areas(path: Path, content: SuperviselyImage, mistakes: Mistakes, notes: Notes) -> list[Area]:
    areas = []
    for one in content.objects:
        if one.geometryType not in AREAS:
            notes.left_out[f"of shape {one.geometryType}, which is not read"] += 1
            continue
        try:
            areas.append(Area(one.classTitle, _stroke(one)))
        except BROKEN as error:
            mistakes.add_broken(f"a {one.geometryType}", error, path)
    return areas


def _stroke(one: SuperviselyObject) -> Stroke:
    """The pixels of an object. Raises ValueError, of which pydantic's error is one."""
    if one.geometryType == "bitmap":
        if one.bitmap is None:
            raise ValueError("no bitmap in it")
        return bitmap(partial(_pixels, one.bitmap.data), *one.bitmap.origin)
    points = SuperviselyPoints.model_validate(one.points)
    if one.geometryType == "rectangle":
        if len(points.exterior) != 2:
            raise ValueError(f"a rectangle with {len(points.exterior)} corners")
        (left, top), (right, bottom) = points.exterior
        return polygon([rectangle(left, top, right, bottom)])
    return polygon([points.exterior], points.interior)


def _pixels(text: str) -> NDArray[np.bool_]:
    """The pixels of a bitmap; what is too long for a PNG is cut off. Raises ValueError."""
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), LONGEST)
    except zlib.error as error:
        raise ValueError(f"pixels that cannot be unpacked ({error})") from None
    return from_png(content)
