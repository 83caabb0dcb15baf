"""Charts as inline SVG, drawn by matplotlib; their colours are the page's, so that they follow light, dark and print.

matplotlib draws with placeholders, which are replaced by CSS variables: `--ink`, `--grid` and `--series-1` to
`--series-6`. What is told apart by colour is also told apart by dashes, markers or hatches.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from stpp.report.html import Html, element
from stpp.report.look import MARKERS, NO_METADATA, look

INK, GRID = "#000101", "#000102"
SERIES = [f"#00020{number}" for number in range(1, 7)]
DASHES: list[Any] = ["-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (9, 3))]
HATCHES = ["", "////", "....", "\\\\\\\\", "xxxx", "----"]
WIDTH = 5.0
"""Width of a chart in inches, of 72 units of the SVG each."""
LINE = 64
"""Characters of the legend in the width of a chart."""
MOST_POINTS = 400
"""Points of one line or cloud: more would make the file large and nothing clearer."""
SHARES = {"counted": "counted (%)", "largest_class": "largest class (%)"}
"""Columns of a training's history that are shares of pixels, and what their axes are called."""

_VARIABLES = {INK: "--ink", GRID: "--grid"} | {code: f"--series-{i}" for i, code in enumerate(SERIES, 1)}
_STYLE: Any = look(INK, GRID) | {
    "font.size": 11,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.8,
    "legend.fontsize": 10,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0,
}


def draw(name: str, description: str, height: float, paint: Callable[..., None], rows: int = 1) -> Html:
    """An SVG of `height` inches with what `paint` draws into `rows` axes, which share x, one above the other.

    `name` is another one for each chart of a page. `description` is for those who do not see it.
    """
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, height))
        paint(*figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=NO_METADATA)
    svg = re.sub(r"^.*?(?=<svg )", "", text.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    svg = re.sub("|".join(_VARIABLES), lambda code: f"var({_VARIABLES[code[0]]})", svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    head = element("svg", role="img", aria_label=description, class_="chart").removesuffix("></svg>")
    return Html(re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', lambda m: f"{head} {m[1]}", svg, count=1))


def legend_above(axes: Axes) -> None:
    """A legend of the axes at the top of the chart, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, min(len(labels), LINE // (max(map(len, labels)) + 6)))
    axes.figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def learning_curves(
    name: str, histories: Mapping[str, pd.DataFrame], losses: tuple[float, float], mious: tuple[float, float]
) -> Html:
    """Training loss, and val mIoU in % where there is one, over iterations; one line a seed.

    `losses` and `mious` (in [0, 1]) are the smallest and the largest of all trainings, so that charts can be compared.
    """
    validated = any(history["val_miou"].notna().any() for history in histories.values())

    def paint(loss: Axes, miou: Axes | None = None) -> None:
        for i, (label, history) in enumerate(histories.items()):
            style = line_style(i)
            thin = thinned(history)
            loss.plot(thin["iterations"], thin["loss"], label=label, **style)
            known = history.dropna(subset=["val_miou"])
            if miou is not None:
                few: Any = {"marker": MARKERS[i % 6], "markersize": 4} if len(known) < 40 else {}
                miou.plot(known["iterations"], 100 * known["val_miou"], label=label, **style, **few)
        loss.set_ylabel("loss")
        scale_losses(loss, *losses)
        if miou is not None:
            miou.set_ylabel("val mIoU (%)")
            miou.set_ylim(100 * mious[0] - 3, 100 * mious[1] + 3)
        (miou or loss).set_xlabel("iterations")
        loss.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if len(histories) > 1:
            legend_above(loss)

    last = {label: history.iloc[-1] for label, history in histories.items()}
    ends = "; ".join(
        f"{label}: loss {row['loss']:.3g}"
        + ("" if pd.isna(row["val_miou"]) else f", val mIoU {100 * row['val_miou']:.1f} %")
        for label, row in last.items()
    )
    description = f"Learning curves of {name}. At the end: {ends}."
    return draw(f"curves {name}", description, 4.2 if validated else 2.8, paint, 1 + validated)


def online_curves(name: str, histories: Mapping[str, pd.DataFrame]) -> Html:
    """Each of the losses, and the share of pixels that count where there is one, over iterations; one line a seed.

    `histories` have a column `loss_<name>` for each loss, and may have those of `SHARES`, in [0, 1]. Each loss has
    axes of its own, from its smallest to its largest value here: losses of methods differ too much to be compared.
    """
    columns = step_columns(histories)

    def paint(*panels: Axes) -> None:
        for axes, (column, title) in zip(panels, columns.items()):
            factor = 100 if column in SHARES else 1
            # A training by an earlier version may lack a column.
            having = {label: history for label, history in histories.items() if column in history}
            for i, label in enumerate(histories):
                if label in having:
                    thin = thinned(having[label])
                    axes.plot(thin["iterations"], factor * thin[column], label=label, **line_style(i))
            axes.set_ylabel(title)
            if column in SHARES:
                axes.set_ylim(-3, 103)
            else:
                values = pd.concat([history[column] for history in having.values()])
                scale_losses(axes, float(values.min()), float(values.max()))
        panels[-1].set_xlabel("iterations")
        panels[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if len(histories) > 1:
            legend_above(panels[0])

    def at_end(last: pd.Series) -> str:
        known = {column: title for column, title in columns.items() if column in last}
        return ", ".join(
            f"{title.removesuffix(' (%)')} {100 * last[column]:.1f} %"
            if column in SHARES
            else f"{title} {last[column]:.3g}"
            for column, title in known.items()
        )

    ends = "; ".join(f"{label}: {at_end(history.iloc[-1])}" for label, history in histories.items())
    description = f"Losses and labels of {name}. At the end: {ends}."
    return draw(f"steps {name}", description, 0.5 + 1.45 * len(columns), paint, len(columns))


def label_quality(name: str, quality: Mapping[str, Sequence[float]]) -> Html:
    """mIoU in [0, 1] of the labels of unlabeled images at evenly spaced moments of a training; one line a seed."""

    def paint(axes: Axes) -> None:
        for i, (label, values) in enumerate(quality.items()):
            moments = [100 * k / len(values) for k in range(1, len(values) + 1)]
            axes.plot(
                moments,
                [100 * value for value in values],
                label=label,
                marker=MARKERS[i % 6],
                markersize=4,
                **line_style(i),
            )
        axes.set_ylabel("mIoU of its labels (%)")
        axes.set_xlabel("% of the training")
        if len(quality) > 1:
            legend_above(axes)

    ends = "; ".join(
        f"{label}: {', '.join(f'{100 * value:.1f}' for value in values)}" for label, values in quality.items()
    )
    return draw(f"quality {name}", f"mIoU (%) of the labels of {name} over its training. {ends}.", 2.8, paint)


def step_columns(histories: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """The columns of what steps say, and the titles of their axes: each loss, then shares; empty in self-training."""
    found = dict.fromkeys(str(column) for history in histories.values() for column in history)
    losses = {column: column.removeprefix("loss_") for column in found if column.startswith("loss_")}
    return losses | {column: title for column, title in SHARES.items() if column in found}


def line_style(number: int) -> dict[str, Any]:
    """How the line of a seed looks, the same in all charts of a training."""
    return {"color": SERIES[number % 6], "linestyle": DASHES[number % 6], "linewidth": 1.6}


def thinned(history: pd.DataFrame) -> pd.DataFrame:
    """At most `MOST_POINTS` of the epochs, the first among them."""
    return history.iloc[:: -(-len(history) // MOST_POINTS)]


def scale_losses(axes: Axes, low: float, high: float) -> None:
    """Room for losses from `low` to `high`, on a logarithmic scale if they are far apart."""
    if low > 0 and high / low > 20:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0.9 * low, (1.1 * high) or 1)  # a loss may never have counted


def score_histogram(name: str, scores: pd.Series, reliable: pd.Series) -> Html:
    """How many images have which stability score; `reliable` says which are, and the cut is between both.

    There is none where more than the score decided.
    """
    cut = float(scores[reliable].min())
    low, high = float(scores.min()), float(scores.max())
    divided = not (scores[~reliable] > cut).any()
    # Edges are counted from the cut, so that no bar has both colours.
    width = (high - low or 1e-3) / min(40, max(8, len(scores) // 8))
    bins = cut + width * np.arange(-np.ceil((cut - low) / width), np.floor((high - cut) / width) + 2)

    def paint(axes: Axes) -> None:
        parts = [scores[~reliable], scores[reliable]]
        colours = [SERIES[1], SERIES[0]]
        labels = [f"{len(part)} {kind}" for part, kind in zip(parts, ("unreliable", "reliable"))]
        axes.hist(parts, bins=list(bins), stacked=True, color=colours, label=labels)
        if divided:
            axes.axvline(cut, color=INK, linestyle="--", linewidth=1.2, label=f"the cut, {cut:.3f}")
        axes.set_xlabel("stability score")
        axes.set_ylabel("images")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        legend_above(axes)

    description = (
        f"Histogram of the stability scores of {len(scores)} images, from {low:.3f} to {high:.3f}; "
        f"{int(reliable.sum())}{f', those from {cut:.3f} on,' if divided else ''} are reliable."
    )
    return draw(f"scores {name}", description, 3.2, paint)


def score_against_truth(name: str, scores: pd.Series, true: pd.Series, reliable: pd.Series) -> Html:
    """Stability score against true mIoU (in [0, 1]) of the same images, the reliable ones in another colour."""

    def paint(axes: Axes) -> None:
        every = -(-len(scores) // (2 * MOST_POINTS))
        for chosen, kind, i in ((~reliable, "unreliable", 1), (reliable, "reliable", 0)):
            x, y = scores[chosen].iloc[::every], 100 * true[chosen].iloc[::every]
            how: Any = {"s": 14, "color": SERIES[i], "marker": MARKERS[i], "linewidths": 0, "alpha": 0.6, "label": kind}
            axes.scatter(x, y, **how)
        axes.set_xlabel("stability score")
        axes.set_ylabel("true mIoU (%)")
        legend_above(axes)

    description = f"Stability score against true mIoU of {len(scores)} images; the table below has the correlation."
    return draw(f"truth {name}", description, 3.2, paint)


def phases(name: str, runs: pd.DataFrame, phase_names: Sequence[str]) -> Html:
    """mIoU in % after each phase: columns of `runs` in their order, one row a run, indexed by experiment.

    A line is an experiment's mean; a small mark is one run.
    """
    spots = np.arange(len(runs.columns))
    means = runs.groupby(level=0, sort=False).mean()

    def paint(axes: Axes) -> None:
        for i, (experiment, mean) in enumerate(means.iterrows()):
            known = mean.notna().to_numpy()
            style = {"color": SERIES[i % 6], "linestyle": DASHES[i % 6], "marker": MARKERS[i % 6], "linewidth": 2}
            axes.plot(spots[known], 100 * mean[known], label=str(experiment), **style)
            for _, run in runs.loc[[experiment]].iterrows():
                axes.plot(spots, 100 * run, color=SERIES[i % 6], marker=MARKERS[i % 6], ms=3, ls="none", alpha=0.6)
        # Of many phases, "phase 1" and "final student" fit side by side only with a word below the other.
        axes.set_xticks(spots, [phase.replace(" ", "\n") if len(spots) > 4 else phase for phase in phase_names])
        axes.set_xlim(-0.2, len(spots) - 0.8)
        axes.set_ylabel("mIoU (%)")
        legend_above(axes)

    best = means[means.columns[-1]]
    description = f"mIoU by phase, {', '.join(phase_names)}. At the end: " + ", ".join(
        f"{experiment} {100 * value:.1f} %" for experiment, value in best.items()
    )
    return draw(f"phases {name}", description, 3.4, paint)


def class_bars(name: str, iou: pd.DataFrame, spread: pd.DataFrame) -> Html:
    """IoU of each class (rows) for each experiment (columns, at most 6), mean and standard deviation, in [0, 1]."""
    count = len(iou.columns)
    thick = 0.8 / count

    def paint(axes: Axes) -> None:
        for i, column in enumerate(iou.columns):
            middle = np.arange(len(iou)) + (i - (count - 1) / 2) * thick
            error = 100 * spread[column] if spread[column].notna().any() else None
            look: Any = {"color": SERIES[i % 6], "hatch": HATCHES[i % 6], "edgecolor": GRID, "linewidth": 0}
            axes.barh(middle, 100 * iou[column], thick, xerr=error, ecolor=INK, label=str(column), **look)
        axes.set_yticks(range(len(iou)), list(iou.index))
        axes.set_ylim(len(iou) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("IoU (%)")
        legend_above(axes)

    best = iou.max(axis=1)
    description = (
        f"IoU by class. Highest: {best.idxmax()}, {100 * best.max():.1f} %; lowest: {best.idxmin()}, "
        f"{100 * best.min():.1f} %. The numbers are in the table below."
    )
    return draw(f"classes {name}", description, 1.0 + len(iou) * (0.16 * count + 0.12), paint)
