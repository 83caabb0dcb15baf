"""Supervisely projects against masks that are drawn pixel by pixel."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import annotated
import pytest
from annotated import TREE, masks

from stpp.common.errors import Problems, StppError
from stpp.importers.drawing import to_png
from stpp.importers.supervisely import find


def points(ring: list[tuple[float, float]], *holes: list[tuple[float, float]]) -> dict[str, Any]:
    return {"exterior": ring, "interior": list(holes)}


TREE_OBJECT = {"classTitle": "tree", "geometryType": "polygon", "points": points(TREE)}
PIXELS = base64.b64encode(zlib.compress(to_png(annotated.house_pixels()[2:4, 4:9]))).decode()
HOUSE_OBJECT = {"classTitle": "house", "geometryType": "bitmap", "bitmap": {"data": PIXELS, "origin": [4, 2]}}


def write(folder: Path, *objects: dict[str, Any], width: int = 10) -> Path:
    """A project of two data sets with images of the same name, a file without objects, and an image without a file."""
    classes = [{"title": "tree", "shape": "any", "color": "#00ff00"}, {"title": "house", "color": "#FF0000"}]
    for name in ("ds0/{}/hill.jpg", "ds1/{}/hill.jpg", "ds1/{}/lake.jpg", "ds1/{}/moor.jpg"):
        annotated.image(folder / name.format("img"))
        file = folder / f"{name.format('ann')}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        here = objects if "ds0" in name else [TREE_OBJECT] if "hill" in name else []
        if "moor" not in name:
            file.write_text(json.dumps({"size": {"height": 8, "width": width}, "objects": here}))
    (folder / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    return folder


def test_objects_are_drawn_in_their_order_with_the_colours_of_the_project(tmp_path: Path) -> None:
    line = {"classTitle": "tree", "geometryType": "line", "points": points(TREE)}
    export = find(write(tmp_path, TREE_OBJECT, HOUSE_OBJECT, line), None)
    assert export.classes == ["background", "tree", "house"]
    assert export.palette == [(0, 0, 0), [0, 255, 0], [255, 0, 0]]
    found = masks(export)
    assert (found["ds0/hill"] == annotated.mask()).all()
    assert (found["ds1/hill"] == annotated.tree_pixels()).all()
    assert (found["ds1/lake"] == 0).all() and found["ds1/moor"] is None
    assert export.left_out == ["1 of shape line, which is not read"]


def test_rectangles_and_holes_are_drawn(tmp_path: Path) -> None:
    box = {"classTitle": "tree", "geometryType": "rectangle", "points": points([TREE[0], TREE[2]])}
    assert (masks(find(write(tmp_path, box), None))["ds0/hill"] == annotated.tree_pixels()).all()
    ring = TREE_OBJECT | {"points": points(TREE, [(2, 2), (3, 2), (3, 3), (2, 3)])}
    expected = annotated.tree_pixels()
    expected[2:4, 2:4] = False
    assert (masks(find(write(tmp_path, ring), None))["ds0/hill"] == expected).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classTitle": "car"}, "no class for the label car"),
        ({"points": points(TREE[:2])}, "a polygon with 2 corners"),
        ({"points": None}, "a polygon is broken"),
        ({"geometryType": "rectangle"}, "a rectangle with 4 corners"),
        ({"geometryType": "bitmap"}, "no bitmap in it"),
        ({"geometryType": "bitmap", "bitmap": {"data": "eJw=", "origin": [0, 0]}}, "not a PNG|cannot be unpacked"),
        ({"geometryType": "bitmap", "bitmap": {"data": "AAAA", "origin": [0, 0]}}, "cannot be unpacked"),
        ({"classTitle": 3}, "not a valid file of Supervisely"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(Problems, match=said) as found:
        find(write(tmp_path, TREE_OBJECT | changes), None)
    assert len(found.value.problems) == 1


def test_a_project_is_whole(tmp_path: Path) -> None:
    with pytest.raises(Problems, match=r"another size(.|\n)*hill"):
        find(write(tmp_path, TREE_OBJECT, width=11), None)
    (write(tmp_path, TREE_OBJECT) / "ds0/img/hill.jpg").unlink()
    with pytest.raises(Problems, match=r"not below(.|\n)*ds0/img/hill.jpg"):  # that of the other data set is not meant
        find(tmp_path, None)
    (tmp_path / "meta.json").unlink()
    with pytest.raises(StppError, match=r"there is no .*meta\.json"):
        find(tmp_path, None)
