"""What `stpp status` says: which stages are done, running, stopped, failed or waiting, from what lies on disk."""

import os
import platform
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stpp.common import disk
from stpp.common.wording import columns, counted, duration, listed
from stpp.plan.graph import Plan, flat
from stpp.plan.staleness import stale
from stpp.runtime.lock import Holder
from stpp.runtime.progress import progress_of
from stpp.store.inventory import finished, missing_outputs

STATES = ("done", "waiting", "ready", "stopped", "stale", "failed", "running")
"""In the order in which they are listed: what matters most stands last, next to the prompt.

waiting: for earlier stages; ready: these are there, but no job has begun; stopped: a job saved its work and ended, and
the next run goes on there; stale: done, but what it was made from is another thing now; failed: a job ended with an
error, or without a word.
"""

SILENT = 600
"""Seconds without a word after which a job on another machine counts as gone."""

LOG_LINES = 3
"""Lines of the log of a failed stage that are shown."""


@dataclass(frozen=True)
class State:
    """The state of one stage, one of STATES; `detail` is how far it is or what it waits for; `log` are last lines."""

    folder: str
    state: str
    detail: str = ""
    log: Sequence[str] = ()


def states(plan: Plan, results: Path, workflow: Holder | None) -> list[State]:
    """The state of each stage of `plan`, in its order.

    `workflow` is the run of the workflow that is at work in `results`, if one is.
    """
    stages = results / disk.STAGES
    known = finished(stages)
    lacking = {folder: missing_outputs(stages, folder, stage.outputs) for folder, stage in plan.stages.items()}
    records = {folder: record.facts for folder, record in known.items()}
    outdated = stale([folder for folder in plan.stages if not lacking[folder]], records.get)
    since = workflow.since if workflow else None
    found = []
    for folder, stage in plan.stages.items():
        if folder in outdated:
            found.append(State(folder, "stale", outdated[folder]))
            continue
        if not lacking[folder]:
            seconds = known[folder].facts["seconds"] if folder in known else None
            found.append(State(folder, "done", "" if seconds is None else f"in {duration(seconds)}"))
            continue
        sources = dict.fromkeys(path.rpartition("/")[0] for path in flat(stage.inputs))
        waits = [source for source in sources if lacking.get(source)]
        found.append(state_of(results, folder, waits, since))
    return found


def state_of(results: Path, folder: str, waits: Sequence[str], since: float | None) -> State:
    """The state of a stage that is not done.

    `waits` are the earlier stages that it needs and that are not done. `since` is when the run of the workflow began
    that is at work, in seconds since 1970; None if none is.
    """
    told = progress_of(results / disk.STAGES / folder / disk.UNFINISHED)
    alive = [job for job in told if is_alive(job)]
    if alive:
        return State(folder, "running", _how_far(alive, told))
    # What an earlier run of the workflow said counts no more once another one is at work.
    logs = [log for log in logs_of(results, folder) if since is None or log.stat().st_mtime >= since]
    lines = [line for log in logs for line in last_lines(log)]
    error = message_in(lines)
    if error.startswith("stopped by "):
        return State(folder, "stopped", error.partition(";")[0])
    if error:
        return State(folder, "failed", f"see {logs[-1]}", lines[-LOG_LINES:])
    if any(job["running"] and job["done"] < job["total"] for job in told):
        detail = (
            f"ended without a message {_at(told)} and was perhaps killed; the next run continues from what it saved"
        )
        return State(folder, "failed", detail, lines[-LOG_LINES:])
    if since is not None and logs:
        return State(folder, "running", "starting")
    if waits:
        return State(folder, "waiting", f"for {listed(waits, most=1)}")
    return State(folder, "ready")


# --- what a job tells -------------------------------------------------------------------------------------------------


def is_alive(job: Mapping[str, Any]) -> bool:
    """Whether the job that told this is still at work.

    On this machine its process tells; one on another machine counts as gone after ten minutes without a word.
    """
    if not job["running"]:
        return False
    if job["host"] != platform.node():
        return time.time() - float(job["time"]) < SILENT
    try:
        os.kill(job["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _how_far(alive: Sequence[Mapping[str, Any]], told: Sequence[Mapping[str, Any]]) -> str:
    """One line: where, for how long, how far, and the time left by the speed so far."""
    first = alive[0]
    parts = [f"on {', '.join(dict.fromkeys(job['host'] for job in alive))}"]
    parts.append(f"for {duration(max(0.0, time.time() - min(job['since'] for job in alive)))}")
    if "epochs" in first:
        parts.append(f"{first['epoch']} of {first['epochs']} epochs")
    else:
        parts.append(f"{sum(job['done'] for job in told)} of {counted(sum(job['total'] for job in told), 'image')}")
    if len(told) > 1:
        parts.append(f"{counted(len(alive), 'job')} running")
    if isinstance(first.get("loss"), float):
        each = [f"{name} {loss:.4f}" for name, loss in losses_of(first).items()]
        parts.append(f"loss {first['loss']:.4f}" + (f" ({', '.join(each)})" if each else ""))
    if isinstance(first.get("val_miou"), float):
        parts.append(f"val mIoU {100 * first['val_miou']:.2f} %")
    if known := [seconds for job in alive if (seconds := left(job)) is not None]:
        parts.append(f"about {duration(max(known))} left")
    if (quiet := time.time() - max(job["time"] for job in alive)) > 60:
        parts.append(f"no progress for {duration(quiet)}")
    return ", ".join(parts)


def losses_of(job: Mapping[str, Any]) -> dict[str, float]:
    """The parts of the loss that a job tells by name; none where it tells none, or something else."""
    told = job.get("losses")
    return {str(name): loss for name, loss in told.items() if isinstance(loss, float)} if isinstance(told, dict) else {}


def left(job: Mapping[str, Any]) -> float | None:
    """Seconds that a job will still take, by its speed since it began; None if it has done nothing yet, or all."""
    done, rest = job["done"] - job["first"], job["total"] - job["done"]
    return rest * (job["time"] - job["since"]) / done if done > 0 and rest > 0 else None


def _at(told: Sequence[Mapping[str, Any]]) -> str:
    done, total = (sum(job[key] for job in told) for key in ("done", "total"))
    return f"at {100 * done / total:.0f} %" if total else "at its beginning"


# --- logs -------------------------------------------------------------------------------------------------------------


def logs_of(results: Path, folder: str) -> list[Path]:
    """The logs of a stage's jobs, the latest last."""
    kind, _, name = folder.partition("/")
    logs = results / disk.LOGS / kind
    found = [logs / f"{name}.log", *logs.glob(f"{name}-*-of-*.log")]
    return sorted((log for log in found if log.is_file()), key=lambda log: log.stat().st_mtime)


NOISE = re.compile(r"nanobind: |See https://nanobind| - (leaked |\.\.\. skipped)")
"""What a library of PyTorch prints when a process ends by an error."""


def last_lines(log: Path) -> list[str]:
    """The last lines of a log, of at most 20 kB; of a progress bar, which draws over itself, what is seen last."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        text = file.read().decode(errors="replace")
    lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return [line for line in lines if line and not NOISE.match(line)]


def message_in(lines: Sequence[str]) -> str:
    """What the last lines of a log say of an error: the last message of stpp or of Python, to its end; "" if none."""
    starts = [number for number, line in enumerate(lines) if re.match(r"stpp: |\w*(Error|Exception)\b", line)]
    return "\n".join(lines[starts[-1] :]).removeprefix("stpp: ") if starts else ""


# --- for people -------------------------------------------------------------------------------------------------------


def as_text(name: str, found: Sequence[State], workflow: Holder | None) -> str:
    """All stages, a line each, and at the end what matters: the stages at work, those that failed, and a summary."""
    ordered = sorted(found, key=lambda state: STATES.index(state.state))
    lines = []
    for row, state in zip(columns([[s.state, s.folder, s.detail] for s in ordered], left=(0, 1, 2)), ordered):
        lines += [row, *(f"         | {line}" for line in state.log)]
    counts = Counter(state.state for state in ordered)
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    at_work = f"a workflow is running ({workflow})" if workflow else "no workflow is running"
    return "\n".join([*lines, "", f"{name}: {counted(len(found), 'stage')}: {said}; {at_work}."]) + "\n"
