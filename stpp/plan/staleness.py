"""Stages that were made from other bytes than are there now: stale ones.

A stage's record says the checksums of the artifacts that it read. Once one of these was made anew with other bytes, as
other numbers of threads and processes may give, the stage is no longer what its recipe says, nor is any that reads it.
"""

import hashlib
import json
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stpp.common import disk

Record = Mapping[str, Any]
"""The content of a `stage.json`."""


def checksum_in(record: Record, name: str) -> str:
    """The SHA-256 (hex) of a stage's artifact, by its record.

    That of `stage.json` itself stands for all artifacts: it is over their checksums, since times differ in every run.
    """
    sums: Mapping[str, str] = record["sha256"]
    if name == disk.RECORD:
        return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
    return sums[name]


class Staleness:
    """Which finished stages are stale; `record_of` gives the record of a stage by its folder, None if it has none."""

    def __init__(self, record_of: Callable[[str], Record | None]) -> None:
        self._record_of = record_of
        self._reasons: dict[str, str] = {}

    def reason(self, folder: str) -> str:
        """Why the stage in `folder`, a path below the stages', is stale; empty if it is not, or not finished.

        A record of an earlier version, which does not say what the stage read, is taken as it is.
        """
        if folder not in self._reasons:
            self._reasons[folder] = ""  # should records claim that stages read each other
            self._reasons[folder] = next(self._found(self._record_of(folder)), "")
        return self._reasons[folder]

    def chain(self, folder: str) -> list[str]:
        """The stale stages on which the one in `folder` rests, and then itself, if it is stale."""
        found: dict[str, None] = {}

        def visit(folder: str, above: frozenset[str]) -> None:
            if folder not in found | dict.fromkeys(above) and self.reason(folder):
                for path in _read(self._record_of(folder)):
                    visit(path.rpartition("/")[0], above | {folder})
                found[folder] = None

        visit(folder, frozenset())
        return list(found)

    def _found(self, record: Record | None) -> Iterator[str]:
        for path, digest in _read(record).items():
            folder, _, name = path.rpartition("/")
            source = self._record_of(folder)
            if source is None:
                continue
            try:
                changed = checksum_in(source, name) != digest
            except (KeyError, TypeError):
                changed = True
            if changed:
                yield f"{path if name != disk.RECORD else folder} was made anew with other bytes after this read it"
            elif self.reason(folder):
                yield f"{folder}, which it read, is stale"


def _read(record: Record | None) -> Mapping[str, str]:
    read = (record or {}).get("read")
    return read if isinstance(read, dict) else {}


def record_in(stages: Path, folder: str) -> Record | None:
    """The record of the stage in `folder`, a path below `stages`; None if it is not finished, or cannot be read."""
    try:
        record = json.loads((stages / folder / disk.RECORD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def stale(folders: Iterable[str], record_of: Callable[[str], Record | None]) -> dict[str, str]:
    """Why stages are stale, by folder, of those in `folders` that are; `record_of` as `Staleness` wants it."""
    staleness = Staleness(record_of)
    return {folder: reason for folder in folders if (reason := staleness.reason(folder))}


def remedy(stages: Path, folders: Iterable[str]) -> str:
    """The command after which the workflow makes these stages anew."""
    return f"rm {' '.join(shlex.quote(str(stages / folder / disk.RECORD)) for folder in folders)}"


def as_text(stages: Path, found: Mapping[str, str]) -> str:
    """The stale stages, a line each, and what to do; empty if there are none."""
    return "".join(f"stale    {folder}  {reason}\n" for folder, reason in found.items()) + advice(stages, found)


def advice(stages: Path, folders: Collection[str]) -> str:
    """What to do about stale stages; empty if there are none."""
    if not folders:
        return ""
    what = "Stale stages were made from artifacts that are other ones now. To make them anew, run the workflow after"
    return f"{what}\n\n    {remedy(stages, folders)}\n"
