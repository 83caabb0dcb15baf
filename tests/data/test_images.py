import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from tiny_data import photo, png, save

from stpp.common.errors import StppError
from stpp.common.labels import encoding_of
from stpp.data.images import class_of, read_image, read_mask
from stpp.data.readers import ImageError
from stpp.data.readers.picture import image_size, open_file

PLAIN = {"classes": 3, "ignore_value": 255, "label_map": None, "palette_map": None}
LOSSLESS = {".png": {}, ".tif": {}, ".bmp": {}, ".webp": {"lossless": True}}
QUICK = hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pixels(path):
    image = read_image(path)
    assert image.dtype == np.uint8
    return image


def solid(colour):
    return np.full((8, 8, 3), colour, np.uint8)


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_give_the_pixels(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", photo(1, (5, 9)), **LOSSLESS[suffix])
    assert (pixels(path) == photo(1, (5, 9))).all()
    assert image_size(path) == (5, 9, "")


def test_gif_masks_and_images_are_read(tmp_path):
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    assert (read_mask(save(tmp_path / "m.gif", mask), PLAIN) == mask).all()
    assert (read_image(tmp_path / "m.gif")[..., 0] == mask).all()
    (tmp_path / "cut.gif").write_bytes((tmp_path / "m.gif").read_bytes()[:-4])
    with pytest.raises(ImageError, match="damaged"):
        image_size(tmp_path / "cut.gif")


def test_jpeg_gives_about_the_pixels(tmp_path):
    path = save(tmp_path / "a.JPEG", solid((200, 100, 50)), quality=95)
    assert np.abs(pixels(path).astype(int) - (200, 100, 50)).max() < 6


def test_the_content_counts_and_not_the_suffix(tmp_path):
    (save(tmp_path / "a.png", photo())).rename(tmp_path / "a.jpg")
    assert (pixels(tmp_path / "a.jpg") == photo()).all()


def test_a_phone_picture_with_a_second_picture_inside_is_read(tmp_path):
    pictures = [Image.fromarray(solid(colour)) for colour in ((200, 0, 0), (0, 200, 0))]
    pictures[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=pictures[1:])
    assert pixels(tmp_path / "a.jpg")[..., 0].min() > 190


def test_grey_and_black_and_white_become_rgb(tmp_path):
    grey = save(tmp_path / "g.png", photo()[..., 0])
    assert (pixels(grey) == photo()[..., :1]).all()
    bits = save(tmp_path / "b.png", photo()[..., 0] > 127)
    assert (pixels(bits) == 255 * (photo()[..., :1] > 127)).all()


def test_transparency_is_dropped_not_blended(tmp_path):
    alpha = np.dstack([photo(), np.zeros((8, 8), np.uint8)])
    assert (pixels(save(tmp_path / "a.png", alpha)) == photo()).all()
    grey = Image.merge("LA", [Image.fromarray(alpha[..., 0]), Image.fromarray(alpha[..., 3])])
    grey.save(tmp_path / "la.png")
    assert (pixels(tmp_path / "la.png") == alpha[..., :1]).all()


def test_a_palette_image_shows_its_colours_even_where_they_are_transparent(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "p.png", transparency=b"\x00\x80")
    assert pixels(tmp_path / "p.png").tolist() == [[[10, 20, 30], [40, 50, 60]], [[40, 50, 60], [10, 20, 30]]]


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "c.jpg", quality=95)
    red, green, blue = pixels(tmp_path / "c.jpg").reshape(-1, 3).mean(0)
    assert red < 10 and green > 200 and blue > 200


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("grey16.png", png(2, 1, 16, 0, bytes(4)), "not an 8-bit image"),
        ("rgb16.png", png(2, 1, 16, 2, bytes(12)), r"not an 8-bit image \(Pillow mode RGB;16B\)"),
        ("rgba16.png", png(2, 1, 16, 6, bytes(16)), "not an 8-bit image"),
        ("empty.png", b"", "empty file"),
        ("text.jpg", b"<html>404</html>", "a web page or XML file"),
        ("picture.gif", b"GIF89a" + bytes(40), "not a readable JPEG, PNG, TIFF, WebP, BMP or GIF file"),
        ("bomb.png", png(20000, 20000, 8, 2, b""), "more than 179 million pixels"),
        ("none.png", png(0, 8, 8, 2, b""), "without pixels|not a readable"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=f"{name}: {reason}"):
            read(path)


def test_floating_point_images_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"not an 8-bit image.*mode F"):
        read_image(save(tmp_path / "f.tif", np.ones((8, 8), np.float32)))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        read_image(tmp_path / "gone.png")
    save(tmp_path / "file.png", photo())
    with pytest.raises(ImageError, match=r"a\.png: no such file"):
        read_image(tmp_path / "file.png" / "a.png")
    with pytest.raises(ImageError, match=r"unreadable file \(Is a directory"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pytest undoes the module's own filter
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@QUICK
@given(st.data())
def test_whatever_is_cut_off_or_overwritten_only_image_errors_come(tmp_path, suffix, data):
    whole = save(tmp_path / f"whole{suffix}", photo(2, (16, 16))).read_bytes()
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    if broken:
        start = data.draw(st.integers(0, len(broken) - 1))
        broken[start : start + 4] = data.draw(st.binary(max_size=4))
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(broken)
    for read in (lambda: read_image(path), lambda: image_size(path), lambda: read_mask(path, PLAIN)):
        try:
            read()
        except StppError as error:
            assert "broken" in str(error)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", photo(2, (64, 64)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=f"a{suffix}: (truncated or damaged|not a readable)"):
        read_image(path)


def test_a_loader_process_that_dies_meanwhile_is_no_damage_of_the_image(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "image.png")
    with pytest.raises(RuntimeError, match="is killed by signal"), open_file(tmp_path / "image.png"):
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")


def test_large_images_and_odd_metadata_bring_no_warnings(tmp_path):
    large = tmp_path / "large.png"
    large.write_bytes(png(10000, 10000, 1, 0, b""))  # Pillow warns of more than 89 million pixels
    palette = Image.fromarray(np.zeros((8, 8), np.uint8))
    palette.putpalette([1, 2, 3])
    palette.save(tmp_path / "p.png", transparency=b"\x00")
    program = (
        "import sys; from stpp.data.images import read_image; from stpp.data.readers.picture import image_size\n"
        "print(image_size(sys.argv[1])); read_image(sys.argv[2])"
    )
    command = [sys.executable, "-W", "error", "-c", program, large, tmp_path / "p.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(10000, 10000, '')\n", "")


# --- EXIF -------------------------------------------------------------------------------------------------------------

# Exif 2.3, tag 0x0112: on which side of the visible image the first stored row and the first stored column are.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def seen(stored, orientation):
    """The visible image, put together pixel by pixel."""
    height, width = stored.shape[:2]
    first_row, first_column = SIDES[orientation]
    upright = first_row in ("top", "bottom")
    visible = np.zeros_like(stored if upright else stored.swapaxes(0, 1))
    for row in range(height):
        for column in range(width):
            along_rows = row if first_row in ("top", "left") else height - 1 - row
            along_columns = column if first_column in ("top", "left") else width - 1 - column
            visible[(along_rows, along_columns) if upright else (along_columns, along_rows)] = stored[row, column]
    return visible


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("suffix", sorted(LOSSLESS.keys() - {".bmp"}))  # which has no EXIF block
def test_images_and_masks_are_turned_upright(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a{suffix}", photo(3, (5, 9)), exif=exif, **LOSSLESS[suffix])
    expected = seen(photo(3, (5, 9)), orientation)
    assert (pixels(path) == expected).all()
    assert image_size(path) == (*expected.shape[:2], "")

    mask = np.random.default_rng(4).integers(0, 3, (5, 9), np.uint8)
    colours = {"#000000": 0, "#010101": 1, "#020202": 2}
    path = save(tmp_path / f"m{suffix}", np.dstack([mask] * 3), exif=exif, **LOSSLESS[suffix])
    assert (read_mask(path, {**PLAIN, "palette_map": colours}) == seen(mask, orientation)).all()
    if suffix != ".webp":  # which has no grey
        path = save(tmp_path / f"g{suffix}", mask, exif=exif)
        assert (read_mask(path, PLAIN) == seen(mask, orientation)).all()


@pytest.mark.parametrize("orientation", SIDES)
def test_jpeg_images_are_turned_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.kron(photo(5, (2, 3)), np.ones((16, 16, 1), np.uint8))
    path = save(tmp_path / "a.jpg", stored, exif=exif, quality=100, subsampling=0)
    expected = seen(stored, orientation)
    assert image_size(path) == (*expected.shape[:2], "")
    assert np.abs(pixels(path).astype(int) - expected).max() < 12


def test_a_broken_exif_block_is_passed_over(tmp_path):
    path = save(tmp_path / "a.png", photo(), exif=b"Exif\x00\x00no such thing")
    assert (pixels(path) == photo()).all()


# --- masks ------------------------------------------------------------------------------------------------------------


def test_palette_masks_give_their_indices(tmp_path):
    mask = Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8))
    mask.putpalette([200, 100, 0] * 256)
    mask.save(tmp_path / "m.png")
    decoded = read_mask(tmp_path / "m.png", PLAIN)
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == [[0, 1], [2, 255]]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_masks_of_few_bits_give_the_stored_numbers(tmp_path, depth):
    (tmp_path / "m.png").write_bytes(png(8 // depth, 1, depth, 0, bytes([0b01010101 if depth < 4 else 0x12])))
    expected = {1: [0, 1] * 4, 2: [1] * 4, 4: [1, 2]}[depth]
    assert read_mask(tmp_path / "m.png", PLAIN).tolist() == [expected]


def test_16_bit_masks_are_translated(tmp_path):
    values = np.array([[1000, 2, 65535]], np.uint16)
    encoding = {**PLAIN, "ignore_value": 65535, "label_map": {"1000": 1, "2": 0}}
    for suffix in (".png", ".tif"):
        assert read_mask(save(tmp_path / f"m{suffix}", values), encoding).tolist() == [[1, 0, 255]]


def test_an_alpha_channel_of_a_mask_is_dropped(tmp_path):
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    Image.merge("LA", [Image.fromarray(mask), Image.new("L", (2, 2))]).save(tmp_path / "m.png")
    assert (read_mask(tmp_path / "m.png", PLAIN) == mask).all()


def test_colour_masks_are_read_by_the_palette_map(tmp_path):
    colours = np.array([[[128, 0, 0], [0, 0, 0]], [[224, 224, 192], [0, 128, 0]]], np.uint8)
    encoding = {**PLAIN, "palette_map": {"#000000": 0, "#800000": 1, "#008000": 2, "#E0E0C0": "ignore"}}
    rgb = save(tmp_path / "rgb.png", colours)
    rgba = save(tmp_path / "rgba.png", np.dstack([colours, np.full((2, 2), 7, np.uint8)]))
    Image.fromarray(colours).quantize(16).save(tmp_path / "palette.png")  # indices that mean nothing
    for path in (rgb, rgba, tmp_path / "palette.png"):
        assert read_mask(path, encoding).tolist() == [[1, 0], [255, 2]]


TARGETS = st.one_of(st.integers(0, 4), st.just("ignore"))


@QUICK
@given(
    st.lists(st.integers(0, 9), min_size=6, max_size=6),
    st.one_of(st.none(), st.dictionaries(st.integers(0, 9), TARGETS, min_size=1)),
    st.one_of(st.none(), st.integers(0, 9)),
    st.booleans(),
)
def test_values_are_decoded_as_the_encoding_says(tmp_path, values, label_map, ignore_value, wide):
    by_name = label_map and {str(value): to for value, to in label_map.items()}
    encoding = {"classes": 5, "ignore_value": ignore_value, "label_map": by_name, "palette_map": None}
    expected = []
    for value in values:
        if label_map is not None and value in label_map:
            expected.append(255 if label_map[value] == "ignore" else label_map[value])
        elif value == ignore_value:
            expected.append(255)
        else:
            expected.append(value if label_map is None and value < 5 else None)
    path = save(tmp_path / "m.png", np.array([values], np.uint16 if wide else np.uint8))
    if None in expected:
        with pytest.raises(StppError, match="is not a class: expected"):
            read_mask(path, encoding)
    else:
        assert read_mask(path, encoding).tolist() == [expected]


@QUICK
@given(
    st.dictionaries(st.integers(0, 0xFFFFFF), TARGETS, min_size=1, max_size=8),
    st.data(),
)
def test_colours_are_decoded_as_the_palette_map_says(tmp_path, palette_map, data):
    colours = data.draw(st.lists(st.sampled_from(sorted(palette_map)) | st.integers(0, 0xFFFFFF), min_size=1))
    encoding = {**PLAIN, "classes": 5, "palette_map": {f"#{colour:06x}": to for colour, to in palette_map.items()}}
    expected = [palette_map.get(colour) for colour in colours]
    path = save(tmp_path / "m.png", np.array([[list(colour.to_bytes(3, "big")) for colour in colours]], np.uint8))
    if None in expected:
        with pytest.raises(
            StppError, match=r"colour #[0-9a-f]{6}.* is not a class: expected the colours of palette_map"
        ):
            read_mask(path, encoding)
    else:
        assert read_mask(path, encoding).tolist() == [[255 if to == "ignore" else to for to in expected]]


def test_255_classes_fit_beside_the_ignored_value(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (read_mask(save(tmp_path / "m.png", values), {**PLAIN, "classes": 255}) == values).all()


def test_negative_and_huge_values_are_no_classes(tmp_path):
    path = save(tmp_path / "m.tif", np.array([[0, -1, 70000]], np.int32))
    with pytest.raises(StppError, match="value -1, 70000 is not a class: expected 0 to 2 or 255"):
        read_mask(path, PLAIN)


def test_a_colour_mask_without_palette_map_is_refused(tmp_path):
    with pytest.raises(StppError, match="colour #c80000 is not a class"):
        read_mask(save(tmp_path / "m.png", solid((200, 0, 0))), PLAIN)


@pytest.mark.parametrize(
    ("name", "mask", "reason"),
    [
        ("m.jpg", np.zeros((8, 8), np.uint8), "JPEG file as a mask"),
        ("m.tif", np.zeros((8, 8), np.float32), "mask of an unknown kind"),
    ],
)
def test_files_that_cannot_hold_labels_are_refused(tmp_path, name, mask, reason):
    with pytest.raises(ImageError, match=reason):
        read_mask(save(tmp_path / name, mask), PLAIN)


def test_a_label_map_goes_before_the_ignored_value():
    encoding = {"classes": 2, "ignore_value": 255, "label_map": {"0": 0, "255": 1}, "palette_map": None}
    assert [class_of(raw, encoding) for raw in ("0", "255", "7")] == [0, 1, None]
    assert class_of("255", {**encoding, "label_map": {"0": 0}}) == 255


# --- masks whose values or colours are not exact ----------------------------------------------------------------------


def encoded(**data: Any) -> dict[str, Any]:
    """The encoding that data settings give for two classes."""
    return encoding_of({"ignore_value": 255, **data}, 2)


@pytest.mark.parametrize(
    ("data", "raw", "classes"),
    [
        ({"first_label": 1}, [0, 1, 2, 3, 255], [255, 0, 1, None, 255]),
        ({"first_label": 7}, [0, 6, 7, 8, 9], [255, 255, 0, 1, None]),
        ({"threshold": 128}, [0, 127, 128, 254, 255, 65535], [0, 0, 1, 1, 1, 1]),
        ({"threshold": 1}, [0, 1, 255], [0, 1, 1]),
        ({"label_map": {0: 0, "1-65535": 1}}, [0, 1, 255, 65535], [0, 1, 1, 1]),
        ({"label_map": {0: 0, 255: "ignore", "1-65535": 1}}, [0, 254, 255, 256], [0, 1, 255, 1]),
        ({"label_map": {"0-9": 0, "5-20": 1, 7: 1}}, [5, 7, 9, 10, 21], [0, 1, 0, 1, None]),
        ({"label_map": {0: 0, "default": 1}}, [0, 1, 255, 70000, -1], [0, 1, 255, None, None]),
        ({"label_map": {0: 0, "default": 1}, "ignore_value": None}, [0, 255], [0, 1]),
        ({"label_map": {1: 1, "default": "ignore"}}, [0, 1, 2], [255, 1, 255]),
    ],
)
def test_values_have_the_class_that_the_settings_give_them(tmp_path, data, raw, classes):
    encoding = encoded(**data)
    assert [class_of(str(value), encoding) for value in raw] == classes
    known = [(value, class_) for value, class_ in zip(raw, classes) if class_ is not None]
    path = save(tmp_path / "m.tif", np.array([[value for value, _ in known]], np.int32))
    assert read_mask(path, encoding).tolist() == [[class_ for _, class_ in known]]


@QUICK
@given(st.lists(st.integers(0, 0xFFFFFF), min_size=1, max_size=20), st.integers(0, 60))
def test_a_colour_has_the_class_of_the_nearest_one_within_the_tolerance(tmp_path, colours, tolerance):
    known = {"#000000": 0, "#ff8000": 1, "#00FF80": "ignore"}
    encoding = encoded(palette_map=known, palette_tolerance=tolerance)
    pixels = [[colour >> 16, colour >> 8 & 255, colour & 255] for colour in colours]
    expected = []
    for pixel in pixels:
        apart = [max(abs(a - b) for a, b in zip(pixel, other)) for other in [(0, 0, 0), (255, 128, 0), (0, 255, 128)]]
        expected.append([0, 1, 255][apart.index(min(apart))] if min(apart) <= tolerance else None)
    assert [class_of(f"#{colour:06x}", encoding) for colour in colours] == expected
    path = save(tmp_path / "m.png", np.array([pixels], np.uint8))
    if None in expected:
        with pytest.raises(StppError, match="is not a class"):
            read_mask(path, encoding)
    else:
        assert read_mask(path, encoding).tolist() == [expected]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_mask_in_black_and_white_is_read_with_a_threshold(tmp_path, mode):
    true = np.zeros((32, 32), np.uint8)
    true[5:21, 5:21] = 1
    Image.fromarray(true * 255).convert(mode).save(tmp_path / "m.jpg")
    assert len(np.unique(Image.open(tmp_path / "m.jpg").convert("L"))) > 2
    assert (read_mask(tmp_path / "m.jpg", encoded(threshold=128)) == true).all()
    with pytest.raises(ImageError, match="threshold: 128"):
        read_mask(tmp_path / "m.jpg", encoded())


def test_a_coloured_jpeg_mask_is_read_with_a_tolerance_and_not_with_a_threshold(tmp_path):
    true = np.repeat(np.array([0, 1], np.uint8), 16)[None].repeat(32, axis=0)
    save(tmp_path / "m.jpg", np.array([[0, 0, 0], [200, 30, 30]], np.uint8)[true], quality=95, subsampling=0)
    tolerant = encoded(palette_map={"#000000": 0, "#c81e1e": 1}, palette_tolerance=40)
    assert (read_mask(tmp_path / "m.jpg", tolerant) == true).all()
    with pytest.raises(StppError, match="is not a class"):
        read_mask(tmp_path / "m.jpg", encoded(threshold=128))


# --- TIFF files that hold more than is read ---------------------------------------------------------------------------


def pages(path: Path, *sizes: int, **options: Any) -> Path:
    first, *others = (Image.fromarray(photo(at, (size, size))) for at, size in enumerate(sizes))
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.mark.parametrize("read", [read_image, image_size, lambda path: read_mask(path, PLAIN)])
def test_a_tiff_file_of_several_pages_is_refused(tmp_path, read):
    with pytest.raises(ImageError, match=r"several pages \(3 pages\)\. Save each page as a file of its own"):
        read(pages(tmp_path / "a.tif", 8, 8, 8))


def test_smaller_versions_of_a_picture_are_no_pages(tmp_path):
    assert image_size(pages(tmp_path / "a.tif", 16, 8, 4)) == (16, 16, "")
    assert (read_image(tmp_path / "a.tif") == photo(0, (16, 16))).all()


@pytest.mark.parametrize(
    ("mode", "remark"),
    [
        ("L", ""),
        ("RGB", ""),
        ("LA", "2 bands, of which the first alone is read"),
        ("RGBA", "4 bands, of which the first three alone are read"),
        ("RGBX", "4 bands, of which the first three alone are read"),
    ],
)
def test_bands_that_are_not_read_are_named(tmp_path, mode, remark):
    Image.new(mode, (8, 8)).save(tmp_path / "a.tif")
    assert image_size(tmp_path / "a.tif") == (8, 8, remark)


def test_transparency_of_other_formats_is_no_band(tmp_path):
    Image.new("RGBA", (8, 8)).save(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") == (8, 8, "")
