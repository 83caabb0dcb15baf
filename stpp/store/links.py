"""What a folder that people look at has of the stages: links to them, and files of theirs, on every file system."""

import os
import shutil
from pathlib import Path

from stpp.common import disk
from stpp.common.files import replacing, write_text
from stpp.common.terminal import say_once

HEADER = "This file system has no symbolic links. What belongs here is at\n"
"""How a text file begins that stands in for a link; its second line is the path, seen from the file's folder."""


def link(path: Path, target: Path) -> None:
    """Make `path` a relative link to `target`, which need not exist yet.

    Where the file system has no symbolic links, a text file says where it is.
    """
    text = os.path.relpath(target, path.parent)
    if path.is_symlink() and str(path.readlink()) == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink() and _written(path) == text:
        return
    path.unlink(missing_ok=True)
    try:
        path.symlink_to(text)
    except OSError:  # the error differs from one file system to another; one that concerns files as well is raised here
        write_text(path, f"{HEADER}{text}\n")
        say_once("no symbolic links can be made in the folder for results: text files there say where the stages are")


def share(path: Path, source: Path) -> None:
    """Make `path` the file `source`: by a hard link, so that it takes no room, else as a copy with its time stamp.

    What is `source` already stays as it is.
    """
    if not path.is_symlink() and path.exists():
        here, there = path.stat(), source.stat()
        if path.samefile(source) or (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns):
            return
    with replacing(path) as temporary:
        try:
            temporary.hardlink_to(source)
        except OSError:  # another file system, or one without hard links
            shutil.copy2(source, temporary)


def target_of(path: Path) -> Path | None:
    """Where a path that `link` made leads, absolute, whether or not something is there; None for any other path."""
    if path.is_symlink():
        return path.resolve()
    text = _written(path)
    return None if text is None else (path.parent / text).resolve()


def all_links(results: Path) -> list[tuple[Path, Path]]:
    """The links of all configurations in a folder of results, sorted, each with where it leads."""
    found = sorted(path for top in _tops(results) for path in top.rglob("*"))
    return [(path, target) for path in found if (target := target_of(path)) is not None]


def view_folders(results: Path, name: str = "*") -> list[Path]:
    """The folders with the files and the links of a configuration, or of all of them, and all folders in these."""
    inside = (path for top in _tops(results, name) for path in (top, *top.rglob("*")))
    return sorted(path for path in inside if path.is_dir() and not path.is_symlink())


def _tops(results: Path, name: str = "*") -> list[Path]:
    """What `view_folders` begins with. Earlier versions had the links in the folder with the files."""
    files = [path.parent for path in results.glob(f"{name}/{disk.CONFIG}")]
    return [*files, *(path for path in (results / disk.LINKS).glob(name) if path.is_dir())]


def _written(path: Path) -> str | None:
    """The path in a text file that stands in for a link; None for any other path."""
    try:
        with path.open("rb") as file:
            if file.read(len(HEADER)) != HEADER.encode():
                return None
            return os.fsdecode(file.readline().rstrip(b"\n"))
    except OSError:
        return None
