"""Files of VIA against masks that are drawn pixel by pixel."""

import json
from pathlib import Path
from typing import Any

import annotated
import numpy as np
import pytest
from annotated import HOUSE, TREE, masks

from stpp.common.errors import Problems, StppError
from stpp.importers.via import find


def region(ring: list[tuple[float, float]], attributes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    xs, ys = ([corner[place] for corner in ring] for place in (0, 1))
    shape = {"name": "polygon", "all_points_x": xs, "all_points_y": ys} | changes
    return {"shape_attributes": shape, "region_attributes": attributes}


TREE_REGION, HOUSE_REGION = region(TREE, {"class": "tree"}), region(HOUSE, {"class": "house"})


def write(folder: Path, regions: Any, project: bool = False, name: str = "hill.jpg") -> Path:
    """A file of VIA beside its images, of which the second one is annotated by nobody."""
    for image in ("hill.jpg", "valley.jpg"):
        annotated.image(folder / image)
    content: dict[str, Any] = {
        "hill.jpg311": {"filename": name, "size": 311, "regions": regions, "file_attributes": {}},
        "valley.jpg7": {"filename": "valley.jpg", "size": 7, "regions": []},
    }
    content = {"_via_settings": {}, "_via_img_metadata": content} if project else content
    (folder / "via.json").write_text(json.dumps(content))
    return folder / "via.json"


@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_regions_are_drawn_in_their_order(project: bool, version: int, tmp_path: Path) -> None:
    regions: Any = [TREE_REGION, HOUSE_REGION]
    regions = {str(number): one for number, one in enumerate(regions)} if version == 1 else regions
    export = find(write(tmp_path, regions, project), None)
    assert export.classes == ["background", "house", "tree"]
    assert (masks(export)["hill"] == annotated.mask(2, 1)).all()
    assert masks(export)["valley"] is None


def test_rectangles_circles_and_ellipses_are_drawn_and_points_left_out(tmp_path: Path) -> None:
    rectangle = {"name": "rect", "x": 1, "y": 1, "width": 5, "height": 4}
    kinds = [rectangle, {"name": "point", "cx": 1, "cy": 1}]
    regions = [{"shape_attributes": kind, "region_attributes": {"class": "tree"}} for kind in kinds]
    export = find(write(tmp_path, regions), None)
    assert (masks(export)["hill"] == annotated.tree_pixels()).all()
    assert export.left_out == ["1 of shape point, which has no area"]
    circle = {"name": "circle", "cx": 4.5, "cy": 4.5, "r": 3}
    ellipse = {"name": "ellipse", "cx": 4.5, "cy": 4.5, "rx": 3, "ry": 1, "theta": np.pi / 2}
    of_kind = [
        masks(find(write(tmp_path, [region([], {}) | {"shape_attributes": kind}]), None)) for kind in (circle, ellipse)
    ]
    round_, upright = (found["hill"] for found in of_kind)
    assert round_ is not None and upright is not None
    assert round_[4, 2] == round_[2, 4] == 1 and round_[1, 1] == 0
    assert upright[2, 4] == upright[6, 4] == 1 and upright[4, 1] == upright[4, 2] == 0


@pytest.mark.parametrize(
    ("attributes", "label"),
    [
        ({"species": "tree"}, "tree"),
        ({"colour": "red", "type": {"tree": True, "house": False}}, "tree"),
        ({"label": " tree "}, "tree"),
        ({}, "object"),
    ],
)
def test_the_class_is_the_attribute_that_is_called_so_or_the_only_one(
    attributes: dict[str, Any], label: str, tmp_path: Path
) -> None:
    export = find(write(tmp_path, [region(TREE, attributes)]), None)
    assert export.classes == ["background", label]
    assert any("no region has an attribute" in text for text in export.remarks) == (not attributes)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(StppError, match="have the attributes colour, size; call the one"):
        find(write(tmp_path, [region(TREE, {"colour": "red", "size": "3"})]), None)
    for regions, said in (
        ([TREE_REGION, region(HOUSE, {})], "a region without a class"),
        ([region(HOUSE, {"class": {"a": True, "b": True}})], "a region without a class"),
        ([region(TREE[:2], {"class": "tree"})], "a polygon with 2 corners"),
        ([region(TREE, {"class": "tree"}, all_points_x=[1])], "no x or y"),
        ([region(TREE, {"class": "tree"}, name="star")], "an unknown shape 'star'"),
        ([region(TREE, {"class": "tree"}, name="circle")], "KeyError: 'cx'"),
        ([3], r"not a valid file of VIA \(hill.jpg311.regions"),
        ("x", "not a valid file of VIA"),
    ):
        with pytest.raises(Problems, match=said) as found:
            find(write(tmp_path, regions), None)
        assert len(found.value.problems) == 1
    with pytest.raises(Problems, match="not that of a file in a folder"):
        find(write(tmp_path, [TREE_REGION], name="../../secret.jpg"), None)
