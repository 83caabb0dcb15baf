"""How long stages take, by what their networks compute and a measured speed; how long all of them together; and the
disk that they take.

A job that runs a network takes the time to start, and a time for each pixel that passes through the network, as
`stpp.plan.computation` counts them: of the training, of its validations, of a prediction or an evaluation. What the
other jobs do is short. The speed comes from stages that ran (`Speeds`), or from a trial (`stpp.commands.trial`).
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from statistics import median

from stpp.plan.computation import iterations, pixels_of_iteration, pixels_of_prediction, predicted
from stpp.plan.counts import GROWTH, labeled_repeat, stored_views
from stpp.plan.graph import Plan, Stage, flat, sources
from stpp.plan.targets import NETWORKS

START = 6.0
"""Seconds that a job takes before it computes: most of them to import PyTorch."""
MASK_BYTES = 0.04
"""Bytes of a stored mask for a pixel, about."""


@dataclass(frozen=True)
class Work:
    """Pixels that pass through networks in a job: `trained` in the steps of a training, `predicted` for masks."""

    trained: float = 0.0
    predicted: float = 0.0


def work_of(stage: Stage, plan: Plan) -> Work:
    """What a job of `stage` computes; nothing where it runs no network, or where its images are not counted."""
    known = _images(stage, plan)
    if stage.kind == "length":  # the first two trainings, at least
        return Work(float((1 + GROWTH) * steps(stage, plan) * pixels_of_iteration(stage.settings)))
    if stage.kind == "train":
        rounds, every = stage.settings["training"]["epochs"], stage.settings["training"]["validate_every"]
        validations = -(-rounds // every) * known.get("val", 0) if every else 0
        trained = steps(stage, plan) * pixels_of_iteration(stage.settings)
        return Work(float(trained), float(validations * _side(stage) ** 2))
    if stage.kind == "predict":
        images = predicted(stage, plan.stages, known.get("unlabeled", 0))
        return Work(predicted=float(images * pixels_of_prediction(stage, plan.stages)))
    if stage.kind == "encode":
        return Work(predicted=float(sum(known.values()) * _pixels_of_views(stage, plan)))
    if stage.kind == "evaluate" and "checkpoint" in stage.inputs:
        network = plan.stages[str(stage.inputs["checkpoint"]).rpartition("/")[0]]
        side = stage.settings["prediction"]["long_side"] or network.settings["training"]["base_size"]
        return Work(predicted=float(sum(known.values()) * side**2))
    return Work()


def _images(stage: Stage, plan: Plan) -> dict[str, int]:
    """The number of images of each subset that a stage reads; 0 where it is not known."""
    return {subset: plan.images.get(fingerprint, 0) for subset, fingerprint in stage.data.items()}


def steps(stage: Stage, plan: Plan) -> int:
    """How many iterations a training takes; one whose length is in epochs, by its images.

    Where a stage finds how much longer it is, and has not yet, as many as the configuration says.
    """
    folder = str(stage.inputs.get("length", "")).rpartition("/")[0]
    return ceil(plan.lengths.get(folder, 1) * _steps_given(stage, plan))


def _steps_given(stage: Stage, plan: Plan) -> int:
    training, size = stage.settings["training"], stage.settings["training"]["batch_size"]
    if training["iterations"] is not None:
        return iterations(stage.settings)
    known = _images(stage, plan)
    labeled, unlabeled = known.get("labeled", 0) + known.get("truth", 0), known.get("unlabeled", 0)
    labels = {path.rpartition("/")[0] for path in flat({"labels": stage.inputs.get("labels", [])})}
    pseudo = min(unlabeled, sum(_labeled_by(folder, plan, unlabeled) for folder in labels))
    if unlabeled and not labels:  # of each batch, one half is unlabeled
        images, size = unlabeled, size - size // 2
    else:
        repeat = training["labeled_repeat"] or labeled_repeat(stage.settings["role"], labeled, pseudo)
        images = labeled * repeat + pseudo
    return max(1, images // size) * int(training["epochs"])


def _labeled_by(folder: str, plan: Plan, unlabeled: int) -> int:
    """How many images have pseudo-labels in the stage in `folder`: a prediction, or what keeps some of its pixels."""
    stage = plan.stages[folder]
    while stage.kind == "pixels":
        stage = plan.stages[str(stage.inputs["labels"]).rpartition("/")[0]]
    return predicted(stage, plan.stages, unlabeled)


def space_of(stage: Stage, plan: Plan, parameters: int) -> float:
    """Bytes of the networks that a stage writes, each of so many `parameters`, and of its masks; the rest is small."""
    networks = sum(name.endswith(".pt") for name in stage.outputs)
    unlabeled, masks = _images(stage, plan).get("unlabeled", 0), 0.0
    if stage.kind in ("predict", "pixels") and unlabeled:
        share = _labeled_by(stage.folder, plan, unlabeled) / unlabeled
        masks = MASK_BYTES * plan.pixels.get(stage.data["unlabeled"], 0) * share
    return 4.0 * parameters * networks + masks


def _side(stage: Stage) -> int:
    """The side of an image that a training validates on, as `computation` takes it."""
    prediction = stage.settings["prediction"] or {}
    side: int = prediction.get("long_side") or stage.settings["training"]["base_size"]
    return side


def _pixels_of_views(stage: Stage, plan: Plan) -> float:
    """The pixels of all views of an image that is encoded; of a whole image's, as `computation` takes it."""
    settings = stage.settings
    if "scales" not in settings:
        return float(stored_views(settings) * settings["crop"] ** 2)
    sides = (other.settings["training"]["base_size"] for other in plan.stages.values() if other.kind == "train")
    side = settings["long_side"] or max(sides)
    return float(side**2 * sum(scale**2 for scale in settings["scales"]) * (1 + settings["flip"]))


@dataclass
class Speeds:
    """How fast stages are, by those that ran: `add` notes one, or a part of one, and `seconds` asks for another."""

    _spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _pixels: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _short: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, work: Work, seconds: float) -> None:
        """Note that a stage of this kind took so many seconds, without its start, for this work."""
        if work.trained:
            self._spent["train"] += seconds
            self._pixels["train"] += work.trained + work.predicted
        elif work.predicted and kind in ("predict", "encode"):
            self._spent[kind] += seconds
            self._pixels[kind] += work.predicted
        else:
            self._short[kind].append(seconds)

    def seconds(self, kind: str, work: Work) -> float | None:
        """The seconds that a stage of this kind takes from its start; None before anything is known.

        As long as there was no prediction, a pixel in one counts as much as a pass in a training.
        """
        if kind not in NETWORKS or kind == "report":
            return START / 2 + (median(self._short[kind]) if self._short[kind] else 0)
        of = "train" if work.trained or not self._pixels["predict"] else "predict"
        if kind == "encode" and self._pixels[kind]:
            of = kind
        if not self._pixels[of]:
            return None
        return START + (work.trained + work.predicted) * self._spent[of] / self._pixels[of]


def wall_time(seconds: Mapping[str, float], plan: Plan, takes: Mapping[str, int], cores: int | None) -> float:
    """Seconds until all stages in `seconds` are done, each of which begins when those that it reads are done.

    `takes` are the cores of each job, at most all of them. They start in the order of the plan as `cores` are free;
    with None, at once.
    """
    order = {folder: number for number, folder in enumerate(plan.stages)}
    missing = {folder: sources([plan.stages[folder]]) & seconds.keys() for folder in seconds}
    readers: dict[str, list[str]] = defaultdict(list)
    for folder, reads in missing.items():
        for source in reads:
            readers[source].append(folder)
    total = cores or sum(takes[folder] for folder in seconds)
    share = {folder: min(takes[folder], total) for folder in seconds}
    ready = sorted((folder for folder, reads in missing.items() if not reads), key=order.__getitem__)
    running: list[tuple[float, str]] = []
    free, now = total, 0.0
    while ready or running:
        for folder in list(ready):
            if share[folder] <= free:
                ready.remove(folder)
                free -= share[folder]
                heapq.heappush(running, (now + seconds[folder], folder))
        now, folder = heapq.heappop(running)
        free += share[folder]
        for reader in readers[folder]:
            missing[reader].discard(folder)
            if not missing[reader]:
                ready.append(reader)
        ready.sort(key=order.__getitem__)
    return now
