"""Masks, smaller versions and copies among the images are told by their names, their colours and their bytes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_lint import warnings_of
from tiny_data import labels, photo, save, settings

from stpp.data.inspection import Look
from stpp.data.sources import Entry
from stpp.data.strays import copies


def data_set(root: Path, **changes: object) -> dict[str, object]:
    """Two labeled and four unlabeled images, 16 x 16."""
    for number in range(6):
        save(root / f"images/a{number}.png", photo(number, (16, 16)))
    for number in range(2):
        save(root / f"masks/a{number}.png", labels(number, (16, 16)))
    return settings(root, layout="folder", **changes)


def warned(data: dict[str, object], root: Path) -> list[str]:
    return warnings_of(data, root / "results", batch_size=1)


def test_a_set_without_strays_is_not_warned_of(tmp_path: Path) -> None:
    assert warned(data_set(tmp_path / "d"), tmp_path) == []


@pytest.mark.parametrize("name", ["a{}_mask", "a{}-Segmentation", "gt_a{}", "label_a{}"])
def test_masks_by_the_name_of_an_image_are_warned_of(tmp_path: Path, name: str) -> None:
    data = data_set(tmp_path / "d")
    for number in range(3):
        save(tmp_path / f"d/images/{name.format(number)}.png", labels(number, (16, 16)) % 3)
    (warning,) = warned(data, tmp_path)
    affix = name.replace("a{}", "").lower()
    assert warning.startswith(f"3 unlabeled images have the name of another image and {affix!r}, for example ")
    assert "are they masks?" in warning


def test_numbers_behind_a_name_are_no_masks(tmp_path: Path) -> None:
    data = data_set(tmp_path / "d")
    for number in range(3):
        save(tmp_path / f"d/images/a0_{number}.png", photo(20 + number, (16, 16)))
    assert warned(data, tmp_path) == []


def test_masks_by_any_name_are_warned_of(tmp_path: Path) -> None:
    data = data_set(tmp_path / "d")
    for number in range(3):
        save(tmp_path / f"d/images/other{number}.png", labels(number, (16, 16)) % 3)
    (warning,) = warned(data, tmp_path)
    assert "3 of the 7 smallest files" in warning and "no more than 8 colours" in warning and "other0.png" in warning


def test_images_of_few_colours_are_no_strays_where_the_labeled_ones_are_such(tmp_path: Path) -> None:
    data = data_set(tmp_path / "d")
    for number in range(6):
        save(tmp_path / f"d/images/a{number}.png", np.random.default_rng(number).integers(0, 2, (16, 16), np.uint8))
    assert warned(data, tmp_path) == []


def test_thumbnails_are_warned_of(tmp_path: Path) -> None:
    data = data_set(tmp_path / "d")
    for number in range(2, 5):
        small = Image.fromarray(photo(number, (16, 16))).resize((8, 8))
        save(tmp_path / f"d/images/s/a{number}.png", np.asarray(small))
    (warning,) = warned(data, tmp_path)
    assert warning.startswith("3 of 3 unlabeled images in images/s are images of another folder at half the")


# --- copies -----------------------------------------------------------------------------------------------------------


def scene(seed: int, size: int = 64) -> np.ndarray:
    """A smooth picture, as photographs are."""
    return np.asarray(Image.fromarray(photo(seed, (8, 8))).resize((size, size), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("of", ["labeled", "unlabeled"])
def test_a_val_image_that_is_trained_on_under_another_name_is_warned_of(tmp_path: Path, of: str) -> None:
    data = data_set(tmp_path / "d", val="val.txt")
    save(tmp_path / "d/masks/v.png", labels(9, (16, 16)))
    shutil.copy(tmp_path / f"d/images/a{0 if of == 'labeled' else 4}.png", tmp_path / "d/images/v.png")
    (tmp_path / "d/val.txt").write_text("images/v.png masks/v.png\n")
    (warning,) = warned(data, tmp_path)
    assert warning.startswith(f"val and {of} share 1 image, byte for byte, for example ")
    assert "images/v.png and " in warning


@pytest.mark.parametrize("change", ["format", "size", "brightness"])
def test_a_val_image_that_is_nearly_a_labeled_one_is_warned_of(tmp_path: Path, change: str) -> None:
    data = data_set(tmp_path / "d", val="val.txt")
    save(tmp_path / "d/images/a0.png", scene(0))
    save(tmp_path / "d/masks/a0.png", labels(0, (64, 64)))
    copy = {"format": scene(0), "size": scene(0, 96), "brightness": scene(0) // 2 + 40}[change]
    save(tmp_path / "d/images/v.jpg", copy, quality=80)
    save(tmp_path / "d/images/w.jpg", scene(1), quality=80)
    for name, size in (("v", len(copy)), ("w", 64)):
        save(tmp_path / f"d/masks/{name}.png", labels(9, (size, size)))
    (tmp_path / "d/val.txt").write_text("images/v.jpg masks/v.png\nimages/w.jpg masks/w.png\n")
    (warning,) = warned(data, tmp_path)
    assert warning.startswith("val and labeled share 1 image, or nearly so, for example ")
    assert "v.jpg and " in warning and "a0.png" in warning


def test_plain_pictures_are_no_copies_of_each_other() -> None:
    entries = [Entry("a", "labeled", "a", "m", ""), Entry("b", "val", "b", "m", "")]
    assert list(copies(entries, {name: Look(glance="00" * 31 + "01") for name in "ab"})) == []
    assert len(list(copies(entries, {name: Look(glance="0f" * 32) for name in "ab"}))) == 1
    looks = {"a": Look(glance="0f" * 32), "b": Look(glance="f0" + "0f" * 31)}
    assert len(list(copies(entries, looks))) == 1  # 8 bits apart
    assert list(copies(entries, looks | {"b": Look(glance="f0f0" + "0f" * 30)})) == []  # 16 bits
