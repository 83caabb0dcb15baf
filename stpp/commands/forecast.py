"""What `stpp plan` says: which stages would run, why, and how long they will take."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from stpp.plan.graph import Plan, flat
from stpp.plan.staleness import stale
from stpp.store.inventory import (
    DATA,
    KnownStage,
    changed_settings,
    code_shown,
    finished,
    missing_outputs,
    shown,
)
from stpp.wording import columns, counted, duration, listed, repeat_name


@dataclass(frozen=True)
class Task:
    """A stage that would run, why, and how many seconds it will take.

    `reasons` are what differs from the nearest stage of its role that is there, in plain words; `sources` are the roles
    of the other stages that it reads instead. `seconds` is None where no stage of its kind has run yet. `measured` says
    that they are those of the nearest stage, not an estimate.
    """

    folder: str
    role: str
    reasons: tuple[str, ...]
    sources: tuple[str, ...]
    seconds: float | None
    measured: bool


@dataclass(frozen=True)
class Forecast:
    """The stages of a plan: those that are done, and those that would run, in an order in which they can.

    `stale` says of some that are done why they should not count; see `stpp.plan.staleness`.
    """

    done: Sequence[str]
    tasks: Sequence[Task]
    stale: Mapping[str, str]


def forecast(plan: Plan, stages: Path) -> Forecast:
    """What would run of `plan`, in view of what is there below `stages`."""
    known = finished(stages)
    missing = {
        folder: lacking
        for folder, stage in plan.stages.items()
        if (lacking := missing_outputs(stages, folder, stage.outputs))
    }
    seconds: dict[str, list[float]] = {}
    by_role: dict[str, list[KnownStage]] = {}
    for folder, record in known.items():
        seconds.setdefault(record.recipe["stage"], []).append(record.facts["seconds"])
        if folder not in missing:
            by_role.setdefault(record.role, []).append(record)
    tasks = []
    for folder, lacking in missing.items():
        wanted = KnownStage(folder, plan.stages[folder].recipe())
        if folder in known:
            reason = f"{', '.join(lacking)} is no longer there"
            tasks.append(Task(folder, wanted.role, (reason,), (), known[folder].facts["seconds"], True))
        elif nearest := nearest_of(wanted, by_role.get(wanted.role, [])):
            factor = times_as_much(wanted.recipe["settings"], nearest.recipe["settings"])
            reasons, sources = tuple(differences(nearest, wanted)), other_sources(nearest, wanted, plan)
            tasks.append(Task(folder, wanted.role, reasons, sources, factor * nearest.facts["seconds"], factor == 1))
        else:
            typical = seconds.get(wanted.recipe["stage"])
            reason = "the first of its kind"
            tasks.append(Task(folder, wanted.role, (reason,), (), median(typical) if typical else None, False))
    done = [folder for folder in plan.stages if folder not in missing]
    records = {folder: record.facts for folder, record in known.items()}
    return Forecast(done, tasks, stale(done, records.get))


def nearest_of(wanted: KnownStage, candidates: Sequence[KnownStage]) -> KnownStage | None:
    """The candidate that differs from `wanted` in the fewest things; of equally near ones that of its seed, then the
    latest. None without candidates."""
    return min(
        sorted(candidates, key=lambda record: str(record.facts.get("started", "")), reverse=True),
        key=lambda record: (len(record.marks ^ wanted.marks), record.recipe.get("seed") != wanted.recipe["seed"]),
        default=None,
    )


def times_as_much(wanted: Mapping[str, Any], known: Mapping[str, Any]) -> float:
    """How much more work a training is than another one, by settings: its length times the pixels of a crop.

    1 for other stages. A length in epochs and one in iterations count as equal: nobody has looked at the images yet.
    """
    new, old = (settings.get("training") for settings in (wanted, known))
    if not new or not old:
        return 1.0
    pixels: float = new["crop"] ** 2 / old["crop"] ** 2
    if new.get("iterations") and old.get("iterations"):
        return pixels * float(new["iterations"]) / float(old["iterations"])
    return pixels if new.get("iterations") or old.get("iterations") else pixels * new["epochs"] / old["epochs"]


def differences(before: KnownStage, after: KnownStage) -> Iterator[str]:
    """What makes `after` another stage than `before`, but for what it reads: code, settings and data, a phrase each."""
    old, new = before.recipe, after.recipe
    if old["code"] != new["code"]:
        yield f"code of stpp {new['stage']}: {code_shown(old['code'])} -> {code_shown(new['code'])}"
    for name, was, becomes in changed_settings(before.settings, after.settings):
        yield f"{name}: {shown(was)} -> {shown(becomes)}"
    for subset, digest in new["data"].items():
        if old["data"].get(subset) != digest:
            yield f"{DATA.get(subset, subset)} changed"
    before_runs, after_runs = gathered(old["settings"]), gathered(new["settings"])
    if added := [name for name in after_runs if name not in before_runs]:
        yield f"new: {listed(added)}"
    if removed := [name for name in before_runs if name not in after_runs]:
        yield f"no longer wanted: {listed(removed)}"


def gathered(settings: Mapping[str, Any]) -> list[str]:
    """The names of the runs that a stage gathers, or among whose networks it chooses; none of others."""
    runs = [*settings.get("runs", [])]
    runs += [each | run for each in settings.get("candidates", []) for run in each["runs"]]
    return list(dict.fromkeys(f"{run['experiment']} {repeat_name(run)}" for run in runs))


def other_sources(before: KnownStage, after: KnownStage, plan: Plan) -> tuple[str, ...]:
    """The roles of the stages that `after` reads and `before` does not."""
    old, new = ([path.rpartition("/")[0] for path in flat(record.recipe["inputs"])] for record in (before, after))
    sources = (KnownStage(folder, plan.stages[folder].recipe()) for folder in new if folder not in old)
    return tuple(dict.fromkeys(source.role for source in sources))


# --- for people -------------------------------------------------------------------------------------------------------


def as_text(name: str, found: Forecast) -> str:
    """The forecast as people read it: a block for each role."""
    if not found.tasks:
        there = f"all {len(found.done)} stages are" if len(found.done) != 1 else "the only stage is"
        return f"{name}: nothing would run; {there} there.\n"
    roles: dict[str, list[Task]] = {}
    for task in found.tasks:
        roles.setdefault(task.role, []).append(task)
    rows = [["would run", "", "time", "why"]]
    for role, tasks in roles.items():
        first, *more = _why(tasks)
        rows.append([role, f"{len(tasks)} x" if len(tasks) > 1 else "", _time(tasks), first])
        rows += [["", "", "", reason] for reason in more]
    unknown = sum(task.seconds is None for task in found.tasks)
    total = _time(found.tasks)
    took = f"{total} of work, one after the other" if total else f"for an unknown time; {UNKNOWN}"
    if total and unknown:
        took += f", and {counted(unknown, 'stage')} of unknown length"
    head = f"{name}: {len(found.tasks)} of {counted(len(found.tasks) + len(found.done), 'stage')} would run, {took}."
    return "\n".join([head, "", *columns(rows, left=(0, 3)), "", LEGEND]) + "\n"


UNKNOWN = "nothing like it has run here. Once a training runs, `stpp status` says how long it still takes"

LEGEND = """\
why: what differs from the nearest stage of the same role that is there, old -> new.
time: what that stage took; ~ where it is an estimate."""


def _why(tasks: Sequence[Task]) -> list[str]:
    """The reasons of tasks of one role, and for how many of them each holds; what follows from other stages is said of
    those alone that have no reason of their own."""
    reasons = Counter(reason for task in tasks for reason in task.reasons)
    lines = [f"{reason}{_of(count, tasks)}" for reason, count in reasons.items()]
    others = [task for task in tasks if not task.reasons]
    if others:
        sources = list(dict.fromkeys(source for task in others for source in task.sources))
        follows = f"follows from {listed(sources)}" if sources else "other settings of the report"
        lines.append(f"{follows}{_of(len(others), tasks)}")
    return lines


def _of(count: int, tasks: Sequence[Task]) -> str:
    return "" if count == len(tasks) else f" ({count} of {len(tasks)})"


def as_list(plan: Plan, found: Forecast, stages: Path) -> str:
    """One line a stage, `done` or `to do`, and its folder, in an order in which they can run."""
    todo = {task.folder for task in found.tasks}
    return "".join(f"{'to do' if folder in todo else 'done':6} {stages / folder}\n" for folder in plan.stages)


def _time(tasks: Sequence[Task]) -> str:
    """The time of the tasks whose time is known; empty if none is."""
    known = [task for task in tasks if task.seconds is not None]
    if not known:
        return ""
    return ("" if all(task.measured for task in known) else "~ ") + duration(sum(task.seconds or 0 for task in known))
