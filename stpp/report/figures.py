"""The charts of the paper, each with the numbers behind it: a stage draws one of them.

What is told apart by colour is told apart by markers, too; colours are Okabe and Ito's, which colour-blind readers tell
apart. The same numbers give the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stpp.common import disk
from stpp.report.look import MARKERS, NO_METADATA, look
from stpp.report.table import score_correlation
from stpp.runtime.job import Job, Runtime
from stpp.store.evaluations import read_by_image

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
INK, GRID = "#333333", "#DDDDDD"
WIDTH = 6.4
"""Inches."""
_STYLE: Any = look(INK, GRID) | {
    "svg.hashsalt": "stpp",  # else ids in the SVG are drawn at random
    "font.size": 10,
    "axes.titlesize": 10,
}

Drawn = tuple[pd.DataFrame, Figure]
"""The numbers of a chart, one row for each mark, and the chart."""


def run(job: Job, runtime: Runtime) -> None:
    """Draw the chart of `job`; writes `data.csv`, `chart.png` and `chart.svg`."""
    files = disk.OUTPUTS["chart"]
    with mpl.rc_context(_STYLE):
        data, figure = CHARTS[job.settings["chart"]](job)
        with job.writing(files["data"]) as path:
            data.to_csv(path, index=False, lineterminator="\n")
        # Neither the date nor the version of the library is in the files.
        with job.writing(files["png"]) as path:
            figure.savefig(path, format="png", dpi=150, metadata={"Software": None})
        with job.writing(files["svg"]) as path:
            figure.savefig(path, format="svg", metadata=NO_METADATA)
    job.finish()


# --- rows of dots -----------------------------------------------------------------------------------------------------


def augmentations(job: Job) -> Drawn:
    """mIoU of the student of one phase with no, one, three and all parts of the strong augmentation."""
    labels = {row["experiment"]: row["label"] for row in job.settings["rows"]}
    runs = chosen_runs(job, labels)
    data = runs[["experiment", "partition", "seed", "subset", "miou"]].copy()
    data.insert(1, "strong_augmentation", data["experiment"].map(labels))
    figure, axes = dots(data, "strong_augmentation", {"miou": "students"}, f"mIoU on {subset_of(runs)} (%)")
    ends = data.groupby("strong_augmentation")["miou"].mean()
    for label, style in (("none", ":"), ("all four", "--")):
        if label in ends:
            axes.axvline(100 * ends[label], color=INK, linestyle=style, linewidth=1, label=f"mean of {label}", zorder=1)
    finish(figure, axes, "Strong augmentation of the unlabeled images")
    return data, figure


def pseudo_labels(job: Job) -> Drawn:
    """mIoU of the teacher's masks of reliable and of unreliable images."""
    runs = chosen_runs(job, job.settings["experiments"])
    parts = {"reliable": "reliable images", "unreliable": "unreliable images"}
    data = runs[["experiment", "partition", "seed", *parts]]
    figure, axes = dots(data, "experiment", parts, "mIoU of the teacher's masks against true ones (%)")
    finish(figure, axes, "Masks of reliable and of unreliable images")
    return data, figure


def phases(job: Job) -> Drawn:
    """mIoU of the teacher, and of the student of each of two phases."""
    runs = chosen_runs(job, job.settings["experiments"])
    networks = {f"{name}_{subset_of(runs)}": name for name in ("teacher", "phase1", "student")}
    data = runs[["experiment", "partition", "seed", "subset", *networks]].rename(columns=networks)
    names = {"teacher": "teacher", "phase1": "student of phase 1", "student": "student of phase 2"}
    figure, axes = dots(data, "experiment", names, f"mIoU on {subset_of(runs)} (%)")
    finish(figure, axes, "Gain of each phase")
    return data, figure


def dots(data: pd.DataFrame, rows: str, series: Mapping[str, str], unit: str) -> tuple[Figure, Axes]:
    """A row for each value of the column `rows`, in their order.

    In it, of each of the columns `series` (in [0, 1]), a small mark for every run and a large one for their mean.
    `series` maps them to what the legend calls them.
    """
    names = list(data[rows].unique())
    figure = Figure(figsize=(WIDTH, 1.5 + 0.3 * len(names)))
    axes = figure.subplots()
    for i, (column, label) in enumerate(series.items()):
        look: Any = {"color": COLORS[i], "marker": MARKERS[i]}
        shift = 0.2 * (i - (len(series) - 1) / 2)
        places = [names.index(name) + shift for name in data[rows]]
        axes.scatter(100 * data[column], places, s=12, alpha=0.5, linewidths=0, zorder=2, **look)
        means = 100 * data.groupby(rows, sort=False)[column].mean()
        look |= {"edgecolors": "white", "linewidths": 0.8, "zorder": 3, "label": label}
        axes.scatter(means, [place + shift for place in range(len(names))], s=45, **look)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(unit)
    return figure, axes


def finish(figure: Figure, axes: Axes, title: str) -> None:
    """Title, what the marks are, and the legend below the axes."""
    axes.set_title(f"{title}\n", loc="left")
    axes.text(0, 1.02, "large marks: means; small marks: runs", transform=axes.transAxes, fontsize=8.5)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)


# --- others -----------------------------------------------------------------------------------------------------------


def iterations(job: Job) -> Drawn:
    """mIoU after each phase of the experiments with more than two of them; phase 0 is the teacher."""
    runs = chosen_runs(job, job.settings["experiments"])
    subset = subset_of(runs)
    rows = []
    for run in runs.to_dict("records"):
        columns = [f"{name}_{subset}" for name in job.settings["networks"]]
        known = [value for column in columns if not pd.isna(value := run.get(column))]
        key = {name: run[name] for name in ("experiment", "partition", "seed", "subset")}
        rows += [key | {"phase": phase, "miou": value} for phase, value in enumerate(known)]
    data = pd.DataFrame(rows)
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.subplots()
    for i, (name, group) in enumerate(data.groupby("experiment", sort=False)):
        color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
        for _, one in group.groupby(["partition", "seed"]):
            axes.plot(one["phase"], 100 * one["miou"], color=color, marker=marker, ms=3, lw=0.7, alpha=0.5)
        mean = group.groupby("phase")["miou"].mean()
        axes.plot(mean.index, 100 * mean, color=color, marker=marker, ms=7, lw=2, label=str(name))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("phase (0: the teacher)")
    axes.set_ylabel(f"mIoU on {subset} (%)")
    axes.set_title("Iterations\n", loc="left")
    axes.text(0, 1.02, "thick lines: means; thin lines: runs", transform=axes.transAxes, fontsize=8.5)
    figure.legend(loc="outside lower center", ncols=3)
    return data, figure


def stability(job: Job) -> Drawn:
    """Stability score of each unlabeled image against the true mIoU of its mask, a panel for each experiment."""
    parts = []
    for run, scores, images in zip(job.settings["runs"], job.inputs("scores"), job.inputs("images")):
        stable, true = read_by_image(scores)[["id", "score"]], read_by_image(images)
        parts.append(stable.merge(true, on="id").assign(**run, spearman=score_correlation(stable, true)))
    data = pd.concat(parts, ignore_index=True)
    experiments = list(data.groupby("experiment", sort=False))
    columns = min(2, len(experiments))
    lines = -(-len(experiments) // columns)
    figure = Figure(figsize=(WIDTH, 0.8 + 2.7 * lines))
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axes, (name, group) in zip(panels, experiments):
        for i, (kind, part) in enumerate(group.groupby("group")):
            look: Any = {"color": COLORS[i], "marker": MARKERS[i], "linewidths": 0, "alpha": 0.35, "rasterized": True}
            axes.scatter(part["score"], 100 * part["miou"], s=8, label=kind if axes is panels[0] else None, **look)
        rho = group.groupby(["partition", "seed"])["spearman"].first()
        spread = f" (sd {rho.std():.2f})" if len(rho) > 1 else ""
        axes.set_title(f"{name}: Spearman's ρ {rho.mean():.2f}{spread}", loc="left")
    for axes in panels[len(experiments) :]:
        axes.remove()
    for i, axes in enumerate(panels[: len(experiments)]):
        axes.set_xlabel("stability score")
        axes.set_ylabel("true mIoU of the mask (%)" if i % columns == 0 else "")
    for handle in figure.legend(loc="outside lower center", ncols=2, markerscale=2).legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return data, figure


# --- what the charts have in common -----------------------------------------------------------------------------------


def chosen_runs(job: Job, experiments: Sequence[str] | Mapping[str, Any]) -> pd.DataFrame:
    """The rows of `runs.csv` of these experiments, in this order."""
    runs = pd.read_csv(job.input("runs"))
    return pd.concat([runs[runs["experiment"] == name] for name in experiments], ignore_index=True)


def subset_of(runs: pd.DataFrame) -> str:
    """The subset on which the results were measured."""
    return str(runs["subset"].iloc[0])


CHARTS: dict[str, Callable[[Job], Drawn]] = {
    "augmentations": augmentations,
    "pseudo-labels": pseudo_labels,
    "phases": phases,
    "iterations": iterations,
    "stability": stability,
}
