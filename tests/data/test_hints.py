"""What masks of common kinds are taken for, and what to write then."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from stpp.common.labels import encoding_of
from stpp.data.hints import for_colours, for_values
from stpp.data.images import class_of
from stpp.data.inspection import Look

TWO, THREE = ["background", "thing"], ["sky", "road", "tree"]


def look(mask: NDArray[Any]) -> Look:
    return Look(values={str(value): count for value, count in Counter(mask.ravel().tolist()).items()})


def hint(masks: list[NDArray[Any]], names: list[str], **data: Any) -> str:
    return for_values([look(mask) for mask in masks], encoding_of({"ignore_value": 255, **data}, len(names)), names)


def pasted(text: str) -> Any:
    """The label map that a hint ends in."""
    return yaml.safe_load(text[text.rindex("label_map: ") + 11 :])


def disk(size: int = 64, radius: int = 20) -> NDArray[np.uint8]:
    y, x = np.mgrid[:size, :size] - size // 2
    return (x * x + y * y < radius * radius).astype(np.uint8)


def smoothed(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask that was made smaller and larger again, with interpolation."""
    height, width = mask.shape
    small = Image.fromarray(mask).resize((width // 2, height // 2), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("label_map", [None, {0: 0, 255: 1}])
def test_smoothed_masks_in_black_and_white_get_a_threshold(label_map: Any) -> None:
    mask = smoothed(disk(128, 50) * 255)
    text = hint([mask], TWO, label_map=label_map)
    assert "nearly black and white" in text and f"{len(np.unique(mask))} values" in text
    assert text.endswith("threshold: 128") and "ignore" not in text


def test_smoothed_masks_of_several_classes_are_to_be_made_again() -> None:
    mask = smoothed(np.repeat(np.array([0, 100, 200], np.uint8), 128)[None].repeat(64, axis=0))
    text = hint([mask, np.arange(40, 56)], THREE, label_map={0: 0, 100: 1, 200: 2})
    assert "resized with nearest neighbour" in text and "of which 0, 100, 200 hold" in text
    assert text.endswith("label_map: {0-49: 0, 50-149: 1, 150-65535: 2}")
    encoding = encoding_of({"label_map": pasted(text)}, 3)
    assert [class_of(raw, encoding) for raw in ("0", "49", "50", "149", "150", "255")] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("ignored", "expected"), [(False, "{0: 0, 1-65535: 1}"), (True, "{0: 0, 255: ignore, 1-65535: 1}")]
)
def test_numbers_of_objects_become_one_class(ignored: bool, expected: str) -> None:
    masks = [np.repeat(np.arange(last + 1), 9) for last in (3, 7, 5)]
    if ignored:
        masks[0] = np.append(masks[0], 255)
    text = hint(masks, TWO)
    assert "from 1 on without a gap, to 3 in one and 7 in another" in text
    assert text.endswith(f"label_map: {expected}")
    assert "numbers of objects" not in hint([*masks, np.array([0, 2, 4])], TWO)  # a gap
    assert "numbers of objects" not in hint(masks[1:2] * 3, TWO)  # the same last one


def test_masks_of_two_programs_are_told_from_masks_with_ignored_pixels() -> None:
    masks = [np.array([0, 1]), np.array([0, 255]), np.array([0, 0]), np.array([255])]
    text = hint(masks, TWO, ignore_value=None)
    assert "2 of the masks hold nothing but 0 and 255, 1 hold 0 and 1" in text
    assert "label_map: {0: 0, 1: 1, 255: 1}" in text
    assert "two programs" not in hint([*masks, np.array([0, 1, 255])], TWO, ignore_value=None)


def test_a_value_more_than_classes_may_mean_that_nothing_is_labeled() -> None:
    assert "write: first_label: 1;" in hint([np.array([0, 3])], THREE)


# --- colours ----------------------------------------------------------------------------------------------------------

VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]


def colours(*found: tuple[str, int], names: list[str] = THREE, **known: int) -> str:
    return for_colours(dict(found), names, VOC, {f"#{colour}": class_ for colour, class_ in known.items()})


def test_grey_colours_are_the_numbers_of_their_classes() -> None:
    text = colours(("#020202", 9), ("#000000", 5), ("#010101", 1))
    assert text.endswith('palette_map: {"#000000": 0, "#010101": 1, "#020202": 2}')
    text = colours(("#020202", 9), ("#ffffff", 5), ("#010101", 1))
    assert text.endswith('palette_map: {"#010101": 1, "#020202": 2, "#ffffff": ignore}')


def test_a_label_map_beside_the_masks_says_the_classes() -> None:
    text = colours(("#000000", 4), ("#306020", 5), ("#b06020", 1), ff0000=0, b06020=1, **{"306020": 2})
    assert text.endswith('labelmap.txt does: palette_map: {"#b06020": 1, "#306020": 2, "#000000": ignore}')


def test_the_colours_of_the_classes_count_where_they_hold_the_pixels() -> None:
    assert colours(("#008000", 9), ("#800000", 1)).endswith('palette_map: {"#800000": 1, "#008000": 2}')
    text = colours(("#123456", 90), ("#008000", 5), ("#800000", 1))
    assert text.endswith('{"#123456": 0, "#008000": 1, "#800000": 2}') and "check the numbers" in text


def test_black_is_the_background_however_rare() -> None:
    assert colours(("#ffffff", 9), ("#000000", 1)).endswith('{"#000000": 0, "#ffffff": 1}')
    text = colours(("#ff0000", 9), ("#000000", 1), names=TWO)
    assert text.endswith('{"#000000": 0, "#ff0000": 1}')


def test_smoothed_colours_are_named_by_their_pixels() -> None:
    edges = [(f"#{value:02x}0000", 1) for value in range(20, 60)] + [("#800000", 2)]
    text = colours(("#000000", 500), ("#ff0000", 400), ("#00ff00", 300), *edges, names=["background", "a", "b"])
    assert "They have 44 colours, of which 3 hold 96.6 % of the pixels" in text and "nearest neighbour" in text
    assert text.endswith('{"#000000": 0, "#ff0000": 1, "#00ff00": 2} and palette_tolerance: 127')


def test_small_masks_have_many_pixels_on_smoothed_edges() -> None:
    edges = [(f"#00{value:02x}00", 4) for value in range(30, 70)] + [("#008000", 9)]
    text = colours(("#000000", 500), ("#ff0000", 300), ("#00ff00", 200), *edges, names=["background", "a", "b"])
    assert "They have 44 colours, of which 3 hold 85.5 % of the pixels" in text
    assert "ignore" not in text and '{"#000000": 0, "#ff0000": 1, "#00ff00": 2}' in text


def test_rare_classes_are_no_edges() -> None:
    found = [(f"#{value:02x}0000", 10000 // 4**value + 1) for value in range(20)]
    text = colours(*found, names=[f"class {number}" for number in range(20)])
    assert "interpolation" not in text and "ignore" not in text


def test_smoothed_colours_beyond_the_palette_map_get_a_tolerance() -> None:
    found = {"#000000": 500, "#400000": 400, **{f"#{value:02x}0000": 1 for value in range(10, 30)}}
    encoding = encoding_of({"palette_map": {"#000000": 0, "#400000": 1}}, 2)
    text = for_values([Look(values=found)], encoding, TWO)
    assert "hold 97.8 % of the pixels" in text and text.endswith("palette_tolerance: 29")
    assert for_values([Look(values={**found, "#00ff00": 900})], encoding, TWO).startswith("Add the missing colours")
