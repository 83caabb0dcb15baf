"""labelme: a JSON file beside each image, with polygons, rectangles, circles and masks.

Shapes are drawn in their order by Pillow, so that a later one lies over an earlier one, as labelme's own conversion
draws them. Pixels without a shape are background. Points and lines have no area and are left out. A label `__ignore__`
is drawn as 255. A file without a shape says that nothing is there.
"""

import base64
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stpp.common.wording import counted
from stpp.importers import Annotated, Export, Labels
from stpp.importers.drawing import LARGEST, from_png, to_png
from stpp.importers.gathering import OTHER_SIZE, classes_of_labels, numbers_of, refuse_others
from stpp.importers.outlining import Patch, parts
from stpp.importers.parsing import BROKEN, Mistakes, files_of
from stpp.importers.pictures import ImageFiles, size_of, stem

NAMES = ("labelme",)
SUMMARY = "a folder of JSON files of labelme, with their images next to them or in them"
SIGNS = {".json": (r'"shapes"\s*:\s*\[', r'"shape_type"|"imagePath"|"imageHeight"')}
WRITES = "a JSON file for each image, with masks or polygons"

AREAS = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}
"""Shapes that cover pixels, and how many points one has at least."""


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The annotated images in a folder and its sub-folders; one that is not where its file says is looked for in
    `images`.

    Without `classes`, they are the background and the labels of all files in alphabetical order. Raises Problems where
    files are not labelme's, where an image is missing, or a label is none of `classes`; StppError where there is none.
    """
    files = files_of(source, "*.json", "the folder that labelme saved its files in")
    folder = source if source.is_dir() else source.parent
    mistakes = Mistakes()
    pictures = ImageFiles(source, images) if images else None
    contents = {path: content for path in files if (content := _read(path, mistakes)) is not None}
    labels = sorted({shape["label"] for content in contents.values() for shape in content["shapes"] if _covers(shape)})
    names = list(classes or classes_of_labels(labels))
    numbers = numbers_of(names)
    refuse_others(labels, names, mistakes)
    found = []
    for path, content in contents.items():
        name = path.relative_to(folder).with_suffix("")
        called = content["imagePath"].replace("\\", "/")
        image: Path | None = path.parent / called
        if not path.parent.joinpath(called).is_file() and not content["embeds"]:
            image = pictures.find((name.parent / Path(called).name).as_posix(), mistakes) if pictures else None
            if pictures is None:
                mistakes.add(f"there is no image {called}, and the file does not hold one", path)
        if image is not None:
            size = size_of(image, mistakes) if image.is_file() else None
            if size not in (None, (content["imageHeight"], content["imageWidth"])):
                mistakes.add(OTHER_SIZE, image)
            data = image if image.is_file() else partial(_embedded, path)
            found.append(Annotated(name.as_posix(), data, image.suffix or ".png", partial(_draw, content, numbers)))
    mistakes.refuse(f"{source} as an export of labelme")
    kinds = Counter(shape["shape_type"] for content in contents.values() for shape in content["shapes"])
    left_out = [f"{count} of shape {kind}, which has no area" for kind, count in kinds.items() if kind not in AREAS]
    empty = sum(not any(map(_covers, content["shapes"])) for content in contents.values())
    left_out += [f"{counted(empty, 'file')} without a shape, all {names[0]} in the mask"] if empty else []
    return Export(names, found, files, left_out)


def _read(path: Path, mistakes: Mistakes) -> dict[str, Any] | None:
    """The content of a file of labelme, but for the image, of which `embeds` says whether it is there; None, and a
    mistake, for any other.
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
                raise TypeError("a label or shape_type that is not text")
            if _covers(shape):
                _check(shape)
    except OSError as error:
        mistakes.add(error.strerror or "a file that cannot be read", path)
        return None
    except (*BROKEN, AttributeError, RecursionError) as error:
        mistakes.add(f"not a valid file of labelme ({type(error).__name__}: {error})", path)
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
        raise ValueError("a point that is not a number")
    if shape["shape_type"] == "mask":
        _pixels(shape)


def _pixels(shape: Mapping[str, Any]) -> Image.Image:
    """The picture of a shape that is a mask."""
    return Image.fromarray(from_png(base64.b64decode(shape["mask"])))


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


# --- writing ----------------------------------------------------------------------------------------------------------


def files(labels: Labels, tolerance: float | None) -> dict[str, Callable[[Path], None]]:
    """A JSON file for each image, to be put beside it."""
    return {f"{stem(name)}.json": partial(_write, labels, id_, name, tolerance) for id_, name in labels.images.items()}


def _write(labels: Labels, id_: str, name: str, tolerance: float | None, path: Path) -> None:
    mask = labels.mask(id_)
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [_shape(part) for part in parts(mask, labels.classes, tolerance)],
        "imagePath": PurePosixPath(name).name,
        "imageData": None,
        "imageHeight": mask.shape[0],
        "imageWidth": mask.shape[1],
    }
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _shape(part: Patch) -> dict[str, Any]:
    """A polygon, or a mask with the corners of its box."""
    shape: dict[str, Any] = {"label": part.label, "group_id": None, "description": "", "flags": {}, "mask": None}
    if part.outline is not None:
        return shape | {"shape_type": "polygon", "points": part.outline.tolist()}
    height, width = part.pixels.shape
    points = [[part.left, part.top], [part.left + width - 1, part.top + height - 1]]
    mask = base64.b64encode(to_png(part.pixels)).decode()
    return shape | {"shape_type": "mask", "points": points, "mask": mask}
