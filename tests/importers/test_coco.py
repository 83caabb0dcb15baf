"""COCO files against masks that are drawn pixel by pixel, and RLE against pycocotools."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import annotated
import numpy as np
import pytest
from annotated import HOUSE, SIZE, TREE, flat, masks
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stpp.commands.cli import main
from stpp.common.errors import Problems, StppError
from stpp.importers.coco import find, packed, unpacked
from stpp.importers.drawing import runs_of

CATEGORIES = [{"id": 7, "name": "house"}, {"id": 3, "name": "tree"}]
TREE_SHAPE = {"image_id": 1, "category_id": 3, "segmentation": [flat(TREE)]}
HOUSE_SHAPE = {"image_id": 1, "category_id": 7, "segmentation": [flat(HOUSE)]}


def write(folder: Path, *annotations: dict[str, Any], categories: Any = CATEGORIES, **changes: Any) -> Path:
    """A file of COCO beside a folder with its images, of which the second one is annotated by nobody."""
    listed = []
    for id_, name in enumerate(("hill", "valley"), start=1):
        annotated.image(folder / f"images/{name}.jpg")
        listed.append({"id": id_, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]})
    listed[0] |= changes
    content = {"images": listed, "annotations": list(annotations), "categories": categories, "info": {}}
    (folder / "all.json").write_text(json.dumps(content))
    return folder / "all.json"


def test_annotations_are_drawn_in_their_order_and_classes_are_ordered_by_id(tmp_path: Path) -> None:
    export = find(write(tmp_path, TREE_SHAPE, HOUSE_SHAPE), None)
    assert export.classes == ["background", "tree", "house"]
    found = masks(export)
    assert (found["hill"] == annotated.mask()).all()
    assert found["valley"] is None
    assert export.remarks == ["1 image without a shape: unlabeled, with no mask"]
    assert [item.image for item in export.images] == [tmp_path / "images/hill.jpg", tmp_path / "images/valley.jpg"]
    assert (masks(find(tmp_path / "all.json", None))["hill"] == annotated.mask()).all()


def test_runs_packed_or_not_are_column_by_column(tmp_path: Path) -> None:
    runs = runs_of(annotated.tree_pixels().T)
    assert runs[0] == SIZE[0] + 1  # the first column, and the first pixel of the second
    listed = TREE_SHAPE | {"segmentation": {"size": list(SIZE), "counts": runs}}
    text = HOUSE_SHAPE | {"segmentation": {"size": list(SIZE), "counts": packed(runs_of(annotated.house_pixels().T))}}
    assert (masks(find(write(tmp_path, listed, text), None))["hill"] == annotated.mask()).all()


@given(st.lists(st.integers(0, 2**30), min_size=1, max_size=20))
def test_packed_runs_come_back(runs: list[int]) -> None:
    assert unpacked(packed(runs)) == runs


def test_packed_runs_are_those_of_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for share in (0, 0.02, 0.5, 1):
        pixels = rng.random((37, 53)) < share
        theirs = coco.encode(np.asfortranarray(pixels, np.uint8))["counts"].decode()
        assert packed(runs_of(pixels.T)) == theirs
        assert unpacked(theirs) == runs_of(pixels.T)


def test_a_category_may_be_the_background_and_one_may_be_ignored(tmp_path: Path) -> None:
    categories = [
        {"id": 1, "name": "_background_"},
        {"id": 2, "name": "Background"},
        {"id": 3, "name": "tree"},
        {"id": 7, "name": "__ignore__"},
    ]
    export = find(write(tmp_path, TREE_SHAPE, HOUSE_SHAPE, categories=categories), None)
    assert export.classes == ["background", "tree"]
    assert (masks(export)["hill"] == annotated.mask(house=255)).all()


def test_crowds_are_ignored_below_all_others_and_boxes_left_out(tmp_path: Path) -> None:
    boxes = [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 3, 3], "segmentation": none} for none in ([], None)]
    export = find(write(tmp_path, HOUSE_SHAPE, TREE_SHAPE | {"iscrowd": 1}, *boxes), None)
    assert (masks(export)["hill"] == annotated.mask(tree=255)).all()
    assert export.left_out == [
        "1 crowd regions, drawn as 255",
        "2 annotations without a segmentation, such as boxes",
    ]


def test_the_classes_may_be_given(tmp_path: Path) -> None:
    file = write(tmp_path, TREE_SHAPE, HOUSE_SHAPE)
    assert (masks(find(file, ["sky", "house", "tree"]))["hill"] == annotated.mask(tree=2, house=1)).all()
    with pytest.raises(Problems, match="no class for the label house; the classes are sky, tree"):
        find(file, ["sky", "tree"])


def test_a_folder_may_hold_several_files(tmp_path: Path) -> None:
    write(tmp_path / "one", TREE_SHAPE)
    (tmp_path / "one/images/valley.jpg").rename(tmp_path / "one/images/lake.jpg")
    content = json.loads(write(tmp_path / "two", HOUSE_SHAPE).read_text())
    content["images"] = [content["images"][0] | {"file_name": "lake.jpg"}]
    (tmp_path / "two/all.json").write_text(json.dumps(content))
    content = json.loads((tmp_path / "one/all.json").read_text())
    content["images"].pop()
    (tmp_path / "one/all.json").write_text(json.dumps(content))
    for name in ("hill", "valley"):
        (tmp_path / f"two/images/{name}.jpg").unlink()
    assert masks(find(tmp_path, None)).keys() == {"hill", "lake"}
    content["categories"] = [{"id": 3, "name": "bush"}]
    (tmp_path / "one/all.json").write_text(json.dumps(content))
    with pytest.raises(Problems, match="category 3 is bush in one file and another here"):
        find(tmp_path, None)


RLE = {"size": list(SIZE), "counts": runs_of(annotated.tree_pixels().T)}
BROKEN: dict[str, Callable[[Path], object]] = {
    "not a valid file of COCO": lambda folder: write(folder).write_text("[]"),
    "images.0.file_name: Field required": lambda folder: write(folder).write_text(
        '{"images": [{"id": 1}], "annotations": [], "categories": []}'
    ),
    "of an image that the file does not list: 9 in ": lambda folder: write(folder, TREE_SHAPE | {"image_id": 9}),
    "with a category that the file does not list: 9 in ": lambda folder: write(folder, TREE_SHAPE | {"category_id": 9}),
    "a polygon with 2 corners": lambda folder: write(folder, TREE_SHAPE | {"segmentation": [[1, 2, 3, 4]]}),
    "odd number": lambda folder: write(folder, TREE_SHAPE | {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}),
    "not a list of numbers": lambda folder: write(folder, TREE_SHAPE | {"segmentation": [[1, 2, 3, 4, 5, None]]}),
    "neither polygons nor RLE": lambda folder: write(folder, TREE_SHAPE | {"segmentation": "x"}),
    "in an image of another size": lambda folder: write(folder, TREE_SHAPE | {"segmentation": RLE | {"size": [9, 9]}}),
    "do not fill": lambda folder: write(folder, TREE_SHAPE | {"segmentation": RLE | {"counts": [3]}}),
    "that COCO does not use": lambda folder: write(folder, TREE_SHAPE | {"segmentation": RLE | {"counts": "\t"}}),
    "ends early": lambda folder: write(folder, TREE_SHAPE | {"segmentation": RLE | {"counts": "o"}}),
    "RLE without counts": lambda folder: write(folder, TREE_SHAPE | {"segmentation": RLE | {"counts": None}}),
    "another size than when it was annotated": lambda folder: write(folder, height=99),
    "not below": lambda folder: write(folder, file_name="elsewhere.jpg"),
    "not that of a file in a folder": lambda folder: write(folder, file_name="../../secret.jpg"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_is_wrong_is_named(reason: str, tmp_path: Path) -> None:
    BROKEN[reason](tmp_path)
    with pytest.raises(Problems, match=reason) as found:
        find(tmp_path / "all.json", None)
    assert len(found.value.problems) == 1


def test_many_annotations_with_one_mistake_are_one_problem(tmp_path: Path) -> None:
    file = write(tmp_path, *[TREE_SHAPE | {"category_id": 9}] * 40)
    with pytest.raises(Problems, match="40 times") as found:
        find(file, None)
    assert len(found.value.problems) == 1
    with pytest.raises(StppError, match=r"there is no \*\.json"):
        find(tmp_path / "images", None)


def test_an_archive_is_to_be_unpacked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("all.json", "{}")
    assert main(["import", "coco", str(tmp_path / "export.zip"), "--out", str(tmp_path / "out")]) == 1
    assert "is a ZIP archive; unpack it" in capsys.readouterr().err


def test_an_import_writes_a_data_set_with_names_colours_and_links(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, classes = write(tmp_path / "in", TREE_SHAPE, HOUSE_SHAPE), tmp_path / "names.txt"
    classes.write_text("background #010203\ntree #040506\nhouse #070809\n")
    words = ["import", "coco", str(file), "--classes", str(classes), "--link", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 images and 1 mask in ") and "note: 1 image without a shape" in said
    assert (tmp_path / "out/classes.txt").read_text() == classes.read_text()
    assert (tmp_path / "out/images/hill.jpg").readlink() == (tmp_path / "in/images/hill.jpg").resolve()
    with Image.open(tmp_path / "out/masks/hill.png") as mask:
        assert (np.asarray(mask) == annotated.mask()).all()
        assert mask.getpalette()[:9] == list(range(1, 10))
    assert not (tmp_path / "out/masks/valley.png").exists()


@pytest.mark.parametrize("name", ["", " tree", "#tree", "tr\nee", "tree #123456"])
def test_a_name_that_a_text_file_cannot_hold_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "in", TREE_SHAPE, categories=[{"id": 3, "name": name}])
    assert main(["import", "coco", str(file), "--out", str(tmp_path / "out")]) == 1
    assert "rename it in the annotation tool" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- panoptic ---------------------------------------------------------------------------------------------------------


def write_panoptic(folder: Path, ids: np.ndarray, **changes: Any) -> Path:
    """A panoptic file, and the PNG with the numbers of the segments."""
    segments = [
        {"id": 70_000, "category_id": 7},
        {"id": 300, "category_id": 3},
        {"id": 5, "category_id": 7, "iscrowd": 1},
    ]
    annotation = {"image_id": 1, "file_name": "hill.png", "segments_info": segments} | changes
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
    (folder / "all").mkdir(parents=True)
    Image.fromarray(colours).save(folder / "all/hill.png")
    categories = [{"id": 7, "name": "house", "color": [1, 2, 3]}, {"id": 3, "name": "tree", "color": [4, 5, 6]}]
    return write(folder, annotation, categories=categories)


def test_panoptic_segments_become_their_categories(tmp_path: Path) -> None:
    ids = np.where(annotated.house_pixels(), 70_000, np.where(annotated.tree_pixels(), 300, 0))
    ids[0, 0] = 5
    export = find(write_panoptic(tmp_path, ids), None)
    assert export.classes == ["tree", "house"] and export.palette == [(4, 5, 6), (1, 2, 3)]
    expected = annotated.mask(tree=0, house=1, ground=255)
    assert (masks(export)["hill"] == expected).all()
    assert export.left_out == ["1 crowd regions, drawn as 255"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"file_name": "../all/hill.png"}, "no PNG file of an image"),
        ({"file_name": "lake.png"}, "no PNG file of an image"),
        ({"segments_info": [{"id": 1, "category_id": 4}]}, "no class for category 4"),
    ],
)
def test_what_is_wrong_with_a_panoptic_file_is_named(changes: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(Problems, match=said):
        find(write_panoptic(tmp_path, annotated.mask().astype(int), **changes), None)
