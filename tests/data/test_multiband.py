"""Images of other bands than RGB: which are taken, how they are scaled, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import tiny_data
from numpy.typing import NDArray
from PIL import Image

from stpp.common.bands import Bands
from stpp.common.errors import StppError
from stpp.common.resizing import resized_by_pillow
from stpp.data.images import labeled_ranges, read_image, stored_as
from stpp.data.multiband import glance_of, ranges_of, sample, scaled, shown
from stpp.data.readers import ImageError, picture

RANGES = ((100.0, 3100.0), (0.0, 1.0), (-5.0, 250.0), (7.0, 8.0))


def values(*shape: int, dtype: Any = np.uint16, most: int = 4000, seed: int = 0) -> NDArray[Any]:
    """Random numbers from 0."""
    return np.random.default_rng(seed).integers(0, most, shape).astype(dtype)


def tiff(path: Path, pixels: NDArray[Any], **options: Any) -> str:
    """A TIFF file of these bands, (H, W, bands), band by band."""
    tifffile.imwrite(path, pixels.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate", **options)
    return str(path)


# --- values -----------------------------------------------------------------------------------------------------------


def test_a_range_below_the_resolution_of_float32_is_a_threshold() -> None:
    pixels = np.array([999_999_000, 1_000_000_000, 1_000_001_000], np.int32).reshape(1, 3, 1)
    assert scaled(pixels, Bands((1,), scale=((1e9, 1e9 + 1),))).reshape(-1).tolist() == [0, 0, 255]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_values_are_scaled_in_proportion_and_cut_off(dtype: Any) -> None:
    pixels = values(6, 7, 4, dtype=dtype, most=256 if dtype == np.uint8 else 4000)
    found = scaled(pixels, Bands((1, 2, 3, 4), scale=RANGES))
    assert found.dtype == np.uint8
    for place in np.ndindex(pixels.shape):
        low, high = RANGES[place[2]]
        exact = 255 * (float(pixels[place]) - low) / (high - low)
        assert abs(float(found[place]) - min(255, max(0, exact))) <= 0.5 + 1e-3


def test_bytes_without_a_scale_stay_as_they_are() -> None:
    pixels = values(5, 6, 2, dtype=np.uint8, most=256)
    assert (scaled(pixels, Bands((1, 2))) == pixels).all()


def test_percentiles_are_those_of_all_pixels_together() -> None:
    parts = [values(9, 5, 2, seed=seed).reshape(-1, 2) for seed in range(3)]
    found = ranges_of(parts, (1, 2), (10, 75))
    for band in (0, 1):
        every = sorted(int(pixel[band]) for part in parts for pixel in part)
        for share, value in zip((0.1, 0.75), found[band]):
            at = share * (len(every) - 1)
            below = int(at)
            assert value == pytest.approx(every[below] + (at - below) * (every[below + 1] - every[below]))


def test_a_band_of_one_value_has_no_percentiles() -> None:
    pixels = values(8, 8, 2).reshape(-1, 2)
    pixels[:, 1] = 6
    with pytest.raises(StppError, match="band 5 of the labeled images has one value, 6, at both percentiles 2 and 98"):
        ranges_of([pixels], (3, 5), (2, 98))


def test_labeled_images_without_data_have_no_percentiles(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", values(4, 4, 2) * 0, extratags=[(42113, "s", 0, "0", True)])
    with pytest.raises(StppError, match="no pixel of the labeled images has data"):
        labeled_ranges([path], Bands((1, 2), of=2), (2, 98))


def test_pixels_without_data_do_not_count_for_percentiles(tmp_path: Path) -> None:
    pixels = values(20, 20, 2) + 1
    pixels[:10] = 0
    path = tiff(tmp_path / "a.tif", pixels, extratags=[(42113, "s", 0, "0", True)])
    bands = Bands((1, 2), of=2)
    assert labeled_ranges([path], bands, (0, 100)) == tuple(
        (float(pixels[10:, :, band].min()), float(pixels[10:, :, band].max())) for band in (0, 1)
    )
    assert labeled_ranges([tiff(tmp_path / "b.tif", pixels)], bands, (0, 100))[0][0] == 0


def test_of_many_pixels_some_are_taken_from_each_image() -> None:
    pixels = values(3000, 2000, 1)
    assert len(sample(pixels, 1, None)) == 3000 * 2000 / 2
    assert len(sample(pixels, 100, None)) == pytest.approx(2**22 / 100, rel=0.01)


# --- files ------------------------------------------------------------------------------------------------------------


def test_bands_come_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    pixels = values(6, 9, 5)
    path = tiff(tmp_path / "a.tif", pixels)
    bands = Bands((5, 1), scale=((0, 4000),) * 2)
    assert (read_image(path, None, bands) == scaled(pixels[..., [4, 0]], bands)).all()
    assert (read_image(path, Path(path).read_bytes(), bands) == scaled(pixels[..., [4, 0]], bands)).all()
    assert stored_as(path, None, bands, has_scale=True) == (6, 9, 5, np.uint16)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.gif", "a.tif"])
def test_pictures_of_8_bits_have_the_bands_that_programs_show(name: str, tmp_path: Path) -> None:
    Image.fromarray(values(8, 9, 3, dtype=np.uint8, most=256)).save(tmp_path / name)
    three = Bands((1, 2, 3), of=3)
    assert (read_image(tmp_path / name, None, three) == read_image(tmp_path / name)).all()
    assert stored_as(tmp_path / name, None, three, has_scale=False) == (8, 9, 3, np.uint8)


def test_transparency_and_grey_of_16_bits_are_bands(tmp_path: Path) -> None:
    four = values(8, 9, 4, dtype=np.uint8, most=256)
    Image.fromarray(four).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", None, Bands((4, 1), of=4)) == four[..., [3, 0]]).all()
    grey = values(8, 9)
    Image.fromarray(grey).save(tmp_path / "b.png")
    bands = Bands((1,), of=1, scale=((0, 4000),))
    assert (read_image(tmp_path / "b.png", None, bands)[..., 0] == np.rint(grey * (255 / 4000))).all()


@pytest.mark.parametrize(
    ("bands", "dtype", "said"),
    [
        (Bands((1, 2, 3), of=3), np.uint8, "not the 3 bands of data.bands (it has 4)"),
        (Bands((1, 7)), np.uint8, "no band 7, which data.bands asks for (it has 4)"),
        (Bands((1, 2, 3, 4), of=4), np.uint16, "values of 16 bits without a scale (uint16)"),
        (Bands((1, 2, 3, 4), of=4), np.float32, "values of 32 bits without a scale (float32)"),
        (Bands((1,), scale=((0, 1),)), np.complex64, "values that are no real numbers (complex64)"),
    ],
)
def test_files_that_do_not_fit_are_refused(bands: Bands, dtype: Any, said: str, tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", values(6, 7, 4, dtype=dtype, most=99))
    for look in (read_image, lambda *args: stored_as(*args, has_scale=bands.scale is not None)):
        with pytest.raises(ImageError) as error:
            look(path, None, bands)
        assert said in str(error.value)


def test_values_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    pixels = values(6, 7, 2, dtype=np.float32)
    pixels[0, :3, 0], pixels[1, 1, 1] = np.nan, np.inf
    path = tiff(tmp_path / "a.tif", pixels)
    with pytest.raises(ImageError, match=r"a.tif: values that are no finite numbers \(NaN\) \(4 of 84\)"):
        read_image(path, None, Bands((1, 2), scale=((0, 1),) * 2))
    with pytest.raises(ImageError, match=r"\(1 of 42\)"):
        read_image(path, None, Bands((2,), scale=((0, 1),)))


def test_pictures_of_several_bands_of_16_bits_are_refused(tmp_path: Path) -> None:
    rows = b"\0\1" * 3 * 4
    (tmp_path / "a.png").write_bytes(tiny_data.png(4, 2, 16, 2, rows * 2))
    with pytest.raises(ImageError, match="several bands of 16 bits"):
        read_image(tmp_path / "a.png", None, Bands((1, 2, 3), scale=((0, 9),) * 3))


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_each_band_is_resized_as_in_a_picture() -> None:
    rgb = values(30, 40, 3, dtype=np.uint8, most=256)
    for size, box in (((17, 11), None), ((60, 70), (1.5, 2.0, 30.0, 20.5))):
        expected = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR, box=box))
        assert (resized_by_pillow(rgb, size, box) == expected).all()
        assert (resized_by_pillow(rgb[..., [2, 0]], size, box) == expected[..., [2, 0]]).all()


def test_people_see_red_green_and_blue_or_grey() -> None:
    pixels = values(3, 4, 4, dtype=np.uint8, most=256)
    assert (shown(pixels, Bands((1, 2, 3, 4), rgb=(2, 1, 0))) == pixels[..., [2, 1, 0]]).all()
    assert (shown(pixels, Bands((1, 2, 3, 4))) == pixels[..., [0, 0, 0]]).all()
    assert (shown(pixels[..., :3], Bands((1, 2, 3))) == pixels[..., :3]).all()
    assert (shown(pixels[..., :3], None) == pixels[..., :3]).all()
    assert (shown(pixels[..., 3:], Bands((9,))) == pixels[..., [3, 3, 3]]).all()


def test_a_glance_is_like_that_of_a_grey_picture(tmp_path: Path) -> None:
    small = values(8, 8, dtype=np.uint8, most=256)
    grey = np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC))
    Image.fromarray(grey).save(tmp_path / "a.png")
    one, other = (int(glance, 16) for glance in (glance_of(grey[..., None]), picture.glance(tmp_path / "a.png")))
    assert (one ^ other).bit_count() <= 8
