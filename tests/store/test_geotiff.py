"""Georeferences: against what GDAL, by rasterio, reads from the same files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from stpp.store.geotiff import georeference, write_geotiff

UTM = Affine(0.5, 0, 500000.25, 0, -0.5, 5300000.75)
TURNED = Affine.translation(1000, 2000) @ Affine.rotation(30) @ Affine.scale(2, -3)
DEGREES = Affine(1e-4, 0, 11.5, 0, -1e-4, 48.2)


def raster(path: Path, crs: Any, transform: Affine, **options: Any) -> Path:
    """A GeoTIFF file of four bands of 16 bits, by GDAL."""
    how = {"driver": "GTiff", "width": 7, "height": 5, "count": 4, "dtype": "uint16"}
    with rasterio.open(path, "w", crs=crs, transform=transform, **how, **options) as file:
        file.write(np.zeros((4, 5, 7), np.uint16))
    return path


@pytest.mark.parametrize("options", [{}, {"BIGTIFF": "YES"}, {"tiled": True, "compress": "lzw"}, {"ENDIANNESS": "BIG"}])
@pytest.mark.parametrize(("crs", "transform"), [("EPSG:32632", UTM), ("EPSG:4326", DEGREES), ("EPSG:3857", TURNED)])
def test_masks_lie_where_their_images_lie(crs: str, transform: Affine, options: Any, tmp_path: Path) -> None:
    place = georeference(raster(tmp_path / "a.tif", crs, transform, **options))
    assert place is not None and f"EPSG:{place.epsg}" == crs
    assert place.transform == pytest.approx(tuple(transform)[:6], rel=1e-12)
    mask = np.arange(35, dtype=np.uint8).reshape(5, 7) % 3
    mask[0, 0] = 255
    write_geotiff(mask, [[1, 2, 3], [4, 5, 6], [7, 8, 9]], place, tmp_path / "m.tif")
    with rasterio.open(tmp_path / "a.tif") as image, rasterio.open(tmp_path / "m.tif") as written:
        assert written.crs == image.crs and written.transform == image.transform
        assert (written.read(1) == mask).all()
        assert written.colormap(1)[2] == (7, 8, 9, 255)
    with Image.open(tmp_path / "m.tif") as picture:
        assert (np.asarray(picture) == mask).all()
    assert georeference(tmp_path / "m.tif") == place


def test_middles_of_pixels_are_no_corners(tmp_path: Path) -> None:
    with rasterio.Env(GTIFF_POINT_GEO_IGNORE=False):
        path = raster(tmp_path / "a.tif", "EPSG:32632", UTM)
        with rasterio.open(path, "r+") as file:
            file.update_tags(AREA_OR_POINT="Point")
        with rasterio.open(path) as file:
            expected = tuple(file.transform)[:6]
    place = georeference(path)
    assert place is not None and place.transform == pytest.approx(expected, rel=1e-12)


def test_corners_go_to_the_map_and_back(tmp_path: Path) -> None:
    place = georeference(raster(tmp_path / "a.tif", "EPSG:3857", TURNED))
    assert place is not None
    corners = np.array([[0.0, 0.0], [3.25, 1.5], [7.0, 5.0]])
    found = place.on_map(corners)
    for (column, row), point in zip(corners, found):
        assert tuple(point) == pytest.approx(TURNED @ (column, row))
    assert (place.in_pixels(found) == corners).all()


def test_other_files_lie_nowhere(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    Image.new("L", (4, 4)).save(tmp_path / "b.tif")
    (tmp_path / "c.tif").write_bytes(b"II*\0\xff\xff\xff\xff")
    points = [GroundControlPoint(row, column, column, row, 0) for row, column in ((0, 0), (0, 4), (4, 0), (4, 4))]
    with rasterio.open(
        tmp_path / "d.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8", gcps=points, crs="EPSG:4326"
    ) as file:
        file.write(np.zeros((1, 4, 4), np.uint8))
    for name in "abcd":
        assert georeference(next(tmp_path.glob(f"{name}.*"))) is None
    assert georeference(tmp_path / "missing.tif") is None
