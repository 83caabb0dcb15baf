"""The table: one row a run, one row an experiment, and what the stability score was worth."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stpp.stage import Runtime, Stage, verified
from stpp.wording import columns

NAMES = {"teacher": "teacher", "phase1": "student of phase 1"}
MODELS = ("teacher", "phase1", "student")
"""Roles of the networks of a run, in the order in which they are trained; the last one is the result."""


def run(stage: Stage, runtime: Runtime) -> None:
    """Gather the numbers of all runs of `stage`; writes `runs.csv`, `table.csv`, `table.txt` and `metrics.json`."""
    stages = stage.folder.parent.parent
    records = [json.loads(path.read_text()) for path in stage.inputs("stages")]
    runs = pd.DataFrame([run_row(stages, run) for run in stage.settings["runs"]])
    table = experiment_table(runs)
    warnings = sorted({text for record in records for text in record["warnings"]}) + declines(runs)
    for text in warnings:
        stage.warn(text)
    with stage.writing("runs.csv") as path:
        runs.to_csv(path, index=False, lineterminator="\n")
    with stage.writing("table.csv") as path:
        table.to_csv(path, index=False, lineterminator="\n")
    with stage.writing("table.txt") as path:
        path.write_text(as_text(stage.settings["name"], runs, table, warnings))
    with stage.writing("metrics.json") as path:
        content = {
            "experiments": json.loads(table.to_json(orient="records", double_precision=15)),
            "runs": json.loads(runs.to_json(orient="records", double_precision=15)),
            "warnings": warnings,
        }
        path.write_text(json.dumps(content, indent=1) + "\n")
    stage.finish()


def run_row(stages: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """One run's numbers; mIoU in [0, 1], missing where there is no such set or no true mask.

    `<model>_<subset>` for each trained network on val and test; `subset` and `miou`, the result: the last network on
    test, or on val without a test set; `reliable`, `unreliable`: mIoU of the last teacher checkpoint's masks of the
    two parts; `spearman`: rank correlation of the stability score with the true mIoU of these masks; `labels...`: mIoU
    of the pseudo-labels that were trained on.
    """
    folders: Mapping[str, str] = run["stages"]
    row: dict[str, Any] = {key: run[key] for key in ("experiment", "seed", "method")}
    evaluations = {
        role: _metrics(stages / folder) for role, folder in folders.items() if folder.startswith("evaluate/")
    }
    for model in MODELS:
        for subset in ("val", "test"):
            if f"{model}-{subset}" in evaluations:
                row[f"{model}_{subset}"] = evaluations[f"{model}-{subset}"]["miou"]
    last = [model for model in MODELS if model in folders][-1]
    for subset in ("test", "val"):
        if f"{last}_{subset}" in row:
            row |= {
                "subset": subset,
                "images": evaluations[f"{last}-{subset}"]["images"],
                "miou": row[f"{last}_{subset}"],
            }
            break
    for role in ("labels", "labels1", "labels2"):
        if f"{role}-truth" in evaluations:
            row[role] = evaluations[f"{role}-truth"]["miou"]
    if "stability-truth" in evaluations:
        groups = evaluations["stability-truth"]["groups"]
        row |= {group: groups[group]["miou"] for group in ("reliable", "unreliable") if group in groups}
        row["spearman"] = score_correlation(
            pd.read_csv(verified(stages / folders["score"] / "scores.csv")),
            pd.read_csv(verified(stages / folders["stability-truth"] / "images.csv")),
        )
    return row


def declines(runs: pd.DataFrame) -> list[str]:
    """A sentence for each run whose result is worse than an earlier network of the same run."""
    found = []
    for run in runs.to_dict("records"):
        for earlier in ("teacher", "phase1"):
            before, after = (run.get(f"{model}_{run.get('subset')}", math.nan) for model in (earlier, "student"))
            if after < before:
                found.append(
                    f"{run['experiment']}, seed {run['seed']}: the final student is worse than the {NAMES[earlier]} on "
                    f"{run['subset']}: {percent(after)} against {percent(before)} % mIoU"
                )
    return found


def score_correlation(scores: pd.DataFrame, images: pd.DataFrame) -> float:
    """Spearman's rank correlation, over images, of the stability score with the true mIoU; NaN if one is constant."""
    both = scores.merge(images, on="id")
    return float(both["score"].rank().corr(both["miou"].rank()))


def experiment_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row an experiment: mean, standard deviation (n - 1) and number of runs of the result, and the mean and
    standard deviation of its difference to the first experiment, paired by seed."""
    if "miou" not in runs:
        return pd.DataFrame({"experiment": runs["experiment"].unique()})
    first = runs["experiment"].iloc[0]
    baseline = runs[runs["experiment"] == first].set_index("seed")["miou"]
    rows = []
    for experiment, group in runs.groupby("experiment", sort=False):
        miou = group.set_index("seed")["miou"]
        difference = (miou - baseline).dropna()
        rows.append(
            {
                "experiment": experiment,
                "method": group["method"].iloc[0],
                "subset": group["subset"].iloc[0],
                "n": int(miou.count()),
                "miou_mean": miou.mean(),
                "miou_sd": miou.std(),
                "baseline": first,
                "difference_mean": difference.mean(),
                "difference_sd": difference.std(),
            }
        )
    return pd.DataFrame(rows)


def as_text(name: str, runs: pd.DataFrame, table: pd.DataFrame, warnings: Sequence[str] = ()) -> str:
    """The table as people read it, in percent."""
    if "miou" not in runs:
        return f"{name}: neither a val nor a test set was given, so no mIoU was measured.\n"
    first, subset = table["baseline"].iloc[0], table["subset"].iloc[0]
    lines = [f"{name}: mIoU (%) on {subset}, {int(runs['images'].iloc[0])} images", ""]
    header = ["experiment", "mIoU", "sd", "n", f"minus {first}", "sd"]
    body = [
        [
            row["experiment"],
            percent(row["miou_mean"]),
            percent(row["miou_sd"]),
            str(row["n"]),
            "" if row["experiment"] == first else percent(row["difference_mean"], sign=True),
            "" if row["experiment"] == first else percent(row["difference_sd"]),
        ]
        for _, row in table.iterrows()
    ]
    lines += columns([header, *body])
    if "reliable" in runs:
        lines += [
            "",
            "Masks of the unlabeled images by the teacher, mIoU (%) against true masks that were not used:",
            "",
        ]
        selective = runs.dropna(subset=["reliable", "unreliable"])
        rows = [["experiment", "seed", "reliable", "unreliable", "Spearman(score, true mIoU)"]]
        rows += [
            [
                r["experiment"],
                str(r["seed"]),
                percent(r["reliable"]),
                percent(r["unreliable"]),
                f"{r['spearman']:.2f}",
            ]
            for _, r in selective.iterrows()
        ]
        lines += columns(rows)
    if warnings:
        lines += ["", "Warnings:", "", *(f"- {text}" for text in warnings)]
    return "\n".join(lines) + "\n"


def percent(value: float, sign: bool = False) -> str:
    """A share as percent with two digits; empty for NaN."""
    return "" if pd.isna(value) else f"{100 * value:{'+' if sign else ''}.2f}"


def _metrics(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(verified(folder / "metrics.json").read_text())
    return metrics
