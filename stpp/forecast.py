"""What `stpp plan` says: which stages would run, why, and how long they will take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from stpp.inventory import (
    DATA,
    Record,
    changed_settings,
    code_shown,
    finished,
    missing_outputs,
    role_of,
    seed_of,
    shown,
)
from stpp.plan import Plan, flat
from stpp.wording import columns, counted, duration


@dataclass(frozen=True)
class Task:
    """A stage that would run: why, in plain sentences, and how many seconds it will take.

    `seconds` is None where no stage of its kind has run yet. `measured` says that they are those of the nearest stage
    of its role, not an estimate.
    """

    folder: str
    reasons: tuple[str, ...]
    seconds: float | None
    measured: bool


@dataclass(frozen=True)
class Forecast:
    """The stages of a plan: those that are done, and those that would run, in an order in which they can."""

    done: Sequence[str]
    tasks: Sequence[Task]


def forecast(plan: Plan, stages: Path) -> Forecast:
    """What would run of `plan`, in view of what is there below `stages`."""
    known = finished(stages)
    missing = {
        folder: lacking
        for folder, stage in plan.stages.items()
        if (lacking := missing_outputs(stages, folder, stage.outputs))
    }
    made = {folder: record for folder, record in known.items() if folder not in missing}
    by_role: dict[str, list[Record]] = {}
    for record in made.values():
        by_role.setdefault(record.role, []).append(record)
    typical = {
        kind: median(record.facts["seconds"] for record in known.values() if record.recipe["stage"] == kind)
        for kind in {record.recipe["stage"] for record in known.values()}
    }
    tasks = []
    for folder, lacking in missing.items():
        stage = plan.stages[folder]
        if folder in known:
            reasons: tuple[str, ...] = (f"{', '.join(lacking)} is no longer there",)
            tasks.append(Task(folder, reasons, known[folder].facts["seconds"], True))
            continue
        wanted = Record(folder, stage.recipe())
        nearest = nearest_of(wanted, by_role.get(wanted.role, []))
        if nearest is None:
            tasks.append(Task(folder, ("none of its kind has been made yet",), typical.get(stage.kind), False))
        else:
            factor = work(stage.settings) / work(nearest.recipe["settings"])
            tasks.append(
                Task(folder, tuple(differences(nearest, wanted)), factor * nearest.facts["seconds"], factor == 1)
            )
    return Forecast([folder for folder in plan.stages if folder not in missing], tasks)


def nearest_of(wanted: Record, candidates: Sequence[Record]) -> Record | None:
    """The candidate that differs from `wanted` in the fewest things; of equally near ones that of its seed, then the
    latest. None without candidates."""
    return min(
        sorted(candidates, key=lambda record: str(record.facts.get("started", "")), reverse=True),
        key=lambda record: (len(record.marks ^ wanted.marks), seed_of(record.folder) != seed_of(wanted.folder)),
        default=None,
    )


def work(settings: Mapping[str, Any]) -> float:
    """What a training costs relative to others of its role: epochs times pixels of a crop; 1 for other stages."""
    training = settings.get("training")
    return float(training["epochs"] * training["crop"] ** 2) if training else 1.0


def differences(before: Record, after: Record) -> Iterator[str]:
    """What makes `after` another stage than `before`, a sentence each: code, settings, data, and what it reads."""
    old, new = before.recipe, after.recipe
    if old["code"] != new["code"]:
        yield f"code of `stpp {new['stage']}`: {code_shown(old['code'])} -> {code_shown(new['code'])}"
    for name, was, becomes in changed_settings(before.settings, after.settings):
        yield f"{name}: {shown(was)} -> {shown(becomes)}"
    if new["stage"] == "report":
        yield from _other_runs(old["settings"], new["settings"])
        return
    for subset in new["data"]:
        if old["data"].get(subset) != new["data"][subset]:
            yield f"{DATA.get(subset, subset)} changed"
    yield from _other_inputs(flat(old["inputs"]), flat(new["inputs"]))


def _other_inputs(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    sources = {path.rpartition("/")[0] for path in before}
    others = list(
        dict.fromkeys(role_of(path.rpartition("/")[0]) for path in after if path.rpartition("/")[0] not in sources)
    )
    if others:
        yield f"follows from {', '.join(others)}"
    for path in after:
        folder, _, name = path.rpartition("/")
        if folder in sources and path not in before:
            was = next(old.rpartition("/")[2] for old in before if old.rpartition("/")[0] == folder)
            yield f"reads {name} instead of {was} of {role_of(folder)}"


def _other_runs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    def runs(settings: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{run['experiment']} seed {run['seed']}": run["stages"] for run in settings.get("runs", [])}

    old, new = runs(before), runs(after)
    for what, names in {
        "new": [name for name in new if name not in old],
        "changed": [name for name in new if name in old and new[name] != old[name]],
        "no longer there": [name for name in old if name not in new],
    }.items():
        if names:
            rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield f"{counted(len(names), 'run')} {what}: {', '.join(names[:3])}{rest}"
    if list(old) != list(new) and not set(old) ^ set(new):
        yield "the runs are in another order"


# --- for people -------------------------------------------------------------------------------------------------------


def as_text(name: str, found: Forecast) -> str:
    """The forecast as people read it; stages of one role with the same reasons share a line."""
    if not found.tasks:
        return f"{name}: nothing would run; {counted(len(found.done), 'stage')} of it are all there.\n"
    groups: dict[tuple[str, tuple[str, ...]], list[Task]] = {}
    for task in found.tasks:
        groups.setdefault((role_of(task.folder), task.reasons), []).append(task)
    rows = [["would run", "", "time", "why"]]
    for (role, reasons), tasks in groups.items():
        rows.append([role, f"{len(tasks)} x" if len(tasks) > 1 else "", _time(tasks), reasons[0]])
        rows += [["", "", "", reason] for reason in reasons[1:]]
    unknown = sum(task.seconds is None for task in found.tasks)
    total = _time([task for task in found.tasks if task.seconds is not None])
    took = f"{total} of work, one after the other" if total else "for an unknown time"
    if total and unknown:
        took += f", and {counted(unknown, 'stage')} of unknown length"
    head = f"{name}: {len(found.tasks)} of {len(found.tasks) + len(found.done)} stages would run, {took}."
    why = 'Times are those of the nearest stage that has run; ~ is an estimate. "Why" says what differs from it.'
    return "\n".join([head, "", *columns(rows, left=(0, 3)), "", why]) + "\n"


def as_list(plan: Plan, found: Forecast, stages: Path) -> str:
    """One line a stage, `done` or `to do`, and its folder, in an order in which they can run."""
    todo = {task.folder for task in found.tasks}
    return "".join(f"{'to do' if folder in todo else 'done':6} {stages / folder}\n" for folder in plan.stages)


def _time(tasks: Sequence[Task]) -> str:
    seconds = [task.seconds for task in tasks if task.seconds is not None]
    if not seconds:
        return ""
    return ("" if all(task.measured for task in tasks) else "~ ") + duration(sum(seconds))
