"""Masks whose values all have a class, and the wrong one: the evidence that speaks against the reading."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from test_lint import problems_of, warnings_of
from tiny_data import photo, save, settings

from stpp.data.doubts import one_patch

TWO, THREE = ["background", "thing"], ["background", "a", "b"]
Mask = NDArray[np.uint8]


def data_set(root: Path, masks: list[Mask], names: list[str], **changes: Any) -> dict[str, Any]:
    """A folder of images with these masks, grey ones, or palette ones where `palettes` has their colours."""
    palettes = changes.pop("palettes", [])
    for number, mask in enumerate(masks):
        save(root / f"images/{number}.png", photo(number, mask.shape[:2]))
        path = save(root / f"masks/{number}.png", mask)
        if palettes:
            picture = Image.fromarray(mask)
            picture.putpalette(np.array(palettes[number], np.uint8).tobytes())
            picture.save(path)
    return settings(root, layout="folder", classes=names, **changes)


def warned(root: Path, masks: list[Mask], names: list[str], **changes: Any) -> list[str]:
    found = warnings_of(data_set(root, masks, names, **changes), root / "results", need_unlabeled=False, batch_size=1)
    return [text for text in found if "without a labeled pixel" not in text or "first_label" in text]


def refused(root: Path, masks: list[Mask], names: list[str], **changes: Any) -> str:
    data = data_set(root, masks, names, **changes)
    (problem,) = problems_of(data, root / "results", need_unlabeled=False, batch_size=1)
    return problem


def mask(*rows: str) -> Mask:
    """A mask, drawn with a digit a pixel."""
    return np.array([[int(digit) for digit in row] for row in rows], np.uint8)


# --- palettes ---------------------------------------------------------------------------------------------------------

MASK = mask("0011", "0022")
BLACK, RED, GREEN = (0, 0, 0), (255, 0, 0), (0, 255, 0)


def test_palettes_that_differ_are_refused(tmp_path: Path) -> None:
    problem = refused(tmp_path, [MASK, (2 - MASK)], THREE, palettes=[[BLACK, RED, GREEN], [GREEN, RED, BLACK]])
    assert "value 0 is #000000 in " in problem and "and #00ff00 in " in problem and "1.png" in problem
    assert problem.endswith('palette_map: {"#000000": 0, "#00ff00": 1, "#ff0000": 2}')


def test_palettes_that_differ_are_a_warning_where_the_numbers_are_said(tmp_path: Path) -> None:
    palettes = [[BLACK, RED, GREEN], [GREEN, RED, BLACK]]
    (warning,) = warned(tmp_path, [MASK, MASK], THREE, palettes=palettes, label_map={0: 0, 1: 1, 2: 2})
    assert warning.startswith("The palettes of the masks differ")


def test_palettes_may_differ_in_colours_that_no_pixel_has(tmp_path: Path) -> None:
    palettes = [[BLACK, RED, GREEN, (1, 1, 1)], [BLACK, RED, GREEN, (2, 2, 2)], [BLACK, RED, GREEN]]
    assert warned(tmp_path, [MASK] * 3, THREE, palettes=palettes) == []


# --- values -----------------------------------------------------------------------------------------------------------


def test_masks_of_0_and_1_beside_masks_of_0_and_255_are_refused(tmp_path: Path) -> None:
    problem = refused(tmp_path, [mask("0011"), mask("0111") * 255, mask("1011") * 255], TWO)
    assert "2 of the masks hold nothing but 0 and 255, 1 hold 0 and 1" in problem


def test_ignored_pixels_beside_a_class_are_no_second_program(tmp_path: Path) -> None:
    ignored = np.array([[0, 1, 255] + [0] * 30], np.uint8)
    assert warned(tmp_path, [ignored, np.where(ignored == 1, 0, ignored)], TWO) == []


def objects(*numbers: int) -> Mask:
    """Squares with these values, one behind the other."""
    drawn = np.zeros((8, 8 * len(numbers)), np.uint8)
    for at, number in enumerate(numbers):
        drawn[2:6, 8 * at + 2 : 8 * at + 6] = number
    return drawn


def test_numbers_of_objects_are_told_from_classes(tmp_path: Path) -> None:
    names = ["background", *"abcde"]
    (warning,) = warned(tmp_path / "objects", [objects(1, 2, 3), objects(1, 2, 3, 4, 5)], names)
    assert "numbers of objects, not of classes" in warning and "to 3 in one and 5 in another" in warning
    assert warning.endswith("label_map: {0: 0, 1-65535: 1}")
    several = [objects(1, 2, 3, 1, 2, 3), objects(1, 2, 3, 4, 5, 1, 2, 3, 4, 5)]  # two patches of each
    assert warned(tmp_path / "classes", several, names) == []


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (mask("000", "010", "000"), [True]),
        (mask("101", "000"), [False]),
        (mask("111", "101", "111"), [True]),  # a hole
        (mask("110", "011"), [True]),
        (mask("10", "01"), [False]),  # a corner is no side
        (mask("1122", "1122", "0000", "0200"), [True, False]),
    ],
)
def test_values_are_one_patch_or_several(drawn: Mask, expected: list[bool]) -> None:
    assert one_patch(drawn, {0, 255}) == expected


def test_that_0_may_mean_unlabeled_is_said_where_the_last_class_is_missing(tmp_path: Path) -> None:
    names = ["wall", "floor", "door", "lamp"]
    (warning,) = warned(tmp_path / "a", [mask("0012"), mask("0122")], names)
    assert "Value 0 occurs in all 2 masks, and 3, for the last class lamp, in none" in warning
    assert warning.endswith("1 is wall, all classes are off by one. If so, write: first_label: 1")
    assert warned(tmp_path / "b", [mask("0012"), mask("1122")], names) == []  # 0 is not everywhere
    assert warned(tmp_path / "c", [mask("0012"), mask("0131")], names) == []
    assert warned(tmp_path / "d", [mask("0012"), mask("0122")], ["background", *names[1:]]) == []
    assert not any(
        "off by one" in text for text in warned(tmp_path / "e", [mask("1110", "1123")], names, first_label=1)
    )


def test_many_pixels_that_are_left_out_are_a_warning(tmp_path: Path) -> None:
    drawn = np.array([[0, 1, 255, 255] + [0, 1] * 3], np.uint8)
    (warning,) = warned(tmp_path / "a", [drawn], TWO)
    assert warning.startswith("20.0 % of the pixels of the masks are left out (255: 20.0 %), most in ")
    assert warned(tmp_path / "b", [drawn, mask("0101010101")], TWO) == []  # 10 %


def test_a_class_that_is_called_void_is_a_warning(tmp_path: Path) -> None:
    (warning,) = warned(tmp_path / "a", [mask("0011")], ["void", "thing"])
    assert "class 0 is called void" in warning and warning.endswith("write: first_label: 1")
    (warning,) = warned(tmp_path / "b", [mask("0011", "2222")], ["ground", "thing", "Un-labeled"])
    assert warning.endswith("label_map: {2: ignore, ...}")


def test_a_label_map_of_cvat_says_which_class_a_colour_is(tmp_path: Path) -> None:
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nb:0,0,255::\nbackground:0,0,0::\na:9,9,9:x,y:z\n"
    )
    colours = np.array([[0, 0, 0], [9, 9, 9], [0, 0, 255]], np.uint8)
    problem = refused(tmp_path, [colours[MASK]], THREE)
    assert problem.endswith('as labelmap.txt does: palette_map: {"#000000": 0, "#090909": 1, "#0000ff": 2}')


def test_pixels_left_out_of_smoothed_masks_bring_a_threshold(tmp_path: Path) -> None:
    drawn = np.array([[*range(10), *range(245, 256), *[0] * 30, *[255] * 29]], np.uint8)
    ignored = dict.fromkeys(range(2, 255), "ignore")
    (warning,) = warned(tmp_path, [drawn], TWO, label_map={0: 0, 1: 1} | ignored)
    assert "left out" in warning and warning.endswith("threshold: 128")
