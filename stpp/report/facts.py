"""What a report tells of, as it lies on disk: read once, and verified."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pandas as pd

from stpp.common import disk
from stpp.data.manifest import Row
from stpp.plan.parts import RunRecord, measured_on, of_kind, score, score_quality, selection
from stpp.plan.recipe import read_recipe
from stpp.report.statistics import PAIRED_BY
from stpp.runtime.job import Job, verified
from stpp.store.evaluations import read_by_image, read_metrics
from stpp.store.idlist import read_list
from stpp.store.scores import read_score_table


@dataclass(frozen=True)
class Facts:
    """All that the page says, but for the pixels of the gallery.

    `shown` is the run whose pseudo-labels and scores are shown, and `model` the network that is handed over, which
    predicts: its `experiment`, `partition`, `seed`, `network` and `title`, and its `checkpoint`. `judges` are the
    folders of its evaluations on test and val, by the subset, and `prediction` says how it reads images. By folder of
    the stage: `records` (the content of `stage.json`, in the order of the runs), `histories` (epoch, iterations, loss,
    val mIoU of trainings), `evaluations` (`metrics.json`), `image_scores` (id and mIoU in [0, 1] of each image: of the
    masks that were scored, and of the `judges`), `scores` (the score tables) and `reliable` (the ids of the images that
    were selected by score). `table` is the `metrics.json` of the table. Sentences are what was said beforehand
    (`outlook`) and what the look at the data of all runs warned of (`data_warnings`). `length` is the `length.json` of
    the trainings, empty where none was sought. `subsets` are the manifests of the shown run with their `fingerprints`;
    `palette` has [r, g, b] of 0..255 for each of its `classes`.
    """

    name: str
    config: Mapping[str, Any]
    runs: Sequence[RunRecord]
    shown: RunRecord
    model: Mapping[str, Any]
    judges: Mapping[str, str]
    prediction: Mapping[str, Any]
    records: Mapping[str, Mapping[str, Any]]
    table: Mapping[str, Any]
    outlook: Sequence[str]
    length: Mapping[str, Any]
    data_warnings: Sequence[str]
    histories: Mapping[str, pd.DataFrame]
    evaluations: Mapping[str, Mapping[str, Any]]
    image_scores: Mapping[str, pd.DataFrame]
    scores: Mapping[str, pd.DataFrame]
    reliable: Mapping[str, Sequence[str]]
    subsets: Mapping[str, Sequence[Row]]
    fingerprints: Mapping[str, str]
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]

    def judged(self, subset: str) -> dict[Row, float]:
        """The images of `subset` that the network handed over was measured on, those that the shown run has as well.

        Each with its mIoU in [0, 1]: the lowest first, NaN last.
        """
        rows = {row.id: row for row in self.subsets[subset]}
        found = self.image_scores[self.judges[subset]].sort_values("miou", kind="stable")
        return {rows[id]: miou for id, miou in zip(found["id"], found["miou"]) if id in rows}

    @property
    def experiments(self) -> dict[str, list[RunRecord]]:
        """The runs of each experiment, in the order of the configuration."""
        found: dict[str, list[RunRecord]] = {}
        for run in self.runs:
            found.setdefault(run["experiment"], []).append(run)
        return found


def load(job: Job) -> Facts:
    """Read what the report `job` tells of. StppError if something is missing or was changed."""
    settings = job.settings
    stages = job.folder.parent.parent
    runs: list[RunRecord] = settings["runs"]
    job.inputs("stages")
    gathered = json.loads(job.input("gathered").read_text())
    known = list(gathered["records"])
    scores = dict.fromkeys(folder for run in runs for folder in of_kind(run, "score").values())
    selections = dict.fromkeys(folder for run in runs if score(run) and (folder := selection(run)))
    model = read_metrics(job.input("verdict"))["model"]
    of_model = next(run for run in runs if all(run[key] == model[key] for key in ("experiment", *PAIRED_BY)))
    judges = measured_on(of_model, model["network"])
    read = (read_recipe(stages / folder / disk.RECIPE)["settings"] for folder in judges.values())
    rated = {*map(score_quality, runs), *judges.values()}
    return Facts(
        name=settings["name"],
        config=settings["config"],
        runs=runs,
        shown=runs[settings["shown"]],
        model=model,
        judges=judges,
        prediction=next(read, settings)["prediction"],
        records=gathered["records"],
        table=read_metrics(job.input("table")),
        outlook=read_metrics(job.input("outlook"))["sentences"] if "outlook" in job.recipe["inputs"] else [],
        length=read_metrics(job.input("length")) if "length" in job.recipe["inputs"] else {},
        data_warnings=settings.get("data_warnings", []),
        histories={folder: pd.read_csv(StringIO(text)) for folder, text in gathered["histories"].items()},
        evaluations=gathered["evaluations"],
        image_scores={
            folder: read_by_image(verified(stages / folder / disk.IMAGES)) for folder in known if folder in rated
        },
        scores={folder: read_score_table(verified(stages / folder / disk.SCORES)) for folder in scores},
        reliable={folder: read_list(verified(stages / folder / disk.RELIABLE)) for folder in selections},
        subsets={subset: job.rows(subset) for subset in job.recipe["data"]},
        fingerprints=job.recipe["data"],
        classes=settings["classes"],
        palette=settings["palette"],
    )
