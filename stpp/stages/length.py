"""How long trainings have to be: longer and longer ones on labels alone, until that brings little."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stpp.common import disk
from stpp.common.files import write_text
from stpp.data.augmentation import sample_rng
from stpp.data.manifest import Row
from stpp.data.streams import lengthened
from stpp.engine.distributed import team_of
from stpp.plan.code import code_identity
from stpp.plan.counts import GROWTH
from stpp.plan.identity import identity_of
from stpp.runtime.job import Job, Runtime
from stpp.runtime.process import prepare_process
from stpp.stages.train import train

LEAST = 0.01
"""Of mIoU, by so much longer a training: less than that, and the one before was long enough."""
MOST = 6
"""Trainings at most; the last of them takes 7.6 times as long as the first."""

STILL_GAINING = (
    "labels alone were still gaining in the longest training that is tried, so all trainings may be too short; raise "
    "training.teacher.iterations and training.student.iterations, or the epochs"
)


def run(job: Job, runtime: Runtime) -> None:
    """Train longer and longer; writes `length.json`.

    A training that is done is kept, and one that was stopped goes on where its state was saved.
    """
    prepare_process(runtime.threads)
    tried: list[Mapping[str, Any]] = []
    with team_of(runtime) as team:
        while not long_enough([each["miou"] for each in tried]):
            attempt = Attempt(job, GROWTH ** len(tried))
            record = attempt.folder / disk.RECORD
            if record.exists():
                job.took(json.loads(record.read_text()))
            else:
                train(attempt, runtime, team)
            tried.append(measured(attempt.folder, attempt.factor))
    with job.writing(disk.LENGTH) as path:
        content = {"factor": chosen([each["miou"] for each in tried]), "tried": tried}
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    if content["factor"] == tried[-1]["factor"]:
        job.warn(STILL_GAINING)
    job.finish(device=str(team.device))
    shutil.rmtree(job.folder / disk.PARTS)


class Attempt(Job):
    """A training of the stage `whole`, `factor` times as long as its settings say, as a stage of its own within it.

    Where `whole` has no val set, one half of the labeled images, drawn by the seed, stands for it.
    """

    def __init__(self, whole: Job, factor: float) -> None:
        self.whole, self.factor = whole, factor
        folder = whole.folder / disk.PARTS / f"{factor:g}"
        folder.mkdir(parents=True, exist_ok=True)
        training = lengthened(whole.settings["training"], factor)
        # It is measured at its end alone.
        settings = {**whole.settings, "training": {**training, "validate_every": training["epochs"]}}
        outputs = list(disk.training_outputs(1, True).values())
        recipe = {**whole.recipe, "stage": "train", "settings": settings, "outputs": outputs}
        recipe["code"] = code_identity("train", recipe["components"])
        recipe["identity"] = identity_of(recipe)
        write_text(folder / disk.RECIPE, json.dumps(recipe))
        super().__init__(folder, "train")
        self.unfinished = whole.unfinished  # where others look how far the stage is

    @property
    def _results(self) -> Path:
        return self.whole._results

    def rows(self, subset: str) -> list[Row]:
        if "val" in self.recipe["data"]:
            return self.whole.rows(subset)
        rows = self.whole.rows("labeled")
        order = sample_rng(self.settings["seed"], "length", 0, 0, "half").permutation(len(rows))
        part = order[: len(rows) // 2] if subset == "val" else order[len(rows) // 2 :]
        return [rows[number] for number in sorted(part)]


def measured(folder: Path, factor: float) -> dict[str, Any]:
    """What is told of the training in `folder`: how long it was, and its mIoU at its end, in [0, 1]."""
    last = pd.read_csv(folder / disk.HISTORY).iloc[-1]
    return {"factor": factor, "iterations": int(last["iterations"]), "miou": float(last["val_miou"])}


def long_enough(mious: Sequence[float]) -> bool:
    """Whether no longer training is to be tried after some, each longer than the one before, with these mIoU."""
    return len(mious) == MOST or (len(mious) > 1 and mious[-1] - mious[-2] < LEAST)


def chosen(mious: Sequence[float]) -> float:
    """The factor of the training to take, of all that were tried until they were `long_enough`."""
    settled = mious[-1] - mious[-2] < LEAST
    return float(GROWTH ** (len(mious) - 1 - settled))
