"""Copies of val and test images in training, and their neighbours, are told by their bytes and by their looks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_strays import data_set, warned
from tiny_data import labels, photo, save

from stpp.data.inspection import Look
from stpp.data.leaks import copies, neighbours
from stpp.data.sources import Entry


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


def frames(*numbers: int, subset: str, name: str = "video/f{}_left") -> list[Entry]:
    names = [name.format(f"{number:04}") for number in numbers]
    return [Entry(each, subset, each, "m", "") for each in names]


def glance(bits: int) -> Look:
    """One that differs from that of `glance(0)` in so many bits."""
    return Look(glance=f"{int('0f' * 32, 16) ^ ((1 << bits) - 1):064x}")


def test_frames_beside_labeled_ones_are_warned_of_and_group_by_is_advised() -> None:
    entries = [*frames(1, 20, subset="labeled"), *frames(2, 3, 19, subset="val")]
    looks = {entry.image: glance(10 if entry.subset == "val" else 0) for entry in entries}
    (warning,) = neighbours(entries, looks)
    assert warning.startswith(
        "3 of 3 val images look like a labeled image with the next number, for example video/f0002_left and "
        "video/f0001_left: are they of one video, patient or scene? "
        "If so, results on val are too good. Set data.group_by"
    )


@pytest.mark.parametrize("change", ["unlike", "another video", "nothing to see", "no number"])
def test_pictures_that_are_merely_numbered_are_not_warned_of(change: str) -> None:
    entries = [*frames(1, subset="labeled"), *frames(2, subset="val")]
    looks = {entry.image: glance(0) for entry in entries}
    if change == "unlike":
        looks["video/f0002_left"] = glance(65)
    elif change == "another video":
        entries = [*frames(1, subset="labeled"), *frames(2, subset="val", name="other/f{}_left")]
        looks = {entry.image: glance(0) for entry in entries}
    elif change == "nothing to see":
        looks = dict.fromkeys(looks, Look(glance="00" * 32))
    else:
        entries = [Entry(name, subset, name, "m", "") for name, subset in (("a", "labeled"), ("b", "val"))]
        looks = {entry.image: glance(0) for entry in entries}
    assert list(neighbours(entries, looks)) == []


def test_a_few_pictures_that_happen_to_be_alike_are_not_warned_of() -> None:
    entries = [*frames(1, subset="labeled"), *frames(*range(2, 32), subset="test")]
    looks = {
        entry.image: glance(0 if entry.id.endswith(("0001_left", "0002_left", "0003_left")) else 128)
        for entry in entries
    }
    assert list(neighbours(entries, looks)) == []
