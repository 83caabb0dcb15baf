"""The demo scenes: their contents, and the data set and preview made of them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stpp.common.errors import StppError
from stpp.data import demo

COUNTS: dict[str, int] = {"labeled": 2, "unlabeled": 3, "val": 1, "test": 2, "seed": 5}


def contents(root: Path, pattern: str = "**/*") -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.glob(pattern) if path.is_file()}


def make(root: Path, **changes: Any) -> Path:
    demo.generate(root, **{**COUNTS, **changes})
    return root


def test_a_scene_is_a_picture_and_its_mask() -> None:
    image, mask = demo.scene(1, 2)
    assert image.shape == (96, 96, 3)
    assert mask.shape == (96, 96)
    assert image.dtype == mask.dtype == np.uint8


@pytest.mark.parametrize("size", [40, 96, 150])
def test_a_scene_has_the_size_that_was_asked_for(size: int) -> None:
    image, mask = demo.scene(0, 0, size)
    assert image.shape == (size, size, 3)
    assert mask.shape == (size, size)


def test_a_larger_scene_shows_the_same_things_in_more_detail() -> None:
    _, small = demo.scene(3, 4, 96)
    _, large = demo.scene(3, 4, 192)
    assert np.mean(small == large[::2, ::2]) > 0.97


def test_the_same_scene_has_the_same_bytes_whatever_was_drawn_before() -> None:
    first = demo.scene(7, 3)
    demo.scene(8, 1)
    again = demo.scene(7, 3)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


def test_seed_and_index_both_change_a_scene() -> None:
    pictures = [demo.scene(seed, index)[0].tobytes() for seed in range(3) for index in range(4)]
    assert len(set(pictures)) == 12


def test_the_pixels_are_those_of_this_version_of_the_scenes() -> None:
    # Nothing inexact is computed, so this holds on every machine. Who changes the scenes raises SCENES_VERSION too.
    digest = hashlib.sha256()
    for index in range(6):
        image, mask = demo.scene(0, index)
        digest.update(image.tobytes() + mask.tobytes())
    assert (demo.SCENES_VERSION, digest.hexdigest()[:16]) == (1, "3d211367109c4506")


def test_every_class_has_a_sensible_share_of_the_pixels_and_nothing_else_occurs() -> None:
    masks = np.stack([demo.scene(0, index)[1] for index in range(150)])
    share = np.bincount(masks.ravel(), minlength=256) / masks.size
    assert 0.5 < share[0] < 0.8
    assert (share[1:7] > 0.02).all()
    assert (share[1:7] < 0.15).all()
    assert share[7:].sum() == 0


def test_every_class_occurs_in_many_scenes() -> None:
    present = [np.bincount(demo.scene(2, index)[1].ravel(), minlength=7) > 30 for index in range(100)]
    assert (np.sum(present, axis=0) > 25).all()


def test_the_pictures_use_most_of_the_range_of_brightness() -> None:
    brightness = np.array([demo.scene(0, index)[0].mean() for index in range(60)])
    assert brightness.min() < 80
    assert brightness.max() > 130
    assert all(demo.scene(0, index)[0].std() > 10 for index in range(60))


def test_names_and_colours_match_and_differ() -> None:
    assert len(demo.CLASSES) == len(demo.PALETTE) == len(demo.SHAPES) + 1 == 7
    assert len(set(demo.CLASSES)) == len({tuple(colour) for colour in demo.PALETTE}) == 7
    assert all(0 <= value <= 255 for colour in demo.PALETTE for value in colour)


def test_shapes_are_what_they_are_called() -> None:
    # By their areas, from plane geometry, counted on a fine grid.
    axis = np.arange(-1.5, 1.5, 0.005) + 0.0025
    u, v = np.meshgrid(axis, axis)
    area = {name: float(np.mean(shape(u, v) < 0)) * 9 for name, shape in zip(demo.CLASSES[1:], demo.SHAPES)}
    inradius = 0.42  # of the pentagon in the middle of the star; its points are isosceles triangles on its sides
    tan36 = np.tan(np.pi / 5)
    side = 2 * inradius * tan36
    pentagram = 5 * side * inradius / 2 + 5 * side * (side / 2 * np.tan(2 * np.pi / 5)) / 2
    expected = {
        "disc": np.pi * 0.92**2,
        "ring": np.pi * (0.98**2 - 0.42**2),
        "square": 1.6**2,
        "cross": 2 * 2 * 0.8 - 0.8**2,
        "triangle": 3 * np.sqrt(3) * 0.62**2,
        "star": pentagram,
    }
    assert area == pytest.approx(expected, rel=0.01)


def test_a_data_set_is_lists_of_pictures_and_palette_masks(tmp_path: Path) -> None:
    root = make(tmp_path / "deep" / "demo")
    assert sorted(path.name for path in root.iterdir()) == [
        *("classes.txt", "demo.json", "images", "labeled.txt", "masks", "test.txt", "unlabeled.txt", "val.txt"),
    ]
    for subset in ("labeled", "unlabeled", "val", "test"):
        lines = (root / f"{subset}.txt").read_text().splitlines()
        assert len(lines) == COUNTS[subset]
        for line in lines:
            image, mask = (Image.open(root / name) for name in line.split(" "))
            assert (image.mode, mask.mode, image.size, mask.size) == ("RGB", "P", (96, 96), (96, 96))
            assert mask.getpalette()[:21] == [value for colour in demo.PALETTE for value in colour]
            assert set(np.unique(np.asarray(mask))) <= set(range(7))
    assert len(list((root / "images").iterdir())) == len(list((root / "masks").iterdir())) == 8


def test_the_files_hold_the_pixels_of_scenes_that_all_differ(tmp_path: Path) -> None:
    root = make(tmp_path / "demo")
    image, mask = demo.scene(5, 0)
    assert np.array_equal(np.asarray(Image.open(root / "images/labeled-00000.png")), image)
    assert np.array_equal(np.asarray(Image.open(root / "masks/labeled-00000.png")), mask)
    pictures = {Image.open(path).tobytes() for path in (root / "images").iterdir()}
    assert len(pictures) == 8


def test_the_classes_file_names_each_class_with_its_colour(tmp_path: Path) -> None:
    lines = (make(tmp_path / "demo") / "classes.txt").read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == demo.CLASSES
    assert lines[2] == "ring #56b4e9"


def test_the_same_settings_give_the_same_files(tmp_path: Path) -> None:
    assert contents(make(tmp_path / "a")) == contents(make(tmp_path / "b"))


def test_more_unlabeled_scenes_change_no_other_file(tmp_path: Path) -> None:
    few, many = contents(make(tmp_path / "few")), contents(make(tmp_path / "many", unlabeled=5))
    assert {name for name in few if few[name] != many[name]} == {"unlabeled.txt", "demo.json"}
    assert many["unlabeled.txt"].startswith(few["unlabeled.txt"])
    assert len(many) == len(few) + 4


def test_an_existing_data_set_with_the_same_settings_is_left_alone(tmp_path: Path) -> None:
    root = make(tmp_path / "demo")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    make(root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("change", [{"seed": 6}, {"unlabeled": 4}, {"test": 0}])
def test_an_existing_data_set_with_other_settings_is_refused_and_kept(tmp_path: Path, change: dict[str, int]) -> None:
    root = make(tmp_path / "demo")
    before = contents(root)
    with pytest.raises(StppError, match=r"other settings.*remove that folder, or choose another root"):
        make(root, **change)
    assert contents(root) == before


def test_scenes_of_another_version_are_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "demo")
    record = root / "demo.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "scenes": demo.SCENES_VERSION + 1}))
    with pytest.raises(StppError, match="other settings"):
        make(root)


def test_a_folder_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(StppError, match="something other than demo scenes"):
        make(tmp_path)
    assert contents(tmp_path) == {"mine.txt": b"precious"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    assert (make(tmp_path / "demo") / "classes.txt").is_file()


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(seed: int, index: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "scene", fail)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_the_preview_shows_scenes_masks_and_a_legend(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    demo.preview_sheet(out, seed=3, columns=2, rows=1)
    sheet = np.asarray(Image.open(out))
    gap = 6
    assert sheet.shape == (96 + 2 * gap + 32, 2 * (2 * 96 + gap) + gap, 3)
    image, mask = demo.scene(3, 1)
    left = gap + 2 * 96 + gap
    assert np.array_equal(sheet[gap : gap + 96, left : left + 96], image)
    assert np.array_equal(sheet[gap : gap + 96, left + 96 : left + 192], np.array(demo.PALETTE, np.uint8)[mask])
    legend = {tuple(colour) for colour in sheet[96 + 2 * gap :].reshape(-1, 3).tolist()}
    assert {tuple(colour) for colour in demo.PALETTE} <= legend
