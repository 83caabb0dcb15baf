"""How much is computed for a network: counted, not timed, so that it is the same on every machine.

The unit is a pixel that passes forward through a network. What counts is the training of the network and all that it
takes, directly or not: teachers, students of earlier phases, masks and pseudo-labels.

- A training: iterations x images of a batch x pixels of a crop x passes of an image. A pass that is learned from counts
  as three (`stpp.methods.TRAINED`). What the step of a method computes of labeled and of unlabeled images, it says
  itself (`stpp.methods.Step`); as long as its losses of unlabeled images do not count, it computes them all the same.
- A prediction: images x pixels of an image x passes. An image is taken for a square with the side
  `prediction.long_side`, or where that is none, the `base_size` of the training of the network. With test-time
  augmentation it passes once at each scale, which has the square of the scale as many pixels, and twice with the mirror
  image.

Nothing else counts: neither what only measures, which is validation and evaluation, nor what takes no network.
Pure: no files, no torch.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from stpp.common import disk
from stpp.methods import TRAINED, step_of
from stpp.plan.counts import reliable_count
from stpp.plan.graph import Stage, sources


def taken(network: str, stages: Mapping[str, Stage]) -> list[Stage]:
    """The training in the folder `network` and all stages that it takes, directly or not, each once."""
    found: dict[str, Stage] = {}
    waiting = {network}
    while waiting:
        found |= {folder: stages[folder] for folder in waiting}
        waiting = sources(found[folder] for folder in waiting) - found.keys()
    return list(found.values())


def computation(network: str, stages: Mapping[str, Stage], unlabeled: int) -> Fraction:
    """The pixels that pass through networks for the one whose training is in the folder `network`.

    All its trainings must have their length in iterations. `unlabeled` is the number of unlabeled images.
    """
    pixels = Fraction(0)
    for stage in taken(network, stages):
        if stage.kind == "train":
            pixels += iterations(stage.settings) * pixels_of_iteration(stage.settings)
        elif stage.kind == "predict":
            pixels += predicted(stage, stages, unlabeled) * pixels_of_prediction(stage, stages)
    return pixels


def iterations(settings: Mapping[str, Any]) -> int:
    """The iterations of a training with these settings of a stage: rounded up, so that each round has as many."""
    training = settings["training"]
    return -(-training["iterations"] // training["epochs"]) * int(training["epochs"])


def pixels_of_iteration(settings: Mapping[str, Any]) -> Fraction:
    """The pixels that pass through networks in one iteration of a training with these settings of a stage."""
    training, images = settings["training"], settings["training"]["batch_size"]
    passes = Fraction(TRAINED * images)
    if chosen := step_of(settings):
        step, own = chosen
        unlabeled = images - images // 2 if step.views(own) else 0
        labeled = images - unlabeled
        passes = labeled * Fraction(step.labeled_passes) + unlabeled * Fraction(step.unlabeled_passes)
    return passes * training["crop"] ** 2


def predicted(stage: Stage, stages: Mapping[str, Stage], unlabeled: int) -> int:
    """How many of the unlabeled images a prediction labels: all, or the reliable or the unreliable ones."""
    if "images" not in stage.inputs:
        return unlabeled
    folder, _, name = str(stage.inputs["images"]).rpartition("/")
    reliable = reliable_count(unlabeled, stages[folder].settings["share"])
    return reliable if name == disk.RELIABLE else unlabeled - reliable


def pixels_of_prediction(stage: Stage, stages: Mapping[str, Stage]) -> Fraction:
    """The pixels that pass through the network in the prediction of one image."""
    training = stages[str(stage.inputs["checkpoint"]).rpartition("/")[0]].settings["training"]
    side, tta = stage.settings["prediction"]["long_side"] or training["base_size"], stage.settings["tta"]
    if tta is None:
        return Fraction(side**2)
    scales = (Fraction(scale).limit_denominator(10**6) for scale in tta["scales"])
    return side**2 * sum(scale**2 for scale in scales) * (1 + tta["flip"])
