"""ADE20K, scene parsing (SceneParsing, ADEChallengeData2016): `images/**/A.jpg` and `annotations/**/A.png`.

The masks count from 1, and 0 is void: it becomes 255, 1 becomes class 0. The names are in objectInfo150.txt, of which
the first of several words for one class is taken.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from stpp.common.errors import StppError
from stpp.common.labels import encoding_of
from stpp.importers import Export
from stpp.importers.gathering import Notes
from stpp.importers.pairing import Pair, paired
from stpp.importers.parsing import Mistakes, read_bytes
from stpp.importers.pictures import ImageFiles, stem

NAMES = ("ade20k",)
SUMMARY = "the folder of ADE20K's scene parsing, with images, annotations and objectInfo150.txt"
IMAGES, MASKS, TABLE = "images", "annotations", "objectInfo150.txt"


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The images of all subsets. Raises Problems where masks hold more numbers than there are names, StppError where
    there are no masks or no names.
    """
    masks = {
        path.relative_to(source / MASKS).with_suffix("").as_posix(): path
        for path in sorted((source / MASKS).glob("**/*.png"))
    }
    if not masks:
        raise StppError(f"there is no {MASKS}/**/*.png in {source}; give the folder that holds {MASKS} and {IMAGES}")
    mistakes, notes = Mistakes(), Notes()
    table = source / TABLE
    if not classes and not table.is_file():
        raise StppError(f"there is no {table}; put it there, or name the classes from 1 on by --classes")
    headline = f"{source} as ADE20K"
    names = list(classes or _names(table, mistakes))
    mistakes.refuse(headline)
    pictures = ImageFiles(source, images)
    known = {stem(name).removeprefix(f"{IMAGES}/"): name for name in pictures.names}
    pairs = [
        Pair(name, image, mask)
        for name, mask in masks.items()
        if (image := pictures.find(known.get(name, name), mistakes)) is not None
    ]
    encoding = encoding_of({"first_label": 1, "ignore_value": None}, len(names))
    return paired(headline, pairs, names, encoding, [], mistakes, notes, [] if classes else [table])


def _names(table: Path, mistakes: Mistakes) -> list[str]:
    """The names of the table, a row a class with tabs between the columns, by their numbers."""
    try:
        rows = list(csv.DictReader((read_bytes(table, mistakes) or b"").decode().splitlines(), delimiter="\t"))
        whole = [row["Name"].strip() for row in sorted(rows, key=lambda row: int(row["Idx"]))]
        first = [name.split(",")[0].split(";")[0].strip() for name in whole]
        if not rows:
            raise ValueError("no rows")
    except (ValueError, KeyError, AttributeError, TypeError):
        mistakes.add("not a table with the columns Idx and Name, separated by tabs", table)
        return []
    return first if len({*first}) == len(first) else whole
