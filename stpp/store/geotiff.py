"""Where the pixels of a GeoTIFF file lie on a map: tags that are copied as they are, and what they say.

The tags are those of OGC's GeoTIFF 1.1. Pillow reads them from any TIFF file, whatever its bands are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from stpp.store.masks import palette_image

SCALE, TIEPOINT, TRANSFORMATION = 33550, 33922, 34264
KEYS, DOUBLES, TEXTS = 34735, 34736, 34737
TAGS = (SCALE, TIEPOINT, TRANSFORMATION, KEYS, DOUBLES, TEXTS)
ORIENTATION = 274
GEOGRAPHIC, RASTER_TYPE, PROJECTED = 2048, 1025, 3072  # keys
PIXEL_IS_POINT, USER_DEFINED = 2, 32767  # their values


class Georeference(NamedTuple):
    """The `tags` of a GeoTIFF file by number, each with its type; the map coordinates of its pixels.

    `transform` is (a, b, c, d, e, f): the corner (column, row) of pixels lies at x = a column + b row + c and
    y = d column + e row + f, with pixel (0, 0) between the corners (0, 0) and (1, 1). `epsg` is the number of its
    coordinate reference system, None for one without.
    """

    tags: dict[int, tuple[int, Any]]
    transform: tuple[float, ...]
    epsg: int | None

    def on_map(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map coordinates (N, 2) of corners (column, row), (N, 2), in px."""
        a, b, c, d, e, f = self.transform
        return points @ np.array([[a, d], [b, e]]) + np.array([c, f])

    def in_pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The corners, in px to 1/10,000, of map coordinates (N, 2)."""
        a, b, c, d, e, f = self.transform
        corners: NDArray[np.float64] = np.linalg.solve(np.array([[a, b], [d, e]]), (points - np.array([c, f])).T).T
        return np.round(corners, 4)


def georeference(path: Path) -> Georeference | None:
    """The georeference of a file; None where it has none, is no TIFF file, or lies turned in it."""
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
            if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return None
            directory = ImageFileDirectory_v2(head + (stream.read(8) if 43 in head[2:4] else b""))
            stream.seek(directory.next)
            directory.load(stream)
            tags = {tag: (directory.tagtype[tag], directory[tag]) for tag in TAGS if tag in directory}
            turned = directory.get(ORIENTATION, 1) != 1
    except Exception:  # a file that is damaged is told of by whoever reads its pixels
        return None
    keys = _keys(tags)
    transform = None if turned else _transform(tags, keys)
    if transform is None:
        return None
    epsg = next((keys[key] for key in (PROJECTED, GEOGRAPHIC) if 0 < keys.get(key, 0) < USER_DEFINED), None)
    return Georeference(tags, transform, epsg)


def _keys(tags: dict[int, tuple[int, Any]]) -> dict[int, int]:
    """The GeoKeys that are numbers of 16 bits."""
    _, numbers = tags.get(KEYS, (0, ()))
    entries = [numbers[at : at + 4] for at in range(4, len(numbers) - 3, 4)]
    return {key: value for key, place, _, value in entries if place == 0}


def _transform(tags: dict[int, tuple[int, Any]], keys: dict[int, int]) -> tuple[float, ...] | None:
    """The `transform` of a georeference (GeoTIFF 1.1, 7.2 and annex B); None where the tags give none."""
    if TRANSFORMATION in tags and len(m := tags[TRANSFORMATION][1]) == 16:
        a, b, c, d, e, f = m[0], m[1], m[3], m[4], m[5], m[7]
    elif SCALE in tags and TIEPOINT in tags and len(tags[TIEPOINT][1]) == 6:
        across, down = tags[SCALE][1][:2]
        column, row, _, x, y, _ = tags[TIEPOINT][1]
        a, b, c, d, e, f = across, 0.0, x - across * column, 0.0, -down, y + down * row
    else:
        return None
    if keys.get(RASTER_TYPE) == PIXEL_IS_POINT:  # the coordinates are those of the middles of pixels
        c, f = c - (a + b) / 2, f - (d + e) / 2
    return (a, b, c, d, e, f) if a * e - b * d else None


def write_geotiff(mask: NDArray[np.uint8], palette: Sequence[Sequence[int]], place: Georeference, path: Path) -> None:
    """Write a mask, uint8 (H, W), as a palette GeoTIFF with this georeference, compressed without loss.

    The pixel values are the classes, as in `stpp.store.masks.write_palette_png`.
    """
    directory = ImageFileDirectory_v2()
    for tag, (kind, value) in place.tags.items():
        directory.tagtype[tag] = kind
        directory[tag] = value
    palette_image(mask, palette).save(path, format="TIFF", tiffinfo=directory, compression="tiff_adobe_deflate")
