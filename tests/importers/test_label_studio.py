"""Exports of Label Studio against masks that are drawn pixel by pixel."""

import json
from pathlib import Path
from typing import Any

import annotated
import numpy as np
import pytest
from annotated import HEIGHT, TREE, WIDTH, masks
from hypothesis import given
from hypothesis.extra.numpy import arrays
from PIL import Image

from stpp.common.errors import Problems, StppError
from stpp.importers.label_studio import decoded, encoded, find


def region(kind: str, label: str, **value: Any) -> dict[str, Any]:
    sizes = {"original_width": WIDTH, "original_height": HEIGHT}
    return {"type": kind, "from_name": "label", "to_name": "image", "value": value | {kind: [label]}} | sizes


def percent(ring: list[tuple[float, float]]) -> list[list[float]]:
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in ring]


TREE_REGION = region("polygonlabels", "tree", points=percent(TREE))
HOUSE_REGION = region("brushlabels", "house", format="rle", rle=encoded(annotated.house_pixels()))


def task(image: str, *annotations: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    made = [{"result": result, "was_cancelled": False} for result in annotations]
    return {"id": 1, "data": {"image": image}, "annotations": made} | more


def write(folder: Path, *tasks: dict[str, Any]) -> Path:
    """A JSON export beside its images."""
    for name in ("hill.jpg", "valley.jpg"):
        annotated.image(folder / "photos" / name)
    (folder / "project.json").write_text(json.dumps(tasks))
    return folder / "project.json"


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/1/8a3f9c2e-hill.jpg",
        "/data/upload/1/hill.jpg",
        "/data/local-files/?d=photos/hill.jpg",
        "s3://bucket/deep/hill.jpg",
        "https://example.org/x/hill.jpg?signature=a.b",
        "hill.jpg",
    ],
)
def test_regions_are_drawn_in_their_order_on_the_image_of_the_address(address: str, tmp_path: Path) -> None:
    points = region("keypointlabels", "tree", x=1, y=1)
    write(tmp_path, task(address, [TREE_REGION, HOUSE_REGION, points]), task("valley.jpg"))
    export = find(tmp_path / "project.json", None)
    assert export.classes == ["background", "house", "tree"]
    (hill, valley) = masks(export).values()
    assert (hill == annotated.mask(2, 1)).all() and valley is None
    assert [item.image for item in export.images] == [tmp_path / f"photos/{name}.jpg" for name in ("hill", "valley")]
    assert export.left_out == ["1 of type keypointlabels, which has no area"]


def test_the_last_annotation_that_was_not_cancelled_counts(tmp_path: Path) -> None:
    one = task("hill.jpg", [HOUSE_REGION], [TREE_REGION], [HOUSE_REGION])
    one["annotations"][2]["was_cancelled"] = True
    two = task("valley.jpg") | {"predictions": [{"result": [TREE_REGION]}]}
    export = find(write(tmp_path, one, two), None)
    assert all((mask == annotated.tree_pixels()).all() for mask in masks(export).values())
    assert export.left_out == ["1 annotations of tasks that have a later one"]
    empty = find(write(tmp_path, task("hill.jpg", [])), None)
    assert (masks(empty)["hill"] == 0).all()


def test_rectangles_and_ellipses_are_drawn(tmp_path: Path) -> None:
    box = {"x": 10, "y": 12.5, "width": 50, "height": 50}
    export = find(write(tmp_path, task("hill.jpg", [region("rectanglelabels", "tree", **box)])), None)
    assert (masks(export)["hill"] == annotated.tree_pixels()).all()
    turned = {"x": 60, "y": 12.5, "width": 40, "height": 62.5, "rotation": 90}  # 4 x 5 px around (6, 1)
    export = find(write(tmp_path, task("hill.jpg", [region("rectanglelabels", "tree", **turned)])), None)
    assert (masks(export)["hill"] == annotated.tree_pixels()).all()
    round_ = {"x": 45, "y": 56.25, "radiusX": 30, "radiusY": 37.5}
    found = masks(find(write(tmp_path, task("hill.jpg", [region("ellipselabels", "tree", **round_)])), None))["hill"]
    assert found is not None and found[4, 2] == found[2, 4] == 1 and found[1, 1] == found[7, 7] == 0


@given(arrays(bool, (5, 7)))
def test_brush_strokes_come_back(pixels: np.ndarray) -> None:
    assert (decoded(bytes(encoded(pixels)), 5, 7) == pixels).all()


def test_long_brush_strokes_come_back() -> None:
    pixels = np.zeros((300, 400), bool)
    pixels[100:] = True
    assert (decoded(bytes(encoded(pixels)), 300, 400) == pixels).all()


def test_a_brush_stroke_that_was_packed_by_hand() -> None:
    """Four pixels, of which two are covered: values of 8 bits, lengths of 4, 5, 9 and 16 bits."""
    bits = f"{16:032b}" + f"{7:05b}" + f"{3:04b}{4:04b}{8:04b}{15:04b}"
    bits += "1" + "00" + f"{3:04b}" + f"{0:08b}"  # 4 values 0
    bits += "0" + "01" + f"{7:05b}" + f"{200:08b}" * 8  # 8 values, one by one
    bits += "1" + "11" + f"{3:016b}" + f"{0:08b}"
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    assert decoded(bytes(packed), 2, 2).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rle": encoded(annotated.house_pixels())[:-9]}, "ends early"),
        ({"rle": encoded(np.ones((3, 3), bool))}, "RLE of 36 values"),
        ({"rle": [1, 2, 300]}, "is broken"),
        ({"rle": None}, "TypeError"),
        ({"brushlabels": []}, "is broken"),
    ],
)
def test_a_broken_brush_stroke_is_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    broken = HOUSE_REGION | {"value": HOUSE_REGION["value"] | changes}
    with pytest.raises(Problems, match=said) as found:
        find(write(tmp_path, task("hill.jpg", [broken])), None)
    assert len(found.value.problems) == 1


def test_what_is_no_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problems, match="not a valid JSON export of Label Studio"):
        find(write(tmp_path, {"image": "hill.jpg", "brush": []}), None)
    with pytest.raises(Problems, match="no size of the image"):
        find(write(tmp_path, task("hill.jpg", [TREE_REGION | {"original_width": None}])), None)
    with pytest.raises(Problems, match="not below"):
        find(write(tmp_path, task("/data/upload/1/lake.jpg", [TREE_REGION])), None)


# --- PNG files --------------------------------------------------------------------------------------------------------


def write_strokes(folder: Path) -> Path:
    """Brush labels of two tasks, and the folder of their images."""
    (folder / "png").mkdir(parents=True)
    for name, pixels in {
        "task-9-annotation-4-by-1-tag-tree-0": annotated.tree_pixels(),
        "task-9-annotation-4-by-1-tag-house-1": annotated.house_pixels(),
        "task-12-annotation-5-by-1-tag-front_glass-0": annotated.tree_pixels(),
    }.items():
        Image.fromarray(pixels * np.uint8(255)).save(folder / f"png/{name}.png")
    for image in ("a.jpg", "b.jpg"):
        annotated.image(folder / "photos" / image)
    return folder / "png"


def test_tasks_of_png_files_are_taken_for_images_in_their_order_and_said(tmp_path: Path) -> None:
    export = find(write_strokes(tmp_path), None, tmp_path / "photos")
    assert export.classes == ["background", "front_glass", "house", "tree"]
    found = masks(export)
    assert (found["a"] == annotated.mask(3, 2)).all() and (found["b"] == annotated.tree_pixels()).all()
    assert "task 9 is a.jpg, task 12 is b.jpg. Check them" in export.remarks[0]


def test_tasks_that_may_be_of_other_images_are_refused(tmp_path: Path) -> None:
    source = write_strokes(tmp_path)
    annotated.image(tmp_path / "photos/b.jpg", (5, 5))
    with pytest.raises(Problems, match=r"another size(.|\n)*b\.jpg"):
        find(source, None, tmp_path / "photos")
    annotated.image(tmp_path / "photos/c.jpg")
    with pytest.raises(StppError, match=r"of 2 tasks, but there are 3 images in .*photos"):
        find(source, None, tmp_path / "photos")
