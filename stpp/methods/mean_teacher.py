"""Mean Teacher (Tarvainen and Valpola, 2017) for segmentation.

The teacher is a moving average of the student, which is penalised for deviating from the teacher's probabilities on
unlabeled images. The defaults are those of the implementation in TorchSemiSeg, whose teacher sees the same view, and
keeps its weights at the average of the parameters alone; the labeled images take no part in the consistency here, and
padding none. The teacher computes in training mode, so that its batch norm keeps statistics of its own.
"""

from collections.abc import Mapping
from typing import Any, Literal

from stpp.methods import TRAINED, Average, Method, Step, Trained, both_views
from stpp.settings import Section, setting

NAMES = ("mean_teacher",)


class Settings(Section):
    """Mean Teacher."""

    momentum: float = setting(0.99, "Share of the teacher that each step keeps, at most.", ge=0, lt=1)
    weight: float = setting(100.0, "Weight of the consistency: mean squared difference of probabilities.", ge=0)
    ramp_epochs: float = setting(0.0, "Epochs in which the weight grows, by exp(-5 (1 - t)^2).", "epochs", ge=0)
    loss: Literal["squared_error", "cross_entropy"] = setting(
        "squared_error",
        "Between the student's and the teacher's probabilities; the cross-entropy has the gradient of their "
        "Kullback-Leibler divergence, and asks for a weight near 1.",
    )
    temperature: float = setting(
        1.0, "Of the teacher's probabilities, p^(1/T) normalised; below 1 they are nearer to hard labels.", gt=0, le=10
    )
    view: Literal["weak", "strong"] = setting(
        "weak",
        "What the student sees of unlabeled images: the teacher's weak view, or `augmentation.student.unlabeled`.",
    )


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, and the student's distance from the teacher on unlabeled ones."""
    import torch

    from stpp.engine.batch import together
    from stpp.engine.labelers import sharpened
    from stpp.engine.losses import sigmoid_ramp, soft_cross_entropy, squared_error

    seen = batch.views[settings.view]
    labeled, unlabeled = nets["student"](together(batch.images, seen)).split([len(batch.images), len(seen)])
    with torch.no_grad():
        targets = nets["teacher"](batch.views["weak"]).softmax(dim=1)
        if settings.temperature != 1:
            targets = sharpened(targets, settings.temperature)
    ramp_length = settings.ramp_epochs * at.per_epoch
    weight = settings.weight * (sigmoid_ramp(at.iteration / ramp_length) if ramp_length else 1)
    valid = batch.valid[settings.view]
    if settings.loss == "squared_error":
        consistency = squared_error(unlabeled.softmax(dim=1), targets, valid, at.team)
    else:
        consistency = soft_cross_entropy(unlabeled, targets, valid, at.team)
    return {"supervised": at.supervised(labeled, batch.masks), "consistency": weight * consistency}


def after_step(nets: Mapping[str, Any], settings: Settings, at: Any) -> None:
    """The teacher follows the student."""
    from stpp.engine.networks import average_decay

    nets["teacher"].follow(nets["student"], average_decay(at.iteration, settings.momentum))


METHOD = Method(
    "mean_teacher",
    "one training: the student agrees with its own moving average on unlabeled images",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        both_views,
        {"student": Trained(), "teacher": Average(of="student")},
        result="teacher",
        after_step=after_step,
        of_maps=True,
        unlabeled_passes=1 + TRAINED,
    ),
)
