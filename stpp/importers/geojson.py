"""GeoJSON: a file of polygons in map coordinates for each image, of its name, which programs for maps read and draw.

Coordinates are those of the image, in its reference system, which a file names as GeoJSON did in 2008 and GDAL and QGIS
still do; without a name, they are degrees (RFC 7946). A polygon has the property `label`. Those that are written have
holes and lie beside each other; of those that are read, one lies over those before it.
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stpp.importers import Export, Labels
from stpp.importers.drawing import Ring, Stroke, polygon
from stpp.importers.gathering import Area, Drawn, Notes, gathered
from stpp.importers.mapping import places_of
from stpp.importers.outlining import Outline, Surface, surfaces
from stpp.importers.parsing import BROKEN, Foreign, Mistakes, files_of, read_json
from stpp.importers.pictures import ImageFiles, stem
from stpp.store.geotiff import Georeference, georeference

NAMES = ("geojson",)
SUMMARY = "a folder of GeoJSON files, named as their GeoTIFF images, whose polygons have a property `label`"
SIGNS = {".geojson": (r'"FeatureCollection"',)}
WRITES = "polygons in map coordinates for each image, with its reference system"
DEGREES = 4326
"""The reference system of a file that names none: longitude and latitude (WGS 84)."""


class Named(Foreign):
    """What names a reference system."""

    name: str


class System(Foreign):
    """A reference system, by its name."""

    properties: Named


class Labeled(Foreign):
    """What a feature says of itself."""

    label: str


class Geometry(Foreign):
    """The corners of a polygon, or of several."""

    type: str
    coordinates: Sequence[Any] = ()


class Feature(Foreign):
    """A labeled part of a map."""

    properties: Labeled
    geometry: Geometry | None


class Collection(Foreign):
    """A file."""

    crs: System | None = None
    features: list[Feature]


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The images that have a file. Without `classes`, they are the background and the labels of all files in
    alphabetical order. Raises Problems where files are no GeoJSON or in another reference system, and where an image is
    missing or lies on no map; StppError where there is no file.
    """
    files = files_of(source, "*.geojson", "the folder of the GeoJSON files")
    folder = source if source.is_dir() else source.parent
    mistakes, notes, pictures = Mistakes(), Notes(), ImageFiles(source, images)
    drawn, labels = [], set[str]()
    for path in files:
        if (content := read_json(path, Collection, "GeoJSON with labeled polygons", mistakes)) is None:
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if (image := pictures.find(name, mistakes)) is None:
            continue
        if (place := _place(image, path, content, mistakes)) is None:
            continue
        areas = [area for feature in content.features for area in _areas(feature, place, path, mistakes, notes)]
        labels.update(area.label for area in areas)
        drawn.append(Drawn(name, areas, saved=True))
    known = dict.fromkeys(sorted(labels))
    return gathered(f"{source} as GeoJSON", drawn, known, classes, pictures, mistakes, notes, files)


def _place(image: Path, path: Path, content: Collection, mistakes: Mistakes) -> Georeference | None:
    """Where an image lies; None, and a mistake, where that is not known, or a file has another reference system."""
    place = georeference(image)
    if place is None:
        mistakes.add("an image without a georeference (GeoTIFF tags), so no polygon can be put on it", image)
        return None
    name = content.crs.properties.name if content.crs else f"EPSG:{DEGREES}"
    number = DEGREES if name.endswith("CRS84") else int(re.sub(r"\D", "", name.rpartition(":")[2]) or 0)
    if number != (place.epsg or number):
        mistakes.add(
            f"polygons in {name} and an image in EPSG:{place.epsg}; save them in the system of the image", path
        )
        return None
    return place


def _areas(feature: Feature, place: Georeference, path: Path, mistakes: Mistakes, notes: Notes) -> list[Area]:
    """What a feature covers of an image."""
    geometry = feature.geometry
    if geometry is None or geometry.type not in ("Polygon", "MultiPolygon"):
        notes.left_out[f"features of kind {geometry.type if geometry else 'nothing'}, which has no area"] += 1
        return []
    try:
        polygons = [geometry.coordinates] if geometry.type == "Polygon" else geometry.coordinates
        return [Area(feature.properties.label, _stroke(rings, place)) for rings in polygons]
    except BROKEN as error:
        mistakes.add_broken("a polygon", error, path)
        return []


def _stroke(rings: Sequence[Any], place: Georeference) -> Stroke:
    """What draws a polygon, whose first ring is its border, and others are holes in it."""

    def in_pixels(ring: Sequence[Any]) -> Ring:
        corners = np.array([[float(corner[0]), float(corner[1])] for corner in ring])
        return [(x, y) for x, y in place.in_pixels(corners).tolist()]

    outer, *inner = map(in_pixels, rings)
    return polygon([outer], inner)


# --- writing ----------------------------------------------------------------------------------------------------------


def files(labels: Labels, tolerance: float | None) -> dict[str, Callable[[Path], None]]:
    """A file of polygons for each mask, exact ones without a `tolerance`. Raises StppError for images that lie on no
    map.
    """
    places = places_of(labels)
    return {
        f"{stem(name)}.geojson": partial(_write, labels, id_, places[id_], tolerance or 0.0)
        for id_, name in labels.images.items()
    }


def _write(labels: Labels, id_: str, place: Georeference, tolerance: float, path: Path) -> None:
    content: dict[str, Any] = {"type": "FeatureCollection"}
    if place.epsg is not None:
        content["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{place.epsg}"}}
    found = surfaces(labels.mask(id_), labels.classes, tolerance)
    content["features"] = [_feature(surface, place) for surface in found]
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _feature(surface: Surface, place: Georeference) -> dict[str, Any]:
    """A polygon: its border counterclockwise, holes clockwise, and the last corner of each its first one (RFC 7946)."""
    rings = [_ring(surface.border, place, 1), *(_ring(hole, place, -1) for hole in surface.holes)]
    geometry = {"type": "Polygon", "coordinates": rings}
    return {"type": "Feature", "properties": {"label": surface.label}, "geometry": geometry}


def _ring(outline: Outline, place: Georeference, turn: int) -> list[list[float]]:
    """An outline on the map, counterclockwise (`turn` 1) or clockwise (-1)."""
    ring = place.on_map(outline)
    x, y = ring.T
    if (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() * turn < 0:
        ring = ring[::-1]
    return [*ring.tolist(), ring[0].tolist()]
