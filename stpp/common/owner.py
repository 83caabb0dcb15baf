"""Names of files that say which process made them, so that others can tell whether it still lives.

A process is known by its number, by the moment when it started, since numbers are used again, and by its machine. Only
a process of the same machine can be looked up; one of another machine has to give signs of life.
"""

import hashlib
import os
import platform
import re
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

SILENT = 300.0
"""Seconds without a sign of life after which a process of another machine counts as dead."""
SIGNED = re.compile(r"(?P<process>\d{1,10})-(?P<start>\d+)-(?P<machine>[0-9a-f]{12})-[0-9a-f]{12}")
"""What `signed` returns."""


def signed() -> str:
    """A new name that no process, on this machine or another, has used or will use; see SIGNED."""
    return f"{os.getpid()}-{_start_of(os.getpid())}-{_machine()}-{uuid.uuid4().hex[:12]}"


def lives(name: str, silent: float) -> bool:
    """Whether the process that made the file `name` lives; `silent` are the seconds since its last sign of life.

    They count only where the process cannot be looked up: on another machine, or where the name does not say whose it
    is.
    """
    found = SIGNED.search(name)
    if found is None or found["machine"] != _machine():
        return silent < SILENT
    return _start_of(int(found["process"])) == int(found["start"])


def known_dead(name: str) -> bool:
    """Whether the process that made the file `name` was of this machine and has ended."""
    found = SIGNED.search(name)
    return found is not None and found["machine"] == _machine() and not lives(name, 0)


@cache
def _machine() -> str:
    """Digest of what distinguishes the processes that can be looked up: host, its last start, and the container."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _start_of(process: int) -> int:
    """When a process started, in ticks since the machine did; -1 if it has ended; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1 if Path("/proc/self/stat").exists() or not _exists(process) else 0
    # One that has ended, but that its parent has not asked about yet, is a zombie.
    return -1 if fields[0] in "ZX" else int(fields[19])


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return True
