"""Exports that hold masks as pictures: Roboflow, VOC, CVAT's masks, ADE20K and Cityscapes."""

import json
from pathlib import Path
from typing import Any

import annotated
import numpy as np
import pytest
from annotated import TREE, masks
from numpy.typing import NDArray
from PIL import Image
from tiny_data import save

from stpp.common.errors import Problems, StppError
from stpp.data.classes import CITYSCAPES, VOC_CLASSES
from stpp.importers import ade20k, cityscapes_ids, roboflow, voc_masks
from stpp.store.masks import voc_palette, write_palette_png

# --- Roboflow ---------------------------------------------------------------------------------------------------------


def write_roboflow(folder: Path, table: str = "Pixel Value,  Class\n0, background\n1, tree\n2, house\n") -> Path:
    for name in ("train/hill", "train/moor", "valid/lake"):
        annotated.image(folder / f"{name}.jpg")
    for name in ("train/hill", "valid/lake"):
        save(folder / f"{name}_mask.png", annotated.mask())
        (folder / name).with_name("_classes.csv").write_text(table)
    return folder


def test_masks_of_roboflow_are_read_by_its_table(tmp_path: Path) -> None:
    export = roboflow.find(write_roboflow(tmp_path), None)
    assert export.classes == ["background", "tree", "house"]
    found = masks(export)
    assert (found["train/hill"] == annotated.mask()).all() and (found["valid/lake"] == annotated.mask()).all()
    assert found["train/moor"] is None
    assert (masks(roboflow.find(tmp_path, ["background", "house", "tree"]))["train/hill"] == annotated.mask(2, 1)).all()


def test_what_is_wrong_with_an_export_of_roboflow_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problems, match="the value 2 is not a class"):
        roboflow.find(write_roboflow(tmp_path, "Pixel Value, Class\n0, background\n1, tree\n"), None)
    (tmp_path / "train/_classes.csv").write_text("Pixel Value, Class\n0, background\n2, tree\n1, house\n")
    with pytest.raises(Problems, match="tables of classes that differ"):
        roboflow.find(tmp_path, None)
    with pytest.raises(Problems, match="not a table of pixel values"):
        roboflow.find(write_roboflow(tmp_path, "Pixel Value, Class\nbackground\n"), None)
    with pytest.raises(Problems, match="no class for the label tree"):
        roboflow.find(write_roboflow(tmp_path), ["background", "house"])
    annotated.image(tmp_path / "train/hill.jpg", (5, 5))
    with pytest.raises(Problems, match=r"another size than its image(.|\n)*hill_mask"):
        roboflow.find(tmp_path, None)
    (tmp_path / "train/hill.jpg").unlink()
    with pytest.raises(Problems, match=r"a mask whose image is not below(.|\n)*hill_mask"):
        roboflow.find(tmp_path, None)
    with pytest.raises(StppError, match=r"there is no _classes\.csv"):
        roboflow.find(tmp_path / "test", None)


# --- VOC and CVAT -----------------------------------------------------------------------------------------------------

LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ntree:0,128,0::\nhouse:200,0,0::\n"


def write_masks(folder: Path, pixels: NDArray[np.uint8] | None = None) -> Path:
    """Masks by colour, as CVAT writes them, and an image without one."""
    colours = np.array([[0, 0, 0], [0, 128, 0], [200, 0, 0]], np.uint8)
    save(folder / "SegmentationClass/deep/hill.png", colours[annotated.mask()] if pixels is None else pixels)
    (folder / "labelmap.txt").write_text(LABEL_MAP)
    for name in ("deep/hill", "moor"):
        annotated.image(folder / f"JPEGImages/{name}.jpg")
    return folder


def test_masks_of_cvat_are_read_by_the_colours_of_its_label_map(tmp_path: Path) -> None:
    export = voc_masks.find(write_masks(tmp_path), None)
    assert export.classes == ["background", "tree", "house"]
    assert export.palette == [[0, 0, 0], [0, 128, 0], [200, 0, 0]]
    found = masks(export)
    assert (found["deep/hill"] == annotated.mask()).all() and found["moor"] is None
    (tmp_path / "labelmap.txt").write_text(LABEL_MAP.replace("house", "__ignore__"))
    export = voc_masks.find(tmp_path, None)
    assert (masks(export)["deep/hill"] == annotated.mask(house=255)).all() and export.classes == ["background", "tree"]
    (tmp_path / "labelmap.txt").write_text(LABEL_MAP.replace("background", "__ignore__"))  # also where it comes first
    export = voc_masks.find(tmp_path, None)
    assert (masks(export)["deep/hill"] == annotated.mask(0, 1, 255)).all() and export.classes == ["tree", "house"]
    assert export.palette == [[0, 128, 0], [200, 0, 0]]


def test_masks_of_voc_are_read_by_their_numbers(tmp_path: Path) -> None:
    write_masks(tmp_path)
    (tmp_path / "labelmap.txt").unlink()
    write_palette_png(annotated.mask(15, 20, 255), voc_palette(21), tmp_path / "SegmentationClass/deep/hill.png")
    export = voc_masks.find(tmp_path, None)
    assert export.classes == VOC_CLASSES and export.palette == voc_palette(21)
    assert (masks(export)["deep/hill"] == annotated.mask(15, 20, 255)).all()


def test_what_is_wrong_with_masks_is_named(tmp_path: Path) -> None:
    colours = np.zeros((*annotated.SIZE, 3), np.uint8)
    colours[0, 0] = 1, 2, 3
    with pytest.raises(Problems, match="the colour #010203 is not a class"):
        voc_masks.find(write_masks(tmp_path, colours), None)
    (tmp_path / "labelmap.txt").write_text("background\ntree\n")
    with pytest.raises(Problems, match="not a label map"):
        voc_masks.find(tmp_path, None)
    (tmp_path / "labelmap.txt").write_text("a:0,0,0::\nb:0,0,0::\n")
    with pytest.raises(Problems, match="two labels with the colour #000000"):
        voc_masks.find(tmp_path, None)
    (write_masks(tmp_path) / "SegmentationClass/deep/hill.png").write_bytes(b"no mask")
    with pytest.raises(Problems, match=r"hill\.png"):
        voc_masks.find(tmp_path, None)
    with pytest.raises(StppError, match=r"there is no SegmentationClass"):
        voc_masks.find(tmp_path / "nowhere", None)


# --- ADE20K -----------------------------------------------------------------------------------------------------------

TABLE = "Idx\tRatio\tTrain\tVal\tStuff\tName\n2\t0.1\t1\t1\t0\thouse\n1\t0.2\t1\t1\t1\ttree, plant\n"


def test_masks_of_ade20k_count_from_1(tmp_path: Path) -> None:
    for subset in ("training", "validation"):
        annotated.image(tmp_path / f"images/{subset}/hill.jpg")
        save(tmp_path / f"annotations/{subset}/hill.png", annotated.mask(1, 2, 0))
    with pytest.raises(StppError, match=r"there is no .*objectInfo150\.txt"):
        ade20k.find(tmp_path, None)
    (tmp_path / "objectInfo150.txt").write_text(TABLE)
    export = ade20k.find(tmp_path, None)
    assert export.classes == ["tree", "house"]
    assert all((mask == annotated.mask(0, 1, 255)).all() for mask in masks(export).values())
    assert masks(export).keys() == {"training/hill", "validation/hill"}
    with pytest.raises(Problems, match="the value 2 is not a class"):
        ade20k.find(tmp_path, ["tree"])
    (tmp_path / "objectInfo150.txt").write_text("1 tree\n")
    with pytest.raises(Problems, match="not a table with the columns Idx and Name"):
        ade20k.find(tmp_path, None)


# --- Cityscapes -------------------------------------------------------------------------------------------------------


def write_city(folder: Path, polygons: list[dict[str, Any]] | None = None, height: int = 8) -> Path:
    """One image with numbers, and one with polygons."""
    for name in ("train/ulm/ulm_1", "val/bonn/bonn_2"):
        annotated.image(folder / f"leftImg8bit/{name}_leftImg8bit.png")
        (folder / f"gtFine/{name}").parent.mkdir(parents=True, exist_ok=True)
    save(folder / "gtFine/train/ulm/ulm_1_gtFine_labelIds.png", annotated.mask(21, 11, 1))
    content = {"imgHeight": height, "imgWidth": 10, "objects": polygons or []}
    (folder / "gtFine/val/bonn/bonn_2_gtFine_polygons.json").write_text(json.dumps(content))
    return folder


def test_numbers_and_polygons_of_cityscapes_become_those_that_are_trained_on(tmp_path: Path) -> None:
    tree = {"label": "vegetation", "polygon": TREE}
    house = {"label": "cargroup", "polygon": annotated.HOUSE}
    gone = {"label": "road", "polygon": [[0, 0], [9, 0], [9, 7]], "deleted": 1}
    export = cityscapes_ids.find(write_city(tmp_path, [tree, house, gone]), None)
    assert export.classes == list(CITYSCAPES) and export.palette == list(CITYSCAPES.values())
    found = masks(export)
    assert (found["train/ulm/ulm_1"] == annotated.mask(8, 2, 255)).all()
    assert (found["val/bonn/bonn_2"] == annotated.mask(8, 13, 255)).all()
    found = masks(cityscapes_ids.find(tmp_path, ["building", "vegetation"]))
    assert (found["train/ulm/ulm_1"] == annotated.mask(1, 0, 255)).all()
    assert (found["val/bonn/bonn_2"] == annotated.mask(1, 255, 255)).all()


def test_the_numbers_are_those_of_the_scripts() -> None:
    assert [cityscapes_ids.IDS[id_] for id_ in (7, 11, 17, 24, 26, 31, 33)] == [
        *("road", "building", "pole", "person", "car", "train", "bicycle")
    ]


def test_what_is_wrong_with_cityscapes_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problems, match="tree is not a class of Cityscapes"):
        cityscapes_ids.find(write_city(tmp_path), ["tree"])
    with pytest.raises(Problems, match="another size than when it was annotated"):
        cityscapes_ids.find(write_city(tmp_path, height=9), None)
    with pytest.raises(Problems, match="a polygon is broken"):
        cityscapes_ids.find(write_city(tmp_path, [{"label": "car", "polygon": TREE[:2]}]), None)
    (write_city(tmp_path) / "leftImg8bit/train/ulm/ulm_1_leftImg8bit.png").unlink()
    with pytest.raises(Problems, match=r"not below(.|\n)*ulm_1_leftImg8bit"):
        cityscapes_ids.find(tmp_path, None)
    with pytest.raises(StppError, match="there is no gtFine"):
        cityscapes_ids.find(tmp_path / "leftImg8bit", None)


def test_an_import_without_a_mask_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_classes.csv").write_text("Pixel Value, Class\n0, background\n")
    Image.new("RGB", (3, 3)).save(tmp_path / "a.jpg")
    with pytest.raises(Problems, match="no image has a mask"):
        roboflow.find(tmp_path, None)
