"""What `stpp plan` says: which stages would run, why, and how long they will take."""

import platform
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from stpp.commands.estimate import Speeds, Work, pixels_of_report, steps, work_of
from stpp.common.wording import columns, counted, duration, listed, repeat_name
from stpp.plan.computation import pixels_of_iteration, predicted
from stpp.plan.graph import Plan, Stage, flat
from stpp.plan.staleness import stale
from stpp.plan.targets import NETWORKS, SMALL_JOBS
from stpp.store.inventory import (
    DATA,
    KnownStage,
    changed_settings,
    code_shown,
    finished,
    missing_outputs,
    shown,
)


@dataclass(frozen=True)
class Task:
    """A stage that would run, why, and how many seconds it will take.

    `reasons` are what differs from the nearest stage of its role that is there, in plain words; `sources` are the roles
    of the other stages that it reads instead. `seconds` is None where it is not known. `measured` says that they are
    those of the nearest stage, not an estimate; `untimed`, that no stage that ran on this machine tells them. `nearest`
    is the folder of the nearest stage, or "".
    """

    folder: str
    role: str
    reasons: tuple[str, ...]
    sources: tuple[str, ...]
    seconds: float | None
    measured: bool
    untimed: bool = False
    nearest: str = ""


@dataclass(frozen=True)
class Forecast:
    """The stages of a plan: those that are done, and those that would run, in an order in which they can.

    `stale` says of some that are done why they should not count; see `stpp.plan.staleness`.
    """

    done: Sequence[str]
    tasks: Sequence[Task]
    stale: Mapping[str, str]


def forecast(plan: Plan, stages: Path, trial: Speeds | None = None) -> Forecast:
    """What would run of `plan`, in view of what is there below `stages`.

    The time of a stage is that of the nearest stage of its role that ran on this machine, times how much more it
    computes. Where there is none, it follows from the speeds of other stages of the plan, or else of a `trial`; at last
    it is that of the nearest stage of another machine, or the median of its kind.
    """
    known = finished(stages)
    missing = {
        folder: lacking
        for folder, stage in plan.stages.items()
        if (lacking := missing_outputs(stages, folder, stage.outputs))
    }
    here, speeds = machine(), Speeds()
    seconds: dict[str, list[float]] = {}
    by_role: dict[str, list[KnownStage]] = {}
    for folder, record in known.items():
        seconds.setdefault(record.recipe["stage"], []).append(record.facts["seconds"])
        if folder in plan.stages and is_of(record, here):
            speeds.add(plan.stages[folder].kind, work_of(plan.stages[folder], plan), record.facts["seconds"])
        if folder not in missing:
            by_role.setdefault(record.role, []).append(record)
    tasks = []
    for folder, lacking in missing.items():
        stage = plan.stages[folder]
        wanted = KnownStage(folder, stage.recipe())
        candidates = by_role.get(wanted.role, [])
        reasons: tuple[str, ...] = ("the first of its kind",)
        sources: tuple[str, ...] = ()
        nearest = timed = known.get(folder)
        if nearest:
            reasons = (f"{', '.join(lacking)} is no longer there",)
        elif nearest := nearest_of(wanted, candidates):
            reasons, sources = tuple(differences(nearest, wanted)), other_sources(nearest, wanted, plan)
            alike = [record for record in candidates if is_of(record, here) and same_network(stage, record)]
            timed = nearest_of(wanted, alike)
        factor = times_as_much(stage, timed, plan) if timed and is_of(timed, here) else None
        took = factor * timed.facts["seconds"] if timed and factor is not None else _computed(stage, plan, speeds)
        if untimed := took is None:
            others: list[float | None] = []
            others += [times_as_much(stage, nearest, plan) * nearest.facts["seconds"]] if nearest else []
            others += [median(seconds[stage.kind])] if stage.kind in seconds else []
            of_trial = [] if trial is None else [trial.seconds(stage.kind, work_of(stage, plan))]
            told = of_trial + others if stage.kind in NETWORKS else others + of_trial
            took = next((each for each in told if each is not None), None)
        place = nearest.folder if nearest else ""
        tasks.append(Task(folder, wanted.role, reasons, sources, took, factor == 1, untimed, place))
    done = [folder for folder in plan.stages if folder not in missing]
    records = {folder: record.facts for folder, record in known.items()}
    return Forecast(done, tasks, stale(done, records.get))


def machine() -> str | None:
    """The machine whose stages tell how long others take; None on the submit host of a cluster: those of all nodes."""
    return None if shutil.which("sbatch") else platform.node()


def is_of(record: KnownStage, host: str | None) -> bool:
    """Whether a stage ran on that machine, or on any if that is None; early records do not say where."""
    return host is None or bool(record.facts.get("host", host) == host)


PRECISE = ("training", "prediction")
"""The settings of a stage that say in which precision its network computes."""


def same_network(stage: Stage, record: KnownStage) -> bool:
    """Whether another stage of its role runs the same network, initial weights aside, in the same precision."""

    def run_by(components: Iterable[str], settings: Mapping[str, Any]) -> list[Any]:
        network = {key: value for key, value in settings.get("network", {}).items() if key != "weights"}
        return [[*components], network, *((settings.get(part) or {}).get("precision") for part in PRECISE)]

    return run_by(stage.components, stage.settings) == run_by(record.recipe["components"], record.recipe["settings"])


def _computed(stage: Stage, plan: Plan, speeds: Speeds) -> float | None:
    """The seconds of a stage that runs a network, by the speeds of others; None where they are not known."""
    work = work_of(stage, plan)
    known = plan.images and stage.kind in NETWORKS and work != Work()
    return speeds.seconds(stage.kind, work) if known else None


def nearest_of(wanted: KnownStage, candidates: Sequence[KnownStage]) -> KnownStage | None:
    """The candidate that differs from `wanted` in the fewest things; of equally near ones that of its seed, then the
    latest. None without candidates."""
    return min(
        sorted(candidates, key=lambda record: str(record.facts.get("started", "")), reverse=True),
        key=lambda record: (len(record.marks ^ wanted.marks), record.recipe.get("seed") != wanted.recipe["seed"]),
        default=None,
    )


def times_as_much(stage: Stage, known: KnownStage, plan: Plan) -> float:
    """How much more a stage computes than another one of its role: trainings by their iterations, the images of a batch
    and the pixels of a crop; a report by what passes through its networks; others by their images, and the pixels that
    a network sees of each. 1 where that is not known.
    """
    settings, before = stage.settings, known.recipe["settings"]
    if stage.kind == "train":
        pixels = float(pixels_of_iteration(settings) / pixels_of_iteration(before))
        if (done := known.facts.get("iterations")) and any(plan.images.values()):
            return pixels * steps(stage, plan) / float(done)
        new, old = settings["training"], before["training"]
        if new.get("iterations") and old.get("iterations"):
            return pixels * float(new["iterations"]) / float(old["iterations"])
        # Nobody has looked at the images: a length in epochs and one in iterations count as equal.
        return pixels if new.get("iterations") or old.get("iterations") else pixels * new["epochs"] / old["epochs"]
    images = known.facts.get("images")
    now = sum(plan.images.get(fingerprint, 0) for fingerprint in stage.data.values())
    larger = seen_of_each(settings, before)
    if stage.kind == "report":
        pixels, passed = work_of(stage, plan).predicted, _pixels_of_record(known, stage, plan)
        return pixels / passed if pixels and passed else larger
    if stage.kind in SMALL_JOBS:
        now = int(work_of(stage, plan).masks)
    if stage.kind == "predict" and images and now:
        return larger * predicted(stage, plan.stages, now) / float(images)
    return larger * now / float(images) if stage.kind in (*SMALL_JOBS, "evaluate") and images and now else larger


def _pixels_of_record(known: KnownStage, stage: Stage, plan: Plan) -> float:
    """The pixels that passed through networks for a report, `known`, which is to be made anew as `stage`.

    What its record does not say is that of `stage`: settings that came later, and the number of images of a subset that
    has changed since.
    """
    before, settings = known.recipe["settings"], stage.settings
    limits = {**settings["report"], **before.get("report", {})}
    images = {
        subset: plan.images.get(fingerprint, plan.images.get(stage.data.get(subset, ""), 0))
        for subset, fingerprint in known.recipe["data"].items()
    }
    return pixels_of_report({**settings, **before, "report": limits}, known.recipe["inputs"], images, plan)


def seen_of_each(settings: Mapping[str, Any], before: Mapping[str, Any]) -> float:
    """How many times as many pixels of an image a network sees as `before`, in all views of test-time augmentation."""

    def views(given: Mapping[str, Any]) -> float:
        tta = given.get("tta")
        return sum(scale**2 for scale in tta["scales"]) * (1 + tta["flip"]) if tta else 1.0

    side, other = ((given.get("prediction") or {}).get("long_side") for given in (settings, before))
    return views(settings) / views(before) * ((side / other) ** 2 if side and other else 1.0)


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


def as_text(name: str, found: Forecast, needs: Sequence[str] = ()) -> str:
    """The forecast as people read it: a block for each role. `needs` are sentences on what that takes."""
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
    return "\n".join([head, "", *columns(rows, left=(0, 3)), "", LEGEND, *needs]) + "\n"


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
