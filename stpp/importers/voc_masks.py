"""PASCAL VOC, and CVAT's "Segmentation mask 1.1": `JPEGImages/A.jpg`, `SegmentationClass/A.png`, perhaps labelmap.txt.

With labelmap.txt, masks are read by their colours, and the classes are in its order; without, by their numbers, 255 is
left out, and the classes are VOC's. A label `__ignore__` is 255.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from stpp.common.errors import StppError
from stpp.common.labels import IGNORE
from stpp.data.classes import LABEL_MAP, VOC_CLASSES, read_labels
from stpp.importers import IGNORED, Export, Labels
from stpp.importers.gathering import Colour, Notes, numbers_of, refuse_others
from stpp.importers.pairing import Pair, paired
from stpp.importers.parsing import Mistakes
from stpp.importers.pictures import ImageFiles, stem
from stpp.store.masks import IGNORE_COLOUR, voc_palette, write_palette_png

NAMES = ("cvat-masks", "voc")
SUMMARY = "a folder with SegmentationClass and JPEGImages, of PASCAL VOC or CVAT's `Segmentation mask 1.1`"
SIGNS = {".txt": (r"\A# label:color_rgb:parts:actions",)}
WRITES = "palette PNGs in SegmentationClass, and labelmap.txt"
IMAGES, MASKS = "JPEGImages", "SegmentationClass"


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The images with a mask, and those of JPEGImages without. Raises Problems where masks hold other numbers or
    colours, StppError where there is no mask.
    """
    found = sorted((source / MASKS).glob("**/*.png")) if source.is_dir() else []
    if not found:
        raise StppError(f"there is no {MASKS}/*.png in {source}; give the folder that holds {MASKS} and {IMAGES}")
    mistakes, notes = Mistakes(), Notes()
    headline, label_map = f"{source} as masks of VOC or CVAT", source / LABEL_MAP
    names = list(classes or VOC_CLASSES)
    palette: Sequence[Colour] = []
    colours: dict[str, int | str] = {}
    if label_map.is_file():
        names, palette, colours = _label_map(label_map, classes, mistakes)
        mistakes.refuse(headline)
    elif not classes:
        palette = voc_palette(len(names))
    pictures = ImageFiles(source, images)
    masks = {path.relative_to(source / MASKS).with_suffix("").as_posix(): path for path in found}
    inside = f"{IMAGES}/"
    here = {stem(name).removeprefix(inside): name for name in pictures.names if name.startswith(inside)}
    pairs = [
        Pair(name, image, mask)
        for name, mask in masks.items()
        if (image := pictures.find(here.get(name, name), mistakes)) is not None
    ]
    pairs += [Pair(name, pictures.folder / file, None) for name, file in here.items() if name not in masks]
    encoding = {"classes": len(names), "ignore_value": IGNORE, "palette_map": colours or None}
    files = [label_map] if label_map.is_file() else []
    return paired(headline, pairs, names, encoding, palette, mistakes, notes, files)


def _label_map(
    path: Path, classes: Sequence[str] | None, mistakes: Mistakes
) -> tuple[list[str], Sequence[Colour], dict[str, int | str]]:
    """The classes, their colours, and what each colour of a mask is."""
    try:
        found = read_labels(path)
    except (OSError, UnicodeDecodeError):
        found = []
    labels, colours = [name for name, _ in found], [colour for _, colour in found if colour]
    if not labels or len(labels) != len(colours):
        mistakes.add("not a label map: expected lines `name:red,green,blue::`", path)
        return list(classes or labels), [], {}
    names = list(classes or (name for name in labels if name != IGNORED))
    numbers = numbers_of(names)
    refuse_others(labels, names, mistakes)
    known: dict[str, int | str] = {}
    for label, colour in zip(labels, colours):
        text = f"#{bytes(colour).hex()}"
        if text in known:
            mistakes.add(f"two labels with the colour {text}", path)
        elif label in numbers:
            known[text] = "ignore" if numbers[label] == IGNORE else numbers[label]
    by_name = dict(zip(labels, colours))
    return names, [by_name[name] for name in names] if all(name in by_name for name in names) else [], known


# --- writing ----------------------------------------------------------------------------------------------------------


def files(labels: Labels, tolerance: float | None) -> dict[str, Callable[[Path], None]]:
    """A palette PNG for each mask, the label map, and the list of the images. Where two classes have one colour, all
    have those of PASCAL VOC. Raises StppError for polygons, and for names that a label map cannot hold.
    """
    if tolerance is not None:
        raise StppError("this format holds masks, no polygons; leave --polygons out")
    if unfit := [name for name in labels.classes if ":" in name or name.startswith("#")]:
        raise StppError(f"{LABEL_MAP} cannot hold the name {unfit[0]}, which has a `:` or begins with `#`")
    palette = [*map(tuple, labels.palette[: len(labels.classes)]), IGNORE_COLOUR]
    if len({*palette}) < len(palette):
        palette = [*map(tuple, voc_palette(len(labels.classes))), IGNORE_COLOUR]
    lines = [f"{name}:{','.join(map(str, colour))}::\n" for name, colour in zip([*labels.classes, IGNORED], palette)]
    text = "# label:color_rgb:parts:actions\n" + "".join(lines)
    ids = [stem(name) for name in labels.images.values()]
    pictures = {
        f"{MASKS}/{name}.png": partial(_write_png, labels, id_, palette) for name, id_ in zip(ids, labels.images)
    }
    listed = "".join(f"{name}\n" for name in ids)
    return {
        LABEL_MAP: lambda path: _write_text(path, text),
        "ImageSets/Segmentation/default.txt": lambda path: _write_text(path, listed),
        **pictures,
    }


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write_png(labels: Labels, id_: str, palette: Sequence[Colour], path: Path) -> None:
    write_palette_png(labels.mask(id_), palette, path)
