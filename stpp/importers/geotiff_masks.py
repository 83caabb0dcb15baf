"""Masks as GeoTIFF: a palette picture for each image, of its name, with its georeference; 255 is left out.

The classes are those of `classes.txt` beside the masks, or those that are given.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from stpp.common.errors import StppError
from stpp.common.labels import IGNORE
from stpp.data.classes import read_classes
from stpp.importers import Export, Labels
from stpp.importers.gathering import Colour, Notes
from stpp.importers.mapping import places_of
from stpp.importers.pairing import Pair, paired
from stpp.importers.parsing import Mistakes, files_of
from stpp.importers.pictures import ImageFiles, stem
from stpp.store.geotiff import Georeference, write_geotiff

NAMES = ("geotiff",)
SUMMARY = "a folder of GeoTIFF masks, named as their images; these by --images"
WRITES = "a palette GeoTIFF for each mask, with the georeference of its image"
CLASSES = "classes.txt"


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The images that have a mask. Raises StppError without a folder of images or without classes, and Problems where
    an image is missing, or a mask has another size or other numbers.
    """
    if images is None:
        raise StppError("masks and images are both TIFF files; give the folder of the images by --images")
    files = files_of(source, "*.tif", "the folder of the masks")
    names, palette = _classes(source, classes)
    folder = source if source.is_dir() else source.parent
    mistakes, pictures = Mistakes(), ImageFiles(source, images)
    pairs = []
    for mask in files:
        name = mask.relative_to(folder).with_suffix("").as_posix()
        if (image := pictures.find(name, mistakes)) is not None:
            pairs.append(Pair(name, image, mask))
    encoding = {"classes": len(names), "ignore_value": IGNORE}
    return paired(f"{source} as masks in GeoTIFF", pairs, names, encoding, palette, mistakes, Notes(), [])


def _classes(source: Path, classes: Sequence[str] | None) -> tuple[list[str], Sequence[Colour]]:
    """The classes and their colours. Raises StppError where there are none."""
    if classes:
        return list(classes), []
    try:
        names, colours = read_classes(source / CLASSES)
    except (OSError, UnicodeDecodeError):
        names, colours = [], []
    if not names:
        raise StppError(f"masks have numbers, no names: give the classes by --classes, or write {source / CLASSES}")
    return names, colours if len(colours) == len(names) else []


# --- writing ----------------------------------------------------------------------------------------------------------


def files(labels: Labels, tolerance: float | None) -> dict[str, Callable[[Path], None]]:
    """A palette GeoTIFF for each mask. Raises StppError for polygons, and for images that lie on no map."""
    if tolerance is not None:
        raise StppError("this format holds masks, no polygons; leave --polygons out, or take geojson")
    places = places_of(labels)
    return {f"{stem(name)}.tif": partial(_write, labels, id_, places[id_]) for id_, name in labels.images.items()}


def _write(labels: Labels, id_: str, place: Georeference, path: Path) -> None:
    write_geotiff(labels.mask(id_), labels.palette, place, path)
