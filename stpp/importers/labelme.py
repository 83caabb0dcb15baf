"""labelme: a JSON file beside each image, with polygons, rectangles, circles and masks.

Shapes are drawn in their order, so that a later one lies over an earlier one, as labelme's own conversion draws them.
Pixels without a shape are background. Points and lines have no area and are left out. A label `__ignore__` is drawn as
255.
"""

import base64
import binascii
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stpp.errors import Problems, StppError
from stpp.importers import BACKGROUND, Annotated, Export
from stpp.labels import IGNORE

NAMES = ("labelme",)
SUMMARY = "a folder of JSON files of labelme, with their images beside them or in them"

AREAS = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}
"""Shapes that cover pixels, and how many points one has at least."""
IGNORED = "__ignore__"
LARGEST = 2**30
"""Pixels; no image that is read has more."""


def find(source: Path, classes: Sequence[str] | None) -> Export:
    """The annotated images in a folder and its sub-folders.

    Without `classes`, they are the background and the labels of all files in alphabetical order. Raises Problems where
    files are not labelme's, where an image is missing, or a label is none of `classes`; StppError where there is none.
    """
    files = sorted(path for path in source.rglob("*.json") if path.is_file()) if source.is_dir() else []
    if not files:
        raise StppError(f"there is no JSON file in {source}; give the folder that labelme saved its files in")
    problems: list[str] = []
    contents = {path: content for path in files if (content := _read(path, problems)) is not None}
    labels = {shape["label"] for content in contents.values() for shape in content["shapes"] if _covers(shape)}
    names = list(classes or [BACKGROUND, *sorted(labels - {BACKGROUND, "_background_", IGNORED})])
    numbers = {name: number for number, name in enumerate(names)} | {IGNORED: IGNORE}
    numbers.setdefault("_background_", 0)
    if unknown := sorted(labels - numbers.keys()):
        problems.append(f"no class for the label {', '.join(unknown)}: the classes are {', '.join(names)}")
    images = []
    for path, content in contents.items():
        image = path.parent / content["imagePath"].replace("\\", "/")
        name = path.relative_to(source).with_suffix("").as_posix()
        if not image.is_file() and not content["embeds"]:
            problems.append(f"{path}: there is no image {image}, and the file does not hold one")
        data = image if image.is_file() else partial(_embedded, path)
        images.append(Annotated(name, data, image.suffix or ".png", partial(_draw, content, numbers)))
    if problems:
        raise Problems(f"{source} as an export of labelme", problems)
    kinds = Counter(shape["shape_type"] for content in contents.values() for shape in content["shapes"])
    left_out = [f"{count} of shape {kind}, which has no area" for kind, count in kinds.items() if kind not in AREAS]
    empty = sum(not any(map(_covers, content["shapes"])) for content in contents.values())
    left_out += [f"{empty} files without a shape, whose masks are all {names[0]}"] if empty else []
    return Export(names, images, files, left_out)


def _read(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """The content of a file of labelme, but for the image, of which `embeds` says whether it is there; None, and a
    problem, for any other.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        height, width = content["imageHeight"], content["imageWidth"]
        if not (isinstance(content["imagePath"], str) and type(height) is type(width) is int):
            raise TypeError("imagePath, imageHeight or imageWidth are of another type")
        if not 0 < height * width <= LARGEST or min(height, width) < 1:
            raise ValueError(f"an image of {width} x {height} pixels")
        embedded = content.pop("imageData", None)  # a thousand of them would fill the memory
        content["embeds"] = embedded is not None and bool(base64.b64decode(embedded, validate=True))
        for shape in content["shapes"]:
            shape.setdefault("shape_type", "polygon")  # as in files of labelme's first versions
            if not isinstance(shape["label"], str) or not isinstance(shape["shape_type"], str):
                raise TypeError("a label or shape_type that is no text")
            if _covers(shape):
                _check(shape)
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        problems.append(f"{path}: no file of labelme ({type(error).__name__}: {error})")
        return None
    return dict(content)


def _embedded(path: Path) -> bytes:
    """The image that a file of labelme holds."""
    return base64.b64decode(json.loads(path.read_text(encoding="utf-8"))["imageData"])


def _covers(shape: Mapping[str, Any]) -> bool:
    """Whether a shape has an area."""
    return shape["shape_type"] in AREAS


def _check(shape: Mapping[str, Any]) -> None:
    """Raises ValueError or TypeError for an area that cannot be drawn."""
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if len(points) < AREAS[shape["shape_type"]]:
        raise ValueError(f"a {shape['shape_type']} with {len(points)} points")
    if not all(map(math.isfinite, (value for point in points for value in point))):
        raise ValueError("a point that is no number")
    if shape["shape_type"] == "mask":
        _pixels(shape)


def _pixels(shape: Mapping[str, Any]) -> Image.Image:
    """The picture of a shape that is a mask."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"])), formats=["PNG"]) as picture:
            return picture.convert("1")
    except OSError as error:
        raise ValueError(f"a mask that is no PNG ({error})") from None


def _draw(content: Mapping[str, Any], numbers: Mapping[str, int]) -> NDArray[np.uint8]:
    """The mask of an image, drawn as labelme's conversion draws it."""
    mask = Image.new("L", (content["imageWidth"], content["imageHeight"]))
    pen = ImageDraw.Draw(mask)
    for shape in filter(_covers, content["shapes"]):
        points = [(float(x), float(y)) for x, y in shape["points"]]
        number, kind = numbers[shape["label"]], shape["shape_type"]
        (left, top), (right, bottom) = points[:2]
        if kind == "polygon":
            pen.polygon(points, fill=number, outline=number)
        elif kind == "circle":  # its middle, and a point on it
            radius = math.dist(*points[:2])
            pen.ellipse((left - radius, top - radius, left + radius, top + radius), fill=number, outline=number)
        elif kind == "rectangle":
            box = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
            pen.rectangle(box, fill=number, outline=number)
        else:
            mask.paste(number, (round(left), round(top)), _pixels(shape))
    return np.array(mask)
