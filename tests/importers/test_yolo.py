"""YOLO data sets against masks that are drawn pixel by pixel."""

from pathlib import Path

import annotated
import pytest
from annotated import HOUSE, TREE, masks

from stpp.common.errors import Problems, StppError
from stpp.importers.yolo import find


def line(number: int, ring: list[tuple[float, float]]) -> str:
    shares = [f"{value / side:.6f}" for corner in ring for value, side in zip(corner, annotated.SIZE[::-1])]
    return f"{number} {' '.join(shares)}\n"


LINES = line(0, TREE) + line(4, HOUSE)


def write(folder: Path, text: str = LINES, names: str = "names: {0: tree, 4: house}") -> Path:
    """A data set with two subsets whose images have the same name, an empty file, and an image without a file."""
    for name in ("train/hill", "val/hill", "val/lake", "val/moor"):
        annotated.image(folder / f"images/{name}.jpg")
        (folder / f"labels/{name}.txt").parent.mkdir(parents=True, exist_ok=True)
    (folder / "labels/train/hill.txt").write_text(text)
    (folder / "labels/val/hill.txt").write_text(line(4, TREE))
    (folder / "labels/val/lake.txt").touch()
    (folder / "data.yaml").write_text(f"path: .\ntrain: images/train\n{names}\n")
    return folder


def test_lines_are_drawn_in_their_order_after_a_background(tmp_path: Path) -> None:
    export = find(write(tmp_path), None)
    assert export.classes == ["background", "tree", "house"]
    found = masks(export)
    assert (found["train/hill"] == annotated.mask()).all()
    assert (found["val/hill"] == annotated.tree_pixels() * 2).all()
    assert (found["val/lake"] == 0).all() and found["val/moor"] is None
    assert export.remarks == [
        "1 image without a shape, by a file that says so: all background",
        "1 image without a shape: unlabeled, with no mask",
    ]


def test_names_may_be_a_list_and_boxes_are_left_out(tmp_path: Path) -> None:
    names = "names: [tree, a, b, c, house]"
    export = find(write(tmp_path, f"{LINES}\n2 0.5 0.5 0.1 0.1\n", names), None)
    assert export.classes == ["background", "tree", "a", "b", "c", "house"]
    assert (masks(export)["train/hill"] == annotated.mask(1, 5)).all()
    assert export.left_out == ["1 boxes, which are no polygons"]


def test_the_layout_may_have_the_subsets_outside(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("images", "labels"):
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / name / "train").rename(tmp_path / "train" / name)
    assert (masks(find(tmp_path, None))["train/hill"] == annotated.mask()).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "odd number"),
        ("0 0.1 0.2", "a polygon with 1 corners"),
        ("x 0.1 0.2 0.3 0.4 0.5 0.6", "not a class with a polygon"),
        ("0 0.1 0.2 0.3 0.4 0.5 nan", "not a number"),
        ("7 0.1 0.2 0.3 0.4 0.5 0.6", "no name for class 7"),
    ],
)
def test_a_broken_line_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Problems, match=rf"{said}(.|\n)*hill\.txt:2") as found:
        find(write(tmp_path, f"{line(0, TREE)}{text}"), None)
    assert len(found.value.problems) == 1


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StppError, match=r"there is no data\.yaml"):
        find(write(tmp_path, names="nc: 2"), None)
    with pytest.raises(Problems, match="not a YAML file"):
        find(write(tmp_path, names="names: ["), None)
    with pytest.raises(StppError, match="is a file"):
        find(write(tmp_path) / "data.yaml", None)


def test_an_image_of_another_subset_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images/train/hill.jpg").unlink()
    with pytest.raises(Problems, match=r"not below(.|\n)*images/train/hill") as found:
        find(tmp_path, None)
    assert len(found.value.problems) == 1


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "in")
    (tmp_path / "in/images").rename(tmp_path / "photos")
    assert (masks(find(tmp_path / "in", None, tmp_path / "photos"))["train/hill"] == annotated.mask()).all()
