"""What `stpp run` does: run the workflow and show how it goes, on a terminal or a line for each event."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from stpp.commands.asked import cores_of, jobs_text, resources_of
from stpp.commands.forecast import Forecast, as_text, forecast
from stpp.commands.launcher import Workflow
from stpp.commands.needs import foreseen
from stpp.commands.status import last_lines, message_in
from stpp.commands.watch import Event, Watch
from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.terminal import Board
from stpp.common.wording import counted, duration
from stpp.plan.graph import Plan
from stpp.plan.targets import NETWORKS, TARGETS, Target, needed, wanted
from stpp.runtime.lease import visible_devices

EVERY = 0.5
"""Seconds between two looks at the stages."""
ALL = "all"
LINE = "\n"


class Wish(NamedTuple):
    """What is asked for of a plan: the stages of a target, those of them that are to run, and those that are done."""

    target: str
    to_run: Sequence[str]
    done: Sequence[str]
    known: Forecast


def wish(plan: Plan, results: Path, target: str) -> Wish:
    """What `target` asks for; one that is a path of a file asks for what leads there, which only Snakemake knows.

    Raises StppError for a name that is no target.
    """
    if target not in (ALL, *TARGETS) and "/" not in target:
        raise StppError(
            f"there is no target {target!r}; give one of {', '.join((ALL, *TARGETS))}, or the path of a file"
        )
    found = forecast(plan, results / disk.STAGES)
    lacking = {task.folder for task in found.tasks}
    chosen = wanted(plan, TARGETS.get(target, Target(""))) if target != ALL else list(plan.stages)
    to_run = needed(plan, chosen, lacking)
    # What the others are made from counts as done, if it is.
    every = needed(plan, chosen, plan.stages.keys())
    return Wish(target, to_run, [folder for folder in every if folder not in lacking], found)


def takes(plan: Plan, runtime: Mapping[str, Any], cores: int | None) -> dict[str, int]:
    """The cores that the job of each stage takes of `cores`; of as many GPUs as jobs can have at once, its share."""
    asked = {kind: resources_of(kind, runtime) for kind in NETWORKS}
    wanted = {kind: cores_of(kind, own) for kind, own in asked.items()}
    if cores and any(own["gpu"] for own in asked.values()) and (devices := visible_devices()):
        wanted = {kind: max(wanted[kind], cores * asked[kind]["gpu"] // len(devices)) for kind in asked}
    return {folder: wanted.get(stage.kind, 1) for folder, stage in plan.stages.items()}


def dry(plan: Plan, results: Path, asked: Wish, runtime: Mapping[str, Any], profile: Path | None) -> str:
    """What would run for a target, why and for how long, and what its jobs ask for, by a `profile` for a cluster."""
    found, sentences = foreseen(plan, results / disk.STAGES, runtime, set(asked.to_run))
    text = as_text(plan.name, replace(found, done=asked.done), sentences)
    jobs = jobs_text(plan, set(asked.to_run), runtime, profile)
    return f"{text}\n{jobs}" if jobs else text


def follow(
    plan: Plan, results: Path, asked: Wish, words: Sequence[str], takes: Mapping[str, int], cores: int | None
) -> int:
    """Run Snakemake by `words`, and print what happens; returns the exit code.

    0: all that was asked for is there. 128 + a signal's number: that stopped it. Raises StppError where a job failed,
    or Snakemake.
    """
    log = results / disk.LOGS / f"{plan.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    board, began = Board(), time.monotonic()
    with Workflow(words, log) as workflow:
        recorded = {task.folder: task.seconds for task in asked.known.tasks if task.seconds is not None}
        watch = Watch(plan, results, asked.to_run, asked.done, log.stat().st_mtime, takes, cores, recorded)
        code = None
        while code is None:
            code = workflow.ended(EVERY)
            show(board, watch, watch.look(), "stopping; the stages save their work" if workflow.signal else "")
        stopped = workflow.signal
    show(board, watch, watch.look(), "", last=True)
    took = duration(time.monotonic() - began)
    if stopped:
        print(f"{plan.name}: stopped; run it again to go on.")
        return 128 + stopped
    if code:
        raise failure(watch, results, log)
    done = (
        "All stages are done"
        if asked.target == ALL
        else TARGETS.get(asked.target, Target(f"{asked.target} is there")).done
    )
    print(f"{plan.name}: {done[0].lower()}{done[1:]}, after {took}.")
    return 0


def show(board: Board, watch: Watch, events: Sequence[Event], said: str, last: bool = False) -> None:
    """Print events, and on a terminal how far the run is."""
    now = f"{datetime.now():%H:%M:%S}"
    lines = [
        f"{now}  " + ("" if event.kind in ("warning", "said") else f"{watch.titles[event.folder]} ") + event.text
        for event in events
        if not (board.is_live and event.kind == "begins")  # it is to be seen below
    ]
    board.show(lines, [] if last else [watch.summary(), *watch.running(board.width), *([said] if said else [])])


def failure(watch: Watch, results: Path, log: Path) -> StppError:
    """Which stages failed or were stopped, why, and where their logs are; where none was, what Snakemake says."""
    reasons = (watch.failed | watch.stopped).items()
    found = [(watch.titles[folder], why, watch.log_of(folder)) for folder, why in reasons]
    for path in sorted((results / disk.LOGS / disk.WEIGHTS).glob("*.log")):
        if path.stat().st_mtime >= watch.since and (why := message_in(last_lines(path))):
            found.append((f"weights of {path.stem}", why, path))
    if not found:
        said = last_lines(log)
        return StppError(f"{message_in(said) or LINE.join(said[-10:])}{LINE}(the full output of Snakemake is in {log})")
    lines = [f"{counted(len(found), 'job')} of the workflow failed:"]
    for title, why, path in found:
        lines += [f"  {title}: {why.replace(LINE, LINE + '    ')}", f"    log: {path}"]
    return StppError(LINE.join([*lines, "Fix this and run the same command again. It continues where it stopped."]))
