"""The parts of the report that show numbers: results, phases, classes, learning curves and stability."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from stpp.common.wording import repeat_name
from stpp.plan.parts import moments, networks, networks_in_order, result_evaluation, score, score_quality, selection
from stpp.report.charts import (
    class_bars,
    label_quality,
    learning_curves,
    online_curves,
    phases,
    score_against_truth,
    score_histogram,
    step_columns,
)
from stpp.report.facts import Facts
from stpp.report.html import Html, details, element, figure, grid, scrolling, section, table, with_numbers
from stpp.report.statistics import WORTH, notes
from stpp.report.table import percent, run_name

MOST_CHARTS = 24
"""Charts of one kind; what is left out is said."""
MOST_ROWS = 2000
"""Rows of a file with the numbers of a chart."""

MEANINGS = {
    "counted": "Counted is the share of pixels that count: of all pixels of unlabeled images, those whose label is "
    "sure enough for the method to learn from.",
    "largest_class": "Largest class is the share of the most frequent class among the labels that a step gives to "
    "unlabeled images: at 100 %, the network that labels sees one class alone.",
}
"""What the columns of `charts.SHARES` say."""

MOST_BESIDE = 12
"""Classes of a confusion matrix that has room beside a chart."""


def results(facts: Facts) -> Html:
    """Mean and spread of each experiment, the paired difference to its baseline, and every run."""
    experiments = facts.table["experiments"]
    if "miou_mean" not in experiments[0]:
        text = (
            "There is no val and no test set, so no mIoU was measured. Look at the gallery, or keep some labeled "
            "images back: data.val_split in the configuration."
        )
        return section("results", "Results", element("p", text))
    subset, baselines = experiments[0]["subset"], {row["baseline"] for row in experiments}
    best = max(experiments, key=lambda row: row["miou_mean"])["experiment"]
    columns = [
        ("experiment", [row["experiment"] for row in experiments]),
        ("mIoU (%)", [highlighted(number(row["miou_mean"]), row["experiment"] == best) for row in experiments]),
        ("sd", [number(row["miou_sd"]) for row in experiments]),
        ("runs", [str(row["n"]) for row in experiments]),
        ("baseline", [row["baseline"] if len(baselines) > 1 else "" for row in experiments]),
        (
            f"difference to {min(baselines) if len(baselines) == 1 else 'baseline'}",
            [number(row.get("difference_mean"), sign=True) for row in experiments],
        ),
        ("its sd", [number(row.get("difference_sd")) for row in experiments]),
        ("95 % interval", [interval(row.get("difference_low"), row.get("difference_high")) for row in experiments]),
        ("published", [number(row.get("published")) for row in experiments]),
    ]
    header, cells = zip(*[(title, values) for title, values in columns if any(values)])
    images = next(run["images"] for run in facts.table["runs"] if run.get("images"))
    caption = f"mIoU on {subset}, {images:.0f} images; sd: standard deviation over runs"
    # Other tables and columns have these.
    elsewhere = ("method", "subset", "images", "result", "miou", *WORTH)
    runs = facts.table["runs"]
    keys = [key for key in dict.fromkeys(key for run in runs for key in run) if key not in elsewhere]
    keys = [key for key in keys if key != "partition" or any(run["partition"] for run in runs)]
    names = [key.replace("_", " ") for key in keys]
    every = table(names, [[cell(run.get(key), key) for key in keys] for run in facts.table["runs"]], "Every run")
    said = notes(pd.DataFrame(experiments))
    note = element("p", " ".join(said), class_="soft") if said else None
    return section("results", "Results", table(header, list(zip(*cells)), caption), note, details("Every run", every))


def phases_compared(facts: Facts) -> Html:
    """What each phase of self-training gained, and how good the pseudo-labels were."""
    runs = pd.DataFrame(facts.table["runs"])
    subset = next((value for value in runs.get("subset", []) if value), None)
    titles = {f"{name}_{subset}": title for name, title in networks_in_order(facts.runs).items()}
    columns = [column for column in titles if column in runs]
    several = runs[runs[columns].notna().sum(axis=1) > 1] if columns else runs.iloc[:0]
    groups = parts_of(several["experiment"].unique().tolist(), 6)
    parts = []
    for some in groups[:MOST_CHARTS]:
        data = several[several["experiment"].isin(some)].set_index("experiment")[columns]
        chart = phases(", ".join(some), data, [titles[column] for column in columns])
        caption = f"mIoU on {subset}: a line is the mean of an experiment, a mark is a run"
        parts.append(charted(chart, caption, data.reset_index()))
    parts_by_name = {name: part for run in facts.runs for name, part in run["stages"].items()}
    labels = [name for name in map(str, runs) if name in parts_by_name]
    labels.sort(key=lambda name: (parts_by_name[name]["phase"], name))
    if labels:
        means = runs.groupby("experiment", sort=False)[labels].mean().dropna(how="all")
        rows = [[str(name), *(number(value) for value in row)] for name, row in means.iterrows()]
        caption = "Pseudo-labels: mIoU (%) against true masks, which were used for nothing else; mean over runs"
        names = [parts_by_name[name]["title"] for name in labels]
        parts.append(table(["experiment", *names], rows, caption))
    return section("phases", "Phases", left_out(len(groups)), grid(parts, 2) if parts else None)


def classes(facts: Facts) -> Html:
    """IoU by class of each experiment, and the confusion matrix of the run whose pictures are shown."""
    found: dict[str, pd.DataFrame] = {}
    for experiment, runs in facts.experiments.items():
        evaluations = [facts.evaluations[folder] for run in runs if (folder := result_evaluation(run))]
        if evaluations:
            found[experiment] = pd.DataFrame([e["iou"] for e in evaluations], dtype=float)
    if not found:
        return Html("")
    mean = pd.DataFrame({name: frame.mean() for name, frame in found.items()})
    spread = pd.DataFrame({name: frame.std() for name, frame in found.items()})
    groups = parts_of(list(mean.columns), 4)
    charts = []
    for some in groups[:MOST_CHARTS]:
        data = mean[some].join(spread[some].add_suffix(" sd")).rename_axis("class").reset_index()
        chart = class_bars(", ".join(some), mean[some], spread[some])
        charts.append(charted(chart, "IoU by class; whiskers: sd over runs", data))
    rows = [[str(name), *(number(value) for value in row)] for name, row in mean.iterrows()]
    numbers = table(["class", *map(str, mean.columns)], rows, "IoU (%) by class, mean over runs")
    shown = result_evaluation(facts.shown)
    matrix = confusion(facts.evaluations[shown], run_name(facts.shown)) if shown else None
    beside = len(mean) <= MOST_BESIDE
    return section(
        "classes",
        "Classes",
        left_out(len(groups)),
        grid([*charts, matrix if beside else None], 2),
        None if beside else matrix,
        details("IoU by class as numbers", numbers),
    )


def confusion(evaluation: Mapping[str, Any], run: str) -> Html:
    """The confusion matrix of an evaluation: for each true class, the share of its pixels by predicted class."""
    names = list(evaluation["iou"])
    counts = np.array(evaluation["confusion"], float)
    shares = np.divide(counts, counts.sum(axis=1, keepdims=True), out=np.zeros_like(counts), where=counts > 0)
    head = element("tr", element("th", "true \\ predicted"), *(element("th", name, scope="col") for name in names))
    body = [
        element(
            "tr",
            element("th", name, scope="row"),
            *(
                element("td", f"{100 * share:.0f}" if share >= 0.005 else "", style=f"--share:{share:.3f}")
                for share in row
            ),
        )
        for name, row in zip(names, shares)
    ]
    caption = f"Confusion of {run} on {evaluation['subset']}: of each true class (row), % of its pixels by prediction"
    inner = element("table", element("thead", head), element("tbody", *body), class_="confusion")
    cells = [["true \\ predicted", *names], *([name, *map(str, row)] for name, row in zip(names, counts.astype(int)))]
    return scrolling(inner, caption, cells)


def curves(facts: Facts) -> Html:
    """Loss and val mIoU of every training, and all that the steps of one say; its seeds are in one chart."""
    groups: dict[str, dict[str, str]] = {}
    for folder in facts.histories:
        users = [(run, name) for run in facts.runs for name, used in networks(run).items() if used == folder]
        who = ", ".join(dict.fromkeys(run["experiment"] for run, _ in users))
        run, name = users[0]
        groups.setdefault(f"{run['stages'][name]['title']} of {who}", {})[repeat_name(run)] = folder
    together = pd.concat(facts.histories.values())
    limits = [(float(together[column].min()), float(together[column].max())) for column in ("loss", "val_miou")]
    shown = {
        name: {run: facts.histories[folder] for run, folder in folders.items()}
        for name, folders in list(groups.items())[:MOST_CHARTS]
    }
    charts = [
        charted(learning_curves(name, histories, *limits), name, by_run(histories)) for name, histories in shown.items()
    ]
    return section("curves", "Learning curves", left_out(len(groups)), grid(charts), *steps(shown), *over_time(facts))


def steps(shown: Mapping[str, Mapping[str, pd.DataFrame]]) -> list[Html]:
    """What the steps of trainings with unlabeled images say, and what it means; nothing in self-training.

    `shown` has the histories by seed of each training.
    """
    online = {name: histories for name, histories in shown.items() if step_columns(histories)}
    if not online:
        return []
    said = {column for histories in online.values() for column in step_columns(histories)}
    meanings = [meaning for column, meaning in MEANINGS.items() if column in said]
    about = (
        "Where every step sees unlabeled images, the loss is a sum. These are its parts, with their weights, each on a "
        "scale of its own."
    )
    charts = [charted(online_curves(name, histories), name, by_run(histories)) for name, histories in online.items()]
    return [element("h3", "Losses and labels"), element("p", " ".join([about, *meanings])), grid(charts, 2)]


def over_time(facts: Facts) -> list[Html]:
    """How good the labels of online methods became during their trainings; nothing where nobody asked for it."""
    quality: dict[str, dict[str, list[float]]] = {}
    for run in facts.runs:
        if not score(run) and (measured := [facts.evaluations[folder]["miou"] for folder in moments(run)]):
            quality.setdefault(run["experiment"], {})[repeat_name(run)] = measured
    if not quality:
        return []
    about = (
        "These are the labels that checkpoints of the training give to unlabeled images, compared with true masks, "
        "which are used for nothing else."
    )
    first = list(quality.items())[:MOST_CHARTS]
    charts = [charted(label_quality(name, seeds), name, pd.DataFrame(seeds)) for name, seeds in first]
    return [element("h3", "Labels over time"), element("p", about), grid(charts, 2)]


def stability(facts: Facts) -> Html:
    """Scores with the cut, and whether they say anything about the true quality, for each selection by score."""
    charts: list[Html] = []
    scored = [(score(run), selection(run), run) for run in reversed(facts.runs)]
    done = {select: (scores, run) for scores, select, run in scored if scores and select}
    selections = [(select, *found) for select, found in reversed(done.items())]
    for select, folder, run in selections[: MOST_CHARTS // 2]:
        scores = facts.scores[folder]
        reliable = scores["id"].isin(facts.reliable[select])
        name = run_name(run)
        data = scores.assign(reliable=reliable)
        charts.append(charted(score_histogram(name, scores["score"], reliable), f"Scores of {name}", data))
        rated = score_quality(run)
        if rated is not None:
            both = data.merge(facts.image_scores[rated], on="id").dropna(subset=["miou"])
            chart = score_against_truth(name, both["score"], both["miou"], both["reliable"])
            charts.append(charted(chart, f"Scores of {name} against the truth", both))
    if not charts:
        return Html("")
    about = element(
        "p",
        "The score of an image says how alike the masks of the teacher's checkpoints are. Phase 1 trains on the "
        "reliable images, which are those from the cut on, unless the configuration asks for more than the score. To "
        "label more images, `stpp next` chooses some that have low scores and differ from each other.",
    )
    known = [run for run in facts.table["runs"] if run.get("reliable") is not None]
    rows = [[run["experiment"], repeat_name(run), *(cell(run.get(key), key) for key in WORTH)] for run in known]
    header = ["experiment", "run", "reliable", "unreliable", "rank correlation", "within equal numbers of classes"]
    caption = (
        "How well the score predicts the quality of masks: mIoU (%) of the teacher's masks of both parts against true "
        "masks, which were used for nothing else, and Spearman's correlation of score and true mIoU over all images, "
        "and over those with equally many predicted classes, since their number changes both"
    )
    return section(
        "stability",
        "Stability",
        about,
        left_out(2 * len(selections)),
        grid(charts, 2),
        table(header, rows, caption) if rows else None,
    )


def charted(chart: Html, caption: str, data: pd.DataFrame) -> Html:
    """A chart with its `data` as a file: of many rows some, evenly spaced, so that the page stays small."""
    if len(data) > MOST_ROWS:
        caption += f"; the CSV file has {MOST_ROWS:,} of {len(data):,} rows"
        data = data.iloc[np.linspace(0, len(data) - 1, MOST_ROWS).round().astype(int)]
    return figure(chart, with_numbers(caption, [*map(str, data.columns)], data.astype(str).to_numpy().tolist()))


def by_run(histories: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The histories of several runs below each other."""
    return pd.concat(histories, names=["run"]).reset_index(level="run")


def highlighted(text: str, best: bool) -> str:
    """The text, bold where it is the best one."""
    return element("b", text) if best else text


def interval(low: float | None, high: float | None) -> str:
    """A range in percent; empty for none."""
    return "" if low is None or high is None else f"{percent(low, sign=True)} to {percent(high, sign=True)}"


def number(value: float | None, sign: bool = False) -> str:
    """A share in percent; empty for none."""
    return "" if value is None else percent(value, sign)


def cell(value: object, column: str) -> str:
    """A value of the table of runs: shares in percent, others as they are."""
    if column in ("spearman", "spearman_within"):
        return "" if value is None else f"{value:.2f}"
    if not isinstance(value, float) or column == "images":
        return "" if value is None else str(value).removesuffix(".0")
    return percent(value)


def left_out(count: int) -> Html | None:
    """Says that there are more charts than are shown."""
    if count <= MOST_CHARTS:
        return None
    return element("p", f"The first {MOST_CHARTS} of {count} charts; the files of all stages have the rest.")


def parts_of(names: list[Any], size: int) -> list[list[Any]]:
    """The names, so many at a time."""
    return [names[at : at + size] for at in range(0, len(names), size)]
