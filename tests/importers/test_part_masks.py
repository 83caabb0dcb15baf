"""Several masks an image: which image and class each is of, and what they make together."""

from pathlib import Path

import annotated
import numpy as np
import pytest
from annotated import house_pixels, masks, tree_pixels
from tiny_data import save

from stpp.common.errors import Problems, StppError
from stpp.importers.part_masks import class_in, find, name_before, owner_and_class


def mask(path: Path, pixels: np.ndarray, value: int = 255) -> None:
    save(path, np.where(pixels, value, 0).astype(np.uint8))


def beside(root: Path) -> None:
    annotated.image(root / "hill.jpg")
    annotated.image(root / "hill_2.jpg")
    mask(root / "hill_tree.png", tree_pixels(), 1)
    mask(root / "hill_house_1.png", house_pixels())


def a_folder_a_class(root: Path) -> None:
    annotated.image(root / "images/hill.jpg")
    annotated.image(root / "images/hill_2.jpg")
    mask(root / "masks/tree/hill.png", tree_pixels())
    mask(root / "masks/house/hill.png", house_pixels())


def a_folder_of_masks(root: Path) -> None:
    annotated.image(root / "photos/hill.jpg")
    annotated.image(root / "photos/hill_2.jpg")
    mask(root / "Masks/hill_tree.png", tree_pixels())
    mask(root / "Masks/hill-house 7.png", house_pixels())


@pytest.mark.parametrize("write", [beside, a_folder_a_class, a_folder_of_masks])
def test_masks_of_classes_make_one_mask(write: object, tmp_path: Path) -> None:
    write(tmp_path)  # type: ignore[operator]
    export = find(tmp_path, None)
    assert export.classes == ["background", "house", "tree"]
    found = masks(export)
    # The tree is the later class, so it lies over the house.
    expected = np.where(tree_pixels(), 2, np.where(house_pixels(), 1, 0))
    assert found.keys() == {"hill", "hill_2"} and found["hill_2"] is None
    assert (found["hill"] == expected).all()
    given = masks(find(tmp_path, ["background", "tree", "house"]))["hill"]
    assert (given == annotated.mask()).all()


def test_masks_of_objects_are_joined(tmp_path: Path) -> None:
    for number in (7, 8):
        annotated.image(tmp_path / f"{number}/images/{number}.png")
    mask(tmp_path / "7/masks/x1.png", tree_pixels())
    mask(tmp_path / "7/masks/x2.png", house_pixels())
    export = find(tmp_path, None)
    assert export.classes == ["background", "object"]
    found = masks(export)
    assert found.keys() == {"7/7", "8/8"} and found["8/8"] is None
    assert (found["7/7"] == (tree_pixels() | house_pixels())).all()
    assert "1 of 1 images with masks have more than one" in export.remarks


def test_smoothed_masks_in_colour_are_covered_where_they_are_brighter_than_half(tmp_path: Path) -> None:
    annotated.image(tmp_path / "a.jpg")
    values = np.zeros((*annotated.SIZE, 3), np.uint8)
    values[..., 1] = np.where(tree_pixels(), 200, 90)
    save(tmp_path / "a_tree.png", values)
    mask(tmp_path / "a_nothing.png", np.zeros(annotated.SIZE, bool))
    assert (masks(find(tmp_path, None))["a"] == 2 * tree_pixels()).all()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StppError, match=r"no mask was found in .*; expected names such as a\.jpg and a_wheel\.png"):
        find(annotated.image(tmp_path / "a/x.jpg").parent, None)
    annotated.image(tmp_path / "b/images/x.jpg")
    annotated.image(tmp_path / "b/images/y.jpg")
    mask(tmp_path / "b/masks/strange.png", tree_pixels())
    with pytest.raises(Problems, match=r"a mask whose image was not found by its name or folder: .*strange"):
        find(tmp_path / "b", None)
    annotated.image(tmp_path / "c/x.jpg", (20, 20))
    mask(tmp_path / "c/x_tree.png", tree_pixels())
    with pytest.raises(Problems, match="another size than when it was annotated"):
        find(tmp_path / "c", None)
    mask(tmp_path / "c/x_house.png", np.ones((20, 20), bool))
    with pytest.raises(Problems, match="masks of one image differ in size"):
        find(tmp_path / "c", None)
    beside(tmp_path / "d")
    with pytest.raises(Problems, match="no class for the label house; the classes are ground, tree"):
        find(tmp_path / "d", ["ground", "tree"])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("_wheel", "wheel"),
        ("_wheel_2", "wheel"),
        ("-front glass-12", "front glass"),
        ("_3", "object"),
        ("_mask", "object"),
    ],
)
def test_the_class_follows_the_name(text: str, label: str) -> None:
    assert class_in(text) == label


def test_the_longest_name_before_counts() -> None:
    stems = {"a": "a.jpg", "a_b": "a_b.jpg", "x/a": "x/a.jpg"}
    assert name_before("a_b_c", stems) == "a_b" and name_before("a_c", stems) == "a"
    assert name_before("x/a_c", stems) == "x/a" and name_before("ab_c", stems) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("masks/a.png", ("images/a.jpg", "object")),
        ("masks/wheel/a.png", ("images/a.jpg", "wheel")),
        ("masks/a_wheel.png", ("images/a.jpg", "wheel")),
        ("masks/city/b_wheel.png", ("images/city/b.jpg", "wheel")),
        ("masks/other.png", None),
        ("5/masks/anything.png", ("5/images/5.jpg", "object")),
    ],
)
def test_whose_mask_it_is(name: str, found: tuple[str, str] | None) -> None:
    images = ("images/a.jpg", "images/city/b.jpg", "5/images/5.jpg")
    assert owner_and_class(name, {image.removesuffix(".jpg"): image for image in images}) == found
