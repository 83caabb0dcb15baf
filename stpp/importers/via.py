"""VIA, the VGG Image Annotator, versions 1 and 2: a project, or the annotations as JSON.

Regions are drawn in their order. Points and lines are left out. The class of a region is its attribute `class`,
`label`, `name`, `type` or `category`, or the only one there is; where no region has any, all are one class, `object`.
Attribute values are classes in alphabetical order. An image without a region has no mask, since VIA lists all images.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, RootModel, ValidationError

from stpp.common.errors import StppError
from stpp.importers import Export
from stpp.importers.drawing import Stroke, ellipse, polygon, rectangle
from stpp.importers.gathering import Area, Drawn, Notes, gathered
from stpp.importers.parsing import BROKEN, Foreign, Mistakes, files_of, read_json, said_by
from stpp.importers.pictures import ImageFiles

NAMES = ("via",)
SUMMARY = "a JSON file of the VGG Image Annotator, versions 1 and 2, or the folder that holds it"
SIGNS = {".json": (r'"shape_attributes"|"_via_img_metadata"',)}
FILE = True
ATTRIBUTES = ("class", "label", "name", "type", "category")
ALONE = "object"
REST = ("point", "polyline", "line")


class ViaRegion(Foreign):
    """A region: what it looks like, and what it is."""

    shape_attributes: dict[str, Any]
    region_attributes: dict[str, Any] = Field(default_factory=dict)


class ViaImage(Foreign):
    """An image; version 1 numbers its regions."""

    filename: str
    regions: list[ViaRegion] | dict[str, ViaRegion] = Field(default_factory=list)

    @property
    def shapes(self) -> list[ViaRegion]:
        """The regions in their order."""
        return self.regions if isinstance(self.regions, list) else list(self.regions.values())


class ViaFile(RootModel[dict[str, Any]]):
    """All of a file: a project, or its images alone."""

    def images(self) -> list[ViaImage]:
        """The images. Raises ValidationError."""
        content = self.root.get("_via_img_metadata", self.root)
        return list(RootModel[dict[str, ViaImage]].model_validate(content).root.values())


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The images of one file, or of all below a folder. Raises Problems where they are not VIA's or not whole, or do
    not say which attribute is the class; StppError where there is none.
    """
    files = files_of(source, "*.json", "the JSON file of VIA, or the folder that holds it")
    mistakes, notes = Mistakes(), Notes()
    found: list[ViaImage] = []
    for path in files:
        if (content := read_json(path, ViaFile, "file of VIA", mistakes)) is not None:
            try:
                found += content.images()
            except ValidationError as error:
                mistakes.add(f"not a valid file of VIA ({said_by(error)})", path)
    key = _attribute([region for image in found for region in image.shapes])
    if key is None:
        notes.remarks.append(f"no region has an attribute: all are of one class, {ALONE}")
    drawn = [Drawn(image.filename, _areas(image, key, mistakes, notes)) for image in found]
    labels: dict[str, None] = dict.fromkeys(sorted({area.label for image in drawn for area in image.areas}))
    headline = f"{source} as an export of VIA"
    return gathered(headline, drawn, labels, classes, ImageFiles(source, images), mistakes, notes, files)


def _attribute(regions: Sequence[ViaRegion]) -> str | None:
    """The attribute that is the class, None where there is none. Raises StppError where it may be one of several."""
    known = dict.fromkeys(name for region in regions for name in region.region_attributes)
    for name in ATTRIBUTES:
        if name in known:
            return name
    if len(known) > 1:
        raise StppError(
            f"the regions have the attributes {', '.join(known)}; call the one that is the class `class` in VIA"
        )
    return next(iter(known), None)


def _areas(image: ViaImage, key: str | None, mistakes: Mistakes, notes: Notes) -> list[Area]:
    areas = []
    for region in image.shapes:
        shape = region.shape_attributes
        if (kind := shape.get("name")) in REST:
            notes.left_out[f"of shape {kind}, which has no area"] += 1
            continue
        label = ALONE if key is None else _label(region.region_attributes.get(key))
        if not label:
            mistakes.add(f"a region without a {key}", image.filename)
            continue
        try:
            areas.append(Area(label, _stroke(shape)))
        except BROKEN as error:
            mistakes.add_broken("a region", error, image.filename)
    return areas


def _label(value: Any) -> str:
    """The class of a region: the text of its attribute, or the only choice of several that is ticked; else ""."""
    ticked = [name for name, on in value.items() if on] if isinstance(value, Mapping) else [value]
    return str(ticked[0]).strip() if len(ticked) == 1 and ticked[0] is not None else ""


def _stroke(shape: Mapping[str, Any]) -> Stroke:
    """The pixels of a region. Raises one of `BROKEN`."""

    def numbers(*names: str) -> list[float]:
        return [float(shape[name]) for name in names]

    kind = shape.get("name")
    if kind == "polygon":
        xs, ys = shape["all_points_x"], shape["all_points_y"]
        if len(xs) != len(ys):
            raise ValueError("a polygon with a corner that has no x or y")
        return polygon([[(float(x), float(y)) for x, y in zip(xs, ys)]])
    if kind == "rect":
        x, y, width, height = numbers("x", "y", "width", "height")
        return polygon([rectangle(x, y, x + width, y + height)])
    if kind == "circle":
        x, y, radius = numbers("cx", "cy", "r")
        return polygon([ellipse(x, y, radius, radius)])
    if kind == "ellipse":
        x, y, radius_x, radius_y = numbers("cx", "cy", "rx", "ry")
        return polygon([ellipse(x, y, radius_x, radius_y, math.degrees(float(shape.get("theta") or 0)))])
    raise ValueError(f"an unknown shape {kind!a}")
