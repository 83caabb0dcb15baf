"""TIFF files of any bands: against tifffile's own writer, Pillow and numpy."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from stpp.data import raster
from stpp.data.readers import ImageError, Stored

PIXELS = np.random.default_rng(0).integers(0, 60000, (13, 17, 5)).astype(np.uint16)


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_bands_lie_beside_each_other_or_one_after_the_other(
    tile: Any, compression: str | None, byteorder: str, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"photometric": "minisblack", "tile": tile, "compression": compression}
    how |= {"byteorder": byteorder}
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, planarconfig="contig", **how)
    tifffile.imwrite(tmp_path / "b.tif", PIXELS.transpose(2, 0, 1), planarconfig="separate", bigtiff=True, **how)
    for name in ("a.tif", "b.tif"):
        content = (tmp_path / name).read_bytes()
        assert raster.is_tiff(content)
        assert (raster.stored(tmp_path / name) == PIXELS).all()
        assert (raster.stored(tmp_path / name, content) == PIXELS).all()
        assert raster.stored_as(tmp_path / name) == Stored(13, 17, 5, np.dtype(np.uint16))


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]
)
def test_values_of_each_type_are_as_stored(dtype: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(-100, 100, (6, 5)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    found = raster.stored(tmp_path / "a.tif")
    assert found.dtype == pixels.dtype and (found[..., 0] == pixels).all()


def test_pages_are_bands_where_that_is_said(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS.transpose(2, 0, 1), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == 5
    assert (raster.stored(tmp_path / "a.tif", pages=True) == PIXELS).all()
    assert raster.stored_as(tmp_path / "a.tif", pages=True).bands == 5
    with pytest.raises(ImageError, match=r"TIFF file of several pages \(5 pages\).*data.pages: true"):
        raster.stored(tmp_path / "a.tif")


def test_overviews_and_masks_are_no_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(PIXELS, photometric="minisblack", planarconfig="contig")
        writer.write(PIXELS[::2, ::2], photometric="minisblack", planarconfig="contig", subfiletype=1)
    assert (raster.stored(tmp_path / "a.tif") == PIXELS).all()


def test_pages_of_different_sizes_are_no_bands(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(PIXELS[..., 0])
        writer.write(PIXELS[:5, :, 0])
    with pytest.raises(ImageError, match="pages of different sizes or types"):
        raster.stored(tmp_path / "a.tif", pages=True)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_are_turned_upright_as_pillow_turns_them(orientation: int, tmp_path: Path) -> None:
    grey = PIXELS[..., 0].astype(np.uint8)
    how: dict[str, Any] = {"compression": "zlib", "metadata": None}  # Pillow 13 mixes the pixels of others up
    tifffile.imwrite(tmp_path / "a.tif", grey, extratags=[(274, "H", 1, orientation, True)], **how)
    with Image.open(tmp_path / "a.tif") as picture:
        expected = np.asarray(picture.copy())  # which turns it first
    assert (raster.stored(tmp_path / "a.tif")[..., 0] == expected).all()
    assert raster.stored_as(tmp_path / "a.tif")[:2] == expected.shape


def test_white_that_is_0_becomes_bright(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[..., 0], photometric="miniswhite")
    assert (raster.stored(tmp_path / "a.tif")[..., 0] == 65535 - PIXELS[..., 0]).all()


def test_a_palette_is_refused(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[..., 0].astype(np.uint8)).convert("P").save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="TIFF file with a palette"):
        raster.stored(tmp_path / "a.tif")


def damaged(content: bytes, kind: str) -> bytes:
    return {"cut": content[:-40], "header": content[:20], "noise": content[:8] + bytes(range(256)) * 4}[kind]


@pytest.mark.parametrize("kind", ["cut", "header", "noise"])
def test_damaged_files_are_refused(kind: str, tmp_path: Path) -> None:
    pixels: NDArray[Any] = PIXELS
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig", metadata=None)
    broken = damaged((tmp_path / "a.tif").read_bytes(), kind)
    for look in (raster.stored, raster.stored_as):
        with pytest.raises(ImageError):
            look(tmp_path / "a.tif", broken)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[..., 0])
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImageError, match=r"pip install 'stpp\[geotiff\]'"):
        raster.stored(tmp_path / "a.tif")


def test_the_value_for_no_data_is_that_of_gdal(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[..., 0], extratags=[(42113, "s", 0, "-9999", True)])
    tifffile.imwrite(tmp_path / "b.tif", PIXELS[..., 0])
    assert raster.no_data(tmp_path / "a.tif") == -9999
    assert raster.no_data(tmp_path / "b.tif") is None


@pytest.mark.parametrize("how", [{"tile": (16, 16)}, {"rowsperstrip": 4}, {"tile": (16, 32), "compression": "lzw"}])
@pytest.mark.parametrize("separate", [True, False])
def test_a_window_is_that_of_the_whole_image(how: dict[str, Any], separate: bool, tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 60000, (45, 37, 3)).astype(np.uint16)
    given = pixels.transpose(2, 0, 1) if separate else pixels
    config = "separate" if separate else "contig"
    tifffile.imwrite(tmp_path / "a.tif", given, photometric="minisblack", planarconfig=config, **how)
    assert raster.has_windows(tmp_path / "a.tif", 16) and not raster.has_windows(tmp_path / "a.tif", 3)
    parts = [slice(0, 45), slice(0, 1), slice(15, 17), slice(31, 45), slice(20, 99), slice(None)]
    for rows in parts:
        for columns in parts:
            assert np.array_equal(raster.window(tmp_path / "a.tif", rows, columns), pixels[rows, columns])


def test_files_of_pages_or_turned_ones_have_no_windows(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS.transpose(2, 0, 1), photometric="minisblack", metadata=None)
    turned = [(274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "b.tif", PIXELS[..., 0], rowsperstrip=2, extratags=turned, metadata=None)
    assert not raster.has_windows(tmp_path / "a.tif", 99) and not raster.has_windows(tmp_path / "b.tif", 99)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
@pytest.mark.parametrize("predictor", [False, True])
def test_windows_of_rgb_are_what_pillow_reads(compression: str | None, predictor: bool, tmp_path: Path) -> None:
    if predictor and compression not in ("zlib", "lzw", "zstd"):
        return
    pixels = np.random.default_rng(3).integers(0, 256, (45, 37, 3)).astype(np.uint8)
    how: dict[str, Any] = {"compression": compression, "predictor": predictor, "tile": (16, 16)}
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", **how)
    assert raster.has_windows_of_rgb(tmp_path / "a.tif", 16)
    with Image.open(tmp_path / "a.tif") as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert (raster.window(tmp_path / "a.tif", slice(3, 40), slice(5, 30)) == expected[3:40, 5:30]).all()


@pytest.mark.parametrize("kind", ["16 bits", "four bands", "grey", "JPEG"])
def test_other_files_have_no_windows_of_rgb(kind: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (45, 37, 4)).astype(np.uint8)
    how: dict[str, Any] = {"tile": (16, 16), "photometric": "rgb"}
    if kind == "JPEG":
        Image.fromarray(pixels[..., :3]).save(tmp_path / "a.tif", compression="jpeg")
    elif kind == "grey":
        tifffile.imwrite(tmp_path / "a.tif", pixels[..., 0], tile=(16, 16))
    else:
        given = pixels[..., :3].astype(np.uint16) if kind == "16 bits" else pixels
        tifffile.imwrite(tmp_path / "a.tif", given, **how)
    assert raster.has_windows(tmp_path / "a.tif", 45) and not raster.has_windows_of_rgb(tmp_path / "a.tif", 45)
