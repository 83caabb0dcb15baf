"""Files that are whole or absent: written aside, synced, renamed."""

import hashlib
import io
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends well and vanishes when it does not.

    No other process, on this machine or another, uses the same name, so two writers of one file cannot mix their bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of a long name only the beginning, since a name has 255 bytes at most.
    temporary = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


class Sink(io.FileIO):
    """A file for a library that crashes when it cannot write, as HDF5 does on a full disk.

    The first error of writing is kept as `error`, and that write and all later ones are passed over, so that the
    library can close the file in peace. Whoever closes it raises the error.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        super().__init__(path, "w+")

    def write(self, data: Any) -> int:
        """Write all of `data`, or nothing more once an error has happened; returns its size in bytes."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view) and self.error is None:
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.error = error
        return len(view)


ABANDONED = 3600.0
"""Seconds after which what nobody writes to any more counts as left behind by a writer that was killed."""


def remove_leftovers(folder: Path, of: str = "*", idle: float = 0.0) -> None:
    """Remove what writers that were killed left in `folder`, those of the names that match `of`.

    Where another writer may be at work, only what has not been written to for `idle` seconds is removed.
    """
    for path in folder.glob(f".{of}.tmp"):
        with suppress(FileNotFoundError):  # it has just got its name
            if time.time() - path.stat().st_mtime >= idle:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all; a file that already says so keeps its time stamp."""
    if path.exists() and path.read_bytes() == text.encode():
        return
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
