"""How two sets of pseudo-labels differ, pixel by pixel."""

from pathlib import Path

import fabricate
import numpy as np
import pytest

from stpp.commands.agreement import by_class, compare_stores, share_that_differs
from stpp.store.masks import first_labels

MASK = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
OTHER = np.array([[0, 1, 1, 1], [0, 0, 1, 255]], np.uint8)


def test_pixels_are_counted_by_label_on_either_side(tmp_path: Path) -> None:
    a = fabricate.write_store(tmp_path / "a.h5", {"x": MASK, "y": MASK, "only a": MASK})
    b = fabricate.write_store(tmp_path / "b.h5", {"y": OTHER, "x": MASK})
    found = compare_stores([a], [b])
    assert found is not None
    assert (found.both, found.a, found.b) == (2, 1, 0)
    assert found.pixels.tolist() == [[7, 1, 0, 0], [0, 7, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert share_that_differs(found.pixels) == 2 / 16
    assert list(by_class(found.pixels, found.classes)) == [
        {"name": "background", "a": 8 / 16, "b": 7 / 16, "iou": 7 / 8},
        {"name": "left", "a": 8 / 16, "b": 8 / 16, "iou": 7 / 9},
        {"name": "right", "a": 0, "b": 0, "iou": None},
        {"name": "ignored", "a": 0, "b": 1 / 16, "iou": 0},
    ]


def test_what_nothing_ignores_has_no_entry_for_it() -> None:
    counts = np.diag([3, 0, 0])
    assert [each["name"] for each in by_class(counts, ["a", "b"])] == ["a", "b"]


def test_several_stores_of_a_side_complete_one_another(tmp_path: Path) -> None:
    first = fabricate.write_store(tmp_path / "first.h5", {"x": OTHER})
    second = fabricate.write_store(tmp_path / "second.h5", {"x": np.full_like(MASK, 2), "y": MASK})
    whole = np.array([[0, 1, 1, 1], [0, 0, 1, 2]], np.uint8)
    found = compare_stores([first, second], [fabricate.write_store(tmp_path / "b.h5", {"x": whole, "y": MASK})])
    assert found is not None
    assert share_that_differs(found.pixels) == 0
    assert first_labels([OTHER, OTHER, np.full_like(MASK, 2)]).tolist() == whole.tolist()
    assert OTHER[1, 3] == 255


def test_masks_of_other_sizes_count_as_other_images(tmp_path: Path) -> None:
    a = fabricate.write_store(tmp_path / "a.h5", {"x": MASK, "y": MASK})
    b = fabricate.write_store(tmp_path / "b.h5", {"x": MASK.T.copy(), "y": MASK})
    found = compare_stores([a], [b])
    assert found is not None
    assert (found.both, found.a, found.b, found.pixels.sum()) == (1, 1, 1, MASK.size)


@pytest.mark.parametrize("more", [["background", "left"], ["background", "right", "left"]])
def test_other_classes_are_not_compared(more: list[str], tmp_path: Path) -> None:
    a = fabricate.write_store(tmp_path / "a.h5", {"x": MASK})
    b = fabricate.write_store(tmp_path / "b.h5", {"x": MASK}, more)
    assert compare_stores([a], [b]) is None
    assert compare_stores([a, b], [a]) is None
