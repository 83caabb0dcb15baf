"""The mask store: one HDF5 file with the masks of many images, of any sizes, read at random by image id.

| dataset      | shape, dtype        | meaning                                                                     |
|--------------|---------------------|-----------------------------------------------------------------------------|
| `pixels`     | (sum of H*W,) uint8 | all masks, row by row, one after the other; 64 KiB chunks, zstd             |
| `confidence` | the same, optional  | confidence of each pixel, 0..255 for 0..1                                   |
| `ids`        | (N,) UTF-8          | image ids, as long as the longest                                           |
| `shapes`     | (N, 2) int32        | height, width                                                               |
| `offsets`    | (N,) int64          | where in `pixels` a mask begins                                             |

Attributes: `format` (version of this layout), `classes` (JSON list of names), `palette` (JSON list of [r, g, b]),
`producer` (what made the masks) and `class_pixels` (how many pixels each class has in all masks). Masks hold
0..classes-1, and 255 for ignored pixels. The bytes of a file depend on nothing but what was added to it, and in which
order. Other programs need the zstd filter to read it (`import hdf5plugin`).
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from stpp.common.errors import Problems, StppError
from stpp.common.labels import IGNORE
from stpp.store.column import BLOCK, WAITING, Column, StoreWriter, write_ids
from stpp.store.maskfile import CHUNK, FORMAT, Contents, damaged, open_contents

IGNORE_COLOUR = (224, 224, 192)
"""The colour of index 255 in the masks of PASCAL VOC."""

if TYPE_CHECKING:
    from PIL import Image


class MaskWriter(StoreWriter):
    """Write a mask store, mask by mask; a context manager. Memory does not grow with the pixels.

    `classes` are the names of at most 255 classes, `palette` at least as many [r, g, b] of 0..255. With `confidence`,
    every `add` brings one. It writes to `path` directly. If the `with` block fails, what it leaves there is no store.
    """

    def __init__(
        self,
        path: Path,
        *,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
        producer: str,
        confidence: bool = False,
    ) -> None:
        if not 0 < len(classes) <= IGNORE or len(palette) < len(classes):
            raise ValueError(f"expected 1..{IGNORE} classes and a colour for each, got {len(classes)}, {len(palette)}")
        self._classes = len(classes)
        self._attributes = {
            "format": FORMAT,
            "classes": json.dumps(list(classes), ensure_ascii=False),
            "palette": json.dumps([[int(value) for value in colour] for colour in palette]),
            "producer": producer,
        }
        self._rows: dict[str, tuple[int, int]] = {}
        self._class_pixels = np.zeros(256, np.int64)
        super().__init__(path, rdcc_nbytes=WAITING * CHUNK)
        self._pixels = Column(self._file, "pixels", np.uint8, CHUNK, **hdf5plugin.Zstd(clevel=1))
        self._confidence = (
            Column(self._file, "confidence", np.uint8, CHUNK, **hdf5plugin.Zstd(clevel=1)) if confidence else None
        )

    def add(self, id: str, mask: NDArray[np.uint8], confidence: NDArray[np.floating[Any]] | None = None) -> None:
        """Append the mask of one image, uint8 (H, W), and its confidence in 0..1, any float (H, W), kept to 1/255.

        ValueError for an id that is there already, another dtype or shape, or a value out of range. OSError for a full
        disk.
        """
        if id in self._rows:
            raise ValueError(f"mask {id!r} is in the store already")
        if mask.dtype != np.uint8 or mask.ndim != 2 or not mask.size:
            raise ValueError(f"mask {id!r} must be uint8 (H, W), not {mask.dtype} {mask.shape}")
        counts = np.bincount(mask.reshape(-1), minlength=256)
        if counts[self._classes : IGNORE].any():
            raise ValueError(f"mask {id!r} has values other than 0..{self._classes - 1} and {IGNORE}")
        if (confidence is None) != (self._confidence is None):
            raise ValueError(f"mask {id!r}: confidence must come with every mask of a store, or with none")
        if self._confidence is not None and confidence is not None:
            if confidence.shape != mask.shape or not (confidence.min() >= 0 and confidence.max() <= 1):
                raise ValueError(f"confidence of {id!r} must be within 0..1 and of shape {mask.shape}")
            self._confidence.append(np.rint(np.multiply(confidence, 255, dtype=np.float32)).astype(np.uint8))
        self._pixels.append(mask)
        self._raise_error()
        self._class_pixels += counts
        self._rows[id] = (mask.shape[0], mask.shape[1])

    def _finish(self) -> None:
        self._pixels.finish()
        if self._confidence is not None:
            self._confidence.finish()
        shapes = np.array(list(self._rows.values()), np.int32).reshape(-1, 2)
        sizes = shapes.prod(axis=1, dtype=np.int64)
        write_ids(self._file, list(self._rows))
        self._file.create_dataset("shapes", data=shapes)
        self._file.create_dataset("offsets", data=np.cumsum(sizes) - sizes)
        self._file.attrs["class_pixels"] = self._class_pixels[: self._classes]
        # Last of all: a file that has them is complete.
        self._file.attrs.update(self._attributes)


@dataclass(frozen=True)
class _Index:
    """Where to find a mask by the id of its image."""

    ids: list[str]
    rows: dict[str, int]
    shapes: NDArray[np.int32]
    offsets: NDArray[np.int64]


class MaskStore:
    """Read a mask store; a context manager. The file is opened when it is first needed.

    A pickled or copied store opens the file again by itself. StppError, from whatever needs the file first, if it is
    missing, incomplete, damaged or no mask store.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._opened: Contents | None = None
        self._indexed: _Index | None = None

    @property
    def ids(self) -> list[str]:
        """The image ids in the order in which they were added."""
        return self._index.ids

    @property
    def classes(self) -> list[str]:
        """The names of the classes 0, 1, ..."""
        return self._contents.classes

    @property
    def palette(self) -> list[list[int]]:
        """[r, g, b] of 0..255 for each class."""
        return self._contents.palette

    @property
    def producer(self) -> str:
        """What made the masks."""
        return self._contents.producer

    @property
    def class_pixels(self) -> list[int]:
        """How many pixels of each class 0, 1, ... there are in all masks."""
        return self._contents.class_pixels

    @property
    def has_confidence(self) -> bool:
        """Whether `confidence` can be asked for."""
        return self._contents.confidence is not None

    def __len__(self) -> int:
        return len(self._contents.offsets)

    def __contains__(self, id: object) -> bool:
        return id in self._index.rows

    def __getitem__(self, id: str) -> NDArray[np.uint8]:
        """The mask of an image: uint8 (H, W), a copy. StppError if it is not in the store, or has other values."""
        return self._checked(id, self._read(self._contents.pixels, id, *self._place(id)))

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """All (id, mask) in order, one in memory at a time."""
        return self.masks()

    def masks(self, start: int = 0) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """(id, mask) in order, from number `start` (from 0) on; memory does not grow with their number."""
        contents = self._contents
        for first in range(start, len(self), BLOCK):
            block = slice(first, first + BLOCK)
            ids, shapes, offsets = self.names(block), contents.shapes[block].tolist(), contents.offsets[block].tolist()
            for id, shape, offset in zip(ids, shapes, offsets):
                yield id, self._checked(id, self._read(contents.pixels, id, shape, offset))

    def names(self, block: slice) -> list[str]:
        """The ids of a part of the images; unlike `ids`, they are not kept."""
        try:
            names: list[str] = self._contents.ids.asstr()[block].tolist()
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            raise damaged(self.path, f"its ids cannot be read: {error}") from error
        return names

    def confidence(self, id: str) -> NDArray[np.float32]:
        """The confidence of each pixel of an image: float32 (H, W) in 0..1, in steps of 1/255.

        StppError if the store was written without, or the image is not in it.
        """
        return self.confidence_steps(id).astype(np.float32) / np.float32(255)

    def confidence_steps(self, id: str) -> NDArray[np.uint8]:
        """The same as it is kept: uint8 (H, W), n for n / 255."""
        if self._contents.confidence is None:
            raise StppError(f"{self.path} holds masks without confidence: predict them again with confidence.")
        return self._read(self._contents.confidence, id, *self._place(id))

    def close(self) -> None:
        """Close the file. Using the store afterwards opens it again."""
        if self._opened is not None:
            self._opened.file.close()
            self._opened = self._indexed = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_opened": None, "_indexed": None}

    @property
    def _contents(self) -> Contents:
        if self._opened is None:
            self._opened = open_contents(self.path)
        return self._opened

    @property
    def _index(self) -> _Index:
        if self._indexed is None:
            contents = self._contents
            ids = [id for first in range(0, len(self), BLOCK) for id in self.names(slice(first, first + BLOCK))]
            rows = {id: row for row, id in enumerate(ids)}
            if len(rows) < len(ids):
                raise damaged(self.path, "it holds an image twice")
            self._indexed = _Index(ids, rows, contents.shapes[:], contents.offsets[:])
        return self._indexed

    def _place(self, id: str) -> tuple[list[int], int]:
        """Height and width of a mask, and where in the pixels it begins."""
        row = self._index.rows.get(id)
        if row is None:
            raise StppError(
                f"{self.path} has no mask for image {id!r}; it holds {len(self)} images, of another list. "
                "Predict masks for the list that is used."
            )
        return self._index.shapes[row].tolist(), int(self._index.offsets[row])

    def _read(self, dataset: h5py.Dataset, id: str, shape: list[int], start: int) -> NDArray[np.uint8]:
        height, width = shape
        try:
            flat: NDArray[np.uint8] = dataset[start : start + height * width]
        except (OSError, RuntimeError) as error:
            raise damaged(self.path, f"the mask of image {id!r} cannot be unpacked: {error}") from error
        return flat.reshape(height, width)

    def _checked(self, id: str, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if mask.max() >= len(self.classes) and ((mask >= len(self.classes)) & (mask != IGNORE)).any():
            raise damaged(self.path, f"the mask of image {id!r} has values that are no classes")
        return mask


def assemble(parts: Sequence[Path], ids: Sequence[str], out: Path) -> None:
    """Join part stores into one at `out` that holds exactly `ids`, in this order, one mask in memory at a time.

    The result equals, byte for byte, a store into which all masks were added at once. Problems, all at once, if an id
    is in no part, in more than one, not in `ids` or in `ids` twice, and if the parts differ in classes, palette,
    producer or whether they hold confidence.
    """
    stores = [MaskStore(part) for part in parts]
    if not stores:
        raise StppError(f"There are no parts to assemble {out} from: run the prediction first.")
    source: dict[str, MaskStore] = {}
    doubled, unlike = set(), []
    heads = []
    for store in stores:
        # Closed again at once: there may be more parts than a process may open files.
        with store:
            heads.append((store.classes, store.palette, store.producer, store.has_confidence))
            doubled |= source.keys() & store.ids
            source |= dict.fromkeys(store.ids, store)
        if heads[-1] != heads[0]:
            unlike.append(str(store.path))
    kinds = {
        "asked for more than once": [id for id, count in Counter(ids).items() if count > 1],
        "in no part": [id for id in ids if id not in source],
        "in more than one part": sorted(doubled),
        "in a part, but not asked for": sorted(source.keys() - ids),
        f"made with other classes, colours, confidence or by another producer than {stores[0].path}": unlike,
    }
    problems = [f"{kind}: {len(found)}, such as {', '.join(found[:3])}" for kind, found in kinds.items() if found]
    if problems:
        raise Problems(f"Cannot assemble {out} (delete its {len(stores)} parts and run the prediction again)", problems)
    classes, palette, producer, confidence = heads[0]
    remaining = Counter(store.path for store in source.values())
    with (
        ExitStack() as opened,
        MaskWriter(out, classes=classes, palette=palette, producer=producer, confidence=confidence) as writer,
    ):
        for store in stores:
            opened.enter_context(store)
        for id in ids:
            store = source[id]
            writer.add(id, store[id], store.confidence(id) if confidence else None)
            remaining[store.path] -= 1
            if not remaining[store.path]:
                # Most parts follow one another, so that this leaves one open at a time.
                store.close()


def first_labels(masks: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Each pixel's label in the first of the masks, uint8 (H, W), that does not ignore it; 255 where all do."""
    labels = masks[0]
    for mask in masks[1:]:
        labels = np.where(labels == IGNORE, mask, labels)
    return labels


def write_palette_png(mask: NDArray[np.uint8], palette: Sequence[Sequence[int]], path: Path) -> None:
    """Write a mask, uint8 (H, W), as a palette PNG like those of PASCAL VOC: the pixel values are the classes.

    `palette[c]` is the [r, g, b] of class c; 255 is drawn in VOC's colour for it, values without a colour in black.
    """
    palette_image(mask, palette).save(path, format="PNG")


def palette_image(mask: NDArray[np.uint8], palette: Sequence[Sequence[int]]) -> "Image.Image":
    """The picture that `write_palette_png` writes."""
    from PIL import Image

    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    colours[IGNORE] = IGNORE_COLOUR
    image = Image.fromarray(mask)
    image.putpalette(colours.tobytes())
    return image


def voc_palette(count: int) -> list[list[int]]:
    """The first `count` (at most 256) colours of PASCAL VOC, [r, g, b] of 0..255 (VOC 2012 development kit).

    Bits 0, 1, 2 of the index are the highest bits of red, green and blue, bits 3, 4, 5 the second highest, and so on.
    """
    return [
        [sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]
        for index in range(count)
    ]
