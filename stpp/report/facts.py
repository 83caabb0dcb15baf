"""What a report tells of, as it lies on disk: read once, and verified."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stpp import disk
from stpp.data.manifest import Row
from stpp.report.table import read_by_image
from stpp.runtime.stage import Stage, verified
from stpp.store.idlist import read_list
from stpp.store.scores import read_score_table

Run = Mapping[str, Any]
"""One experiment with one seed: `experiment`, `seed`, `method`, and `stages`, the folders by role."""


@dataclass(frozen=True)
class Facts:
    """All that the page says, but for the pixels of the gallery.

    `shown` is the run whose pictures are shown. By folder of the stage: `records` (the content of `stage.json`, in the
    order of the runs), `histories` (epoch, iterations, loss, val mIoU of trainings), `evaluations` (`metrics.json`),
    `image_scores` (id and mIoU in [0, 1] of each image: of the masks that were scored, and of the result shown),
    `scores` (the score tables) and `reliable` (the ids of the images that were selected by score). `table` is the
    `metrics.json` of the table. `subsets` are the manifests of the shown run with their `fingerprints`; `palette` has
    [r, g, b] of 0..255 for each of its `classes`.
    """

    name: str
    config: Mapping[str, Any]
    runs: Sequence[Run]
    shown: Run
    records: Mapping[str, Mapping[str, Any]]
    table: Mapping[str, Any]
    histories: Mapping[str, pd.DataFrame]
    evaluations: Mapping[str, Mapping[str, Any]]
    image_scores: Mapping[str, pd.DataFrame]
    scores: Mapping[str, pd.DataFrame]
    reliable: Mapping[str, Sequence[str]]
    subsets: Mapping[str, Sequence[Row]]
    fingerprints: Mapping[str, str]
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]

    @property
    def experiments(self) -> dict[str, list[Run]]:
        """The runs of each experiment, in the order of the configuration."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run["experiment"], []).append(run)
        return found


def networks(run: Run) -> list[str]:
    """The roles of the networks of a run, in the order in which they are trained; the last one is the result."""
    return [role for role, folder in run["stages"].items() if folder.startswith("train/")]


def result_of(run: Run) -> str | None:
    """The folder of the evaluation of a run's last network on test, or on val without a test set; None without both."""
    last = networks(run)[-1]
    return next((run["stages"][role] for role in (f"{last}-test", f"{last}-val") if role in run["stages"]), None)


def load(stage: Stage) -> Facts:
    """Read what the report `stage` tells of. StppError if something is missing or was changed."""
    settings = stage.settings
    stages = stage.folder.parent.parent
    runs: list[Run] = settings["runs"]
    shown = runs[settings["shown"]]
    stage.inputs("stages")
    folders = list(dict.fromkeys(folder for run in runs for folder in run["stages"].values()))

    def of_kind(kind: str) -> list[str]:
        return [folder for folder in folders if folder.startswith(f"{kind}/")]

    selections = dict.fromkeys(run["stages"]["select"] for run in runs if "score" in run["stages"])
    rated = {run["stages"].get("stability-truth") for run in runs} | {result_of(shown)}
    return Facts(
        name=settings["name"],
        config=settings["config"],
        runs=runs,
        shown=shown,
        records={folder: json.loads((stages / folder / disk.RECORD).read_text()) for folder in folders},
        table=json.loads(stage.input("table").read_text()),
        histories={folder: pd.read_csv(verified(stages / folder / disk.HISTORY)) for folder in of_kind("train")},
        evaluations={
            folder: json.loads(verified(stages / folder / disk.METRICS).read_text()) for folder in of_kind("evaluate")
        },
        image_scores={
            folder: read_by_image(verified(stages / folder / disk.IMAGES)) for folder in folders if folder in rated
        },
        scores={folder: read_score_table(verified(stages / folder / disk.SCORES)) for folder in of_kind("score")},
        reliable={folder: read_list(verified(stages / folder / disk.RELIABLE)) for folder in selections},
        subsets={subset: stage.rows(subset) for subset in stage.recipe["data"]},
        fingerprints=stage.recipe["data"],
        classes=settings["classes"],
        palette=settings["palette"],
    )
