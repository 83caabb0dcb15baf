"""What the stages of a run are in it: records, not names that somebody takes apart.

The recipes of the table, the charts and the report hold the runs as JSON: `experiment`, `partition`, `seed`, `method`,
and `stages`, the parts by the names that people see, in the order of the method. The functions here answer what others
ask of such a run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

RunRecord = Mapping[str, Any]
"""A run as JSON."""
PartKind = Literal["network", "masks", "score", "selection", "labels", "evaluation", "maps"]


@dataclass(frozen=True)
class Part:
    """What one stage, by its `folder`, is in a run.

    `phase` is 0 for the teacher and what comes of it, and counts the students from 1. An evaluation is `of` another
    part, given by its name, on a `subset`; that of labels and of masks is on `truth`. `title` is what people read,
    of networks and labels.
    """

    folder: str
    kind: PartKind
    title: str = ""
    phase: int = 0
    of: str = ""
    subset: str = ""


def of_kind(run: RunRecord, kind: PartKind) -> dict[str, str]:
    """The folders of the parts of one kind, by name, in their order."""
    return {name: part["folder"] for name, part in run["stages"].items() if part["kind"] == kind}


def networks(run: RunRecord) -> dict[str, str]:
    """The folders of the trainings of a run, in their order; the last one is the result."""
    return of_kind(run, "network")


def result(run: RunRecord) -> str:
    """The name of the network that is the result of a run."""
    return list(networks(run))[-1]


def evaluations(run: RunRecord, subset: str) -> dict[str, str]:
    """The folders of the evaluations on a subset, by the names of the parts that were evaluated."""
    parts = [part for part in run["stages"].values() if part["kind"] == "evaluation" and part["subset"] == subset]
    return {part["of"]: part["folder"] for part in parts}


def measured_on(run: RunRecord, network: str) -> dict[str, str]:
    """The folders of the evaluations of a network, by its name, on test and val, by the subset."""
    found = {subset: evaluations(run, subset).get(network) for subset in ("test", "val")}
    return {subset: folder for subset, folder in found.items() if folder}


def result_evaluation(run: RunRecord) -> str | None:
    """The folder of the evaluation of the result on test, or on val without a test set; None without both."""
    return next(iter(measured_on(run, result(run)).values()), None)


def score(run: RunRecord) -> str | None:
    """The folder of the stability scores that selected images; None where none did."""
    return next(iter(of_kind(run, "score").values()), None)


def selection(run: RunRecord) -> str | None:
    """The folder of the selection of images or pixels; None where there is none."""
    return next(iter(of_kind(run, "selection").values()), None)


def score_quality(run: RunRecord) -> str | None:
    """The folder of the evaluation of the masks that were scored against true ones; None where there is none."""
    return next(iter(moments(run)), None) if score(run) else None


def moments(run: RunRecord) -> list[str]:
    """The folders of the evaluations of masks by several checkpoints against true ones, in their order."""
    truth = evaluations(run, "truth")
    return [truth[name] for name in of_kind(run, "masks") if name in truth]


def folders(run: RunRecord) -> list[str]:
    """The folders of all stages of a run, each once."""
    return list(dict.fromkeys(part["folder"] for part in run["stages"].values()))


def networks_in_order(runs: Iterable[RunRecord]) -> dict[str, str]:
    """The titles of the networks of some runs by name: the teacher, the students of the phases, and the last ones."""
    places: dict[str, tuple[bool, int, str]] = {}
    titles: dict[str, str] = {}
    for run in runs:
        for name in networks(run):
            part = run["stages"][name]
            last = part["phase"] > 0 and name == result(run)
            places.setdefault(name, (last, 0 if last else part["phase"], name))
            titles.setdefault(name, part["title"])
    return {name: titles[name] for name in sorted(places, key=lambda name: places[name])}
