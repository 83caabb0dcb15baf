"""What folders of images and masks hold, for a configuration: which belong together, the classes, the sizes.

It only has to tell what to write. Whether that is right, the look at the data says, which every run begins with.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import splitext
from statistics import median
from typing import Any

import numpy as np

from stpp.common.errors import StppError
from stpp.common.labels import IGNORE, LARGEST_VALUE, STEM
from stpp.common.wording import counted, listed
from stpp.data import banded, raster
from stpp.data.classes import LABEL_MAP, read_labels
from stpp.data.doubts import numbers_objects
from stpp.data.hints import black_and_white, for_colours, values_of
from stpp.data.images import raw_values
from stpp.data.inspection import Inspector, Look
from stpp.data.lists import is_image
from stpp.data.naming import Names, by_stem, guess
from stpp.data.readers import ImageError, Stored
from stpp.data.record import listing
from stpp.importers import IGNORED

CLASSES = ("classes.txt", LABEL_MAP)
"""Files with the names of the classes, as importers and annotation tools put them beside masks."""
MOST_CLASSES = 64
"""More values than these, without a file of names, are numbers of something else."""
SIZED = 200
"""Images whose sizes and bands are looked at."""
RGB_NUMBERS = (1, 2, 3)
PERCENTILES = (1, 99)


@dataclass(frozen=True)
class Survey:
    """`data` are settings, without the defaults; `remarks` say what they rest on, a sentence each.

    `files` are all images and masks, `images` and `labeled` count the images, and those with a mask. `long_side` is the
    median of the images' longer sides, in pixels.
    """

    data: Mapping[str, Any]
    remarks: Sequence[str]
    files: Sequence[Path]
    images: int
    labeled: int
    long_side: int


def survey(images: Path, masks: Path, folder: Path | None) -> Survey:
    """A look at the images below one folder and the masks below another; both lie in `folder`, if one is given.

    Raises StppError where there are no images or no masks, or where the values of the masks cannot be told.
    """
    pictures, drawn = _pictures(images, folder), _pictures(masks, folder)
    root = folder if folder and folder in images.parents and folder in masks.parents else _above(images, masks)
    data: dict[str, Any] = {"root": str(root)}
    data |= {name: os.path.relpath(path, root) for name, path in (("images", images), ("masks", masks))}
    names = _names(*(_told_apart(pictures) if images == masks else (pictures, drawn)))
    data |= {"image_name": names.image, "mask_name": names.mask}
    of_mask = by_stem(drawn, names.mask)
    if images == masks:
        beside = {name for found in of_mask.values() for name in found}
        pictures = [name for name in pictures if name not in beside]
    of_image = by_stem(pictures, names.image)
    whole = {str(masks / of_mask[stem][0]) for stem in of_image.keys() & of_mask.keys()}
    inspector = Inspector(None)
    looks = inspector.look("mask", sorted(whole), content=True)
    seen = {path: look for path, look in looks.items() if look.error is None}
    known, coloured, remarks = _known_classes(root, masks.parent)
    classes, encoding, remark = _classes(seen, known, coloured)
    if colours := {name: raw for raw, name in coloured.items()}:
        encoding = {**encoding, "colors": [colours[name] for name in known]}
    sample = [str(images / name) for name in pictures[:: max(1, len(pictures) // SIZED)]]
    bands, said, sizes = _bands(inspector.look("image", sample, content=False))
    return Survey(
        {**data, "classes": classes, **encoding, **bands},
        [*remarks, *([remark] if remark else []), *said],
        [*(images / name for name in pictures), *(masks / name for name in drawn)],
        len(pictures),
        len(whole),
        round(median([max(size.height, size.width) for size in sizes] or [0])),
    )


def _pictures(folder: Path, above: Path | None) -> list[str]:
    """The images below a folder, by their paths from there."""
    if not folder.is_dir():
        there = sorted(path.name + "/" * path.is_dir() for path in above.iterdir()) if above and above.is_dir() else []
        said = f"; {above} holds {listed(there, 5)}" if there else ""
        raise StppError(
            f"there is no folder {folder}{said}. Put all images into one folder and the masks of those that are "
            "labeled into another, by the same names, and give both: `stpp new --images IMAGES --masks MASKS`. What an "
            "annotation tool exported becomes masks by `stpp import`"
        )
    found = [name for name in listing(folder).names if is_image(name)]
    if not found:
        raise StppError(f"there is no image below {folder}; expected JPEG, PNG, TIFF, WebP, BMP or GIF files")
    return found


def _above(images: Path, masks: Path) -> Path:
    """The nearest folder that holds both, seen from here where it lies here."""
    common = os.path.commonpath([path.absolute().parent for path in (images, masks)])
    near = os.path.relpath(common)
    return Path(common if near.startswith("..") else near)


def _names(images: Sequence[str], masks: Sequence[str]) -> Names:
    """How images and masks are called: by the same names, or as most of them fit."""
    same = Names(STEM, STEM)
    if by_stem(images, STEM).keys() & by_stem(masks, STEM).keys():
        return same
    found = guess(images, masks)
    return found[0][0] if found and found[0][1] > 1 else same


def _told_apart(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The images and the masks of one folder: a mask begins like its image, and goes on."""
    stems = {splitext(name)[0] for name in names}
    masks = [
        name for name in names if any(splitext(name)[0][:end] in stems for end in range(1, len(splitext(name)[0])))
    ]
    return [name for name in names if name not in {*masks}], masks


def _known_classes(*folders: Path) -> tuple[list[str], dict[str, str], list[str]]:
    """Names of the classes from a file beside the images; the name that each colour has there, if all have one; and a
    remark that says so. A name `__ignore__` is no class."""
    for path in (folder / name for folder in folders for name in CLASSES):
        if path.is_file():
            labels = read_labels(path)
            names = [name for name, _ in labels if name != IGNORED]
            if len(names) > 1:
                colours = {f"#{bytes(colour).hex()}": name for name, colour in labels if colour}
                whole = len(colours) == len(labels)
                what = "names and colours" if whole else "names"
                return names, colours if whole else {}, [f"The {what} of the classes are those in {path}."]
    return [], {}, []


def _classes(
    looks: Mapping[str, Look], known: Sequence[str], coloured: Mapping[str, str]
) -> tuple[list[str], dict[str, Any], str]:
    """Names of the classes, what the values of masks mean, and a remark; see `stpp.data.images.class_of`.

    `known` are names that are given, and `coloured` says which name a colour has.
    """
    values = values_of(looks.values())
    if any(raw.startswith("#") for raw in values):
        return _by_colour(values, known, coloured)
    found = sorted({int(raw) for raw in values} - {IGNORE})
    two = list(known) or ["background", "object"]
    if black_and_white(values) and len(two) == 2:
        return two, {"label_map": {0: 0, 255: 1}}, "The masks hold 0 and 255, black and white."
    encoding = {"classes": len(found), "ignore_value": IGNORE, "label_map": None, "palette_map": None}
    if not known and "0" in values and numbers_objects(looks, encoding, raw_values):
        ignored = {IGNORE: "ignore"} if str(IGNORE) in values else {}
        said = "The masks number their objects; all of these are one class here."
        return two, {"label_map": {0: 0, **ignored, f"1-{LARGEST_VALUE}": 1}}, said
    if known:
        return list(known), {}, ""
    if len(found) > MOST_CLASSES:
        raise StppError(
            f"the masks hold {len(found)} values, too many to be classes: {listed(list(map(str, found)), 8)}. "
            "docs/data.md says what to write for masks of other kinds"
        )
    shown = listed([str(value) for value in found], 12)
    if found and found[-1] >= 2 * len(found) + 8:  # with gaps, so that they are no numbers of classes
        pairs = {value: class_ for class_, value in enumerate(found)}
        return _named(found), {"label_map": pairs}, f"The masks hold the values {shown}."
    if found and found[0] == 1:
        said = f"The masks hold the values {shown}, and no 0."
        return _named(range(1, found[-1] + 1)), {"first_label": 1}, said
    return _named(range(max(2, found[-1] + 1 if found else 0))), {}, f"The masks hold the values {shown}."


def _by_colour(
    values: Mapping[str, int], known: Sequence[str], coloured: Mapping[str, str]
) -> tuple[list[str], dict[str, Any], str]:
    if coloured:
        numbers = {name: number for number, name in enumerate(known)}
        return list(known), {"palette_map": {raw: numbers.get(name, "ignore") for raw, name in coloured.items()}}, ""
    colours = sorted(values, key=lambda raw: (raw != "#000000", -values[raw], raw))
    if len(colours) > MOST_CLASSES or (known and len(known) != len(colours)):
        raise StppError(
            f"the masks are pictures of {len(colours)} colours. {for_colours(values, known or ['background'], [], {})}"
        )
    names = list(known) or ["background" if colour == "#000000" else colour for colour in colours]
    encoding = {"palette_map": {colour: class_ for class_, colour in enumerate(colours)}, "colors": colours}
    return names, encoding, f"The masks hold {len(colours)} colours."


def _bands(looks: Mapping[str, Look]) -> tuple[dict[str, Any], list[str], list[Look] | list[Stored]]:
    """Settings of the bands of images, none where they are RGB or grey of 8 bits; remarks; and the sizes of the images.

    Of bands of which nobody says what they are, the first three of three or four are taken for red, green and blue.
    Raises ImageError where the extra is missing that reads them.
    """
    found: dict[str, Stored] = {}
    for path in looks if any(look.error or look.remark for look in looks.values()) else ():
        try:
            found[path] = banded.stored_as(path)
        except ImageError as error:  # the look at the data says what is wrong with a file
            if error.remedy == raster.INSTALL:
                raise
    tiff = [raster.colours(path) for path in found if path.lower().endswith((".tif", ".tiff"))]
    count = min([*(number for _, number in tiff), *(each.bands for each in found.values())], default=0)
    more = any(each.dtype != np.uint8 for each in found.values())
    if not found or (count in (1, 3) and not more):
        return {}, [], [look for look in looks.values() if look.error is None]
    same = {each.bands for each in found.values()} == {count}
    bands: dict[str, Any] = {"bands": count if same else list(range(1, count + 1))}
    kinds = sorted({f"{8 * each.dtype.itemsize} bits" for each in found.values()})
    said = [f"The images have {counted(count, 'band')} of {' or '.join(kinds)}."]
    known = bool(tiff) and all(rgb for rgb, _ in tiff)
    if count >= 3 and (known or count <= 4):
        bands["rgb"] = list(RGB_NUMBERS)
        what = "as the files say" if known else "which is a guess"
        said.append(f"Bands {listed(list(map(str, RGB_NUMBERS)))} are red, green and blue, {what}.")
    elif count > 1:
        said.append("Nothing says which bands are red, green and blue: `rgb` would, for colours in augmentation.")
    if more:
        bands["percentiles"] = list(PERCENTILES)
        low, high = PERCENTILES
        said.append(f"Their values become 0 to 255 between the percentiles {low} and {high} of the labeled images.")
    return bands, said, list(found.values())


def _named(values: Sequence[int]) -> list[str]:
    """Names for classes that nobody has named, by their values in the masks; 0 is the background."""
    if len(values) == 2 and values[0] == 0:
        return ["background", "object"]
    return [f"value {value}" if value else "background" for value in values]
