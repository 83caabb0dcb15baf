"""Files that are whole or absent: written aside, synced, renamed."""

import hashlib
import io
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stpp.common.owner import lives, signed


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends well and vanishes when it does not.

    No other process, on this machine or another, uses the same name, so two writers of one file cannot mix their bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = aside(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def aside(path: Path) -> Path:
    """A new name beside `path` for what is not whole yet; it says which process writes it.

    Of a long name only the beginning is in it, since a name has 255 bytes at most.
    """
    return path.with_name(f".{path.name[:40]}.{signed()}.tmp")


class Sink(io.FileIO):
    """A file for a library that crashes when it cannot write, as HDF5 does on a full disk.

    The first error of writing is kept as `error`, and that write and all later ones are passed over, so that the
    library can close the file without an error. Whoever closes it raises the error.
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


def remove_leftovers(folder: Path, of: str = "*") -> None:
    """Remove what writers that were killed left in `folder`, files or folders, of the names that match `of`.

    What a living process writes stays.
    """
    for path in folder.glob(f".{of}.tmp"):
        with suppress(FileNotFoundError):  # its writer has just renamed it
            if not lives(path.name, time.time() - path.lstat().st_mtime):
                if path.is_dir() and not path.is_symlink():
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
