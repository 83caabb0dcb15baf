"""Which network to use, and whether unlabeled images paid: what held-out images say, by a rule that is stated.

The candidates are the networks of all phases, those of the teachers among them. The one with the highest mean mIoU on
val is the best. Of those that are no more than one standard error of the difference below it, the one that took the
fewest trainings is preferred, and of these one that learned from labels alone: a gain within the noise is not worth
another network. This is the one-standard-error rule (Breiman et al., Classification and Regression Trees, 1984). Of the
runs of that network, the one with the highest mIoU on val is handed over.

Without a val set, the folds of the labeled images stand for it, where there are some: each labeled image is predicted
by the network of a run that has not seen it, and the predictions of all folds together are compared with the true
masks. What is handed over has learned from all labeled images. Without folds, nothing tells networks apart, and the one
that took the fewest trainings is handed over.

Whether unlabeled images paid is asked of the best network that learned from them and the best one that did not, by val;
the difference is measured on test where there is a test set, because the val set that chose them flatters both.
"""

import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stpp.common import disk
from stpp.common.wording import counted, listed, network_name, repeat_name
from stpp.plan.recipe import read_recipe
from stpp.report.card import card
from stpp.report.statistics import PAIRED_BY, paired_difference
from stpp.runtime.job import Job, Runtime, verified
from stpp.scoring.metrics import iou, mean_iou
from stpp.store.evaluations import read_by_image, read_metrics

LEAST_IMAGES = 20
"""Fewer val images are said to be too few to choose by."""


@dataclass(frozen=True)
class Candidate:
    """A network in all runs of its experiment, and what was measured of it.

    `recipe` is what `stpp.plan.comparisons.candidates` says. By run, as (partition, seed): `val` and `test`, mIoU in
    [0, 1], empty where there is no such set; `images`, one column an image of val, its mIoU in [0, 1] or NaN.
    """

    recipe: Mapping[str, Any]
    val: pd.Series
    test: pd.Series
    images: pd.DataFrame

    @property
    def name(self) -> str:
        """How it is called: `the teacher of suponly`."""
        return f"the {network_name(self.recipe['title'])} of {self.recipe['experiment']}"


@dataclass(frozen=True)
class Verdict:
    """The network that is handed over, the number of its run, and what is said of it.

    The first two sentences are the answer: the network, and whether unlabeled images paid. The others explain it.
    `advice` says what to do next, as sentences.
    """

    chosen: Candidate
    run: int
    sentences: Sequence[str]
    advice: Sequence[str] = ()


def run(job: Job, runtime: Runtime) -> None:
    """Choose among the candidates of `job`; writes `verdict.json`, the network as `model.pt`, and its card.

    That is the checkpoint with two more entries, which say how it is used: `prediction` and `palette`.
    """
    from stpp.store.tensorfile import read_tensors, write_tensors

    stages = job.folder.parent.parent
    job.inputs("stages")
    found = [measured(candidate, stages) for candidate in job.settings["candidates"]]
    runs = (run for candidate in job.settings["candidates"] for run in candidate["runs"])
    decision = verdict(found, next(filter(None, (on_val(run, stages) for run in runs)), None))
    chosen = decision.chosen.recipe["runs"][decision.run]
    checkpoint = verified(stages / chosen["checkpoint"])
    with job.writing(disk.MODEL) as path:
        usage = {"prediction": decision.chosen.recipe["prediction"], "palette": job.settings["palette"]}
        write_tensors({**read_tensors(checkpoint), **usage}, path)
    with job.writing(disk.VERDICT) as path:
        content = {
            "model": {
                **{key: decision.chosen.recipe[key] for key in ("experiment", "network", "title")},
                **{key: chosen[key] for key in (*PAIRED_BY, "checkpoint")},
            },
            "sentences": [*decision.sentences, *decision.advice],
            "candidates": [
                {key: value for key, value in each.recipe.items() if key not in ("prediction", "runs")} | summary(each)
                for each in found
            ],
        }
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    with job.writing(disk.CARD) as path:
        training = read_recipe(checkpoint.parent / disk.RECIPE)
        name, palette = job.settings["name"], job.settings["palette"]
        text = card(name, decision.sentences, palette, training, measurements(chosen, stages))
        path.write_text(text, encoding="utf-8")
    job.finish()


def measurements(run: Mapping[str, Any], stages: Path) -> list[dict[str, Any]]:
    """What a run of the recipe was judged by, and what was measured of it on test, each as `metrics.json` says it."""
    subsets = [run[subset] for subset in ("val", "test") if run[subset]]
    found = [read_metrics(verified(stages / folder / disk.METRICS)) for folder in subsets]
    judged = on_val(run, stages)
    if judged and judged["folds"]:
        shares = (None if math.isnan(share) else share for share in iou(np.array(judged["confusion"])).tolist())
        subset = counted(judged["folds"], "fold")
        found.insert(0, {**judged, "subset": subset, "iou": dict(zip(judged["names"], shares)), "warnings": []})
    return found


def measured(candidate: Mapping[str, Any], stages: Path) -> Candidate:
    """A candidate of the recipe with what its evaluations, below `stages`, say."""
    runs = {tuple(run[key] for key in PAIRED_BY): run for run in candidate["runs"]}
    index = pd.MultiIndex.from_tuples(list(runs), names=PAIRED_BY)

    def series(values: Iterable[float | None]) -> pd.Series:
        return pd.Series(list(values), index, dtype=float).dropna()

    val = series(found["miou"] if found else None for found in (on_val(run, stages) for run in runs.values()))
    tested = (verified(stages / run["test"] / disk.METRICS) if run["test"] else None for run in runs.values())
    test = series(read_metrics(path)["miou"] if path else None for path in tested)
    images = {
        key: pd.concat(
            [read_by_image(verified(stages / each / disk.IMAGES)).set_index("id")["miou"] for each in folders]
        )
        for key, run in runs.items()
        if (folders := held_out(run))
    }
    return Candidate(candidate, val, test, pd.DataFrame(images).T)


def held_out(run: Mapping[str, Any]) -> list[str]:
    """The folders of the evaluations of a run of the recipe by which it is judged: on val, or on each fold."""
    return list(run.get("folds", [])) or ([run["val"]] if run["val"] else [])


def on_val(run: Mapping[str, Any], stages: Path) -> dict[str, Any] | None:
    """Of such a run: the number of `images`, the `confusion` and `miou` by which it is judged, and the class `names`.

    That is what was measured on val; or on all folds together. `folds` is their number, 0 for val. None without both.
    """
    found = [read_metrics(verified(stages / folder / disk.METRICS)) for folder in held_out(run)]
    if not found:
        return None
    confusion = np.sum([each["confusion"] for each in found], axis=0)
    return {
        "folds": len(run.get("folds", [])),
        "images": sum(each["images"] for each in found),
        "confusion": confusion.tolist(),
        "miou": float(mean_iou(confusion)),
        "names": list(found[0]["iou"]),
    }


def verdict(candidates: Sequence[Candidate], val: Mapping[str, Any] | None) -> Verdict:
    """The verdict on `candidates`, those that took the fewest trainings first; `val` is what `on_val` gives of one."""
    judged = [each for each in candidates if len(each.val)]
    if not judged or val is None:
        chosen = candidates[0]
        return Verdict(
            chosen,
            0,
            [
                f"model.pt is {chosen.name}, {_run_name(chosen, 0)}.",
                "There is no val set, so nothing tells networks apart: it is the one that took the fewest trainings. "
                "To know which network is best, set data.val_split; or with few labels `folds: 4`, which trains each "
                "network four times more.",
            ],
        )
    best, chosen = best_of(judged), preferred(judged)
    keys: list[Hashable] = [tuple(run[key] for key in PAIRED_BY) for run in chosen.recipe["runs"]]
    number = keys.index(chosen.val.idxmax())
    judges = "the folds" if val["folds"] else "val"
    measured_on = (
        f"the {counted(val['images'], 'labeled image')}, each predicted by a network of the same kind that had not "
        f"seen it ({counted(val['folds'], 'fold')})"
        if val["folds"]
        else counted(val["images"], "val image")
    )
    reached = f"{100 * chosen.val.max():.1f} % mIoU on {measured_on}"
    compared = comparison(judged)
    sentences = [
        f"model.pt is {chosen.name}, {_run_name(chosen, number)}: {reached}.",
        *whether_unlabeled_paid(compared, judges),
    ]
    if chosen is not best:
        sentences.append(
            f"On {judges}, {best.name} is {_points(_lead(best, chosen))} higher, which is within one standard error "
            f"({_points(standard_error(best, chosen))}), so the simpler network is preferred."
        )
    experiments = list(dict.fromkeys(each.recipe["experiment"] for each in judged))
    if len(judged) > 1:
        sentences.append(f"{len(judged)} networks of {listed(experiments)} were compared on {judges}.")
    return Verdict(chosen, number, [*sentences, *doubts(val)], advice(judged, compared))


def best_of(judged: Sequence[Candidate]) -> Candidate:
    """The candidate with the highest mean mIoU on val."""
    return max(judged, key=lambda each: each.val.mean())


def preferred(judged: Sequence[Candidate]) -> Candidate:
    """The first of the candidates that is no more than one standard error below the best one."""
    best = best_of(judged)
    return next(each for each in judged if _lead(best, each) <= standard_error(best, each))


def standard_error(one: Candidate, other: Candidate) -> float:
    """Of the difference between two candidates in mean mIoU on val, in [0, 1].

    Two causes are added in squares. Other val images: the standard deviation, over images, of the difference in the
    image's mIoU (the mean over the runs that both have), by the square root of their number. Other seeds and
    partitions: that of the difference in mIoU over these runs, by the square root of their number; one run does not
    tell, and counts as none. With several partitions, each counts once, by the mean difference of its runs.
    """
    by_run = (one.val - other.val).dropna()
    by_partition = by_run.groupby(level="partition").mean()
    units = by_partition if len(by_partition) > 1 else by_run
    of_runs = float(units.var()) / len(units) if len(units) > 1 else 0.0
    return math.hypot(_error_over_images(one, other), math.sqrt(of_runs))


def _error_over_images(one: Candidate, other: Candidate) -> float:
    """The part of `standard_error` that other val images cause; 0 for fewer than two."""
    differences = (one.images - other.images).mean().dropna()
    return math.sqrt(float(differences.var()) / len(differences)) if len(differences) > 1 else 0.0


@dataclass(frozen=True)
class Comparison:
    """The best network that learned from unlabeled images, `with_them`, and the best one that did not, `without`.

    `on_test`: their difference is that on test, else on val, which chose both. `difference` is what
    `paired_difference` says of the runs that both have, and `means` are their mean mIoU in these, in [0, 1].
    """

    with_them: Candidate
    without: Candidate
    on_test: bool
    difference: Mapping[str, Any]
    means: Sequence[float]

    @property
    def interval(self) -> tuple[float, float]:
        """Of the mean difference; NaN where one run tells none."""
        return self.difference["difference_low"], self.difference["difference_high"]


def comparison(judged: Sequence[Candidate]) -> Comparison | None:
    """What unlabeled images brought; None where no network learned from them, or all did, or none share a run."""
    groups = [[each for each in judged if each.recipe["unlabeled"] is unlabeled] for unlabeled in (True, False)]
    if not all(groups):
        return None
    one, other = map(best_of, groups)
    on_test = bool(len(one.test) and len(other.test))
    values = [each.test if on_test else each.val for each in (one, other)]
    shared = values[0].index.intersection(values[1].index)
    if shared.empty:
        return None
    return Comparison(one, other, on_test, paired_difference(*values), [float(each[shared].mean()) for each in values])


def advice(judged: Sequence[Candidate], compared: Comparison | None) -> list[str]:
    """What to do next: label more images, and repeat a comparison whose outcome a few runs leave open."""
    if compared is None:
        return []
    next_images = ", which `stpp next` chooses" if any(each.recipe["scored"] for each in judged) else ""
    low, high = compared.interval
    if low > 0 or high < 0 or compared.difference["difference_n"] > 2:
        return [f"Next: label more images{next_images}."]
    more = "more partitions" if compared.difference["difference_of"] == "partitions" else "`seeds: [0, 1, 2]`"
    return [f"Next: label more images{next_images}, or repeat this with {more} to know how much chance is in it."]


def whether_unlabeled_paid(compared: Comparison | None, judges: str) -> list[str]:
    """The answer, and what it rests on; `judges` is what `val` of the candidates was measured on."""
    if compared is None:
        return []
    one, other = compared.with_them, compared.without
    low, high = compared.interval
    gain, n, of = (compared.difference[f"difference_{key}"] for key in ("mean", "n", "of"))
    interval = f"95 % interval [{_points(low, bare=True)}, {_points(high, bare=True)}] over {n} {of}"
    if math.isnan(low):
        interval = "one run says nothing about other seeds"
        if not compared.on_test and (error := _error_over_images(one, other)):
            interval += f"; over the images of {judges}, the standard error is {_points(error)}"
    if gain <= 0:
        answer = "Unlabeled images did not pay"
    elif low > 0:
        answer = "Unlabeled images paid"
    else:
        answer = "Unlabeled images may have paid"
    where = "test" if compared.on_test else f"{judges}, which chose both"
    reached = [f"{100 * mean:.1f} %" for mean in compared.means]
    return [
        f"{answer}: {reached[0]} mIoU with them, {reached[1]} with labels alone.",
        f"This is {one.name} against {other.name}, the best from labels alone, on {where}: "
        f"{_points(gain, sign=True)} ({interval}).",
    ]


def doubts(val: Mapping[str, Any]) -> list[str]:
    """What makes val, or the folds, a poor judge, as sentences; `val` is what `on_val` gives."""
    absent = [name for name, row in zip(val["names"], val["confusion"]) if not sum(row)]
    kind = "labeled image" if val["folds"] else "val image"
    said = []
    if val["images"] < LEAST_IMAGES:
        few = f"{counted(val['images'], kind)} {'is' if val['images'] == 1 else 'are'} too few"
        remedy = "label at least" if val["folds"] else "give val at least"
        said.append(f"{few} to choose by: {remedy} {LEAST_IMAGES}.")
    if absent:
        said.append(f"No {kind} shows {listed(absent)}, so nothing is known of {'it' if len(absent) == 1 else 'them'}.")
    return said


def summary(candidate: Candidate) -> dict[str, Any]:
    """The number of runs that were measured on val, and the means there and on test; None where there is none."""
    means = {subset: getattr(candidate, subset).mean() for subset in ("val", "test")}
    return {"n": len(candidate.val)} | {subset: None if pd.isna(mean) else mean for subset, mean in means.items()}


def _lead(best: Candidate, other: Candidate) -> float:
    """How much the mean mIoU on val of `best` is above that of `other`."""
    return float(best.val.mean() - other.val.mean())


def _run_name(candidate: Candidate, number: int) -> str:
    return repeat_name(candidate.recipe["runs"][number])


def _points(value: float, sign: bool = False, bare: bool = False) -> str:
    """A difference of mIoU in points, such as `1.3 points`."""
    number = f"{100 * value:{'+' if sign or bare else ''}.1f}"
    return number if bare else f"{number} points"
