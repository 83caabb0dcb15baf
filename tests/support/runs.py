"""Runs of the whole workflow for the harnesses: a small demo, its start and end, and its artifacts byte by byte."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from stpp.runtime.lock import FOLDER

PROJECT = Path(__file__).parents[2]


def small_demo() -> dict[str, Any]:
    """The demo's configuration, small enough that a run takes well under a minute, with a save every 1.5 seconds."""
    config: dict[str, Any] = yaml.safe_load((PROJECT / "config.yaml").read_text())
    config["data"]["demo"] |= {"labeled": 8, "unlabeled": 60, "val": 10, "test": 4}
    config["training"]["teacher"] |= {"epochs": 60, "validate_every": 20}
    config["training"]["student"] |= {"epochs": 6, "labeled_repeat": 8, "validate_every": 2}
    config["labeling"]["scales"] = [0.75, 1.0, 1.25]
    config["runtime"]["save_minutes"] = 1.5 / 60
    config["experiments"] = {"st++": {"method": "st++"}}
    return config


def start(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, project: Path = PROJECT
) -> "subprocess.Popen[bytes]":
    """Start the workflow as a user does, in a process group of its own; `folder` has `config.yaml` and gets `log`."""
    command = [sys.executable, "-m", "snakemake", "-s", str(project / "Snakefile"), "--configfile", "config.yaml"]
    return launch(folder, [*command, *arguments], environment)


def launch(
    folder: Path, command: Sequence[str], environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a command in `folder`, in a process group of its own; what it says goes to the end of `log`."""
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def finish(workflow: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait until the workflow has ended; one that takes longer than `seconds` is killed, and with it this process."""
    try:
        workflow.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(workflow.pid, signal.SIGKILL)
        raise SystemExit("a run hangs") from None


def processes_in(folder: Path) -> Iterator[int]:
    """The processes that run in `folder` or below it."""
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it has just ended, or is another user's
            if process.name.isdigit() and (process / "cwd").resolve().is_relative_to(folder.resolve()):
                yield int(process.name)


TIMES = ("table.csv", "table.txt", "stages.json", "report.html")
"""What says how long the stages took; their other numbers are in `runs.csv` and `metrics.json`."""


def artifacts(folder: Path, times: Sequence[str] = TIMES) -> dict[str, bytes]:
    """Every file of the stages but `times`, by its path: its bytes, of `stage.json`, what does not say when it ran."""
    found = {}
    for path in sorted((folder / "results" / "stages").rglob("*")):
        if path.is_file() and path.name not in times and path.parent.name != FOLDER:
            name = str(path.relative_to(folder))
            found[name] = path.read_bytes()
            if path.name == "stage.json":
                with suppress(ValueError):  # what is broken is compared as it is
                    record = json.loads(found[name])
                    digests = {file: digest for file, digest in record["sha256"].items() if file not in times}
                    kept = {"identity": record["identity"], "sha256": digests, "warnings": record["warnings"]}
                    found[name] = json.dumps(kept, sort_keys=True).encode()
    return found


def differences(expected: Mapping[str, object], found: Mapping[str, object]) -> Iterator[str]:
    """What differs between two runs' artifacts, or their digests, by their names, a line each."""
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            what = "missing" if name not in found else "left over" if name not in expected else "other bytes"
            yield f"{name}: {what}"
