"""The table: one row a run, one row an experiment; their numbers are those of `stpp.report.statistics`."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stpp.common import disk
from stpp.common.wording import columns, repeat_name
from stpp.plan.parts import PartKind, evaluations, folders, networks, of_kind, result, score, score_quality
from stpp.report import undertrained
from stpp.report.costs import experiment_costs, sharing
from stpp.report.published import beside_ours, of_results, read_published
from stpp.report.statistics import experiment_table, notes
from stpp.runtime.job import Job, Runtime, verified
from stpp.store.evaluations import read_by_image, read_metrics


def run(job: Job, runtime: Runtime) -> None:
    """Gather the numbers of all runs of `job`.

    Writes `runs.csv`, `table.csv`, `table.txt`, `metrics.json` and `stages.json`. All but `runs.csv` and `metrics.json`
    say what each number took, too, and so differ from one computation to the next.
    """
    stages = job.folder.parent.parent
    name, described = job.settings["name"], job.settings["runs"]
    records = {
        path.parent.relative_to(stages).as_posix(): json.loads(path.read_text()) for path in job.inputs("stages")
    }
    runs = pd.DataFrame([run_row(stages, run) for run in described])
    table = experiment_table(runs, job.settings["baselines"])
    published = None
    if "published" in job.recipe["files"]:
        published = beside_ours(read_published(Path(job.recipe["files"]["published"]), name), runs)
        table = table.merge(of_results(published, runs), on="experiment", how="left")
    verdict = json.loads(job.input("verdict").read_text())["sentences"]
    warnings = sorted({text for record in records.values() for text in record["warnings"]})
    warnings += declines(runs) + undertrained.warnings(described, stages)
    for text in warnings:
        job.warn(text)
    with job.writing(disk.RUNS) as path:
        runs.to_csv(path, index=False, lineterminator="\n")
    with_costs = table.merge(experiment_costs(described, records), on="experiment")
    with job.writing(disk.TABLE) as path:
        with_costs.to_csv(path, index=False, lineterminator="\n")
    with job.writing(disk.TABLE_TEXT) as path:
        path.write_text(as_text(name, runs, with_costs, published, sharing(described, records), warnings, verdict))
    with job.writing(disk.METRICS) as path:
        frames = {"experiments": table, "runs": runs} | ({} if published is None else {"published": published})
        content = {
            key: json.loads(frame.to_json(orient="records", double_precision=15)) for key, frame in frames.items()
        }
        path.write_text(json.dumps({**content, "verdict": verdict, "warnings": warnings}, indent=1) + "\n")
    with job.writing(disk.GATHERED) as path:
        path.write_text(json.dumps(gathered(described, records, stages), indent=1) + "\n")
    job.finish()


def gathered(
    runs: Sequence[Mapping[str, Any]], records: Mapping[str, Mapping[str, Any]], stages: Path
) -> dict[str, dict[str, Any]]:
    """What the report tells of stages, by folder: all `records`, in the order of the runs, the `evaluations`
    (`metrics.json`), and the `histories` of trainings (the text of `metrics.csv`)."""

    def of(kind: PartKind) -> list[str]:
        return list(dict.fromkeys(folder for run in runs for folder in of_kind(run, kind).values()))

    return {
        "records": {folder: records[folder] for folder in dict.fromkeys(each for run in runs for each in folders(run))},
        "evaluations": {folder: read_metrics(verified(stages / folder / disk.METRICS)) for folder in of("evaluation")},
        "histories": {folder: verified(stages / folder / disk.HISTORY).read_text() for folder in of("network")},
    }


def run_row(stages: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """One run's numbers; mIoU in [0, 1], missing where there is no such set or no true mask.

    `<model>_<subset>` for each trained network (`teacher`, `phase1`, ..., `student`, or `supervised`) on val and test;
    `subset`, `images`, `result` (the network) and `miou` of the result: the last network on test, or on val without a
    test set; `reliable`, `unreliable`: mIoU of the last teacher checkpoint's masks of the two parts; `spearman`: rank
    correlation of the stability score with the true mIoU of these masks, and `spearman_within` that among images of as
    many classes; `labels...`: mIoU of the pseudo-labels of each phase, over their valid pixels; `val_last`, `val_best`:
    mIoU on val of the last network after its last epoch, and at the epoch where it was highest.
    """
    row: dict[str, Any] = {key: run[key] for key in ("experiment", "partition", "seed", "method")}
    measured = {
        subset: {
            name: read_metrics(verified(stages / folder / disk.METRICS))
            for name, folder in evaluations(run, subset).items()
        }
        for subset in ("val", "test", "truth")
    }
    trained = networks(run)
    for network in trained:
        for subset in ("val", "test"):
            if network in measured[subset]:
                row[f"{network}_{subset}"] = measured[subset][network]["miou"]
    last = result(run)
    for subset in ("test", "val"):
        if metrics := measured[subset].get(last):
            row |= {"subset": subset, "images": metrics["images"], "result": last, "miou": metrics["miou"]}
            break
    if f"{last}_val" in row:
        validated = pd.read_csv(verified(stages / trained[last] / disk.HISTORY))["val_miou"]
        row |= {"val_last": validated.iloc[-1], "val_best": validated.max()}
    masks = of_kind(run, "masks")
    row |= {name: metrics["miou"] for name, metrics in measured["truth"].items() if name not in masks}
    scored, rated = score(run), score_quality(run)
    if scored and rated:
        (groups,) = (metrics["groups"] for name, metrics in measured["truth"].items() if name in masks)
        row |= {group: groups[group]["miou"] for group in ("reliable", "unreliable") if group in groups}
        both = (
            read_by_image(verified(stages / scored / disk.SCORES)),
            read_by_image(verified(stages / rated / disk.IMAGES)),
        )
        row["spearman"], row["spearman_within"] = score_correlation(*both), correlation_within(*both)
    return row


def declines(runs: pd.DataFrame) -> list[str]:
    """A sentence for each run whose result is worse than an earlier network of the same run."""
    found = []
    for run in runs.to_dict("records"):
        suffix = f"_{run.get('subset')}"
        after = run.get(f"student{suffix}", math.nan)
        for column in [str(column) for column in runs if str(column).endswith(suffix)]:
            before = run[column]
            name = column.removesuffix(suffix).replace("phase", "student of phase ")
            if after < before:
                found.append(
                    f"{run_name(run)}: the final student is worse than the {name} on "
                    f"{run['subset']}: {percent(after)} against {percent(before)} % mIoU"
                )
    return found


def score_correlation(scores: pd.DataFrame, images: pd.DataFrame) -> float:
    """Spearman's rank correlation, over images, of the stability score with the true mIoU; NaN if one is constant."""
    both = scores.merge(images, on="id")
    return _spearman(both)


def correlation_within(scores: pd.DataFrame, images: pd.DataFrame) -> float:
    """The mean of `score_correlation` among images with equally many predicted classes; NaN if there is none.

    The number of classes changes score and true mIoU alike, so they correlate even where the score says nothing of an
    image. Each group counts by its images less one, as its correlation's variance is one over that, if nothing relates
    them; groups in which score or mIoU are constant do not count.
    """
    both = scores.merge(images, on="id").dropna(subset=["miou"])
    groups = [(_spearman(group), len(group) - 1) for _, group in both.groupby("classes")]
    known = [(rho, weight) for rho, weight in groups if not math.isnan(rho)]
    total = sum(weight for _, weight in known)
    return sum(rho * weight for rho, weight in known) / total if known else math.nan


def _spearman(images: pd.DataFrame) -> float:
    return float(images["score"].rank().corr(images["miou"].rank()))


def run_name(run: Mapping[Any, Any]) -> str:
    """How a run is called."""
    return f"{run['experiment']}, {repeat_name(run)}"


# --- for people -------------------------------------------------------------------------------------------------------


def as_text(
    name: str,
    runs: pd.DataFrame,
    table: pd.DataFrame,
    published: pd.DataFrame | None,
    saved: Mapping[str, float],
    warnings: Sequence[str],
    verdict: Sequence[str],
) -> str:
    """The verdict, and the table as people read it, mIoU in percent; `table` with the costs, `saved` by `sharing`."""
    if "miou" not in runs:
        unmeasured = f"{name}: neither a val nor a test set was given, so no mIoU was measured."
        return "\n".join([*verdict, "", unmeasured, ""])
    parts = [
        list(verdict),
        [f"{name}: mIoU (%) on {table['subset'].iloc[0]}, {int(runs['images'].iloc[0])} images"],
        columns(_filled(_results(table))),
        _legend(table, saved),
    ]
    if "reliable_mean" in table:
        parts.append(["Masks of the unlabeled images by the teacher, mIoU (%) against true masks that were not used:"])
        parts.append(columns(_filled(_score_worth(table))))
    if published is not None and len(published):
        parts.append(["Published numbers, mIoU (%), and ours of the same row:"])
        parts.append(columns(_filled(_published(published))))
    if warnings:
        parts.append(["Warnings:"])
        parts.append([f"- {text}" for text in warnings])
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _results(table: pd.DataFrame) -> list[list[str]]:
    """The rows of the table, its head first."""
    baselines = list(table["baseline"].unique())
    one = baselines[0] if len(baselines) == 1 else None
    columns = {
        "experiment": list(table["experiment"]),
        "mIoU": _percents(table, "miou_mean"),
        "sd": _percents(table, "miou_sd"),
        "n": [str(n) for n in table["n"]],
        f"difference to {one or 'baseline'}": _percents(table, "difference_mean", sign=True),
        "its sd": _percents(table, "difference_sd"),
        "95 % interval": [
            "" if pd.isna(low) else f"[{percent(low, sign=True)}, {percent(high, sign=True)}]"
            for low, high in zip(_column(table, "difference_low"), _column(table, "difference_high"))
        ],
        "baseline": list(table["baseline"]) if one is None else [],
        "val last": _percents(table, "val_last_mean"),
        "val best": _percents(table, "val_best_mean"),
        "published": _percents(table, "published"),
        "CPU-h": _hours(table, "cpu_hours"),
        "GPU-h": _hours(table, "gpu_hours"),
    }
    shown = {head: cells for head, cells in columns.items() if cells}
    return [list(shown), *(list(row) for row in zip(*shown.values()))]


def _legend(table: pd.DataFrame, saved: Mapping[str, float]) -> list[str]:
    """What the columns mean, and what sharing saved."""
    lines = ["n, sd: the runs, and the standard deviation over them."] if table["n"].max() > 1 else []
    lines += notes(table)
    if "val_best_mean" in table:
        lines.append("val last, val best: on val after the last epoch, and at the epoch that val chose, so too high.")
    kind, label = ("gpu_hours", "GPU-h") if saved["gpu_hours"] > 0 else ("cpu_hours", "CPU-h")
    what = "time of its GPUs" if kind == "gpu_hours" else "processor time"
    lines.append(f"{label}: {what} of one run with all its stages, in hours.")
    share = 1 - saved[kind] / saved[f"{kind}_alone"] if saved[f"{kind}_alone"] > 0 else 0
    lines.append(
        f"Sharing: {saved['stages']} stages took {_hour(saved[kind])} {label}; if no two runs shared any, "
        f"{saved['stages_alone']} would have taken {_hour(saved[f'{kind}_alone'])}: {100 * share:.0f} % saved."
    )
    return lines


def _score_worth(table: pd.DataFrame) -> list[list[str]]:
    """What the stability score was worth, over the runs of an experiment; of those that agree, the first is shown."""
    names = ["reliable", "unreliable", "spearman", "spearman_within"]
    known = table.dropna(subset=["reliable_mean"]).drop_duplicates([f"{name}_mean" for name in names])
    correlations = ["Spearman(score, true mIoU)", "sd", "within equal numbers of classes", "sd"]
    rows = [["experiment", "reliable", "sd", "unreliable", "sd", *correlations]]
    for row in known.to_dict("records"):
        parts = [percent(row[f"{name}_{what}"]) for name in names[:2] for what in ("mean", "sd")]
        found = [row[f"{name}_{what}"] for name in names[2:] for what in ("mean", "sd")]
        rho = ["" if pd.isna(value) else f"{value:.2f}" for value in found]
        rows.append([str(row["experiment"]), *parts, *rho])
    return rows


def _published(published: pd.DataFrame) -> list[list[str]]:
    rows = [["network", "labels", "method", "published", "ours", "sd", "n", "source"]]
    for row in published.to_dict("records"):
        texts = [str(row[key]) for key in ("network", "labels", "method")]
        numbers = [percent(row[key]) for key in ("miou", "ours_mean", "ours_sd")]
        rows.append([*texts, *numbers, str(row["n"]) if row["n"] else "", str(row["source"])])
    return rows


def _column(table: pd.DataFrame, name: str) -> list[float]:
    """The values of a column; NaN if there is none."""
    return list(table[name]) if name in table else [math.nan] * len(table)


def _percents(table: pd.DataFrame, name: str, sign: bool = False) -> list[str]:
    return [percent(value, sign) for value in _column(table, name)]


def _hours(table: pd.DataFrame, name: str) -> list[str]:
    return ["" if pd.isna(value) or not value else _hour(value) for value in _column(table, name)]


def _hour(hours: float) -> str:
    return f"{hours:.3f}" if hours < 10 else f"{hours:.1f}"


def _filled(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The rows without the columns that are empty below their head."""
    kept = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    return [[row[i] for i in kept] for row in rows]


def percent(value: float, sign: bool = False) -> str:
    """A share as percent with two digits; empty for NaN."""
    return "" if pd.isna(value) else f"{100 * value:{'+' if sign else ''}.2f}"
