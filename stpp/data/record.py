"""The recorded index of a data set, and whether it is still true. Standard library only: read at every start."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FORMAT = 3  # of the recorded index; raised when its layout or the meaning of a field changes


def index_path(results: Path, data: Mapping[str, Any]) -> Path:
    """Where the index of the data set that the settings `data` describe is recorded."""
    # Through JSON once before sorting, so that the keys 0 and "0" of a label map give one digest.
    plain = json.loads(json.dumps(data))
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return Path(results) / "data" / f"index-{digest[:8]}.json"


def load_fresh(results: Path, data: Mapping[str, Any]) -> dict[str, Any] | None:
    """The recorded index where nothing that it rests on has changed, else None.

    Compared are the stamps of the list files and of every labeled, val and test image and mask, the names in scanned
    folders, and the stamps of the manifests, so that an edited one is written anew. Unlabeled images are not looked at:
    there may be a million.
    """
    try:
        record: dict[str, Any] = json.loads(index_path(results, data).read_text(encoding="utf-8"))
        if not _complete(record):
            return None
        watch = record["watch"]
        unchanged = all(stamp(path) == old for path, old in watch["files"].items())
        unchanged = unchanged and all(names_digest(listing(path)) == old for path, old in watch["folders"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # missing, or not written by this program: a new index replaces it
    return record if unchanged else None


def _complete(record: Mapping[str, Any]) -> bool:
    """Whether a record has all that is read from it, in the right kinds; KeyError, TypeError or the like if not."""
    subsets = record["subsets"].values()
    return (
        record["format"] == FORMAT
        and "labeled" in record["subsets"]
        and all(len(subset["fingerprint"]) == len(subset["sha256"]) == 64 and subset["count"] > 0 for subset in subsets)
        and all(subset["manifest"] in record["watch"]["files"] for subset in subsets)
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


def listing(folder: str | Path) -> list[str]:
    """The files below `folder` as sorted relative paths with "/"; hidden files and folders are left out.

    Symbolic links are followed; one that leads back into itself is entered once.
    """
    found: list[str] = []
    entered: set[str] = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(where, folder)
        found += [Path(below, name).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)


def names_digest(names: Iterable[str]) -> str:
    """SHA-256 (hex) of names, in their order."""
    return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()
