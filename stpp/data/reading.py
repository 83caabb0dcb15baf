"""The image and the mask of a manifest's row, decoded only if their file is the one that was planned."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stpp.common.bands import Bands
from stpp.data.images import LargeImage, large_image, read_image, read_mask
from stpp.data.manifest import Row
from stpp.data.readers import ImageError, open_stream, unreadable


def image_of(row: Row, bands: Bands | None = None) -> NDArray[np.uint8]:
    """`read_image` of a row's image. Raises ImageError, too, if its file has another digest, or size, than the row."""
    content = planned(row.image, row.bytes, row.sha256)
    try:
        return read_image(row.image, content, bands)
    except ImageError as error:
        if row.subset != "unlabeled":
            raise
        remedy = f"{error.remedy}; or set data.skip_broken: true, and run `stpp index --verify` and the workflow again"
        raise ImageError(row.image, error.what, remedy, error.detail) from None


def large_image_of(row: Row, bands: Bands | None = None) -> LargeImage | None:
    """A row's image where it is read by windows, else None. Raises ImageError if its file is another one now than the
    row says, or cannot be read."""
    if found := large_image(row.image, bands):
        planned(row.image, row.bytes, row.sha256, keep=False)
    return found


def mask_of(row: Row, encoding: Mapping[str, Any]) -> NDArray[np.uint8]:
    """`read_mask` of a row's mask. Raises ImageError, too, if its file has another digest, or size, than the row."""
    return read_mask(row.true_mask, encoding, planned(row.true_mask, row.mask_bytes, row.mask_sha256))


def planned(path: str, size: int, sha256: str, *, keep: bool = True) -> bytes | None:
    """The bytes of a file, read once, if they have this SHA-256 (hex). Raises ImageError if they do not.

    Without a digest the size alone is compared, and without a size (0) nothing; the bytes are not read then (None).
    None, too, where they are not to be kept in memory.
    """
    content = None
    try:
        if sha256:
            with open_stream(path) as stream:
                content = stream.read() if keep else None
                digest = hashlib.file_digest(stream, "sha256") if content is None else hashlib.sha256(content)
            changed = digest.hexdigest() != sha256
        else:
            changed = size > 0 and Path(path).stat().st_size != size
    except OSError as error:
        raise unreadable(path, error) from None
    if changed:
        # An unlabeled file is looked at again by `stpp index` alone.
        remedy = f"Put the file back, or {'' if sha256 else 'run `stpp index` and '}run the workflow again: "
        remedy += "it plans new stages for what the data are now"
        raise ImageError(path, "not the same file as when the workflow was planned", remedy)
    return content
