"""The recorded index of a data set, and whether it is still true. Standard library only: read at every start."""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stpp.common import disk
from stpp.common.errors import StppError

FORMAT = 3  # of the recorded index; raised when its layout or the meaning of a field changes


def index_path(results: Path, data: Mapping[str, Any]) -> Path:
    """Where the index of the data set that the settings `data` describe is recorded."""
    # Through JSON once before sorting, so that the keys 0 and "0" of a label map give one digest.
    plain = json.loads(json.dumps(data))
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return Path(results) / disk.DATA / f"index-{digest[:8]}.json"


def load_fresh(results: Path, data: Mapping[str, Any]) -> dict[str, Any] | None:
    """The recorded index where nothing that it rests on has changed, else None.

    Compared are the stamps of the list files and of every labeled, val and test image and mask, and the names in
    scanned folders. Unlabeled images are not looked at: there may be a million.
    """
    try:
        record: dict[str, Any] = json.loads(index_path(results, data).read_text(encoding="utf-8"))
        if not _complete(record):
            return None
        watch = record["watch"]
        unchanged = all(stamp_or_none(path) == old for path, old in watch["files"].items())
        unchanged = unchanged and all(_is_as_recorded(path, old) for path, old in watch["folders"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, StppError):
        return None  # missing, or not written by this program: a new index replaces it
    return record if unchanged else None


def in_place(record: Mapping[str, Any]) -> bool:
    """Whether the manifests of a recorded index lie where jobs look for them, as they were last written."""
    manifests: Mapping[str, Any] = record["watch"]["manifests"]
    try:
        return bool(manifests) and all(stamp(path) == old for path, old in manifests.items())
    except (OSError, ValueError):
        return False


def _is_as_recorded(folder: str, digest: str) -> bool:
    found = listing(folder)
    return not found.errors and names_digest(found.names) == digest


def _complete(record: Mapping[str, Any]) -> bool:
    """Whether a record has all that is read from it, in the right kinds; KeyError, TypeError or the like if not."""
    subsets = record["subsets"].values()
    return (
        record["format"] == FORMAT
        and "labeled" in record["subsets"]
        and all(len(subset["fingerprint"]) == len(subset["sha256"]) == 64 and subset["count"] > 0 for subset in subsets)
        and record["watch"]["manifests"].keys() in (set(), {subset["manifest"] for subset in subsets})
        and all(isinstance(text, str) for text in [*record["classes"], *record["warnings"]])
        and all(len(colour) == 3 for colour in record["palette"])
        and len(record["palette"]) == len(record["classes"]) > 1
    )


def stamp(path: str | Path) -> list[int]:
    """Size in bytes, times in ns of the last change of the content and of the last change at all, and inode of a file.

    Anybody can set the time of the content, and programs that copy or restore files do; nobody can set the other one.
    The device is left out: its number is another one after a restart or a new mount.
    """
    status = Path(path).stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def stamp_or_none(path: str | Path) -> list[int] | None:
    """`stamp` of a file, or None where there is none. Raises OSError for one that may not be looked at."""
    try:
        return stamp(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


class Listing(NamedTuple):
    """What lies below a folder.

    `names` are the files as sorted relative paths with "/". `entered` are the real paths of all folders that were read,
    the first one included. `errors` say which folders could not be read, or which links not be followed: what is
    behind these is missing.
    """

    names: list[str]
    entered: set[str]
    errors: list[OSError]


def listing(folder: str | Path) -> Listing:
    """The files below `folder`; hidden files and folders are left out.

    Symbolic links are followed; one that leads back into itself is entered once. Raises StppError for one that leads
    to a folder above `folder`, such as `/`: there is everything else, too.
    """
    found = Listing([], set(), [])
    top = os.path.realpath(folder)
    waiting = [""]
    while waiting:
        below = waiting.pop()
        where = f"{folder}/{below}"
        real = os.path.realpath(where)
        if real in found.entered:
            continue
        if real != top and f"{top}/".startswith(f"{real.rstrip('/')}/"):
            raise StppError(
                f"the link {where.rstrip('/')} leads to {real}, which holds {folder} and everything next to it; "
                "remove the link, or point it to the folder of images that is meant"
            )
        found.entered.add(real)
        inner: list[str] = []
        try:
            with os.scandir(where) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    (inner if _is_folder(entry, found.errors) else found.names).append(f"{below}{entry.name}")
        except OSError as error:
            found.errors.append(error)
        waiting += (f"{name}/" for name in sorted(inner, reverse=True))
    found.names.sort()
    return found


def _is_folder(entry: "os.DirEntry[str]", errors: list[OSError]) -> bool:
    """Whether an entry is a folder; of a link that leads nowhere this is not known, and it counts as a file."""
    try:
        if not entry.is_symlink():
            return entry.is_dir()
        return stat.S_ISDIR(Path(entry.path).stat().st_mode)
    except OSError as error:
        errors.append(error)
        return False


def names_digest(names: Iterable[str]) -> str:
    """SHA-256 (hex) of names, in their order."""
    return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()
