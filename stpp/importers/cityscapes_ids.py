"""Cityscapes as it comes: `leftImg8bit/**/A_leftImg8bit.png` with `gtFine/**/A_gtFine_labelIds.png`, or the polygons.

The numbers become those that are trained on (19 classes); all others are 255. Where an image has polygons alone,
`A_gtFine_polygons.json`, they are drawn as the Cityscapes scripts draw them, by Pillow and in their order, on 255.
Masks `labelTrainIds` need no import: `layout: cityscapes` reads them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stpp.common.errors import StppError
from stpp.common.labels import IGNORE
from stpp.data.classes import CITYSCAPES
from stpp.importers import Annotated, Export
from stpp.importers.drawing import polygon
from stpp.importers.gathering import OTHER_SIZE, Notes
from stpp.importers.pairing import Pair, paired
from stpp.importers.parsing import Foreign, Mistakes, read_json
from stpp.importers.pictures import ImageFiles, size_of

NAMES = ("cityscapes",)
SUMMARY = "the folder of Cityscapes, with leftImg8bit, and gtFine or gtCoarse"
SIGNS = {".json": (r'"imgHeight"\s*:', r'"objects"\s*:')}
IDS = dict(zip([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], CITYSCAPES))
"""The names of the classes by `id` (Cityscapes scripts, labels.py)."""


class CityscapesObject(Foreign):
    """A polygon."""

    label: str
    polygon: list[tuple[float, float]]
    deleted: bool = False


class CityscapesFile(Foreign):
    """The polygons of an image."""

    imgHeight: int  # noqa: N815 (as the file has it)
    imgWidth: int  # noqa: N815
    objects: list[CityscapesObject]


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """All images with numbers or polygons; `classes` may be some of the 19. Raises Problems where an image is missing,
    StppError where there is neither.
    """
    mistakes, notes = Mistakes(), Notes()
    masks = {_name(path, source): path for path in sorted(source.glob("gt*/**/*_labelIds.png"))}
    drawn = {_name(path, source): path for path in sorted(source.glob("gt*/**/*_polygons.json"))}
    if not masks and not drawn:
        raise StppError(f"there is no gtFine/**/*_labelIds.png in {source}; give the folder of gtFine and leftImg8bit")
    names = list(classes or CITYSCAPES)
    for name in names:
        if name not in CITYSCAPES:
            mistakes.add(f"{name} is not a class of Cityscapes; the classes are {', '.join(CITYSCAPES)}")
    known: dict[str, int | str] = {str(id_): names.index(name) for id_, name in IDS.items() if name in names}
    pictures = ImageFiles(source, images)
    pairs = [
        Pair(name, image, mask)
        for name, mask in masks.items()
        if (image := pictures.find(_image(name), mistakes)) is not None
    ]
    alone = [
        Annotated(name, image, image.suffix, partial(_draw, content, names))
        for name, path in drawn.items()
        if name not in masks and (image := pictures.find(_image(name), mistakes)) is not None
        if (content := _polygons(path, image, mistakes)) is not None
    ]
    encoding = {"classes": len(names), "ignore_value": None, "label_map": known | {"default": "ignore"}}
    palette = [CITYSCAPES[name] for name in names if name in CITYSCAPES]
    headline = f"{source} as Cityscapes"
    if not pairs:
        mistakes.refuse(headline)
        return Export(names, alone, list(drawn.values()), notes.phrases(), palette)
    export = paired(headline, pairs, names, encoding, palette, mistakes, notes, list(drawn.values()))
    return export._replace(images=[*export.images, *alone])


def _name(path: Path, source: Path) -> str:
    """The subset, the city and the name of an image, which its files have in common."""
    below = path.relative_to(source)
    return Path(*below.parts[1:-1], path.name.split("_gt")[0]).as_posix()


def _image(name: str) -> str:
    return f"leftImg8bit/{name}_leftImg8bit.png"


def _polygons(path: Path, image: Path, mistakes: Mistakes) -> CityscapesFile | None:
    content = read_json(path, CityscapesFile, "file of Cityscapes", mistakes)
    if content is None:
        return None
    try:
        for one in content.objects:
            polygon([one.polygon])
    except ValueError as error:
        mistakes.add_broken("a polygon", error, path)
    if size_of(image, mistakes) not in (None, (content.imgHeight, content.imgWidth)):
        mistakes.add(OTHER_SIZE, image)
    return content


def _draw(content: CityscapesFile, names: Sequence[str]) -> NDArray[np.uint8]:
    """The mask of an image, as the scripts draw it (json2labelImg); groups such as `cargroup` are their members."""
    numbers: Mapping[str, int] = {name: number for number, name in enumerate(names)}
    mask = Image.new("L", (content.imgWidth, content.imgHeight), IGNORE)
    pen = ImageDraw.Draw(mask)
    for one in content.objects:
        label = one.label if one.label in CITYSCAPES else one.label.removesuffix("group")
        if not one.deleted:
            pen.polygon(one.polygon, fill=numbers.get(label, IGNORE))
    return np.array(mask)
