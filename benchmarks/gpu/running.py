"""Commands with an end: what they print goes to a log, and those still running when the time is up are stopped."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

GRACE = 60
"""Seconds that a command has to save its work."""


class Unmeasured(Exception):
    """Why a row has no values, in words."""


class Clock:
    """The seconds that are left of a part."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self.end - time.monotonic()


def finish(command: Sequence[str], folder: Path, log: Path, clock: Clock) -> None:
    """Run a command in a folder. Raises Unmeasured where it fails, or where it was stopped at the end of the time."""
    folder.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    project = str(Path(__file__).absolute().parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [project, os.environ.get("PYTHONPATH")]))}
    with log.open("a") as file:
        file.write(f"$ {' '.join(map(str, command))}\n")
        file.flush()
        started = subprocess.Popen(
            list(map(str, command)), cwd=folder, env=environment, stdout=file, stderr=file, start_new_session=True
        )
        try:
            code = started.wait(timeout=max(0.0, clock.left))
        except subprocess.TimeoutExpired:
            stop(started)
            raise Unmeasured(
                "stopped at the end of its time; the next run measures it, and trainings go on where they were"
            ) from None
        except BaseException:  # Ctrl-C: nothing stays on the GPU
            stop(started)
            raise
    if code:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise Unmeasured(f"failed: {lines[-1].strip()[:200]} (see {log.name})")


def stop(started: subprocess.Popen[bytes]) -> None:
    """Ask a command and what it has started to save and end; kill what does not."""
    for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        try:
            os.killpg(started.pid, number)
            started.wait(timeout=seconds)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        else:
            if number == signal.SIGTERM:
                return
