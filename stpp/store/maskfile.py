"""The layout of a mask store on disk, and whether a file is one: opened, and all but its pixels and ids verified."""

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from stpp.common.errors import StppError
from stpp.common.labels import IGNORE
from stpp.store.column import BLOCK

FORMAT = 2
CHUNK = 64 * 1024
"""Bytes a chunk: reading a mask unpacks little more than the mask."""

OPTIONS = {
    # Locks fail on some cluster file systems, and nobody needs them: a file is written under a temporary name by one
    # process and never changed after it was renamed.
    "locking": False,
    # Many stores may be open at once, and reading in order needs no more than the chunk that two masks share.
    "rdcc_nbytes": 2 * CHUNK,
}
METADATA = 16 * 1024
"""Bytes of the tables of a file's chunks that stay in memory, each of them as some ten there.

HDF5 would keep up to 32 MB of them for each open file.
"""


@dataclass(frozen=True)
class Contents:
    """What an open store holds; `file` keeps the datasets open."""

    file: h5py.File
    pixels: h5py.Dataset
    confidence: h5py.Dataset | None
    ids: h5py.Dataset
    shapes: h5py.Dataset
    offsets: h5py.Dataset
    classes: list[str]
    palette: list[list[int]]
    producer: str
    class_pixels: list[int]


def open_contents(path: Path) -> Contents:
    """Open a store. StppError if it is missing, incomplete, damaged or no mask store."""
    if not path.is_file():
        raise StppError(f"There is no mask store at {path}: run the prediction that writes it first.")
    file = None
    try:
        file = h5py.File(path, "r", **OPTIONS)
        _limit_metadata(file)
        return _contents(file)
    except Exception as error:  # HDF5 meets damaged files with a dozen kinds of exceptions
        if file is not None:
            file.close()
        raise damaged(path, str(error)) from error


def _limit_metadata(file: h5py.File) -> None:
    cache = file.id.get_mdc_config()
    cache.set_initial_size = True
    cache.initial_size = cache.min_size = cache.max_size = METADATA
    file.id.set_mdc_config(cache)


def _contents(file: h5py.File) -> Contents:
    """What an open file holds.

    Raises ValueError, or what h5py makes of it, if the parts contradict each other.
    """
    version = file.attrs.get("format")
    if version != FORMAT:
        raise ValueError(f"its format is {version}, expected {FORMAT}")
    pixels, ids, shapes, offsets = (own_dataset(file, name) for name in ("pixels", "ids", "shapes", "offsets"))
    confidence = own_dataset(file, "confidence") if has_dataset(file, "confidence") else None
    for column in (pixels, *([] if confidence is None else [confidence])):
        # A dataset may claim any size; what was never written would be read as zeros.
        if (column.dtype, column.chunks, column.shape) != (np.uint8, (CHUNK,), (pixels.size,)):
            raise ValueError(f"its {column.name[1:]} are {column.dtype} {column.shape}")
        if column.id.get_num_chunks() != -(-pixels.size // CHUNK):
            raise ValueError(f"its {column.name[1:]} are incomplete")
    images = ids.size
    for index, kind, shape in ((shapes, np.int32, (images, 2)), (offsets, np.int64, (images,))):
        if (index.dtype, index.shape) != (kind, shape) or index.id.get_storage_size() < index.nbytes:
            raise ValueError(f"its {index.name[1:]} are {index.dtype} {index.shape}")
    _check_index(shapes, offsets, pixels.size)
    classes, palette = json.loads(file.attrs["classes"]), json.loads(file.attrs["palette"])
    producer, class_pixels = file.attrs["producer"], file.attrs["class_pixels"].tolist()
    if not (all(isinstance(name, str) for name in [*classes, producer]) and 0 < len(classes) <= IGNORE):
        raise ValueError("its classes or its producer are no names")
    if np.array(palette, np.uint8).shape[1:] != (3,) or len(palette) < len(classes):
        raise ValueError("its palette has no colour for each class")
    if len(class_pixels) != len(classes) or not 0 <= sum(class_pixels) <= pixels.size:
        raise ValueError("its counts of pixels do not fit its classes")
    if h5py.check_string_dtype(ids.dtype) is None or ids.shape != (images,):
        raise ValueError(f"its ids are {ids.dtype} {ids.shape}")
    return Contents(file, pixels, confidence, ids, shapes, offsets, classes, palette, producer, class_pixels)


def has_dataset(file: h5py.File, name: str) -> bool:
    """Whether the file has something of that name, a link perhaps."""
    return bool(file.id.links.exists(name.encode()))


def own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset `name`, all of which is in the file itself; ValueError for any other.

    HDF5 would follow links, and fetch values from other files: from any on the machine, or from a pipe without end.
    """
    if not has_dataset(file, name):
        raise ValueError(f"it has no {name}")
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"its {name} are a link, expected values in the file itself")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"its {name} are no dataset")
    layout = dataset.id.get_create_plist()
    if layout.get_external_count() or layout.get_layout() == h5py.h5d.VIRTUAL:
        raise ValueError(f"its {name} are in other files, expected values in the file itself")
    filters = {layout.get_filter(number)[0] for number in range(layout.get_nfilters())}
    if not filters <= {hdf5plugin.Zstd.filter_id}:
        raise ValueError(f"its {name} are packed by another filter than zstd")
    return dataset


def _check_index(shapes: h5py.Dataset, offsets: h5py.Dataset, size: int) -> None:
    """Raise ValueError unless masks of these shapes begin at these offsets, and together fill `size` pixels."""
    end, fitting = 0, True
    for start in range(0, len(offsets), BLOCK):
        block = slice(start, start + BLOCK)
        some: NDArray[np.int32] = shapes[block]
        sizes = some.prod(axis=1, dtype=np.int64)
        begins = end + np.cumsum(sizes) - sizes
        fitting &= bool((some > 0).all() and (sizes <= size).all() and (offsets[block] == begins).all())
        end += int(sizes.sum())
    if not fitting or end != size:
        raise ValueError("its index does not fit its pixels")


def damaged(path: Path, found: str) -> StppError:
    """The error for a store of which this was found."""
    return StppError(
        f"{path} is no complete mask store ({found}): the writing was interrupted, the file was changed, or it is "
        "something else. Delete it and run the prediction that writes it again."
    )
