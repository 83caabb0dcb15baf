"""A look at every file of a data set: size, digest, labels. What was seen is remembered by the file's stamp."""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from stpp.data.images import (
    ImageError,
    is_coloured,
    open_image,
    open_mask,
    open_stream,
    raw_labels,
    unreadable,
    upright_size,
)
from stpp.data.record import stamp
from stpp.files import write_text

FORMAT = 2  # of the cache file
THREADS = 8
GROUP = 32  # files a task: with one, handing out tasks would cost more than many a look
MAX_LABELS = 4096  # distinct labels in one mask

Kind = Literal["image", "mask", "coloured mask"]


class Look(NamedTuple):
    """What a file turned out to be. Of a file with an `error` nothing else is known.

    `stamp` is what `record.stamp` said before it was read; `height`, `width` once upright. `sha256` of the bytes, and
    for masks `values` (raw value "17" or colour "#80ff00" -> number of pixels), where its content was looked at, else
    empty.
    """

    stamp: Sequence[int] = ()
    sha256: str = ""
    height: int = 0
    width: int = 0
    values: Mapping[str, int] = {}
    error: ImageError | None = None

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.stamp[0] if self.stamp else 0


class Inspector:
    """Looks at files, several at a time, and no more closely than it must.

    A file whose stamp is that of an earlier look is not opened again; with `verify` it is, if its content matters.
    `changed` gathers the paths whose content is not what it was under the same size. Without a `cache` file there was
    no earlier look.
    """

    def __init__(self, cache: Path | None, *, verify: bool = False) -> None:
        self.cache = cache
        self.verify = verify
        self.changed: set[str] = set()
        self._remembered = {} if cache is None else _load(cache)
        self._seen: dict[tuple[str, str], Look] = {}

    def look(self, kind: Kind, paths: Iterable[str], *, content: bool) -> dict[str, Look]:
        """A look at each of the files: at its header alone, or at its `content` as well.

        A file whose content is known is looked at as closely again when it was touched. Masks are "coloured" where
        their palettes and not their values count.
        """
        wanted = dict.fromkeys(paths)
        content = content or self.verify
        missing = [path for path in wanted if not self._known(kind, path, content)]
        groups = [missing[start : start + GROUP] for start in range(0, len(missing), GROUP)]

        def look_at(group: list[str]) -> list[Look]:
            return [self._look(kind, path, content) for path in group]

        with ThreadPoolExecutor(THREADS) as pool:
            for group, looks in zip(groups, pool.map(look_at, groups)):
                self._seen.update({(kind, path): look for path, look in zip(group, looks)})
        return {path: self._seen[kind, path] for path in wanted}

    def save(self) -> None:
        """Remember what was seen, beside what earlier runs saw of other files."""
        if self.cache is None:
            return
        for (kind, path), look in self._seen.items():
            if look.error is None:
                self._remembered.setdefault(kind, {})[path] = look[:-1]
            else:
                self._remembered.get(kind, {}).pop(path, None)
        write_text(self.cache, json.dumps({"format": FORMAT, **self._remembered}, separators=(",", ":")))

    def _known(self, kind: Kind, path: str, content: bool) -> bool:
        look = self._seen.get((kind, path))
        return look is not None and (look.error is not None or bool(look.sha256) or not content)

    def _look(self, kind: Kind, path: str, content: bool) -> Look:
        earlier = _remembered_look(self._remembered.get(kind, {}).get(path))
        try:
            found = stamp(path)
            if earlier.stamp == found and not self.verify and (earlier.sha256 or not content):
                return earlier
            data = None
            if content or earlier.sha256:
                with open_stream(path) as stream:
                    data = stream.read()
            digest = "" if data is None else hashlib.sha256(data).hexdigest()
            height, width, values = _measure(kind, path, data)
        except ImageError as error:
            return Look(error=error)
        except OSError as error:
            return Look(error=unreadable(path, error))
        look = Look(found, digest, height, width, values)
        if earlier.sha256 and earlier.size == look.size and earlier.sha256 != digest:
            self.changed.add(path)
        return look


def _measure(kind: Kind, path: str, data: bytes | None = None) -> tuple[int, int, dict[str, int]]:
    """Height, width and, where the bytes of a mask are given, its labels. Raises ImageError."""
    if kind == "image":
        with open_image(path, data) as image:
            size = upright_size(image)
            if not _seems_whole(image):
                image.load()  # which says for sure
            return *size, {}
    with open_mask(path, data) as image:
        size = upright_size(image)
        if data is not None and image.format == "PNG" and not _has_all_rows(data):
            raise ImageError(path, "truncated or damaged file", "Copy or download it again", "rows are missing")
        return *size, {} if data is None else _count_labels(path, image, by_colour=kind == "coloured mask")


def _has_all_rows(png: bytes) -> bool:
    """Whether the pixels of a PNG file reach to its last row; Pillow fills up with zeros, and zero is a class."""
    width, height, depth, colour, interlaced = (*struct.unpack_from(">IIBB", png, 16), png[28])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    parts, at = [], 8  # joined at the end: a file may have a million of them
    while at + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        if name == b"IDAT":
            parts.append(png[at + 8 : at + 8 + length])
        at += length + 12
    packed = b"".join(parts)
    # (first column, first row, step to the next column, to the next row) of the passes of an interlaced image
    adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    sizes = [
        (-(-(width - left) // right), -(-(height - top) // down))
        for left, top, right, down in (adam7 if interlaced else ((0, 0, 1, 1),))
    ]
    expected = sum((1 + -(-columns * bits // 8)) * rows for columns, rows in sizes if columns > 0 and rows > 0)
    return len(zlib.decompressobj().decompress(packed, expected)) == expected


def _count_labels(path: str, image: Image.Image, *, by_colour: bool) -> dict[str, int]:
    """How many pixels have each raw value or colour. Raises ImageError if these are too many to be labels."""
    labels: dict[str, int] = {}
    if is_coloured(image, by_colour):
        image.load()
        image.info.pop("transparency", None)
        colours = image.convert("RGB").getcolors(MAX_LABELS) or []
        labels = {f"#{r:02x}{g:02x}{b:02x}": count for count, (r, g, b) in colours}  # type: ignore[misc]
    else:
        raw = raw_labels(image, by_colour=False)
        if raw.dtype == np.uint8:
            counts = np.bincount(raw.ravel())
            values = np.flatnonzero(counts)
            labels = {str(value): int(counts[value]) for value in values}
        else:
            values, counts = np.unique(raw, return_counts=True)
            if len(values) <= MAX_LABELS:
                labels = {str(value): int(count) for value, count in zip(values.tolist(), counts)}
    if not labels:
        remedy = "Give label masks: grey, palette or RGB images with one value or colour for each class"
        raise ImageError(path, f"more than {MAX_LABELS} different labels, so a picture and not a mask", remedy)
    return labels


def _seems_whole(image: Image.Image) -> bool:
    """Whether an opened file reaches as far as files of its format do; one that does not may still be whole."""
    stream = getattr(image, "fp", None)
    if stream is None:
        return image.format == "WEBP"  # which is read to its end when it is opened
    position = stream.tell()
    end = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, end - 16))
    tail: bytes = stream.read()
    stream.seek(position)
    if image.format == "PNG":
        return b"IEND" in tail
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2  # offsets and lengths of strips, or of tiles
        offsets, lengths = (tags.get(strips, tags.get(tiles, ())) for strips, tiles in ((273, 324), (279, 325)))
        return len(offsets) > 0 and max(map(sum, zip(offsets, lengths))) <= end
    return tail.rstrip(b"\0").endswith(b"\xff\xd9")


def _remembered_look(fields: Any) -> Look:
    """An earlier look from the cache; an empty one where it remembers nothing, or nothing of this kind."""
    types = [list, str, int, int, dict]
    known = isinstance(fields, list) and [type(field) for field in fields] == types
    return Look(*fields) if known and [type(number) for number in fields[0]] == [int] * 4 else Look()


def _load(cache: Path) -> dict[str, dict[str, Any]]:
    """What the cache file remembers: kind -> path -> fields of a Look; nothing where it is missing or foreign."""
    try:
        remembered = json.loads(cache.read_text(encoding="utf-8"))
        known = remembered.pop("format") == FORMAT and all(isinstance(looks, dict) for looks in remembered.values())
        return remembered if known else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
