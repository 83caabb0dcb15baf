"""Who is at work on which stages: marks of processes that live, which keep others away.

A mark is a small file in `.locks` in the folder of the stages. Its name says which process put it up, its text what
that process holds, and its time is renewed as long as the process lives. A process puts up its mark first and looks at
the others' then; if one of them is in the way, it takes its own down, and waits or gives up. So of two that come at the
same moment at least one sees the other. Nobody changes a mark of another process, and no name is used again. So whoever
removes the mark of a dead process takes nothing from a living one.

This asks nothing of the file system but that new files are seen: the locks of the kernel are missing on some network
file systems, and on others they hold on one machine only.
"""

import json
import os
import platform
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.owner import known_dead, lives, signed
from stpp.common.terminal import is_line

FOLDER = disk.LOCKS
BEAT = 20.0
"""Seconds between two signs of life; `owner.SILENT` are many times as much."""
FORGOTTEN = 86400.0
"""Seconds of silence after which a mark of another machine is removed: a process that only slept may come back."""
TRIES = 5
"""How often a process that does not wait looks again, since what is in its way may be another one's try."""


@dataclass(frozen=True)
class Holder:
    """A process that holds `path`, below the stages' folder, since `since` (seconds since 1970).

    An empty path is all of that folder; an absolute one are results in which a run of the workflow is at work.
    """

    path: str
    process: int
    host: str
    since: float

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    def folder(self, stages: Path) -> Path:
        """What it holds."""
        return stages / self.path

    def is_in_the_way_of(self, path: str) -> bool:
        """Whether both want the same folder, or one a folder in that of the other."""
        mine, other = [f"{each}/" if each else "" for each in (path, self.path)]
        return mine.startswith(other) or other.startswith(mine)


class InUse(StppError):
    """A folder cannot be had, because `holder` has it."""

    def __init__(self, stages: Path, holder: Holder) -> None:
        self.holder = holder
        super().__init__(f"{holder.folder(stages)} is in use ({holder}); wait until that process ends")


class Hold:
    """The mark of this process: it holds `path`, see `Holder`, until `release` or its own end."""

    def __init__(self, stages: Path, path: str) -> None:
        """Put up the mark, and look at no other. Raises StppError if the folder for marks is a link."""
        self._process = os.getpid()
        self._name = signed()
        self._folder = _opened(stages, make=True)
        self._over = threading.Event()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            file = os.open(self._name, flags, 0o666, dir_fd=self._folder)
            try:
                # By the clock of the file system, which all machines share.
                self._time = os.fstat(file).st_mtime
                who = {"process": self._process, "host": platform.node(), "since": self._time}
                os.write(file, json.dumps({"path": path, **who}).encode())
            finally:
                os.close(file)
        except OSError:
            self._remove(self._name)
            os.close(self._folder)
            raise
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def in_the_way_of(self, path: str) -> list[Holder]:
        """The others that live and hold `path`, something in it or above it; what the dead left is removed."""
        for name, silent in _marks(self._folder, self._time):
            if known_dead(name) or silent > FORGOTTEN:
                self._remove(name)
        return _others(self._folder, path, self._time, self._name)

    def release(self) -> None:
        """Take the mark down; in a process that was forked off nothing happens, since the mark is not its own."""
        if os.getpid() == self._process and not self._over.is_set():
            self._over.set()
            self._thread.join()
            self._remove(self._name)
            os.close(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with suppress(OSError):  # the folder may be gone, or the file system away for a moment
                os.utime(self._name, dir_fd=self._folder, follow_symlinks=False)

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(name, dir_fd=self._folder)


def hold(stages: Path, path: str) -> Hold:
    """Hold `path`, see `Holder`. Raises InUse if another process has it, something in it or above it."""
    for _ in range(TRIES):
        holder = Hold(stages, path)
        others = holder.in_the_way_of(path)
        if not others:
            return holder
        holder.release()
        time.sleep(random.uniform(0.02, 0.2))
    raise InUse(stages, others[0])


def hold_when_free(stages: Path, path: str) -> tuple[Hold, bool]:
    """Hold `path` as soon as no other process does, and whether it was necessary to wait; says once for whom."""
    waited = False
    while True:
        while others := holders(stages, path):
            if not waited:
                print(f"waiting for {others[0]}, which has {others[0].folder(stages)}", file=sys.stderr, flush=True)
            waited = True
            time.sleep(random.uniform(0.3, 0.7))
        with suppress(InUse):
            return hold(stages, path), waited


def holders(stages: Path, path: str = "") -> list[Holder]:
    """The processes that hold `path`, something in it or above it; nobody notices the question."""
    try:
        folder = _opened(stages, make=False)
    except FileNotFoundError:
        return []
    try:
        return _others(folder, path, time.time())
    finally:
        os.close(folder)


def _opened(stages: Path, make: bool) -> int:
    """A descriptor of the folder for marks."""
    folder = stages / FOLDER
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (FileExistsError, NotADirectoryError):
        raise StppError(f"{folder} is a link or a file, expected a folder for marks of processes; remove it") from None


def _marks(folder: int, now: float) -> Iterator[tuple[str, float]]:
    """The names of the marks, and for how many seconds each is silent."""
    for name in sorted(os.listdir(folder)):
        with suppress(OSError):  # it has just been taken down
            yield name, now - os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime


def _others(folder: int, path: str, now: float, own: str = "") -> list[Holder]:
    alive = [name for name, silent in _marks(folder, now) if name != own and lives(name, silent)]
    found = [holder for name in alive if (holder := _read(folder, name)) is not None]
    return [holder for holder in found if holder.is_in_the_way_of(path)]


def _read(folder: int, name: str) -> Holder | None:
    """Who put up a mark; None if it has just been taken down. One that is not written yet is in everybody's way."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    try:
        content = json.loads(os.read(file, 10_000))
        holder = Holder(str(content["path"]), int(content["process"]), str(content["host"]), float(content["since"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Holder("", 0, "an unknown host", 0.0)
    finally:
        os.close(file)
    return holder if is_line(holder.host) else replace(holder, host="an unknown host")
