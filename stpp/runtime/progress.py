"""What a stage has done so far, kept beside its artifacts until it ends, so that a stopped stage goes on where it was.

It lies in `unfinished/` in the stage's folder, which is no declared output, because Snakemake deletes the outputs of a
job that was stopped.
"""

import json
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.files import aside, replacing, write_text

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU)
"""What schedulers, people and a terminal that closes send to end a job: save and stop."""
BEGAN = time.monotonic()
"""About when this process began."""
MOST_TOLD = 100_000
"""Bytes at most of the file that tells how far a stage is; a longer one was not written by a stage."""
TELL_EVERY = 1.0
"""Least seconds between two writings of that file."""

Item = TypeVar("Item")


def answered() -> list[signal.Signals]:
    """Those of `SIGNALS` that stop this process: not SIGHUP where `nohup` has it ignored."""
    kept = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in SIGNALS if not (kept and number == signal.SIGHUP)]


class Stopped(StppError):
    """The stage was asked to stop, has saved its work and ends; `signal` is the signal's number."""

    def __init__(self, number: int, where: str) -> None:
        self.signal = number
        super().__init__(f"stopped by {signal.Signals(number).name} {where}; all is saved, run the workflow again")


class Progress:
    """When to save and when to stop; a context manager around the work of a stage.

    Inside, a signal that is `answered` only asks to stop: the work goes on to a point where it can be saved. `signal`
    is the number of the first one, or 0. A person who asks again by SIGINT ends the process at once; schedulers and
    torchrun may each send the same SIGTERM.
    """

    def __init__(self, folder: Path, identity: str, minutes: float, keeps: bool = True) -> None:
        """`folder` is the place for unfinished work of `identity`, the stage with what it read, saved every `minutes`.

        Of several processes that work on one stage, one `keeps` it.
        """
        self.folder = folder
        self.signal = 0
        self._identity = identity
        self._seconds = 60 * minutes
        self._saved = time.monotonic()  # not the wall clock, which jumps
        self._keeps = keeps
        self._before: dict[signal.Signals, Any] = {}
        self._teller = ProgressFile(folder)

    def __enter__(self) -> Self:
        if self._keeps:
            self._claim()
        self._before = {number: signal.signal(number, self._ask) for number in answered()}
        return self

    def _claim(self) -> None:
        mark = self.folder / "identity"
        found = mark.read_text() if mark.exists() else None
        if found not in (None, self._identity):
            print(
                f"{self.folder} holds work of another stage, other code or other inputs, {found}: beginning anew",
                file=sys.stderr,
            )
        if found != self._identity:
            shutil.rmtree(self.folder, ignore_errors=True)
            write_text(mark, self._identity)
        mark.touch()  # its time says when the work went on

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._teller.end(well=kind is None)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            sys.exit(128 + number)
        self.signal = self.signal or number

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self.signal > 0 or time.monotonic() - self._saved >= self._seconds

    def saved(self, where: str, stop: int | None = None) -> None:
        """Say that the work up to `where` is saved; raises Stopped if the stage was asked to stop.

        `stop` is the signal, or 0, that several processes have agreed on; default: this one's.
        """
        if number := self.signal if stop is None else stop:
            raise Stopped(number, where)
        self._saved = time.monotonic()

    def tell(self, done: int, total: int, **facts: Any) -> None:
        """Say how far the work is, for `stpp status`; see `ProgressFile.tell`."""
        if self._keeps:
            self._teller.tell(done, total, **facts)


class ProgressFile:
    """Says in `progress.json` in `folder` how far a stage is, so that it can be followed from another process.

    The file is whole at any time, but not synced: it is lost with the process's machine, and nobody misses it. That it
    cannot be written, say because the disk is full, is no reason to stop the work.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / disk.PROGRESS
        self._content: dict[str, Any] = {}
        self._before = {"seconds": 0.0, "cpu_seconds": 0.0}
        self._written = -TELL_EVERY

    def tell(self, done: int, total: int, **facts: Any) -> None:
        """`done` of `total` images, and JSON values that are worth knowing; written at most once a second."""
        if not self._content:
            who = {"host": platform.node(), "process": os.getpid()}
            self._content = {"running": True, **who, "since": time.time(), "first": done}
            self._before = spent(self._path.parent)
        self._content |= {"done": done, "total": total, **facts}
        if time.monotonic() - self._written >= TELL_EVERY:
            self._write()

    def end(self, well: bool) -> None:
        """Say that all images are done and only the artifacts are to be written, or that the process gave up."""
        if self._content:
            self._content |= {"done": self._content["total"]} if well else {"running": False}
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        temporary = aside(self._path)
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            now = {"seconds": time.monotonic() - BEGAN, "cpu_seconds": sum(os.times()[:4])}
            told = {"time": time.time(), "spent": {key: self._before[key] + now[key] for key in now}}
            temporary.write_text(json.dumps(self._content | told) + "\n")
            temporary.replace(self._path)


def progress_of(folder: Path) -> list[dict[str, Any]]:
    """What each job that works or worked on the unfinished work in `folder` has told last; several where shards do."""
    return [told for path in sorted(folder.rglob(disk.PROGRESS)) if (told := _told(path)) is not None]


def _told(path: Path) -> dict[str, Any] | None:
    """What a job told in a file; None if it was just removed, or was not written by a stage.

    What every job tells has the type that `ProgressFile` writes and a range in which it can be shown; the facts are not
    looked at, but for the number of epochs.
    """
    try:
        if not path.is_file() or path.stat().st_size > MOST_TOLD:
            return None
        content = json.loads(path.read_bytes())
        numbers = {key: content[key] for key in ("done", "total", "first", "since", "time")}
        numbers |= {key: content[key] for key in ("epoch", "epochs") if "epochs" in content}
        spent = content.get("spent", {})
        usable = all(map(_is_amount, [*numbers.values(), *spent.values()]))
        usable &= isinstance(content["running"], bool) and isinstance(content["host"], str)
        usable &= type(content["process"]) is int and 0 < content["process"] < 2**31
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return {**content, "spent": spent} if usable else None


def _is_amount(value: Any) -> bool:
    """Whether this is a number such as times and counts are."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15


def spent(folder: Path) -> dict[str, float]:
    """`seconds` and `cpu_seconds` that they spent, those included that were stopped before them."""
    found = [content["spent"] for content in progress_of(folder)]
    return {key: sum((each.get(key, 0.0) for each in found), 0.0) for key in ("seconds", "cpu_seconds")}


def followed(items: Sequence[Item], folder: Path) -> Iterator[Item]:
    """`items`, while `progress.json` in `folder` says how many of them are done."""
    teller, well = ProgressFile(folder), False
    try:
        for number, item in enumerate(items):
            teller.tell(number, len(items))
            yield item
        well = True
    finally:
        teller.end(well)


class SavedParts:
    """The closed part files of a list that is worked through in order.

    `<first>.<suffix>` holds the items from number `first` (from 0) on; `size` tells how many they are.
    """

    def __init__(self, folder: Path, suffix: str, size: Callable[[Path], int]) -> None:
        self._folder = folder
        self._suffix = suffix
        self._size = size

    def writing(self, first: int) -> AbstractContextManager[Path]:
        """A temporary path that becomes the part of the items from `first` on when the block ends well."""
        return replacing(self._folder / f"{first}.{self._suffix}")

    def done(self) -> tuple[list[Path], int]:
        """The parts that follow one another from item 0 on, and how many items they hold.

        Two writers of one stage may leave parts that overlap: one chain of them is enough.
        """
        chain: list[Path] = []
        end = 0
        while (path := self._folder / f"{end}.{self._suffix}").exists():
            chain.append(path)
            if not (size := self._size(path)):
                break  # of an empty list, which has one part
            end += size
        return chain, end
