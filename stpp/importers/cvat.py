"""CVAT for images 1.1: one XML file with all images of a task or project, and their shapes.

Shapes are drawn in the order of their `z_order`, then of the file. Points, lines, skeletons and cuboids have no area
and are left out. Labels are classes in the order of the task, where the file tells it, else in alphabetical order. CVAT
lists images that nobody has annotated as well: one without a shape has no mask.
"""

from array import array
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from stpp.importers import Export, Labels
from stpp.importers.drawing import Stroke, bitmap, ellipse, from_runs, polygon, rectangle, runs_of, turned
from stpp.importers.gathering import Area, Colour, Drawn, Notes, from_hex, gathered
from stpp.importers.outlining import Patch, parts
from stpp.importers.parsing import BROKEN, Mistakes, files_of, read_xml
from stpp.importers.pictures import ImageFiles

NAMES = ("cvat",)
SUMMARY = "an XML file of CVAT for images 1.1, or the folder that holds it"
SIGNS = {".xml": (r"<annotations>", r"<image |<task>|<project>|<track ")}
FILE = True
WRITES = "annotations.xml of CVAT for images 1.1, with masks or polygons"
AREAS = ("polygon", "box", "ellipse", "mask")
REST = ("polyline", "points", "skeleton", "cuboid")


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The images of one file, or of all below a folder. Raises Problems where they are not CVAT's or not whole;
    StppError where there is none.
    """
    files = files_of(source, "*.xml", "annotations.xml of CVAT, or the folder that holds it")
    mistakes, notes = Mistakes(), Notes()
    drawn: list[Drawn] = []
    declared: dict[str, Colour | None] = {}
    for path in files:
        root = read_xml(path, "XML file of CVAT", mistakes)
        if root is None:
            continue
        if root.tag != "annotations":
            mistakes.add(f"not an XML file of CVAT: it begins with <{root.tag}>, expected <annotations>", path)
        elif root.find("track") is not None:
            mistakes.add("tracks of a video; export it as `CVAT for images 1.1`", path)
        for label in root.iterfind("meta//labels/label"):
            declared.setdefault(label.findtext("name", ""), from_hex(label.findtext("color", "")))
        drawn += [_drawn(image, path, mistakes, notes) for image in root.iterfind("image")]
    found = {area.label for image in drawn for area in image.areas}
    labels = declared | dict.fromkeys(sorted(found - declared.keys()))
    headline = f"{source} as an export of CVAT"
    return gathered(headline, drawn, labels, classes, ImageFiles(source, images), mistakes, notes, files)


def _drawn(image: Element, path: Path, mistakes: Mistakes, notes: Notes) -> Drawn:
    """An image and its areas."""
    name = image.get("name", "")
    areas = []
    for shape in sorted((shape for shape in image if shape.tag in AREAS), key=_depth):
        try:
            areas.append(Area(shape.attrib["label"], _stroke(shape)))
        except BROKEN as error:
            mistakes.add_broken(f"a {shape.tag}", error, f"image {name} in {path}")
    notes.left_out.update(f"of shape {shape.tag}, which has no area" for shape in image if shape.tag in REST)
    try:
        size = int(image.attrib["height"]), int(image.attrib["width"])
    except BROKEN:
        mistakes.add("an image without height and width", path)
        return Drawn(name, areas)
    return Drawn(name, areas, size)


def _depth(shape: Element) -> int:
    text = shape.get("z_order", "0")
    return int(text) if text.lstrip("-").isdecimal() else 0


def _stroke(shape: Element) -> Stroke:
    """The pixels of a shape. Raises one of `BROKEN`."""

    def numbers(*names: str) -> list[float]:
        return [float(shape.attrib[name]) for name in names]

    degrees = float(shape.get("rotation", "0"))
    if shape.tag == "polygon":
        corners = [corner.split(",") for corner in shape.attrib["points"].split(";")]
        return polygon([[(float(x), float(y)) for x, y in corners]])
    if shape.tag == "box":
        left, top, right, bottom = numbers("xtl", "ytl", "xbr", "ybr")
        ring = turned(rectangle(left, top, right, bottom), degrees, ((left + right) / 2, (top + bottom) / 2))
        return polygon([ring])
    if shape.tag == "ellipse":
        x, y, radius_x, radius_y = numbers("cx", "cy", "rx", "ry")
        return polygon([ellipse(x, y, radius_x, radius_y, degrees)])
    left, top, width, height = (int(value) for value in numbers("left", "top", "width", "height"))
    runs = array("q", map(int, shape.attrib["rle"].split(",")))
    return bitmap(partial(from_runs, runs, height, width), left, top)


# --- writing ----------------------------------------------------------------------------------------------------------


def files(labels: Labels, tolerance: float | None) -> dict[str, Callable[[Path], None]]:
    """The one file; the labels are declared in the order of the classes, with their colours."""
    return {"annotations.xml": partial(_write, labels, tolerance)}


def _write(labels: Labels, tolerance: float | None, path: Path) -> None:
    root = Element("annotations")
    _add(root, "version").text = "1.1"
    declared = _add(_add(_add(root, "meta"), "task"), "labels")
    for name, colour in zip(labels.classes, labels.palette):
        label = _add(declared, "label")
        _add(label, "name").text = name
        _add(label, "color").text = f"#{bytes(colour).hex()}"
    for number, (id_, name) in enumerate(labels.images.items()):
        mask = labels.mask(id_)
        height, width = mask.shape
        image = _add(root, "image", id=str(number), name=name, width=str(width), height=str(height))
        for depth, part in enumerate(parts(mask, labels.classes, tolerance)):
            common = {"label": part.label, "source": "auto", "occluded": "0", "z_order": str(depth)}
            _add_part(image, part, common)
    ElementTree.indent(root)
    path.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _add_part(image: Element, part: Patch, common: dict[str, str]) -> None:
    if part.outline is not None:
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in part.outline.tolist())
        _add(image, "polygon", points=points, **common)
        return
    height, width = part.pixels.shape
    box = {"left": part.left, "top": part.top, "width": width, "height": height}
    runs = ", ".join(map(str, runs_of(part.pixels)))
    _add(image, "mask", rle=runs, **{name: str(value) for name, value in box.items()}, **common)


def _add(parent: Element, tag: str, **attributes: str) -> Element:
    return ElementTree.SubElement(parent, tag, attributes)
