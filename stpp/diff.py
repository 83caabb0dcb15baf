"""What `stpp diff` says: how two experiments, or two runs, differ in settings, in metrics and in pseudo-labels."""

import json
import math
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stpp.errors import StppError
from stpp.inventory import ABSENT, DATA, changed_settings, code_shown, settings_by_name, shown
from stpp.masks import MaskStore
from stpp.metrics import Confusion, iou, joint_histogram
from stpp.report.table import MODELS, NAMES, run_row
from stpp.stage import verified
from stpp.wording import columns, counted, markdown

Recipes = Mapping[str, Mapping[str, Any]]
"""Recipes of the stages of one run, by role."""


@dataclass(frozen=True)
class Side:
    """One of the two that are compared: its folder, its method, its runs (seed -> role -> stage), and what lacks."""

    folder: Path
    name: str
    method: str
    stages: Path
    runs: Mapping[int, Mapping[str, str]]
    unfinished: Mapping[int, Sequence[str]]


def side_of(folder: Path) -> Side:
    """The experiment in `results/NAME/experiments/EXPERIMENT`, or the run in its folder `seed0`.

    Runs of which a stage is not done are left out. Raises StppError if it is no such folder, or if no run is finished.
    """
    seeds = [folder] if folder.name.startswith("seed") else sorted(folder.glob("seed*"))
    links = {path.name: sorted(link for link in path.iterdir() if link.is_symlink()) for path in seeds if path.is_dir()}
    if not any(links.values()):
        raise StppError(
            f"{folder} is no experiment; give a folder results/NAME/experiments/EXPERIMENT, or one of its runs, seed0"
        )
    targets = [link.resolve() for found in links.values() for link in found]
    stages = targets[0].parent.parent
    runs, unfinished = {}, {}
    for name, found in links.items():
        seed = name.removeprefix("seed")
        if not seed.isdigit():
            continue
        lacking = [link.name for link in found if not (link / "stage.json").is_file()]
        if lacking:
            unfinished[int(seed)] = lacking
        else:
            runs[int(seed)] = {link.name: str(link.resolve().relative_to(stages)) for link in found}
    if not runs:
        (lacking, *_) = unfinished.values()
        raise StppError(f"no run in {folder} is finished: {', '.join(lacking[:3])} and so on are not done")
    experiment = folder.parent if folder.name.startswith("seed") else folder
    return Side(folder, experiment.name, method_of(experiment), stages, runs, unfinished)


def method_of(experiment: Path) -> str:
    """The method that the configuration beside the experiments tells; empty if that cannot be read."""
    try:
        content = json.loads((experiment.parent.parent / "config.json").read_text())
        return str(content["experiments"][experiment.name]["method"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def compare(a: Side, b: Side) -> dict[str, Any]:
    """How B differs from A, as plain JSON: `a` and `b`, `settings`, `data`, `code`, `metrics`, `iou`, `labels`."""
    rows = [{seed: run_row(side.stages, _described(side, seed)) for seed in side.runs} for side in (a, b)]
    ious = [{seed: class_ious(side, seed, rows[k][seed]) for seed in side.runs} for k, side in enumerate((a, b))]
    return {
        **{key: _head(side) for key, side in (("a", a), ("b", b))},
        **other_recipes(records_of(a), records_of(b), (a.method, b.method)),
        "metrics": spread(*rows),
        "iou": spread(*ious),
        "labels": compare_labels(a, b),
    }


def _described(side: Side, seed: int) -> dict[str, Any]:
    return {"experiment": side.name, "seed": seed, "method": side.method, "stages": side.runs[seed]}


def _head(side: Side) -> dict[str, Any]:
    unfinished = {str(seed): list(lacking) for seed, lacking in side.unfinished.items()}
    return {"folder": str(side.folder), "method": side.method, "seeds": sorted(side.runs), "unfinished": unfinished}


# --- settings, data, code ---------------------------------------------------------------------------------------------


def records_of(side: Side) -> Recipes:
    """What `stage.json` holds for the stages of the side's first run, by role."""
    run = side.runs[min(side.runs)]
    found = {}
    for role, folder in run.items():
        content = json.loads(verified(side.stages / folder / "stage.json").read_text())
        found[role] = content
    return found


def other_recipes(a: Recipes, b: Recipes, methods: tuple[str, str]) -> dict[str, Any]:
    """Which settings, stages, data and code differ between two runs, each a list of name and both values."""
    both = [merged_settings(side) for side in (a, b)]
    settings = [("method", *methods)] if methods[0] != methods[1] else []
    settings += list(changed_settings(*both))
    data = [
        {subset: digest for record in side.values() for subset, digest in record["data"].items()} for side in (a, b)
    ]
    code = [{record["stage"]: record["code"] for record in side.values()} for side in (a, b)]
    roles = [role for role in [*a, *b] if (role in a) != (role in b)]
    return {
        "settings": [{"name": name, "a": old, "b": new} for name, old, new in settings],
        "only": {"a": [role for role in roles if role in a], "b": [role for role in roles if role in b]},
        "data": [subset for subset in data[0] if subset in data[1] and data[0][subset] != data[1][subset]],
        "code": [
            {"stage": kind, "a": code[0][kind], "b": code[1][kind]}
            for kind in code[0]
            if kind in code[1] and code[0][kind] != code[1][kind]
        ],
    }


def merged_settings(run: Recipes) -> dict[str, Any]:
    """The settings of all stages of a run by their names in the configuration; the seed is left out.

    Stability masks, which are predicted without test-time augmentation, say nothing of pseudo-labels.
    """
    found: dict[str, Any] = {}
    for record in run.values():
        found |= {k: v for k, v in settings_by_name(record).items() if k != "seed" and (k, v) != ("labeling", None)}
    return found


# --- metrics ----------------------------------------------------------------------------------------------------------


def class_ious(side: Side, seed: int, row: Mapping[str, Any]) -> dict[str, float]:
    """IoU of each class for the result of a run, in [0, 1]; empty without a val and a test set."""
    if "subset" not in row:
        return {}
    run = side.runs[seed]
    last = [model for model in MODELS if model in run][-1]
    metrics = json.loads(verified(side.stages / run[f"{last}-{row['subset']}"] / "metrics.json").read_text())
    return {name: value for name, value in metrics["iou"].items() if value is not None}


def spread(a: Mapping[int, Mapping[str, Any]], b: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean, standard deviation (n - 1) and number of runs of each metric, and of the difference paired by seed.

    `a` and `b` are seed -> metric -> value; the result stands first. What is no number, or known for one side alone,
    has no difference; a standard deviation of one run is None.
    """
    names = dict.fromkeys(["miou", *(name for runs in (a, b) for row in runs.values() for name in row)])
    found = []
    for name in names:
        values = [{s: row[name] for s, row in runs.items() if _is_metric(name, row.get(name))} for runs in (a, b)]
        if not any(values):
            continue
        pairs = [values[1][seed] - values[0][seed] for seed in values[0] if seed in values[1]]
        entry: dict[str, Any] = {"name": name}
        for key, numbers in (("a", list(values[0].values())), ("b", list(values[1].values())), ("difference", pairs)):
            entry[key] = summary_of(numbers) if numbers else None
        found.append(entry)
    return found


def summary_of(numbers: Sequence[float]) -> dict[str, Any]:
    """`mean`, `sd` (None for one number) and `n`."""
    sd = statistics.stdev(numbers) if len(numbers) > 1 else None
    return {"mean": statistics.fmean(numbers), "sd": sd, "n": len(numbers)}


def _is_metric(name: str, value: Any) -> bool:
    return isinstance(value, float) and name not in ("seed", "images") and not math.isnan(value)


# --- pseudo-labels ----------------------------------------------------------------------------------------------------


def compare_labels(a: Side, b: Side) -> dict[str, Any] | None:
    """How the pseudo-labels that the final students learned differ, over the runs of the same seed.

    `images`: how many both have, and one alone; `other_sizes`: those whose masks differ in size, which are left out.
    `different`: share of the pixels that have another label. `classes`: for each class its share of all pixels on
    either side, and the IoU of the two sides' pixels; `ignored` stands for pixels without a label. None if a side has
    no pseudo-labels, or the classes are others.
    """
    seeds = sorted(set(a.runs) & set(b.runs))
    pairs = {seed: (label_stores(a, seed), label_stores(b, seed)) for seed in seeds}
    if not pairs or not all(all(pair) for pair in pairs.values()):
        return None
    images = {"both": 0, "a": 0, "b": 0, "other_sizes": 0}
    shares, total = [], None
    for seed, (left, right) in pairs.items():
        with ExitStack() as opened:
            stores = [[opened.enter_context(MaskStore(path)) for path in paths] for paths in (left, right)]
            classes = stores[0][0].classes
            if stores[1][0].classes != classes:
                return None
            where = [{id: store for store in side for id in store.ids} for side in stores]
            ids = [id for id in where[0] if id in where[1]]
            images["a"] += len(where[0]) - len(ids)
            images["b"] += len(where[1]) - len(ids)
            counts = np.zeros((len(classes) + 1,) * 2, np.int64)
            bar = tqdm(ids, desc=f"pseudo-labels, seed {seed}", unit="img", delay=2, leave=False)
            for histogram in _histograms(bar, where[0], where[1], len(classes)):
                images["other_sizes" if histogram is None else "both"] += 1
                counts += 0 if histogram is None else histogram
        if counts.sum():
            shares.append(1 - float(np.trace(counts) / counts.sum()))
        total = counts if total is None else total + counts
    if total is None or not shares:
        return {"images": images, "different": None, "classes": []}
    return {"images": images, "different": summary_of(shares), "classes": _by_class(total, [*classes, "ignored"])}


def label_stores(side: Side, seed: int) -> list[Path]:
    """The stores of pseudo-labels that the final student of a run learned from; none for a teacher alone."""
    run = side.runs[seed]
    if "student" not in run:
        return []
    content = json.loads(verified(side.stages / run["student"] / "stage.json").read_text())
    return [verified(side.stages / path) for path in content["inputs"].get("labels", [])]


def _histograms(
    ids: "tqdm[str]", left: Mapping[str, MaskStore], right: Mapping[str, MaskStore], classes: int
) -> Iterator[Confusion | None]:
    """For each image the pixels by label on the left (row) and on the right; None if the masks differ in size."""
    for id in ids:
        if left[id].path == right[id].path:
            mask = left[id][id]
            yield joint_histogram([mask, mask], classes)
            continue
        masks = [left[id][id], right[id][id]]
        yield joint_histogram(masks, classes) if masks[0].shape == masks[1].shape else None


def _by_class(counts: Confusion, names: Sequence[str]) -> list[dict[str, Any]]:
    pixels = counts.sum()
    agreement = iou(counts)
    return [
        {
            "name": name,
            "a": float(counts[k].sum() / pixels),
            "b": float(counts[:, k].sum() / pixels),
            "iou": None if np.isnan(agreement[k]) else float(agreement[k]),
        }
        for k, name in enumerate(names)
        if name != "ignored" or not np.isnan(agreement[k])
    ]


# --- for people -------------------------------------------------------------------------------------------------------

METRICS = {
    "miou": "result",
    "reliable": "teacher's masks, reliable",
    "unreliable": "teacher's masks, unreliable",
    "spearman": "Spearman(score, true mIoU)",
}
PLAIN = ("spearman",)
"""Metrics that are no percentages."""


def as_text(found: Mapping[str, Any]) -> str:
    """The comparison as people read it: shares in percent."""
    return "\n".join(_lines(found, lambda text: ["", text, ""], columns)) + "\n"


def as_markdown(found: Mapping[str, Any]) -> str:
    """The same in Markdown, for a note or an issue."""
    return "\n".join(_lines(found, lambda text: ["", f"**{text}**", ""], markdown)) + "\n"


def _lines(
    found: Mapping[str, Any], title: Callable[[str], list[str]], table: Callable[..., list[str]]
) -> Iterator[str]:
    yield from table([["", "folder", "method", "seeds"], *(_heading(key, found[key]) for key in ("a", "b"))], range(4))
    for key in ("a", "b"):
        for seed, lacking in found[key]["unfinished"].items():
            yield f"Left out of {key.upper()}: seed {seed}, where {', '.join(lacking[:3])} is not done."

    yield from title("Settings that differ")
    settings = [[each["name"], shown(each["a"]), shown(each["b"])] for each in found["settings"]]
    settings += [[f"code of {each['stage']}", *(code_shown(each[k]) for k in ("a", "b"))] for each in found["code"]]
    settings += [[DATA.get(subset, subset), "these", "others"] for subset in found["data"]]
    yield from table([["", "A", "B"], *settings], range(3)) if settings else ["none: same settings, data and code"]
    for key in ("a", "b"):
        if found["only"][key]:
            yield f"Stages of {key.upper()} alone: {', '.join(found['only'][key])}."

    if found["metrics"]:
        yield from title("Metrics (mIoU in %; B - A is paired by seed)")
        yield from table([METRICS_HEADER, *map(_metric_row, found["metrics"])])
    if found["iou"]:
        yield from title("IoU of the result by class (%)")
        yield from table([METRICS_HEADER, *map(_metric_row, found["iou"])])
    yield from title("Pseudo-labels of the final students")
    yield from _label_lines(found["labels"], table)


METRICS_HEADER = ["", "A", "sd", "n", "B", "sd", "n", "B - A", "sd", "n"]


def _heading(key: str, side: Mapping[str, Any]) -> list[str]:
    return [key.upper(), side["folder"], side["method"], " ".join(map(str, side["seeds"]))]


def _metric_row(entry: Mapping[str, Any]) -> list[str]:
    cells = [metric_name(entry["name"])]
    factor = 1 if entry["name"] in PLAIN else 100
    for key in ("a", "b", "difference"):
        part = entry[key]
        sign = "+" if key == "difference" else ""
        sd = "" if part is None or part["sd"] is None else f"{factor * part['sd']:.2f}"
        cells += [ABSENT, "", ""] if part is None else [f"{factor * part['mean']:{sign}.2f}", sd, str(part["n"])]
    return cells


def metric_name(name: str) -> str:
    """A metric of the table of runs, as people say it."""
    model, _, subset = name.rpartition("_")
    if model in MODELS:
        return f"{NAMES.get(model, 'final student')}, {subset}"
    if phase := re.fullmatch(r"labels(\d*)", name):
        return f"pseudo-labels of phase {phase[1]}" if phase[1] else "pseudo-labels"
    return METRICS.get(name, name)


def _label_lines(labels: Mapping[str, Any] | None, table: Callable[..., list[str]]) -> list[str]:
    if labels is None:
        return ["not compared: one side has none, the classes are others, or no seed is in both"]
    images = labels["images"]
    lines = [f"Masks in both: {images['both']}; in A alone: {images['a']}; in B alone: {images['b']}."]
    if images["other_sizes"]:
        lines.append(f"Left out, because the masks differ in size: {images['other_sizes']}.")
    if labels["different"] is None:
        return lines
    part = labels["different"]
    sd = "" if part["sd"] is None else f" (sd {100 * part['sd']:.2f} over {counted(part['n'], 'seed')})"
    lines += [f"{100 * part['mean']:.2f} % of the pixels have another label{sd}.", ""]
    rows = [["class", "share in A (%)", "share in B (%)", "IoU of A with B (%)"]]
    for each in labels["classes"]:
        numbers = [ABSENT if each[key] is None else f"{100 * each[key]:.2f}" for key in ("a", "b", "iou")]
        rows.append([each["name"], *numbers])
    return lines + table(rows)
