"""The manifest of a subset: one CSV file that says which images belong to it, where they are, and what they hold.

Its name is that of its whole content, so two lists never share a file. It has all that the fingerprint of the subset is
made from, so whoever reads it can tell whether it is the planned one.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.files import write_text

SUBSETS = ("labeled", "unlabeled", "val", "test", "truth")
SIZE = re.compile("[1-9][0-9]{0,11}")
DIGEST = re.compile("([0-9a-f]{64})?")


class Row(NamedTuple):
    """One image of one subset.

    `id` is the image path relative to the data root, without its suffix, with "/" between folders. `image` and `mask`
    are usable from the working directory; `mask` is None for unlabeled images. `height` and `width` are those of the
    image after EXIF rotation. `bytes` and `mask_bytes` are the sizes of the files, 0 where there is none or it is
    unknown; `sha256` and `mask_sha256` are their digests (hex), empty in `unlabeled` and `truth`. Rows of `truth` are
    unlabeled images whose mask happens to exist: their masks serve to report quality, never to train.
    """

    id: str
    subset: str
    image: str
    mask: str | None
    height: int
    width: int
    bytes: int
    sha256: str = ""
    mask_bytes: int = 0
    mask_sha256: str = ""

    @property
    def true_mask(self) -> str:
        """Path of the mask of an image that has one. Raises StppError for one that has none."""
        if self.mask is None:
            raise StppError(f"The {self.subset} image {self.id} has no mask in its manifest; run `stpp index` again.")
        return self.mask


def fingerprint(rows: Iterable[Row]) -> str:
    """SHA-256 (hex) of the rows of a subset in their order; it depends neither on where the files lie nor on times.

    Of labeled, val and test count the ids and the digests of image and mask; of unlabeled the ids and the sizes of the
    images; of truth the ids and the sizes of the masks.
    """
    digest = hashlib.sha256()
    for row in rows:
        sizes = {"unlabeled": [str(row.bytes)], "truth": [str(row.mask_bytes)]}
        known = sizes.get(row.subset, [row.sha256, row.mask_sha256])
        digest.update("\0".join([row.id, *known]).encode() + b"\n")
    return digest.hexdigest()


def manifest_digest(rows: Iterable[Row]) -> str:
    """SHA-256 (hex) of the manifest of these rows, paths included."""
    return hashlib.sha256(_as_csv(rows).encode()).hexdigest()


def manifest_path(results: Path, subset: str, digest: str) -> Path:
    """Where the manifest of a subset lies whose content has the SHA-256 `digest` (hex)."""
    return results / disk.DATA / f"{subset}-{digest[:16]}.csv"


def write_manifest(path: Path, rows: Iterable[Row]) -> None:
    """Write `rows` as CSV (UTF-8, with a header line); a file that already says so keeps its time stamp."""
    write_text(path, _as_csv(rows))


def _as_csv(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(row._replace(mask=row.mask or "") for row in rows)
    return text.getvalue()


def read_manifest(path: Path, digest: str | None = None) -> list[Row]:
    """The rows of a manifest, in the order of the file.

    Raises StppError where the file is missing, is not what `write_manifest` writes, or has not the SHA-256 `digest`
    (hex), if that is given.
    """

    def malformed(what: str) -> StppError:
        return StppError(f"{path}: {what}. A manifest is written by `stpp index`: delete this file and run it again.")

    rows: list[Row] = []
    ids: set[str] = set()
    try:
        content = Path(path).read_bytes()
        if digest not in (None, hashlib.sha256(content).hexdigest()):
            raise malformed("its content is not what was planned")
        with io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if header != list(Row._fields):
                raise malformed(f"the columns are {','.join(header) or 'missing'}; expected {','.join(Row._fields)}")
            for fields in reader:
                if len(fields) != len(Row._fields):
                    raise malformed(f"line {reader.line_num} has {len(fields)} columns; expected {len(Row._fields)}")
                id_, subset, image, mask, height, width, size, sha256, mask_size, mask_sha256 = fields
                if subset not in SUBSETS:
                    raise malformed(f"line {reader.line_num} has the subset '{subset}'; expected {', '.join(SUBSETS)}")
                if not all(SIZE.fullmatch(number) for number in (height, width, size)):
                    found = f"'{height:.20}' x '{width:.20}' and '{size:.20}' bytes"
                    raise malformed(f"line {reader.line_num} has the size {found}; expected three numbers")
                if not (mask_size == "0" or SIZE.fullmatch(mask_size)):
                    raise malformed(f"line {reader.line_num} has a mask of '{mask_size:.20}' bytes; expected a number")
                if not all(DIGEST.fullmatch(text) for text in (sha256, mask_sha256)):
                    raise malformed(f"line {reader.line_num} has a digest that is not a SHA-256 of 64 hex digits")
                if not id_ or not image or id_ in ids:
                    raise malformed(f"line {reader.line_num} has no image, or one that an earlier line has: '{id_}'")
                ids.add(id_)
                numbers = int(height), int(width), int(size)
                rows.append(Row(id_, subset, image, mask or None, *numbers, sha256, int(mask_size), mask_sha256))
    except FileNotFoundError:
        raise malformed("there is no such manifest") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise malformed(f"the file is not a CSV file in UTF-8 ({error})") from None
    except OSError as error:
        raise malformed(f"the file cannot be read ({error.strerror})") from None
    return rows
