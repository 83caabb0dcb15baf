"""Roboflow, semantic segmentation masks: `A.jpg` and `A_mask.png` in one folder, and `_classes.csv` with the numbers.

The folders `train`, `valid` and `test` are kept in the names. All their files have to say the same of the numbers.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from stpp.common.errors import StppError
from stpp.common.labels import IGNORE, LARGEST_VALUE
from stpp.importers import Export
from stpp.importers.gathering import Notes, numbers_of, refuse_others
from stpp.importers.pairing import Pair, paired
from stpp.importers.parsing import Mistakes, files_of, read_bytes
from stpp.importers.pictures import ImageFiles, stem

NAMES = ("roboflow",)
SUMMARY = "the folder of a Roboflow export of semantic segmentation masks, with _classes.csv"
SIGNS = {".csv": (r"\A\s*Pixel Value\s*,\s*Class",)}
MASK = "_mask"


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The images of all folders. Raises Problems where tables differ or masks have other numbers, StppError where there
    is no table.
    """
    files = files_of(source, "_classes.csv", "the folder that Roboflow exported")
    if source.is_file():
        raise StppError(f"{source} is a file; give the folder that Roboflow exported")
    mistakes, notes = Mistakes(), Notes()
    tables = [_table(path, mistakes) for path in files]
    if any(table != tables[0] for table in tables):
        mistakes.add("tables of classes that differ", ", ".join(map(str, files)))
    headline = f"{source} as an export of Roboflow"
    mistakes.refuse(headline)
    names = list(classes or tables[0].values())
    numbers = numbers_of(names)
    refuse_others(tables[0].values(), names, mistakes)
    known = {
        str(value): "ignore" if numbers[name] == IGNORE else numbers[name]
        for value, name in tables[0].items()
        if name in numbers
    }
    pictures = ImageFiles(source, images)
    by_stem = {stem(name): name for name in pictures.names}
    masks = {name.removesuffix(MASK): file for name, file in by_stem.items() if name.endswith(MASK)}
    for name in masks.keys() - by_stem.keys():
        mistakes.add(f"a mask whose image is not below {pictures.folder}", masks[name])
    pairs = [
        Pair(name, pictures.folder / file, pictures.folder / masks[name] if name in masks else None)
        for name, file in by_stem.items()
        if not name.endswith(MASK)
    ]
    encoding = {"classes": len(names), "ignore_value": IGNORE, "label_map": known}
    return paired(headline, pairs, names, encoding, [], mistakes, notes, files)


def _table(path: Path, mistakes: Mistakes) -> dict[int, str]:
    """The classes by pixel value."""
    try:
        rows = list(csv.reader((read_bytes(path, mistakes) or b"").decode().splitlines(), skipinitialspace=True))
        table = {int(value): name.strip() for value, name in rows[1:]}
        if table and not 0 <= min(table) <= max(table) <= LARGEST_VALUE:
            raise ValueError(f"a value of {min(table)} or {max(table)}")
        return table
    except (ValueError, csv.Error) as error:
        mistakes.add(f"not a table of pixel values and classes ({error})", path)
    return {}
