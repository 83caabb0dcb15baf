"""Several masks an image, one a class or one an object: their union, or one over the other, is the mask.

Three ways of naming are told apart, file by file. A mask has the name of its image, and what follows is its class and
perhaps a number: `a.jpg`, `a_wheel.png`, `a_wheel_2.png`; among the images, a number alone makes no mask. A folder of
masks has a folder a class: `masks/wheel/a.png`. Or a folder is one image: `7/images/7.png`, `7/masks/*.png`, as in the
Data Science Bowl of 2018. Masks without the name of a class are of the class `object`. A pixel is covered where it is
brighter than half of the brightest one, so that 0/1, 0/255 and smoothed edges are read alike. Where masks overlap, the
class that comes later in the list counts.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from stpp.common.errors import StppError
from stpp.importers import Export
from stpp.importers.drawing import bitmap
from stpp.importers.gathering import Area, Drawn, Notes, classes_of_labels, gathered
from stpp.importers.pairing import covered
from stpp.importers.parsing import Mistakes
from stpp.importers.pictures import ImageFiles, size_of, stem

NAMES = ("part-masks",)
SUMMARY = "a folder of images with several masks each, one per class or object"
FOLDERS = {"mask", "masks", "label", "labels", "annotation", "annotations", "gt", "groundtruth", "segmentation"}
"""Folders of masks."""
IMAGE_FOLDERS = {"image", "images", "img", "imgs", "photos"}
OBJECT = "object"
NO_CLASS = {"", "mask", "masks", "object", "gt", "label", "seg", "segmentation"}
"""What may follow the name of an image without being a class."""


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The images that have masks, and those that have none. Raises Problems where a mask belongs to no image or cannot
    be read, StppError where there is no mask.
    """
    if source.is_file():
        raise StppError(f"{source} is a file; give the folder of the images and masks")
    mistakes, notes = Mistakes(), Notes()
    pictures = ImageFiles(source, images)
    names = ImageFiles(source).names
    in_folders = {name for name in names if folder_of_masks(name) is not None}
    others = [name for name in pictures.names if not pictures.own or name not in in_folders]
    stems = {stem(name): name for name in others}
    beside = {name for name in names if name not in in_folders and _names_a_class(stem(name), stems)}
    owners = {path: name for path, name in stems.items() if not pictures.own or name not in beside}
    parts: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in sorted(in_folders | beside):
        found = owner_and_class(name, owners)
        if found is None:
            mistakes.add("a mask whose image was not found by its name or folder", source / name)
        else:
            parts[found[0]].append((found[1], name))
    if not parts and not mistakes:
        raise StppError(
            f"no mask was found in {source}; expected names such as a.jpg and a_wheel.png, masks/wheel/a.png, or "
            "7/images/7.png and 7/masks/*.png"
        )
    labels = sorted({label for its in parts.values() for label, _ in its})
    order = list(classes or classes_of_labels(labels))
    drawn = []
    for name in owners.values():
        its = sorted(parts.get(name, []), key=lambda part: (order.index(part[0]) if part[0] in order else -1, part))
        areas, sizes = [], set()
        for label, mask in its:
            if (size := size_of(source / mask, mistakes)) is not None:
                sizes.add(size)
                areas.append(Area(label, bitmap(partial(covered, source / mask))))
        if len(sizes) > 1:
            mistakes.add("masks of one image differ in size", name)
        only = sizes.pop() if len(sizes) == 1 else None
        drawn.append(Drawn(_without_folder(name), areas, only, place=name))
    several = sum(len(its) > 1 for its in parts.values())
    notes.remarks.append(f"{several} of {len(parts)} images with masks have more than one")
    headline = f"{source} as images with several masks each"
    files = [source / mask for its in parts.values() for _, mask in its]
    return gathered(headline, drawn, dict.fromkeys(labels), classes, pictures, mistakes, notes, files)


def folder_of_masks(name: str) -> int | None:
    """Which part of a path is a folder of masks; None where none is."""
    parts = name.split("/")[:-1]
    return next((place for place, part in enumerate(parts) if part.lower() in FOLDERS), None)


def name_before(path: str, stems: Mapping[str, str]) -> str | None:
    """The longest of the `stems` that a path, without its suffix, begins with, before `_`, `-` or a space."""
    places = [place for place, letter in enumerate(path) if letter in "_- " and "/" not in path[place:]]
    return next((path[:place] for place in reversed(places) if path[:place] in stems), None)


def _names_a_class(path: str, stems: Mapping[str, str]) -> bool:
    """Whether a path is the name of an image and more than a number, which may as well be that of another image."""
    found = name_before(path, stems)
    return found is not None and not path[len(found) :].strip("_- ").isdigit()


def owner_and_class(name: str, owners: Mapping[str, str]) -> tuple[str, str] | None:
    """The image that a mask belongs to and its class; `owners` are the images by their paths without the suffix."""
    place = folder_of_masks(name)
    path = stem(name)
    if place is None:
        found = name_before(path, owners)
        return None if found is None else (owners[found], class_in(path[len(found) :]))
    parts = path.split("/")
    before, after = parts[:place], parts[place + 1 :]
    by_place = {_without_folder(owner): owner for owner in owners}
    if (found := by_place.get("/".join([*before, *after]))) is not None:
        return owners[found], OBJECT
    if len(after) > 1 and (found := by_place.get("/".join([*before, *after[1:]]))) is not None:
        return owners[found], after[0]
    joined = "/".join([*before, *after])
    if (found := name_before(joined, by_place)) is not None:
        return owners[by_place[found]], class_in(joined[len(found) :])
    inside = [owner for owner in owners if before and owner.startswith("/".join(before) + "/")]
    return (owners[inside[0]], OBJECT) if len(inside) == 1 else None


def class_in(text: str) -> str:
    """The class in what follows the name of an image, such as `_wheel_2`."""
    found = re.sub(r"[_\- ]*\d*$", "", text.strip("_- ")).strip("_- ")
    return OBJECT if found.lower() in NO_CLASS else found


def _without_folder(path: str) -> str:
    """A path without its folders of images."""
    *folders, base = path.split("/")
    return "/".join([*(part for part in folders if part.lower() not in IMAGE_FOLDERS), base])
