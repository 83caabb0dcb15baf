"""A mean teacher with CutMix and hard labels: parts of other methods, put together for few labels and short trainings.

The teacher, a moving average of the student, labels the weak view in evaluation. The student sees the strong view with
a box of another image, and learns the labels of both: all of them, unless `threshold` says otherwise. Labeled images
count fully. As long as a network has learned little, its labels are of the frequent classes, and no threshold leaves
them out; so let them begin later, by `training.student.unlabeled_from: 0.33`.
"""

from collections.abc import Mapping
from typing import Any

from stpp.methods import TRAINED, Average, Method, Step, Trained
from stpp.settings import Section, setting

NAMES = ("consistency",)


class Settings(Section):
    """A mean teacher with CutMix and hard labels."""

    momentum: float = setting(0.99, "Share of the teacher that each step keeps, at most.", ge=0, lt=1)
    threshold: float = setting(0.0, "Least probability of a label that counts.", ge=0, le=1)
    cutmix: float = setting(1.0, "Probability of a box of another image in the strong view.", ge=0, le=1)
    weight: float = setting(1.0, "Weight of the loss of unlabeled images.", ge=0)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, and of mixed strong views with the teacher's mixed labels."""
    from stpp.engine.labelers import hard_labels, note_labels
    from stpp.engine.losses import average, pixel_cross_entropy
    from stpp.engine.mixing import boxes, fitting_box, mixed, partners

    labels, confidence = hard_labels(nets["teacher"].evaluated(batch.views["weak"]))
    note_labels(batch, labels, at)
    box = boxes(batch, fitting_box, "box", settings.cutmix)
    seen = (batch.views["strong"], labels, confidence, batch.valid["strong"])
    images, labels, confidence, valid = (mixed(box, own, partners(own)) for own in seen)
    kept = valid & (confidence >= settings.threshold)
    at.notes["counted"] = average(kept, valid, at.team)
    # Apart, so that without the consistency the student learns what it would on labeled images alone.
    supervised = at.supervised(nets["student"](batch.images), batch.masks)
    learned = average(pixel_cross_entropy(nets["student"](images), labels) * kept, valid, at.team)
    return {"supervised": supervised, "consistency": settings.weight * learned}


def after_step(nets: Mapping[str, Any], settings: Settings, at: Any) -> None:
    """The teacher follows the student, with the statistics of its batch norms."""
    from stpp.engine.networks import average_decay

    nets["teacher"].follow(nets["student"], average_decay(at.iteration, settings.momentum), buffers=True)


METHOD = Method(
    "consistency",
    "one training: hard labels of a moving average teach strong views with a box of another image",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak", "strong"),
        {"student": Trained(), "teacher": Average(of="student")},
        of_maps=True,
        result="teacher",
        after_step=after_step,
        mixes=True,
        unlabeled_passes=1 + TRAINED,
    ),
)
