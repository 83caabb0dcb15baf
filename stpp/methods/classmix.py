"""ClassMix (Olsson, Tranheden, Pinto and Svensson, WACV 2021).

The teacher, a moving average of the student, labels two images; half of the classes that it sees in one are pasted on
the other, and the student learns the mixed labels. As in the authors' code, the loss is averaged over all pixels,
padding included, and one number weighs it: the share of pixels of which the teacher is sure. The teacher averages
parameters alone and computes in training mode. The result is the student.
"""

from collections.abc import Mapping
from typing import Any, Literal

from stpp.methods import TRAINED, Average, Method, Step, Trained, both_views
from stpp.settings import Section, setting

NAMES = ("classmix",)


class Settings(Section):
    """ClassMix."""

    momentum: float = setting(0.99, "Share of the teacher that each step keeps, at most.", ge=0, lt=1)
    threshold: float = setting(0.968, "Least probability of a pixel of which the teacher is sure.", ge=0, le=1)
    weight: float = setting(1.0, "Weight of the loss of unlabeled images.", ge=0)
    view: Literal["weak", "strong"] = setting(
        "weak",
        "What the student sees, but for the classes: the teacher's weak view, as the paper for Pascal VOC, or "
        "`augmentation.student.unlabeled`.",
    )


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, and of mixed images with the teacher's mixed labels."""
    import torch

    from stpp.engine.labelers import hard_labels, note_labels
    from stpp.engine.losses import average, pixel_cross_entropy
    from stpp.engine.mixing import half_of_classes, mixed, partners

    with torch.no_grad():
        logits = nets["teacher"](batch.views["weak"])
    labels, confidence = hard_labels(logits)
    note_labels(batch, labels, at)
    partner = ~half_of_classes(batch, labels, logits.shape[1], "classes")
    seen = batch.views[settings.view]
    images, labels, confidence = (mixed(partner, own, partners(own)) for own in (seen, labels, confidence))
    supervised = at.supervised(nets["student"](batch.images), batch.masks)
    everywhere = torch.ones_like(labels)
    sure = average(confidence >= settings.threshold, everywhere, at.team)
    at.notes["counted"] = sure
    learned = average(pixel_cross_entropy(nets["student"](images), labels), everywhere, at.team)
    return {"supervised": supervised, "consistency": settings.weight * sure * learned}


def after_step(nets: Mapping[str, Any], settings: Settings, at: Any) -> None:
    """The teacher follows the student."""
    from stpp.engine.networks import average_decay

    nets["teacher"].follow(nets["student"], average_decay(at.iteration, settings.momentum))


METHOD = Method(
    "classmix",
    "one training: labels of a moving average teach the student on images with half of the classes of another image",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        both_views,
        {"student": Trained(), "teacher": Average(of="student")},
        after_step=after_step,
        mixes=True,
        of_maps=True,
        unlabeled_passes=1 + TRAINED,
    ),
)
