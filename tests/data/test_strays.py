"""Masks and smaller versions among the images are told by their names and their colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_lint import warnings_of
from tiny_data import labels, photo, save, settings


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
    assert warning.startswith(f"3 unlabeled images with the name of another image and {affix!r}, for example ")
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
