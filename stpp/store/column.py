"""Columns of HDF5 stores: flat datasets that are appended to, and the ids of images."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import DTypeLike, NDArray

from stpp.common.files import Sink

WAITING = 16
"""Chunks collected before they are written. The order of the chunks in the file depends on it."""
BLOCK = 1024
"""Images whose index is read at once."""


class StoreWriter(ABC):
    """A context manager that writes an HDF5 file to `path`; `_finish` completes it where the block ends well.

    Raises the OSError of a disk that fails, also where HDF5 keeps it to itself. `cache` are h5py's `rdcc_*` settings.
    """

    def __init__(self, path: Path, **cache: Any) -> None:
        self._sink = Sink(path)
        self._file = h5py.File(self._sink, "w", **cache)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._sink:
            try:
                with self._file:
                    if kind is None:
                        self._finish()
            finally:
                self._raise_error()

    def _raise_error(self) -> None:
        if self._sink.error is not None:
            raise self._sink.error

    @abstractmethod
    def _finish(self) -> None:
        """Write what is still missing of a whole file."""


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
