"""Files of labelme against masks that are drawn pixel by pixel, and what is wrong with a file."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stpp.commands.cli import main
from stpp.common.errors import Problems, StppError
from stpp.importers.labelme import find


def encoded(pixels: np.ndarray) -> str:
    """A picture as base64 of a PNG."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return base64.b64encode(content.getvalue()).decode()


def shape(label: str, kind: str, *points: tuple[float, float], **more: Any) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": [list(point) for point in points], **more}


def annotate(path: Path, *shapes: dict[str, Any], size: tuple[int, int] = (8, 10), **changes: Any) -> None:
    """Write a file of labelme, and its image beside it."""
    height, width = size
    image = path.with_suffix(".jpg")
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (9, 9, 9)).save(image)
    content = {"imagePath": image.name, "imageData": None, "imageHeight": height, "imageWidth": width}
    path.write_text(json.dumps(content | {"shapes": list(shapes)} | changes))


def test_shapes_are_drawn_in_their_order(tmp_path: Path) -> None:
    annotate(
        tmp_path / "deep/a.json",
        shape("tree", "rectangle", (1, 1), (6, 5)),
        shape("house", "rectangle", (8, 3), (4, 2)),  # from its other corner
        shape("tree", "point", (0, 0)),
    )
    export = find(tmp_path, None)
    assert export.classes == ["background", "house", "tree"]
    assert [(item.name, item.suffix) for item in export.images] == [("deep/a", ".jpg")]
    assert export.left_out == ["1 of shape point, which has no area"]
    expected = np.zeros((8, 10), np.uint8)
    expected[1:6, 1:7] = 2
    expected[2:4, 4:9] = 1
    assert (export.images[0].draw() == expected).all()


def test_a_circle_covers_the_pixels_within_its_radius(tmp_path: Path) -> None:
    annotate(tmp_path / "a.json", shape("sun", "circle", (20, 20), (29, 20)), size=(41, 41))
    mask = find(tmp_path, None).images[0].draw()
    y, x = np.mgrid[:41, :41]
    distance = np.hypot(x - 20, y - 20)
    assert (mask[distance < 8.5] == 1).all()
    assert (mask[distance > 10] == 0).all()


def test_a_polygon_covers_what_lies_within_it(tmp_path: Path) -> None:
    annotate(tmp_path / "a.json", shape("roof", "polygon", (2, 2), (30, 2), (2, 30)), size=(40, 40))
    mask = find(tmp_path, None).images[0].draw()
    y, x = np.mgrid[:40, :40]
    inside = np.minimum(np.minimum(x - 2, y - 2), (32 - x - y) / np.sqrt(2))
    assert (mask[inside > 1] == 1).all()
    assert (mask[inside < -1] == 0).all()


def test_a_mask_is_pasted_at_its_corner_and_ignored_pixels_are_255(tmp_path: Path) -> None:
    blob = np.array([[255, 0], [255, 255]], np.uint8)
    annotate(
        tmp_path / "a.json",
        shape("blob", "mask", (3, 2), (4, 3), mask=encoded(blob)),
        shape("__ignore__", "rectangle", (0, 0), (1, 0)),
        shape("_background_", "rectangle", (9, 7), (9, 7)),
    )
    export = find(tmp_path, None)
    expected = np.zeros((8, 10), np.uint8)
    expected[2, 3], expected[3, 3:5], expected[0, :2] = 1, 1, 255
    assert (export.images[0].draw() == expected).all()
    assert export.classes == ["background", "blob"]


def test_a_mask_of_zeros_and_ones_is_read_as_labelme_writes_it(tmp_path: Path) -> None:
    blob = np.array([[1, 0], [1, 1]], np.uint8)
    annotate(tmp_path / "a.json", shape("blob", "mask", (3, 2), (4, 3), mask=encoded(blob)))
    assert (find(tmp_path, None).images[0].draw()[2:4, 3:5] == blob).all()


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    annotate(tmp_path / "in/deep/a.json", shape("x", "rectangle", (0, 0), (1, 1)))
    (tmp_path / "photos/deep").mkdir(parents=True)
    (tmp_path / "in/deep/a.jpg").rename(tmp_path / "photos/deep/a.jpg")
    (item,) = find(tmp_path / "in", None, tmp_path / "photos").images
    assert item.image == tmp_path / "photos/deep/a.jpg" and item.name == "deep/a"
    with pytest.raises(Problems, match=r"there is no image a\.jpg"):
        find(tmp_path / "in", None)


def test_an_image_may_lie_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.arange(80, dtype=np.uint8).reshape(8, 10)
    annotate(tmp_path / "in/a.json", shape("x", "rectangle", (0, 0), (1, 1)), imageData=encoded(pixels))
    (tmp_path / "in/a.jpg").unlink()
    assert main(["import", "labelme", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out/images/a.jpg") as image:
        assert (np.asarray(image) == pixels).all()
    assert (tmp_path / "out/classes.txt").read_text() == "background\nx\n"
    said = capsys.readouterr().out
    assert f"\n  stpp new {tmp_path / 'out'}\n" in said and "layout: folder" in said


def test_the_classes_may_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotate(tmp_path / "in/a.json", shape("b", "rectangle", (0, 0), (9, 7)))
    classes = tmp_path / "names.txt"
    classes.write_text("sky\na\nb\n")
    words = ["import", "labelme", str(tmp_path / "in"), "--classes", str(classes), "--link"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out/masks/a.png") as mask:
        assert (np.asarray(mask) == 2).all()
    assert (tmp_path / "out/images/a.jpg").readlink() == (tmp_path / "in/a.jpg").resolve()
    classes.write_text("sky\na\n")
    assert main([*words, "--out", str(tmp_path / "other")]) == 1
    assert "no class for the label b; the classes are sky, a" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_images_without_a_shape_are_background_and_said(tmp_path: Path) -> None:
    annotate(tmp_path / "a.json")
    annotate(tmp_path / "b.json", shape("x", "rectangle", (0, 0), (1, 1)))
    export = find(tmp_path, None)
    assert not export.images[0].draw().any()
    assert export.left_out == ["1 file without a shape, all background in the mask"]


BROKEN: dict[str, Callable[[Path], object]] = {
    "not a valid file of labelme": lambda path: path.write_text("{"),
    "KeyError: 'imageHeight'": lambda path: path.write_text('{"shapes": []}'),
    "a polygon with 2 points": lambda path: annotate(path, shape("x", "polygon", (0, 0), (1, 1))),
    "a point that is not a number": lambda path: annotate(path, shape("x", "rectangle", (0, float("nan")), (1, 1))),
    "an image of 0 x 8 pixels": lambda path: annotate(path, imageWidth=0),
    "a mask that is not a PNG": lambda path: annotate(path, shape("x", "mask", (0, 0), (1, 1), mask="AAAA")),
    "a label or shape_type that is not text": lambda path: annotate(path, shape("x", "line") | {"label": 3}),
    "there is no image": lambda path: annotate(path, imagePath="elsewhere.jpg"),
    "another size": lambda path: annotate(path, imageWidth=9),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, reason: str) -> None:
    BROKEN[reason](tmp_path / "broken.json")
    annotate(tmp_path / "sound.json", shape("x", "rectangle", (0, 0), (1, 1)))
    with pytest.raises(Problems, match=reason) as found:
        find(tmp_path, None)
    assert [problem for problem in found.value.problems if "broken" not in problem] == []


def test_a_folder_without_files_of_labelme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StppError, match=r"there is no \*\.json in"):
        find(tmp_path, None)
