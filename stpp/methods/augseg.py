"""AugSeg (Zhao et al., CVPR 2023).

The teacher, a moving average of the student, labels the weak view. The less sure it is of an image, the more often a
copy of the image gets a patch of a labeled image, with its true labels; then each image gets a box of its partner's
copy. The loss is averaged over all pixels, padding included, with those whose label is not sure at zero. The paper's
strong view is `augmentation.student.unlabeled: {operations: {}}` with the other parts switched off.
"""

from collections.abc import Mapping
from typing import Any

from stpp.methods import TRAINED, Average, Method, Step, Trained
from stpp.settings import Section, setting

NAMES = ("augseg",)


class Settings(Section):
    """AugSeg."""

    momentum: float = setting(
        0.999, "Share of the teacher that each step keeps, at most; the paper: 0.996 for Cityscapes.", ge=0, lt=1
    )
    threshold: float = setting(
        0.95, "Least probability of a label that counts; the paper: 0.95 for Pascal VOC, 0 for Cityscapes.", ge=0, le=1
    )
    weight: float = setting(1.0, "Weight of the loss of unlabeled images.", ge=0)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, and of mixed strong views with the teacher's sure labels."""
    import torch

    from stpp.engine.batch import together
    from stpp.engine.labelers import hard_labels, note_labels, sureness
    from stpp.engine.losses import average, pixel_cross_entropy
    from stpp.engine.mixing import beta_box, boxes, mixed, partners, patches

    logits = nets["teacher"].evaluated(batch.views["weak"])
    labels, confidence = hard_labels(logits)
    note_labels(batch, labels, at)
    patch = patches(batch, beta_box(8, 2), "patch", sureness(logits, confidence))
    box = boxes(batch, beta_box(4, 4), "box")
    certain = torch.ones_like(confidence)
    true = (batch.images, batch.masks.long(), certain)
    images, labels, confidence = (
        mixed(box, own, partners(mixed(patch, own, labeled)))
        for own, labeled in zip((batch.views["strong"], labels, confidence), true)
    )
    labeled, unlabeled = nets["student"](together(batch.images, images)).split([len(batch.images), len(images)])
    kept = confidence >= settings.threshold
    at.notes["counted"] = average(kept, certain, at.team)
    learned = average(pixel_cross_entropy(unlabeled, labels) * kept, certain, at.team)
    return {"supervised": at.supervised(labeled, batch.masks), "consistency": settings.weight * learned}


def after_step(nets: Mapping[str, Any], settings: Settings, at: Any) -> None:
    """The teacher is the student in the first epoch, and then follows it, with the statistics of its batch norms."""
    from stpp.engine.networks import average_decay

    decay = average_decay(at.iteration, settings.momentum) if at.iteration >= at.per_epoch else 0.0
    nets["teacher"].follow(nets["student"], decay, buffers=True)


METHOD = Method(
    "augseg",
    "one training: confident labels of a moving average teach strong views with boxes of other and of labeled images",
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
