"""Which experiments of a configuration stand beside each other: in differences of the table, in charts, in the verdict.

Pure, like the plan that uses it: all is told from the settings of experiments and stages, nothing from results.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stpp.common import disk
from stpp.methods import method
from stpp.plan.graph import Stage
from stpp.plan.parts import (
    RunRecord,
    evaluations,
    networks,
    networks_in_order,
    of_kind,
    score,
    score_quality,
    selection,
)
from stpp.settings.config import Config

STRONG = ("jitter", "grayscale", "blur", "cutout")
"""The parts of the strong augmentation."""


def baselines(config: Config, resolve: Callable[[Config, str], Config]) -> dict[str, str]:
    """For each experiment the one whose result is subtracted from its own.

    That is `config.baseline`; else, of the experiments with the same data and network, the first whose method takes no
    unlabeled images, or the first one where there is none.
    """
    if config.baseline is not None:
        return dict.fromkeys(config.experiments, config.baseline)
    alike: dict[str, list[str]] = {}
    for name in config.experiments:
        resolved = resolve(config, name)
        settings = [resolved.data.model_dump(mode="json"), resolved.network.model_dump(mode="json")]
        alike.setdefault(json.dumps(settings, sort_keys=True), []).append(name)
    found: dict[str, str] = {}
    for names in alike.values():
        first = next((name for name in names if method(config.experiments[name].method).unlabeled == "none"), names[0])
        found |= dict.fromkeys(names, first)
    return {name: found[name] for name in config.experiments}


def alike(settings: Mapping[str, Config]) -> list[str]:
    """The experiments with the data of the first one, whose measurements on val can be compared; by their settings."""
    data = {name: config.data for name, config in settings.items()}
    return [name for name, own in data.items() if own == next(iter(data.values()))]


def candidates(
    runs: Sequence[RunRecord],
    folds: Sequence[Sequence[RunRecord]],
    stages: Mapping[str, Stage],
    predictions: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The networks that may be handed over, those that took the fewest trainings first, each once.

    They are all networks of the experiments that `predictions` has, teachers and students of earlier phases among them,
    but for those of methods that read true masks of unlabeled images, unless there are no others.

    Of each: its `experiment`, its `network` and the `title` of that, the number of `trainings` that it took, whether it
    learned from `unlabeled` images, whether these were `scored` by their stability, the settings of its `prediction`,
    and its `runs`: `partition`, `seed`, the `checkpoint` that is evaluated, and the folders of the evaluations on `val`
    and on `test`, or None; where there are folds, also those of the evaluations of the same network in the runs of all
    `folds`, each on the images that it held out. `folds` has for each of `runs` the same run without one fold after the
    other, or nothing.
    """
    known = [run for run in runs if run["experiment"] in predictions]
    without = {id(run): each for run, each in zip(runs, folds)}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in [run for run in known if not method(run["method"]).truth] or known:
        for trainings, (name, folder) in enumerate(networks(run).items(), 1):
            measured = {subset: evaluations(run, subset).get(name) for subset in ("val", "test")}
            evaluation = measured["val"] or measured["test"]
            last = f"{folder}/{disk.checkpoint('last')}"
            checkpoint = stages[evaluation].inputs["checkpoint"] if evaluation else last
            candidate = {
                "experiment": run["experiment"],
                "network": name,
                "title": run["stages"][name]["title"],
                "trainings": trainings,
                "unlabeled": "unlabeled" in stages[folder].data,
                "scored": score(run) is not None,
                "prediction": predictions[run["experiment"]],
                "runs": [],
            }
            repeat = {"partition": run["partition"], "seed": run["seed"], "checkpoint": checkpoint}
            if held := [evaluations(each, "test")[name] for each in without.get(id(run), [])]:
                repeat["folds"] = held
            found.setdefault((run["experiment"], name), candidate)["runs"].append(repeat | measured)
    distinct: dict[str, dict[str, Any]] = {}
    for candidate in found.values():
        distinct.setdefault(json.dumps(candidate["runs"]), candidate)
    return sorted(distinct.values(), key=lambda candidate: (candidate["trainings"], candidate["unlabeled"]))


def charts(rows: Sequence[RunRecord], settings_of: Callable[[str], Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The charts for which the runs will have data, by name: what of the runs is in each.

    `settings_of` is asked for the settings of trainings, by folder. Of experiments that agree on what a chart shows,
    the first one is in it.

    - `augmentations`: `rows`, the `experiment` and `label` of each set of strong augmentations
    - `pseudo-labels`, `phases`: `experiments`
    - `iterations`: `experiments`, and the names of their `networks` in the order of the phases
    - `stability`: `runs`, all of some experiments, without their stages; `scores` and `images`, the files of each
    """
    experiments: dict[str, RunRecord] = {}
    for row in rows:
        experiments.setdefault(row["experiment"], row)
    measured = [row for row in experiments.values() if evaluations(row, "val") or evaluations(row, "test")]
    rated = [row for row in experiments.values() if score_quality(row)]
    chains = {row["experiment"]: list(networks(row).values()) for row in measured}
    scored = distinct(rated, score)
    shown = [row for row in rows if row["experiment"] in scored]
    found: dict[str, dict[str, Any]] = {
        "augmentations": {"rows": augmentations(measured, settings_of)},
        "pseudo-labels": {"experiments": distinct(rated, selection)},
        "phases": {"experiments": [name for name, chain in chains.items() if len(chain) == 3]},
        "iterations": {
            "experiments": [
                name
                for name, chain in chains.items()
                if len(chain) > 3 and not any(other[: len(chain)] == chain != other for other in chains.values())
            ],
            "networks": list(networks_in_order(measured)),
        },
        "stability": {
            "runs": [{key: row[key] for key in ("experiment", "partition", "seed")} for row in shown],
            "scores": [f"{score(row)}/{disk.SCORES}" for row in shown],
            "images": [f"{score_quality(row)}/{disk.IMAGES}" for row in shown],
        },
    }
    return {chart: contents for chart, contents in found.items() if all(contents.values())}


def distinct(rows: Sequence[RunRecord], stage: Callable[[RunRecord], str | None]) -> list[str]:
    """The experiments, of those that share a stage the first one; those that have none are left out."""
    names: dict[str, str] = {}
    for row in rows:
        if folder := stage(row):
            names.setdefault(folder, row["experiment"])
    return list(names.values())


def augmentations(rows: Sequence[RunRecord], settings_of: Callable[[str], Mapping[str, Any]]) -> list[dict[str, str]]:
    """The experiments with one phase that differ in nothing but which parts of the strong augmentation are used.

    Empty unless one with all four parts is there, and one with one or three of them. Of several such groups, the first.
    """
    groups: dict[str, dict[tuple[str, ...], str]] = {}
    for row in rows:
        trained, labels = list(networks(row).values()), list(of_kind(row, "labels").values())
        if len(trained) == 2 and labels:
            parts, rest = _strong_parts(settings_of(trained[1]), labels[0])
            groups.setdefault(rest, {}).setdefault(parts, row["experiment"])
    for members in groups.values():
        if STRONG in members and any(len(parts) in (1, 3) for parts in members):
            order = sorted(members, key=lambda parts: (len(parts), [STRONG.index(part) for part in parts]))
            return [{"experiment": members[parts], "label": _label(parts)} for parts in order]
    return []


def _strong_parts(settings: Mapping[str, Any], labels: str) -> tuple[tuple[str, ...], str]:
    """The parts that a student's training uses on unlabeled images, and all else that decides it."""
    unlabeled = settings["augmentation"]["unlabeled"]
    weak = {key: value for key, value in unlabeled.items() if key not in STRONG}
    rest = {**settings, "augmentation": {**settings["augmentation"], "unlabeled": weak}}
    return tuple(part for part in STRONG if unlabeled[part]), json.dumps([rest, labels], sort_keys=True)


def _label(parts: tuple[str, ...]) -> str:
    match len(parts):
        case 0:
            return "none"
        case 4:
            return "all four"
        case 3:
            (left_out,) = set(STRONG) - set(parts)
            return f"all but {left_out}"
        case _:
            return f"{' and '.join(parts)} alone"
