"""What `stpp diff` says: how two experiments, or two runs, differ in settings, in metrics and in pseudo-labels."""

import json
import math
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stpp.commands.agreement import by_class, compare_stores, share_that_differs
from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.wording import columns, listed, markdown
from stpp.plan.graph import Run
from stpp.plan.parts import folders, networks, result, result_evaluation
from stpp.plan.recipe import read_recipe
from stpp.report.statistics import PAIRED_BY, paired_difference
from stpp.report.table import run_row
from stpp.runtime.job import verified
from stpp.store.evaluations import read_metrics
from stpp.store.inventory import ABSENT, DATA, changed_settings, code_shown, settings_by_name, shown
from stpp.store.links import target_of


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    `runs` are its finished runs by name, as in `stpp.plan.parts`; their folders lie below `stages`. `unfinished` are
    the parts that the other runs lack, by name. A name is that of the run's folder, such as seed0 or seed0-partition1.
    """

    folder: Path
    stages: Path
    runs: Mapping[str, Mapping[str, Any]]
    unfinished: Mapping[str, Sequence[str]]

    @property
    def method(self) -> str:
        """The method of all its runs."""
        return str(next(iter(self.runs.values()))["method"])


def side_of(folder: Path) -> Side:
    """The experiment in `results/runs/NAME/experiments/EXPERIMENT`, or the run in its folder `seed0`.

    Raises StppError if it is no such folder, or if no run of it is finished.
    """
    path = folder.resolve()  # "." has no name
    alone = re.fullmatch(r"seed\d+(-partition\d+)?", path.name)
    experiment = path.parent if alone else path
    shown = experiment.parent.parent / disk.COMPARISON / "table"
    table = target_of(shown) or shown
    try:
        planned = read_recipe(table / disk.RECIPE)["settings"]["runs"]
        # Runs of earlier versions have no parts, so no folders.
        runs = {Run(**run).name: run for run in planned if run["experiment"] == experiment.name and folders(run)}
    except (StppError, KeyError, TypeError):
        runs = {}
    if alone:
        runs = {name: run for name, run in runs.items() if name == path.name}
    if not runs:
        raise StppError(
            f"{folder} is not an experiment; give a folder results/runs/NAME/experiments/EXPERIMENT, or one of its "
            "runs, seed0"
        )
    stages = table.parent.parent
    unfinished = {name: lacking for name, run in runs.items() if (lacking := _lacking(stages, run))}
    if len(unfinished) == len(runs):
        lacking = next(iter(unfinished.values()))
        raise StppError(f"no run in {folder} is finished: {listed(lacking)} still to do; run the workflow first")
    return Side(folder, stages, {name: run for name, run in runs.items() if name not in unfinished}, unfinished)


def _lacking(stages: Path, run: Mapping[str, Any]) -> list[str]:
    """The names of the parts of a run that are not done."""
    parts = run["stages"].items()
    return [name for name, part in parts if not (stages / part["folder"] / disk.RECORD).exists()]


def compare(a: Side, b: Side) -> dict[str, Any]:
    """How B differs from A, as plain JSON: `a`, `b`, `settings`, `data`, `code`, `metrics`, `iou` and `labels`.

    mIoU, IoU and shares are in [0, 1].
    """
    sides = (a, b)
    rows = [{name: run_row(side.stages, run) for name, run in side.runs.items()} for side in sides]
    ious = [{name: class_ious(side, name, row) for name, row in found.items()} for side, found in zip(sides, rows)]
    repeats = {name: (run["partition"], run["seed"]) for side in sides for name, run in side.runs.items()}
    return {
        **{key: _head(side) for key, side in zip("ab", sides)},
        **other_recipes(a, b),
        "metrics": spread(rows[0], rows[1], repeats),
        "iou": spread(ious[0], ious[1], repeats),
        "labels": compare_labels(a, b),
    }


def _head(side: Side) -> dict[str, Any]:
    unfinished = {name: list(lacking) for name, lacking in side.unfinished.items()}
    head = {"folder": str(side.folder), "method": side.method, "runs": list(side.runs), "unfinished": unfinished}
    return head | {"model": _handed_over(side)}


def _handed_over(side: Side) -> str | None:
    """What the verdict says of `model.pt` in the results of an experiment; None where there is no verdict yet."""
    folder = side.folder.resolve()
    links = next(above for above in folder.parents if above.name == disk.EXPERIMENTS).parent
    verdict = target_of(links / disk.COMPARISON / "verdict")
    if verdict is None or not (told := verdict / disk.VERDICT).is_file():
        return None
    return str(read_metrics(verified(told))["sentences"][0])


# --- settings, data, code ---------------------------------------------------------------------------------------------


def other_recipes(a: Side, b: Side) -> dict[str, Any]:
    """The `settings` (by their names in the configuration), `data` and `code` that differ.

    A setting that one side does not have lacks there. Seeds do not count: of each side the first run is looked at.
    """
    records = [[_record(side, stage) for stage in folders(_first(side))] for side in (a, b)]
    settings = [{"method": side.method} | merged_settings(found) for side, found in zip((a, b), records)]
    data = [{subset: digest for record in found for subset, digest in record["data"].items()} for found in records]
    code = [{record["stage"]: record["code"] for record in found} for found in records]
    return {
        "settings": [
            {"name": name} | {key: value for key, value in (("a", old), ("b", new)) if value is not ABSENT}
            for name, old, new in changed_settings(*settings)
        ],
        "data": [subset for subset in data[0] if data[1].get(subset, data[0][subset]) != data[0][subset]],
        "code": [
            {"stage": kind, "a": code[0][kind], "b": code[1][kind]}
            for kind in code[0]
            if code[1].get(kind, code[0][kind]) != code[0][kind]
        ],
    }


def merged_settings(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of all stages of a run by their names in the configuration, but for the seed.

    The masks that the score compares are predicted without test-time augmentation: that says nothing of labelling.
    """
    pairs = [pair for record in records for pair in settings_by_name(record).items()]
    return {name: value for name, value in pairs if name != "seed" and (name, value) != ("labeling", None)}


def _first(side: Side) -> Mapping[str, Any]:
    return next(iter(side.runs.values()))


def _record(side: Side, stage: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(verified(side.stages / stage / disk.RECORD).read_text())
    return content


# --- metrics ----------------------------------------------------------------------------------------------------------


def class_ious(side: Side, name: str, row: Mapping[str, Any]) -> dict[str, float]:
    """IoU of each class for the result of a run, in [0, 1]; empty without a val and a test set."""
    if "subset" not in row:
        return {}
    folder = result_evaluation(side.runs[name])
    assert folder is not None  # the row has a subset
    metrics = json.loads(verified(side.stages / folder / disk.METRICS).read_text())
    return {class_: value for class_, value in metrics["iou"].items() if value is not None}


def spread(
    a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]], repeats: Mapping[str, tuple[int, int]]
) -> list[dict[str, Any]]:
    """The `name` of each metric, its `summary_of` the runs in `a` and in `b`, and `difference_of` the pairs.

    `a` and `b` are name of the run -> metric -> value; what is no finite number is passed over, and None stands where
    none is left. `repeats` has the partition and the seed of each run. The result comes first.
    """
    found = []
    for name in dict.fromkeys(["miou", *(name for runs in (a, b) for row in runs.values() for name in row)]):
        values = [{run: row[name] for run, row in runs.items() if _is_number(row.get(name))} for runs in (a, b)]
        if any(values):
            entry = {key: summary_of(list(part.values())) for key, part in zip("ab", values)}
            found.append({"name": name, **entry, "difference": difference_of(values[0], values[1], repeats)})
    return found


def difference_of(
    a: Mapping[str, float], b: Mapping[str, float], repeats: Mapping[str, tuple[int, int]]
) -> dict[str, Any] | None:
    """Of B - A over the runs in both: `summary_of` these, and `low` and `high`, the ends of the 95 % t interval.

    With several partitions, `n` are partitions: each counts once, by its mean difference, as in the table. No ends for
    one difference; None for no run in both.
    """
    pairs = [name for name in a if name in b]
    if not pairs:
        return None
    index = pd.MultiIndex.from_tuples([repeats[name] for name in pairs], names=PAIRED_BY)
    found = paired_difference(*(pd.Series([values[name] for name in pairs], index) for values in (b, a)))
    kept = {key: found[f"difference_{key}"] for key in ("mean", "sd", "n", "low", "high")}
    return {key: None if math.isnan(value) else value for key, value in kept.items()}


def summary_of(numbers: Sequence[float]) -> dict[str, Any] | None:
    """`mean`, standard deviation `sd` (n - 1; None for one number) and `n`; None without numbers."""
    sd = statistics.stdev(numbers) if len(numbers) > 1 else None
    return {"mean": statistics.fmean(numbers), "sd": sd, "n": len(numbers)} if numbers else None


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


# --- pseudo-labels ----------------------------------------------------------------------------------------------------


def compare_labels(a: Side, b: Side) -> dict[str, Any] | None:
    """How the pseudo-labels differ that the final students learned from, over the runs of the same seed and partition.

    `masks`: how many are in `both`, in `a` and in `b` alone; `different`: `summary_of` the share of pixels that have
    another label; `classes`: `by_class`. None if a side has no pseudo-labels, if the classes differ, or no run is in
    both.
    """
    stores = [[label_stores(side, name) for side in (a, b)] for name in a.runs if name in b.runs]
    found = [compare_stores(*pair) if all(pair) else None for pair in stores]
    agreements = [each for each in found if each is not None and each.both]
    if not agreements or None in found:
        return None
    return {
        "masks": {key: sum(getattr(each, key) for each in agreements) for key in ("both", "a", "b")},
        "different": summary_of([share_that_differs(each.pixels) for each in agreements]),
        "classes": list(by_class(np.sum([each.pixels for each in agreements], axis=0), agreements[0].classes)),
    }


def label_stores(side: Side, name: str) -> list[Path]:
    """The stores of pseudo-labels that the last network of a run learned from; none for a teacher alone."""
    run = side.runs[name]
    record = _record(side, networks(run)[result(run)])
    return [verified(side.stages / path) for path in record["inputs"].get("labels", [])]


# --- for people -------------------------------------------------------------------------------------------------------

NAMES = {
    "miou": "result",
    r"val_(last|best)": r"\1 epoch on val",
    r"student_(val|test)": r"final student on \1",
    r"phase(\d+)_(val|test)": r"student of phase \1 on \2",
    r"(\w+)_(val|test)": r"\1 on \2",
    "labels": "pseudo-labels",
    r"labels(\d+)": r"pseudo-labels of phase \1",
    r"((?:un)?reliable)": r"teacher's masks of \1 images",
    "spearman": "Spearman(score, true mIoU), no %",
    "spearman_within": "Spearman within equal numbers of classes, no %",
}
"""What people call a column of the table of runs: the first pattern that fits it whole."""


def as_text(found: Mapping[str, Any]) -> str:
    """The comparison as people read it: numbers in percent."""
    return "\n".join(_lines(found, lambda text: ["", text, ""], columns)) + "\n"


def as_markdown(found: Mapping[str, Any]) -> str:
    """The same in Markdown, for a note or an issue."""
    return "\n".join(_lines(found, lambda text: ["", f"**{text}**", ""], markdown)) + "\n"


def _lines(
    found: Mapping[str, Any], title: Callable[[str], list[str]], table: Callable[..., list[str]]
) -> Iterator[str]:
    heads = [[key.upper(), found[key]["folder"], " ".join(found[key]["runs"])] for key in ("a", "b")]
    yield from table([["", "experiment", "runs"], *heads], range(3))
    lacking = [(key.upper(), name, roles) for key in ("a", "b") for name, roles in found[key]["unfinished"].items()]
    if lacking:
        yield ""
    for side, name, roles in lacking:
        yield f"{name} of {side} is left out: {listed(roles)} still to do."

    yield from title("What differs")
    settings = found["settings"]
    rows = [[each["name"], *(shown(each[key]) for key in "ab")] for each in settings if "a" in each and "b" in each]
    rows += [[f"code of stpp {each['stage']}", *(code_shown(each[key]) for key in "ab")] for each in found["code"]]
    rows += [[DATA.get(subset, subset), "these", "others"] for subset in found["data"]]
    if rows:
        yield from table([["", "A", "B"], *rows], range(3))
    elif not settings:
        yield "Nothing: same settings, data and code."
    for key, other in ("ab", "ba"):
        if alone := dict.fromkeys(".".join(each["name"].split(".")[:2]) for each in settings if other not in each):
            yield from ("", f"Settings of {key.upper()} alone: {', '.join(alone)}.")

    metrics = [{**entry, "name": metric_name(entry["name"])} for entry in found["metrics"]]
    miou = f"mIoU in % ({_spread_told(found['a']['runs'], found['b']['runs'])})"
    for what, entries in ((miou, metrics), ("IoU of the result by class in %", found["iou"])):
        if entries:
            yield from title(what)
            rows = [_metric_row(entry) for entry in entries]
            known = any(row[-1] != shown(ABSENT) for row in rows)
            yield from table([row if known else row[:-1] for row in [METRIC_HEAD, *rows]])
    if others := [entry["name"] for entry in found["iou"] if entry["a"] is None or entry["b"] is None]:
        yield from (
            "",
            f"The mIoU of A and of B are not means over the same classes: one of them lacks {listed(others)}.",
        )
    models = {found[key]["model"] for key in "ab"}
    if len(models) == 2 and None not in models:
        yield from title("The models of both results")
        yield from (f"{key.upper()}: {found[key]['model']}" for key in "ab")

    yield from title("Pseudo-labels that the final students learned from")
    yield from _label_lines(found["labels"], table)


def _spread_told(a: Sequence[str], b: Sequence[str]) -> str:
    paired = [name for name in a if name in b]
    if len(a) == len(b) == 1:
        return "one run, so the noise between seeds is not known"
    pairing = f"B - A is over pairs of runs: {', '.join(paired)}" if paired else "no run is on both sides"
    if len({name.partition("-")[2] for name in paired}) > 1:
        pairing = f"B - A is over partitions, each by the mean difference of its runs: {', '.join(paired)}"
    return f"mean ± standard deviation over the runs; {pairing}"


METRIC_HEAD = ["", "A", "B", "B - A", "95 % interval"]


def _metric_row(entry: Mapping[str, Any]) -> list[str]:
    factor = 1 if entry["name"].endswith("no %") else 100
    means = [_mean(entry[key], factor, sign) for key, sign in (("a", ""), ("b", ""), ("difference", "+"))]
    return [entry["name"], *means, _interval(entry["difference"], factor)]


def _interval(part: Mapping[str, Any] | None, factor: float) -> str:
    if part is None or part["low"] is None:
        return shown(ABSENT)
    return f"[{factor * part['low']:+.2f}, {factor * part['high']:+.2f}]"


def _mean(part: Mapping[str, Any] | None, factor: float = 100, sign: str = "") -> str:
    """Mean and, if there is one, standard deviation."""
    if part is None:
        return shown(ABSENT)
    return f"{factor * part['mean']:{sign}.2f}" + ("" if part["sd"] is None else f" ± {factor * part['sd']:.2f}")


def metric_name(name: str) -> str:
    """A column of the table of runs as people say it."""
    fits = ((re.fullmatch(pattern, name), words) for pattern, words in NAMES.items())
    return next((found.expand(words) for found, words in fits if found), name)


def _label_lines(labels: Mapping[str, Any] | None, table: Callable[..., list[str]]) -> Iterator[str]:
    if labels is None:
        yield "Not compared: one side has none, the classes differ, or no run and no image is in both."
        return
    masks = labels["masks"]
    alone = [f"{masks[key]} more in {key.upper()} alone" for key in ("a", "b") if masks[key]]
    yield f"{_mean(labels['different'])} % of the pixels of {masks['both']} masks have different labels in A and B."
    if alone:
        yield f"Not compared: {', '.join(alone)}."
    yield ""
    yield from table([["class", "% of pixels in A", "in B", "IoU of A with B"], *map(_class_row, labels["classes"])])


def _class_row(entry: Mapping[str, Any]) -> list[str]:
    iou = shown(ABSENT) if entry["iou"] is None else f"{100 * entry['iou']:.2f}"
    return [entry["name"], *(f"{100 * entry[key]:.2f}" for key in "ab"), iou]
