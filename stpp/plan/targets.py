"""What can be asked for by name: a step of the method, or a method; and which stages that takes.

Pure: no files, no torch, no Snakemake.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from stpp.methods import methods
from stpp.plan.graph import Plan, sources


@dataclass(frozen=True)
class Target:
    """The stages of some `kinds`, or of all; of the runs of a `method`, or of all; of a `phase`, or of all.

    `done` says that they are there.
    """

    done: str
    kinds: tuple[str, ...] = ()
    method: str | None = None
    phase: int | None = None


TARGETS = {
    "teacher": Target("The teachers are trained", ("train",), phase=0),
    "scores": Target("The stability scores are ready", ("score",)),
    "selection": Target("The lists of reliable and unreliable images are ready", ("select", "pixels")),
    "students": Target("All networks are trained", ("train",)),
    "evaluation": Target("All models are evaluated", ("evaluate",)),
    "outlook": Target("The outlook is ready", ("outlook",)),
    "table": Target("The table is ready", ("table",)),
    "charts": Target("The charts are ready", ("chart",)),
    "report": Target("The report is ready", ("report",)),
    **{
        method.target: Target(f"All stages of the method {method.name} are done", method=method.name)
        for method in methods()
    },
}
"""By the name of the rule, but for `all`, which is every stage."""


def wanted(plan: Plan, target: Target) -> list[str]:
    """The folders of the stages that a target consists of, sorted."""
    folders = {
        part.folder
        for run in plan.runs
        for part in run.stages.values()
        if target.method in (None, run.method) and target.phase in (None, part.phase)
    }
    if target.method is None and target.phase is None:
        folders |= {plan.table, plan.report, *plan.charts.values()}
        folders |= {plan.outlook} if plan.outlook else set()
    return sorted(folder for folder in folders if not target.kinds or plan.stages[folder].kind in target.kinds)


def needed(plan: Plan, folders: Iterable[str], lacking: Collection[str]) -> list[str]:
    """The stages that have to run for those in `folders` to be there, in the order of the plan.

    `lacking` are the stages that are not done. One that nobody needs does not run.
    """
    found: set[str] = set()
    waiting = {folder for folder in folders if folder in lacking}
    while waiting:
        found |= waiting
        read = sources(plan.stages[folder] for folder in waiting)
        waiting = {folder for folder in read if folder in lacking} - found
    return [folder for folder in plan.stages if folder in found]


TRAININGS = ("length", "train")
"""The kinds of stages that train networks."""
NETWORKS = ("encode", *TRAININGS, "predict", "evaluate", "report")
"""The kinds of stages that run a network."""
SMALL_JOBS = ("score", "pixels")
"""The kinds of stages that are jobs without a network; the others are none, but run beside Snakemake."""


class Asked(NamedTuple):
    """What a job asks for: `memory` in MB, `minutes` of wall time."""

    memory: int
    minutes: int


SMALL = Asked(2000, 60)
"""What a job without a network asks for."""
