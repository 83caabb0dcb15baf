"""The manifest of a subset: one CSV file that says which images belong to it and where they are."""

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from stpp.errors import StppError
from stpp.files import write_text

SUBSETS = ("labeled", "unlabeled", "val", "test", "truth")
SIZE = re.compile("[1-9][0-9]{0,11}")


class Row(NamedTuple):
    """One image of one subset.

    `id` is the image path relative to the data root, without its suffix, with "/" between folders. `image` and `mask`
    are usable from the working directory; `mask` is None for unlabeled images. `height` and `width` are those of the
    image after EXIF rotation, `bytes` is the size of its file. Rows of `truth` are unlabeled images whose mask happens
    to exist: their masks serve to report quality, never to train.
    """

    id: str
    subset: str
    image: str
    mask: str | None
    height: int
    width: int
    bytes: int

    @property
    def true_mask(self) -> str:
        """Path of the mask of an image that has one. Raises StppError for one that has none."""
        if self.mask is None:
            raise StppError(f"The {self.subset} image {self.id} has no mask in its manifest; run `stpp index` again.")
        return self.mask


def write_manifest(path: Path, rows: Iterable[Row]) -> None:
    """Write `rows` as CSV (UTF-8, with a header line); a file that already says so keeps its time stamp."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(row._replace(mask=row.mask or "") for row in rows)
    write_text(path, text.getvalue())


def read_manifest(path: Path) -> list[Row]:
    """The rows of a manifest, in the order of the file.

    Raises StppError where the file is missing or is not what `write_manifest` writes.
    """

    def malformed(what: str) -> StppError:
        return StppError(f"{path}: {what}. A manifest is written by `stpp index`: delete this file and run it again.")

    rows: list[Row] = []
    ids: set[str] = set()
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if header != list(Row._fields):
                raise malformed(f"the columns are {','.join(header) or 'missing'}; expected {','.join(Row._fields)}")
            for fields in reader:
                if len(fields) != len(Row._fields):
                    raise malformed(f"line {reader.line_num} has {len(fields)} columns; expected {len(Row._fields)}")
                id_, subset, image, mask, height, width, size = fields
                if subset not in SUBSETS:
                    raise malformed(f"line {reader.line_num} has the subset '{subset}'; expected {', '.join(SUBSETS)}")
                if not all(SIZE.fullmatch(number) for number in (height, width, size)):
                    found = f"'{height:.20}' x '{width:.20}' and '{size:.20}' bytes"
                    raise malformed(f"line {reader.line_num} has the size {found}; expected three numbers")
                if not id_ or not image or id_ in ids:
                    raise malformed(f"line {reader.line_num} has no image, or one that stands further above: '{id_}'")
                ids.add(id_)
                rows.append(Row(id_, subset, image, mask or None, int(height), int(width), int(size)))
    except FileNotFoundError:
        raise malformed("there is no such manifest") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise malformed(f"the file is not a CSV file in UTF-8 ({error})") from None
    except OSError as error:
        raise malformed(f"the file cannot be read ({error.strerror})") from None
    return rows
