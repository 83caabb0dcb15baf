"""A look at every file of a data set: size, digest, labels. What was seen is remembered by the file's stamp."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stpp.common.bands import Bands
from stpp.common.files import write_text
from stpp.data.images import forgives_noise, reader_of, stored_as, stored_bands
from stpp.data.multiband import glance_of
from stpp.data.readers import ImageError, open_stream, unreadable
from stpp.data.record import stamp

FORMAT = 3  # of the cache file
THREADS = 8
GROUP = 32  # files a task: with one, handing out tasks would cost more than many a look
MAX_LABELS = 4096  # distinct labels in one mask

IMAGE = "image"
BANDS = "bands"
Kind = str
"""How files are looked at: as `image_kind` and `mask_kind` say."""


def image_kind(bands: Bands | None, *, has_scale: bool = False) -> Kind:
    """How images are looked at that are made of these bands; `has_scale` says that their scale is known, or will be."""
    if bands is None:
        return IMAGE
    read = bands._replace(scale=None, rgb=None)  # which say nothing of the files
    return f"{IMAGE} {json.dumps([read.plain(), has_scale])}"


def mask_kind(encoding: Mapping[str, Any]) -> Kind:
    """How masks are looked at that are to be read with an encoding: by their colours or values, and JPEG files too."""
    if encoding.get("palette_map"):
        return "noisy coloured mask" if forgives_noise(encoding) else "coloured mask"
    return "noisy mask" if forgives_noise(encoding) else "mask"


class Look(NamedTuple):
    """What a file turned out to be. Of a file with an `error` nothing else is known.

    `stamp` is what `record.stamp` said before it was read; `height`, `width` once upright. `sha256` of the bytes, and
    for masks `values` (raw value "17" or colour "#80ff00" -> number of pixels) and `colours` (value -> colour, of those
    with a palette that are read by value), where its content was looked at, else empty. Of an image whose bands are
    declared, `values` has the number of its "bands". `remark` is what of an image is
    not read, `glance` what it looks like, in hex, where its content was looked at.
    """

    stamp: Sequence[int] = ()
    sha256: str = ""
    height: int = 0
    width: int = 0
    values: Mapping[str, int] = {}
    colours: Mapping[str, str] = {}
    remark: str = ""
    glance: str = ""
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

    def _damaged(self, kind: Kind) -> dict[str, Any]:
        """Images that could not be decoded: path -> stamp, and what an ImageError says."""
        return self._remembered.setdefault("damaged" if kind == IMAGE else f"damaged {kind}", {})

    def _known(self, kind: Kind, path: str, content: bool) -> bool:
        look = self._seen.get((kind, path))
        return look is not None and (look.error is not None or bool(look.sha256) or not content)

    def _look(self, kind: Kind, path: str, content: bool) -> Look:
        earlier = _remembered_look(self._remembered.get(kind, {}).get(path))
        data = None
        try:
            found = stamp(path)
            if (damage := self._damaged(kind).get(path)) and damage[0] == found and not self.verify:
                raise ImageError(path, *damage[1:])
            if earlier.stamp == found and not self.verify and (earlier.sha256 or not content):
                return earlier
            if content or earlier.sha256:
                with open_stream(path) as stream:
                    data = stream.read()
            digest = "" if data is None else hashlib.sha256(data).hexdigest()
            measures = _measure(kind, path, data)
        except ImageError as error:
            if data is not None and kind.startswith(IMAGE):  # what a look at its header may not see
                self._damaged(kind)[path] = [found, error.what, error.remedy, error.detail]
            return Look(error=error)
        except OSError as error:
            return Look(error=unreadable(path, error))
        look = Look(found, digest, *measures)
        if earlier.sha256 and earlier.size == look.size and earlier.sha256 != digest:
            self.changed.add(path)
        return look


Measures = tuple[int, int, dict[str, int], dict[str, str], str, str]


def _measure(kind: Kind, path: str, data: bytes | None = None) -> Measures:
    """What a Look has from its height on, without an error. Raises ImageError."""
    reader = reader_of(path)
    if kind.startswith(f"{IMAGE} "):
        plain, has_scale = json.loads(kind.removeprefix(IMAGE))
        return _measure_bands(path, data, Bands.said(plain), has_scale)
    if kind == IMAGE:
        height, width, remark = reader.image_size(path, data)
        if data is None or not hasattr(reader, "glance"):
            return height, width, {}, {}, remark, ""
        return height, width, {}, {}, remark, reader.glance(path, data)
    noisy = kind.startswith("noisy")
    height, width = reader.mask_size(path, data, noisy)
    if data is None:
        return height, width, {}, {}, "", ""
    values = _count_labels(path, reader.labels(path, data, "coloured" in kind, noisy))
    known = reader.colours(path, data) if "coloured" not in kind and hasattr(reader, "colours") else {}
    colours = {raw: known[int(raw)] for raw in values if not raw.startswith("#") and int(raw) in known}
    return height, width, values, colours, "", ""


def _measure_bands(path: str, data: bytes | None, bands: Bands | None, has_scale: bool) -> Measures:
    """The same of an image that is made of these bands. Raises ImageError."""
    assert bands is not None
    found = stored_as(path, data, bands, has_scale=has_scale)
    count = {BANDS: found.bands}
    if data is None:
        return found.height, found.width, count, {}, "", ""
    return found.height, found.width, count, {}, "", glance_of(stored_bands(path, data, bands, has_scale=has_scale))


def _count_labels(path: str, raw: NDArray[Any]) -> dict[str, int]:
    """How many pixels have each raw value or colour. Raises ImageError if these are too many to be labels."""
    if raw.dtype == np.uint8:
        counts = np.bincount(raw.ravel())
        values = np.flatnonzero(counts)
        counts = counts[values]
    else:  # by runs of equal pixels, of which a mask has few
        flat = raw.ravel()
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        values, runs = np.unique(flat[starts], return_inverse=True)
        counts = np.bincount(runs, weights=np.diff(starts, append=flat.size)).astype(np.int64)
    if len(values) > MAX_LABELS:
        remedy = "Give label masks: grey, palette or RGB images with one value or colour for each class"
        raise ImageError(path, f"more than {MAX_LABELS} different labels, so a picture and not a mask", remedy)
    names = [f"#{value:06x}" if raw.dtype == np.uint32 else str(value) for value in values.tolist()]
    return dict(zip(names, counts.tolist()))


def _remembered_look(fields: Any) -> Look:
    """An earlier look from the cache; an empty one where it remembers nothing, or nothing of this kind."""
    types = [list, str, int, int, dict, dict, str, str]
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
