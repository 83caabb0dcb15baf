"""XML files of CVAT against masks that are drawn pixel by pixel."""

from collections.abc import Callable
from pathlib import Path

import annotated
import numpy as np
import pytest
from annotated import HOUSE, TREE, masks

from stpp.common.errors import Problems
from stpp.importers.cvat import find
from stpp.importers.drawing import runs_of

LABELS = "<meta><task><labels><label><name>tree</name><color>#00ff00</color></label>{}</labels></task></meta>"
HOUSE_LABEL = "<label><name>house</name><color>#ff0000</color></label>"


def shape(tag: str, label: str, **attributes: object) -> str:
    return f'<{tag} label="{label}" {" ".join(f"{key}={str(value)!r}" for key, value in attributes.items())}/>'


def polygon(label: str, ring: list[tuple[float, float]], **attributes: object) -> str:
    return shape("polygon", label, points=";".join(f"{x:.2f},{y:.2f}" for x, y in ring), **attributes)


def write(folder: Path, *shapes: str, meta: str = "", name: str = "hill.jpg", width: object = 10) -> Path:
    """A file of CVAT beside a folder with its images, of which the second one is annotated by nobody."""
    for image in ("hill.jpg", "valley.jpg"):
        annotated.image(folder / "images" / image)
    first = f'<image id="0" name="{name}" width="{width}" height="8">{"".join(shapes)}</image>'
    second = '<image id="1" name="valley.jpg" width="10" height="8"/>'
    file = folder / "annotations.xml"
    file.write_text(f'<?xml version="1.0" encoding="utf-8"?><annotations>{meta}{first}{second}</annotations>')
    return file


def test_shapes_are_drawn_by_depth_and_then_in_their_order(tmp_path: Path) -> None:
    shapes = [
        polygon("house", HOUSE, z_order=1),
        polygon("tree", TREE, z_order=0),
        shape("points", "tree", points="1,1"),
    ]
    export = find(write(tmp_path, *shapes), None)
    assert export.classes == ["background", "house", "tree"]
    assert (masks(export)["hill"] == annotated.mask(tree=2, house=1)).all()
    assert masks(export)["valley"] is None
    assert export.left_out == ["1 of shape points, which has no area"]
    assert export.palette == []


def test_declared_labels_give_the_order_and_the_colours(tmp_path: Path) -> None:
    file = write(tmp_path, polygon("tree", TREE), polygon("house", HOUSE), meta=LABELS.format(HOUSE_LABEL))
    export = find(tmp_path, None)
    assert export.classes == ["background", "tree", "house"]
    assert export.palette == [(0, 0, 0), [0, 255, 0], [255, 0, 0]]
    assert (masks(export)["hill"] == annotated.mask()).all()
    assert (masks(find(file, ["sky", "house", "tree"]))["hill"] == annotated.mask(2, 1)).all()


def test_boxes_masks_and_ellipses_are_drawn(tmp_path: Path) -> None:
    pixels = annotated.house_pixels()[2:4, 4:9]
    pixels[0, 0] = False
    runs = ", ".join(map(str, runs_of(pixels)))
    box = shape("box", "tree", xtl="1.00", ytl="1.00", xbr="6.00", ybr="5.00")
    mask = shape("mask", "house", rle=runs, left=4, top=2, width=5, height=2)
    expected = annotated.mask()
    expected[2, 4] = 1
    assert (masks(find(write(tmp_path, box, mask), ["background", "tree", "house"]))["hill"] == expected).all()
    turned = shape("box", "tree", xtl="1", ytl="3", xbr="7", ybr="5", rotation="90")
    expected = np.zeros(annotated.SIZE)
    expected[1:8, 3:6] = 1
    assert (masks(find(write(tmp_path, turned), None))["hill"] == expected).all()
    round_ = shape("ellipse", "tree", cx="4.5", cy="4.5", rx="3", ry="3")
    found = masks(find(write(tmp_path, round_), None))["hill"]
    assert found is not None and found[4, 4] == found[4, 2] == found[2, 4] == 1 and found[1, 1] == found[7, 7] == 0


BROKEN: dict[str, Callable[[Path], object]] = {
    "not a valid XML file of CVAT": lambda folder: write(folder).write_text("<annotations>"),
    "begins with <annotation>": lambda folder: write(folder).write_text("<annotation/>"),
    "CVAT for images 1.1": lambda folder: write(folder, meta='<track id="0"/>'),
    "a polygon with 2 corners": lambda folder: write(folder, polygon("tree", TREE[:2])),
    "a polygon is broken": lambda folder: write(folder, shape("polygon", "tree", points="1;2;3")),
    "'label'": lambda folder: write(folder, '<box xtl="1" ytl="1" xbr="2" ybr="2"/>'),
    "do not fill": lambda folder: write(folder, shape("mask", "tree", rle="1", left=0, top=0, width=5, height=2)),
    "an image without height and width": lambda folder: write(folder, width="wide"),
    "no image is listed": lambda folder: write(folder).write_text("<annotations/>"),
    "another size": lambda folder: write(folder, width=11),
    "not that of a file in a folder": lambda folder: write(folder, name="../secret.jpg"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_is_wrong_is_named(reason: str, tmp_path: Path) -> None:
    BROKEN[reason](tmp_path)
    with pytest.raises(Problems, match=reason) as found:
        find(tmp_path / "annotations.xml", None)
    assert len(found.value.problems) == 1
