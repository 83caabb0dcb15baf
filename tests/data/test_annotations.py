"""Files of annotation tools are recognised, and the command that reads them is named."""

import json
from pathlib import Path

import pytest
from tiny_data import photo, save, settings

from stpp.common.registry import IMPORTERS, constant, modules
from stpp.data.annotations import LOOK, advice, advice_beside, format_of
from stpp.data.lists import foreign_format
from stpp.data.sources import resolve

CVAT = '<?xml version="1.0"?>\n<annotations><version>1.1</version><image id="0" name="a.jpg"/></annotations>'
SHAPE = {"name": "polygon", "all_points_x": [1], "all_points_y": [2]}
FILES = {
    "a/coco.json": ("coco", {"info": {}, "images": [{"id": 1}], "annotations": [], "categories": []}),
    "b/one.json": ("labelme", {"shapes": [], "imagePath": "a.jpg", "imageData": None, "imageHeight": 3}),
    "c/annotations.xml": ("cvat", CVAT),
    "d/labelmap.txt": ("cvat-masks", "# label:color_rgb:parts:actions\nbackground:0,0,0::\n"),
    "e/labels/a.txt": ("yolo", "0 0.1 0.2 0.3 0.4 0.5 0.6\n"),
    "f/via.json": ("via", {"a.jpg3": {"filename": "a.jpg", "regions": [{"shape_attributes": SHAPE}]}}),
    "g/ann/a.jpg.json": ("supervisely", {"size": {}, "objects": [{"classTitle": "x", "geometryType": "bitmap"}]}),
    "h/project.json": ("label-studio", [{"id": 1, "annotations": [{"result": [{"original_width": 3}]}]}]),
    "i/_classes.csv": ("roboflow", "Pixel Value, Class\n0, background\n"),
    "j/a_gtFine_polygons.json": ("cityscapes", {"imgHeight": 3, "imgWidth": 3, "objects": []}),
    "k/notes.txt": (None, "3 of 7 masks are done\n"),
    "k/boxes.txt": (None, "0 0.1 0.2 0.3 0.4\n"),
    "k/other.json": (None, {"results": [1, 2, 3]}),
    "k/page.xml": (None, "<annotation><object/></annotation>"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    format, content = FILES[name]
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    assert format_of(path) == format
    found = advice(tmp_path, [name])
    if format is None:
        assert "`stpp import FORMAT SOURCE --out my-images`" in found and advice_beside(tmp_path) == ""
    else:
        source = path if constant(modules(IMPORTERS)[format], "FILE", False) else tmp_path
        assert f"`stpp import {format} {source} --out my-images` makes masks of {name}" in found
        assert advice_beside(tmp_path) == found


def test_a_long_file_is_known_by_its_start_and_its_end(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(9000)]
    path = tmp_path / "all.json"
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    assert path.stat().st_size > 4 * LOOK
    assert format_of(path) == "coco"
    assert format_of(tmp_path / "none.json") is None


def test_one_command_is_named_for_many_files(tmp_path: Path) -> None:
    names = [f"{number:03}.json" for number in range(50)]
    for name in names:
        (tmp_path / name).write_text(json.dumps(FILES["b/one.json"][1]))
    assert advice(tmp_path, names).count("stpp import") == 1
    assert advice(tmp_path, ["a.png"]) == ""


def test_annotations_beside_images_are_named_where_there_are_no_masks(tmp_path: Path) -> None:
    root = tmp_path / "my data"
    save(root / "images/a.png", photo())
    (root / "all.json").write_text(json.dumps(FILES["a/coco.json"][1]))
    (problem,) = resolve(settings(root, layout="folder"), lambda masks: {}).problems
    assert f"`stpp import coco '{root / 'all.json'}' --out my-images` makes masks of all.json" in problem
    (root / "masks").mkdir()
    (problem,) = resolve(settings(root, layout="folder"), lambda masks: {}).problems
    assert "stpp import coco" in problem
    (problem,) = resolve(settings(root, layout="folder", images="."), lambda masks: {}).problems
    assert "must be two sub-folders" in problem and "stpp import coco" in problem
    found = foreign_format(root / "all.json")
    assert found is not None and found.startswith("JSON with annotations: `stpp import coco")


def test_brush_labels_of_label_studio_are_named(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", photo())
    for label in ("tree", "house"):
        save(tmp_path / f"masks/task-1-annotation-1-by-1-tag-{label}-0.png", photo()[..., 0])
    (problem,) = resolve(settings(tmp_path, layout="folder"), lambda masks: {}).problems
    assert f"`stpp import label-studio {tmp_path}/masks --images {tmp_path}/images --out my-images`" in problem
