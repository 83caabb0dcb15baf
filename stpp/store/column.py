"""Columns of HDF5 stores: flat datasets that are appended to, and the ids of images."""

from collections.abc import Sequence
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import DTypeLike, NDArray

WAITING = 16
"""Chunks collected before they are written. The order of the chunks in the file depends on it."""
BLOCK = 1024
"""Images whose index is read at once."""


class Column:
    """A flat dataset that is appended to in whole chunks of so many values, so that no chunk is compressed twice."""

    def __init__(self, file: h5py.File, name: str, dtype: DTypeLike, chunk: int, **packing: Any) -> None:
        self._dataset = file.create_dataset(name, shape=(0,), maxshape=(None,), chunks=(chunk,), dtype=dtype, **packing)
        self._chunk = chunk * self._dataset.dtype.itemsize
        self._waiting = bytearray()

    def append(self, values: NDArray[Any]) -> None:
        """Append values of the dataset's dtype, of any shape."""
        self._waiting += np.ascontiguousarray(values).data.cast("B")
        if len(self._waiting) >= WAITING * self._chunk:
            self._write(len(self._waiting) // self._chunk * self._chunk)

    def finish(self) -> None:
        """Write what waits."""
        self._write(len(self._waiting))

    def _write(self, size: int) -> None:
        values = np.frombuffer(bytes(self._waiting[:size]), self._dataset.dtype)
        start = self._dataset.shape[0]
        self._dataset.resize((start + len(values),))
        self._dataset[start:] = values
        del self._waiting[:size]


def write_ids(file: h5py.File, names: Sequence[str]) -> None:
    """Write the dataset `ids`."""
    ids = [id.encode() for id in names]
    # Of one length: HDF5 would keep what it reads of others in memory. Compressed, since they are much alike.
    kind = h5py.string_dtype("utf-8", max([1, *map(len, ids)]))
    packed: dict[str, Any] = {"chunks": (min(BLOCK, len(ids)),), **hdf5plugin.Zstd(clevel=1)} if ids else {}
    file.create_dataset("ids", data=np.array(ids, kind), **packed)
