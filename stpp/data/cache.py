"""Decoded images and masks in a scratch file, so that a training decodes each file once and not once an epoch."""

import mmap
import os
import tempfile
from collections.abc import Sequence
from itertools import accumulate, takewhile

import numpy as np

from stpp.data.strong import Mask, Pixels

Pair = tuple[Pixels, Mask]


class DecodedCache:
    """Images, uint8 (H, W, `bands`), with their masks, uint8 (H, W), by number; filled while they are used.

    `shapes` are the (height, width) of all; the first ones are kept, as many as fit in `limit` bytes. The file lies in
    the system's folder for temporary files (`$TMPDIR`) and has no name, so nothing is left of it, however the process
    ends. Processes forked from this one share it. What comes out must not be written to.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], limit: int, bands: int = 3) -> None:
        self._bands = bands
        sizes = ((bands + 1) * height * width for height, width in shapes)
        ends = list(takewhile(lambda end: end <= limit, accumulate(sizes)))
        self._shapes = shapes[: len(ends)]
        # In front of the pixels, one byte for each image says whether it is there.
        self._starts = [len(ends) + start for start in [0, *ends]]
        self._file = tempfile.TemporaryFile(prefix="stpp-decoded-")  # noqa: SIM115 - open as long as the cache
        self._file.truncate(self._starts[-1] + 1)  # no empty file: it can't be mapped
        self._bytes = np.frombuffer(mmap.mmap(self._file.fileno(), 0), np.uint8)
        self._full = False

    @property
    def kept(self) -> int:
        """How many of the images are kept: the first ones."""
        return len(self._shapes)

    @property
    def size(self) -> int:
        """The bytes of all of them, with their masks."""
        return self._starts[-1] - self.kept

    def has_room(self, number: int) -> bool:
        """Whether the image of this number is one of those that are kept."""
        return number < self.kept and not self._full

    def get(self, number: int) -> Pair | None:
        """The image and the mask of this number, if they are there."""
        if number >= self.kept or not self._bytes[number]:
            return None
        height, width = self._shapes[number]
        pixels = self._bytes[self._starts[number] : self._starts[number + 1]].reshape(-1, height, width)
        return pixels[:-1].reshape(height, width, self._bands), pixels[-1]

    def put(self, number: int, image: Pixels, mask: Mask) -> None:
        """Keep them, if there is room and they have the shape that was announced."""
        if not self.has_room(number):
            return
        if mask.shape != self._shapes[number] or image.shape != (*mask.shape, self._bands):
            return
        # Written, not stored to mapped memory: there, a full disk would kill the process.
        start = self._starts[number]
        pieces = ((start, image.tobytes()), (start + image.size, mask.tobytes()), (number, b"\1"))
        try:
            self._full = any(os.pwrite(self._file.fileno(), data, at) < len(data) for at, data in pieces)
        except OSError:
            self._full = True
