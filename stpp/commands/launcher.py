"""Snakemake on the workflow that comes with the package, as processes of a group of their own.

In a clone, the workflow is the clone's; in an installed package, a copy of it in `stpp/workflow`.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from stpp.common.errors import StppError
from stpp.common.registry import PACKAGE
from stpp.runtime.progress import answered

WORKFLOW = (PACKAGE / "workflow/Snakefile").resolve().parent
"""The folder with the Snakefile, its rules, its profiles and the configurations to start from."""
OWN = {"--snakefile", "-s", "--configfile", "--configfiles", "--config", "-C", "--directory", "-d"}
"""Options of Snakemake that would run something else than what `stpp run` checked."""
GRACE = 120.0
"""Seconds that jobs have to save their work, before they are killed."""


def command(config: Path, target: str, cores: int | None, slurm: Path | None, more: Sequence[str]) -> list[str]:
    """The words that call Snakemake. Raises StppError for `more` options that are not the caller's, or no profile.

    `slurm` is the folder of a profile; without one, all `cores` of this machine are used, or so many.
    """
    if own := [word for word in more if word.partition("=")[0] in OWN]:
        raise StppError(f"{own[0]} behind `--` would change what was checked; write it into {config}")
    if slurm is not None and not (slurm / "config.yaml").is_file():
        raise StppError(
            f"{slurm} is not a profile, because it has no config.yaml. Make one by `cp -r "
            f"{WORKFLOW / 'profiles/slurm'} {slurm}`, "
            "and set account and partition in the first part of its config.yaml"
        )
    profile = slurm or WORKFLOW / "profiles/default"
    limit = ["--cores", str(cores or "all")] if slurm is None or cores else []
    # No lock of Snakemake's: a mark of the workflow's own, which ends with its process, keeps two runs apart.
    own_options = ["--workflow-profile", str(profile), *limit, "--nolock"]
    # -P: what lies in the working directory is no module.
    start = [sys.executable, "-P", "-m", "snakemake", target, "--snakefile", str(WORKFLOW / "Snakefile")]
    return [*start, *own_options, *more, "--configfile", str(config)]


class Workflow:
    """A run of Snakemake, which writes to a log. A context manager, at whose end no process of it is left.

    A signal that asks this process to end is passed on to all of them once, as a terminal does with Ctrl-C, so that
    they save their work; `signal` is the number of the first one, or 0.
    """

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self.signal = 0
        self._log = log.open("wb")
        self._before = {number: signal.signal(number, self._pass_on) for number in answered()}
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, process_group=0
        )

    def __enter__(self) -> "Workflow":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._process.poll() is None and not self.signal:
                self._send(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
            end = time.monotonic() + GRACE
            while self._send(0) and time.monotonic() < end:
                time.sleep(0.1)
            self._send(signal.SIGKILL)
            self._process.wait()
        finally:
            self._log.close()
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def ended(self, seconds: float) -> int | None:
        """Wait for so long at most; the exit code of Snakemake if it has ended."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        self._send(signal.SIGINT)

    def _send(self, number: int) -> bool:
        """Send a signal to all processes of the group, or 0 to none; returns whether there are any."""
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True
