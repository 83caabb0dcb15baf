"""How long stages take, by what their networks compute and a measured speed; how long all of them together; and the
disk that they take.

A job that runs a network takes the time to start, and a time for each pixel that passes through the network, as
`stpp.plan.computation` counts them: of the training, of its validations, of a prediction or an evaluation, of what the
report shows. What the other jobs do is short, or takes a little for each image whose stored masks they read. The speed
comes from stages that ran (`Speeds`), or from a trial (`stpp.commands.trial`).
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from statistics import median
from typing import Any

from stpp.plan.computation import iterations, pixels_of_iteration, pixels_of_prediction, predicted
from stpp.plan.counts import CANDIDATES, GROWTH, LONGEST_ENCODED, UNLABELED_SHOWN, labeled_repeat, stored_views
from stpp.plan.graph import Plan, Stage, flat, sources
from stpp.plan.targets import NETWORKS, SMALL_JOBS

START = 6.0
"""Seconds that a job takes before it computes: most of them to import PyTorch."""
MASK_BYTES = 0.04
"""Bytes of a stored mask for a pixel, about."""
READING = {"score": 0.001, "pixels": 0.005}
"""Seconds for each image whose stored masks a stage of this kind reads, about, at 480 x 360 px and before one ran."""
SHOT_BYTES = 55_000
"""Bytes of an image in the report with its layers where there are many, about."""


@dataclass(frozen=True)
class Work:
    """Pixels that pass through networks in a job: `trained` in the steps of a training, `predicted` for masks.

    `masks` is the number of images whose stored masks a job without a network reads.
    """

    trained: float = 0.0
    predicted: float = 0.0
    masks: float = 0.0


def work_of(stage: Stage, plan: Plan) -> Work:
    """What a job of `stage` computes; nothing where its images are not counted, or where it has no such work."""
    known = _images(stage, plan)
    if stage.kind == "length":  # the first two trainings, at least
        return Work(float((1 + GROWTH) * steps(stage, plan) * pixels_of_iteration(stage.settings)))
    if stage.kind == "train":
        rounds, every = stage.settings["training"]["epochs"], stage.settings["training"]["validate_every"]
        validations = -(-rounds // every) * known.get("val", 0) if every else 0
        trained = steps(stage, plan) * pixels_of_iteration(stage.settings)
        return Work(float(trained), float(validations * _side(stage) ** 2))
    if stage.kind == "predict":
        return Work(predicted=float(_labeled_by(stage.folder, plan) * pixels_of_prediction(stage, plan.stages)))
    if stage.kind == "encode":
        return Work(predicted=float(sum(known.values()) * _pixels_of_views(stage, plan)))
    if stage.kind == "evaluate" and "checkpoint" in stage.inputs:
        network = plan.stages[str(stage.inputs["checkpoint"]).rpartition("/")[0]]
        side = stage.settings["prediction"]["long_side"] or network.settings["training"]["base_size"]
        return Work(predicted=float(sum(known.values()) * side**2))
    if stage.kind == "report":
        return Work(predicted=pixels_of_report(stage.settings, stage.inputs, known, plan))
    if stage.kind in SMALL_JOBS:
        first = flat(stage.inputs)[0]  # each store that they read has the same images
        return Work(masks=float(_labeled_by(first.rpartition("/")[0], plan)))
    return Work()


def pixels_of_report(
    settings: Mapping[str, Any], inputs: Mapping[str, Any], images: Mapping[str, int], plan: Plan
) -> float:
    """The pixels that pass through networks for a report with these settings and inputs, about.

    `images` are the numbers of images by subset. Each image of val and test passes through the network that is handed
    over and through the K checkpoints, whose masks of unlabeled images are stored. Those that are encoded to choose
    which to label next count as if they passed through a whole network. The few images of the gallery do not count.
    """
    limits, unlabeled = settings["report"], images.get("unlabeled", 0)
    measured = images.get("val", 0) + images.get("test", 0)
    most = int(1e6 * limits["size"]) // SHOT_BYTES
    shown = min(unlabeled, limits["unlabeled"], int(most * UNLABELED_SHOWN))
    judged = min(measured, limits["judged"], most - shown)
    passes, encoded = shown + judged * (1 + len(inputs.get("checkpoints", ()))), 0
    if "teacher" in inputs:
        passes += min(unlabeled, limits["next"])
        encoded = min(unlabeled, CANDIDATES * limits["next"]) + images.get("labeled", 0) + measured
    side = _side_of_plan(settings["prediction"]["long_side"], plan)
    return float(passes * side**2 + encoded * min(side, LONGEST_ENCODED) ** 2)


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
    pseudo = min(unlabeled, sum(_labeled_by(folder, plan) for folder in labels))
    if unlabeled and not labels:  # of each batch, one half is unlabeled
        images, size = unlabeled, size - size // 2
    else:
        repeat = training["labeled_repeat"] or labeled_repeat(stage.settings["role"], labeled, pseudo)
        images = labeled * repeat + pseudo
    return max(1, images // size) * int(training["epochs"])


def _labeled_by(folder: str, plan: Plan) -> int:
    """How many images have masks in the stage in `folder`: a prediction, or what keeps some of its pixels."""
    stage = plan.stages[folder]
    while stage.kind == "pixels":
        stage = plan.stages[str(stage.inputs["labels"]).rpartition("/")[0]]
    return predicted(stage, plan.stages, sum(_images(stage, plan).values()))


def space_of(stage: Stage, plan: Plan, parameters: int) -> float:
    """Bytes of the networks that a stage writes, each of so many `parameters`, and of its masks; the rest is small."""
    networks = sum(name.endswith(".pt") for name in stage.outputs)
    unlabeled, masks = _images(stage, plan).get("unlabeled", 0), 0.0
    if stage.kind in ("predict", "pixels") and unlabeled:
        share = _labeled_by(stage.folder, plan) / unlabeled
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
    side = _side_of_plan(settings["long_side"], plan)
    return float(side**2 * sum(scale**2 for scale in settings["scales"]) * (1 + settings["flip"]))


def _side_of_plan(long_side: int | None, plan: Plan) -> int:
    """The side of an image that a network sees; without a `long_side`, the largest `base_size` of a training."""
    sides = (stage.settings["training"]["base_size"] for stage in plan.stages.values() if stage.kind == "train")
    return long_side or max(sides)


@dataclass
class Speeds:
    """How fast stages are, by those that ran: `add` notes one, or a part of one, and `seconds` asks for another."""

    _spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _done: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _short: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, work: Work, seconds: float) -> None:
        """Note that a stage of this kind took so many seconds, without its start, for this work."""
        if work.trained:
            self._spent["train"] += seconds
            self._done["train"] += work.trained + work.predicted
        elif work.predicted and kind in ("predict", "encode"):
            self._spent[kind] += seconds
            self._done[kind] += work.predicted
        elif work.masks:
            self._spent[kind] += seconds
            self._done[kind] += work.masks
        else:
            self._short[kind].append(seconds)

    def seconds(self, kind: str, work: Work) -> float | None:
        """The seconds that a stage of this kind takes from its start; None before anything is known.

        As long as there was no prediction, a pixel in one counts as much as a pass in a training. Where maps of a
        frozen encoder are stored, predictions read these; the report runs the encoder, as what stored them did.
        """
        if kind not in NETWORKS:
            each = self._spent[kind] / self._done[kind] if self._done[kind] else READING.get(kind, 0)
            return START / 2 + work.masks * each + (median(self._short[kind]) if self._short[kind] else 0)
        of = "train" if work.trained or not self._done["predict"] else "predict"
        if kind in ("encode", "report") and self._done["encode"]:
            of = "encode"
        if not self._done[of]:
            return None
        return START + (work.trained + work.predicted) * self._spent[of] / self._done[of]


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
