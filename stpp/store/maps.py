"""The store of an encoder's feature maps: one HDF5 file with those of many images, each seen in several views.

| dataset  | shape, dtype           | meaning                                                                       |
|----------|------------------------|-------------------------------------------------------------------------------|
| `values` | (sum of all,) float16  | all maps one after the other, each row by row, the channels of a place        |
|          |                        | together; 1 MiB chunks, not compressed, so that a read is one copy            |
| `ids`    | (N,) UTF-8             | image ids, as long as the longest                                             |
| `shapes` | (N, V, M, 3) int32     | height, width and channels of map m of view v of image n; in their order lie  |
|          |                        | the maps in `values`                                                          |

Attributes: `format` (version of this layout), `views` (JSON list of the V names) and `producer` (what made the maps).
The bytes of a file depend on nothing but what was added to it, and in which order.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from stpp.common.errors import StppError
from stpp.store.column import BLOCK, Column, StoreWriter, write_ids
from stpp.store.maskfile import own_dataset

Map = NDArray[np.float16]
"""(height, width, channels)."""
LAYOUT = 1
MEBI = 2**19
"""Values a chunk: 1 MiB."""


@dataclass(frozen=True)
class StoredImage:
    """A whole image of which maps are known, by the names of its views; `shape` is its own (height, width) in px."""

    shape: tuple[int, int]
    maps: Mapping[str, Sequence[Map]]


def whole_view(scale: float, mirrored: bool) -> str:
    """The name of the view of a whole image at that scale, or of its mirror image."""
    return f"{scale:g}{' mirrored' * mirrored}"


class MapWriter(StoreWriter):
    """Write a store, image by image; a context manager. Memory does not grow with the number of images.

    It writes to `path` directly. If the `with` block fails, what it leaves there is no store.
    """

    def __init__(self, path: Path, *, views: Sequence[str], producer: str) -> None:
        self._attributes = {"format": LAYOUT, "views": json.dumps(list(views)), "producer": producer}
        self._views = list(views)
        self._shapes: dict[str, list[list[tuple[int, ...]]]] = {}
        super().__init__(path)
        self._values = Column(self._file, "values", np.float16, MEBI)

    def add(self, id: str, seen: Sequence[Sequence[Map]]) -> None:
        """Append the maps of one image: of each view, in their order, as many maps, each float16 (H, W, C).

        ValueError for an id that is there already, another number of views or maps, another dtype. StppError for values
        that are not finite. OSError for a full disk.
        """
        shapes = [[each.shape for each in maps] for maps in seen]
        known = next(iter(self._shapes.values()), shapes)
        if id in self._shapes or len(seen) != len(self._views) or {len(maps) for maps in seen} != {len(known[0])}:
            raise ValueError(f"{id!r} must come once, with {len(self._views)} views of equally many maps")
        for view, maps in zip(self._views, seen):
            for each in maps:
                if each.dtype != np.float16 or each.ndim != 3 or not each.size:
                    raise ValueError(f"a map of {id!r} must be float16 (H, W, C), not {each.dtype} {each.shape}")
                if not np.isfinite(each).all():
                    raise StppError(
                        f"the encoder gives values for image {id!r} (view {view}) that are not finite, or larger than "
                        "65504, the largest float16; look at the image and at network.weights, or set features.views "
                        "to null, which keeps no maps"
                    )
                self._values.append(each)
        self._raise_error()
        self._shapes[id] = shapes

    def _finish(self) -> None:
        self._values.finish()
        write_ids(self._file, list(self._shapes))
        maps = len(next(iter(self._shapes.values()), [[]])[0])
        shapes = np.array(list(self._shapes.values()), np.int32).reshape(len(self._shapes), len(self._views), maps, 3)
        self._file.create_dataset("shapes", data=shapes)
        # Last of all: a file that has them is complete.
        self._file.attrs.update(self._attributes)


@dataclass(frozen=True)
class _Opened:
    """An open store: its values, and where in them each view of each image begins, int64 (N, V)."""

    values: h5py.Dataset
    rows: dict[str, int]
    shapes: NDArray[np.int32]
    begins: NDArray[np.int64]
    views: list[str]
    producer: str


class MapStore:
    """Read a store. The file is opened when it is first needed; a pickled or copied store opens it again by itself.

    StppError, from whatever needs the file first, if it is missing, incomplete, damaged or no such store.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._opened: _Opened | None = None

    @property
    def ids(self) -> list[str]:
        """The image ids in the order in which they were added."""
        return list(self._contents.rows)

    @property
    def views(self) -> list[str]:
        """The names of the views of every image."""
        return self._contents.views

    @property
    def producer(self) -> str:
        """What made the maps."""
        return self._contents.producer

    def __len__(self) -> int:
        return len(self._contents.rows)

    def __contains__(self, id: object) -> bool:
        return id in self._contents.rows

    def maps(self, id: str, view: int) -> list[Map]:
        """The maps of a view (from 0) of an image, from fine to coarse: copies. StppError if they are not there."""
        contents = self._contents
        row = contents.rows.get(id)
        if row is None:
            raise StppError(
                f"{self.path} has no maps of image {id!r}; it holds {len(self)} images, of another list. "
                "Encode the list that is used."
            )
        shapes = contents.shapes[row, view]
        sizes = shapes.prod(axis=1, dtype=np.int64)
        begin = int(contents.begins[row, view])
        try:
            flat: Map = contents.values[begin : begin + int(sizes.sum())]
        except (OSError, RuntimeError) as error:
            raise damaged_maps(self.path, f"the maps of image {id!r} cannot be read: {error}") from error
        parts = np.split(flat, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes.tolist())]

    def image(self, id: str, shape: tuple[int, int], views: Sequence[str]) -> StoredImage:
        """A whole image of that (height, width), in these views. StppError if a view is not there."""
        if absent := [view for view in views if view not in self.views]:
            raise StppError(
                f"{self.path} has no view {absent[0]}, only {', '.join(self.views)}; remove it and encode again"
            )
        return StoredImage(shape, {view: self.maps(id, self.views.index(view)) for view in views})

    def close(self) -> None:
        """Close the file. Using the store afterwards opens it again."""
        if self._opened is not None:
            self._opened.values.file.close()
            self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_opened": None}

    @property
    def _contents(self) -> _Opened:
        if self._opened is None:
            if not self.path.is_file():
                raise StppError(f"There are no maps at {self.path}: run the stage that encodes them first.")
            file = None
            try:
                # Locks fail on some cluster file systems; what is read once needs no cache.
                file = h5py.File(self.path, "r", locking=False, rdcc_nbytes=0)
                self._opened = _opened(file)
            except Exception as error:  # HDF5 meets damaged files with a dozen kinds of exceptions
                if file is not None:
                    file.close()
                raise damaged_maps(self.path, str(error)) from error
        return self._opened


def _opened(file: h5py.File) -> _Opened:
    """What an open file holds.

    Raises ValueError, or what h5py makes of it, if the parts contradict each other.
    """
    if (version := file.attrs.get("format")) != LAYOUT:
        raise ValueError(f"its format is {version}, expected {LAYOUT}")
    values, ids, shapes = (own_dataset(file, name) for name in ("values", "ids", "shapes"))
    # A dataset may claim any size; what was never written would be read as zeros.
    if (values.dtype, values.chunks, values.ndim) != (np.float16, (MEBI,), 1):
        raise ValueError(f"its values are {values.dtype} {values.shape}")
    if values.id.get_num_chunks() != -(-values.size // MEBI):
        raise ValueError("its values are incomplete")
    views, producer = json.loads(file.attrs["views"]), file.attrs["producer"]
    if not (isinstance(views, list) and all(isinstance(name, str) for name in [*views, producer])):
        raise ValueError("its views or its producer are no names")
    if h5py.check_string_dtype(ids.dtype) is None or ids.ndim != 1:
        raise ValueError(f"its ids are {ids.dtype} {ids.shape}")
    if shapes.dtype != np.int32 or shapes.ndim != 4 or shapes.shape[:2] != (ids.size, len(views)):
        raise ValueError(f"its shapes are {shapes.dtype} {shapes.shape}")
    if shapes.shape[3] != 3 or shapes.id.get_storage_size() < shapes.nbytes:
        raise ValueError(f"its shapes are {shapes.dtype} {shapes.shape}, or incomplete")
    known: NDArray[np.int32] = shapes[:]
    sizes = known.prod(axis=3, dtype=np.int64).sum(axis=2)
    ends = np.cumsum(sizes)
    if (known <= 0).any() or (sizes > values.size).any() or (int(ends[-1]) if ends.size else 0) != values.size:
        raise ValueError("its index does not fit its values")
    names = [id for first in range(0, ids.size, BLOCK) for id in ids.asstr()[first : first + BLOCK].tolist()]
    rows = {id: row for row, id in enumerate(names)}
    if len(rows) < len(names):
        raise ValueError("it holds an image twice")
    return _Opened(values, rows, known, (ends - sizes.reshape(-1)).reshape(sizes.shape), views, producer)


def join_maps(parts: Sequence[Path], ids: Sequence[str], out: Path) -> None:
    """Join part stores, which follow one another, into one at `out` that holds exactly `ids`, in this order.

    The result equals, byte for byte, a store into which all images were added at once. StppError where the parts hold
    other images, or differ in views or producer.
    """
    stores = [MapStore(part) for part in parts]
    kinds, found = [], list[str]()
    for store in stores:
        # Closed again at once: there may be more parts than a process may open files.
        with store:
            kinds.append((store.views, store.producer))
            found += store.ids
    if not stores or found != list(ids) or any(kind != kinds[0] for kind in kinds):
        raise StppError(
            f"cannot assemble {out}: its {len(stores)} parts hold {len(found)} images, which are not the {len(ids)} "
            "that are asked for, or were made in other ways; delete them and run the workflow again"
        )
    views, producer = kinds[0]
    with MapWriter(out, views=views, producer=producer) as writer:
        for store in stores:
            with store:
                for id in store.ids:
                    writer.add(id, [store.maps(id, view) for view in range(len(views))])


def damaged_maps(path: Path, found: str) -> StppError:
    """The error for a store of which this was found."""
    return StppError(
        f"{path} is no complete store of maps ({found}): the writing was interrupted, the file was changed, or it is "
        "something else. Delete it and run the stage that encodes again."
    )
