"""CutMix-Seg (French, Laine, Aila, Mackiewicz and Finlayson, BMVC 2020).

The teacher, a moving average of the student, labels two images; the student sees one with a box of the other, and is
penalised where its probabilities deviate from theirs, mixed the same way. As in the authors' code, the loss is summed
over classes and averaged over all pixels, padding contributes nothing, and one number weighs it: the share of pixels
of which the teacher is sure. The teacher averages the statistics of batch norm as well. The authors' runs keep those
of ImageNet; here batch norm is trained.
"""

from collections.abc import Mapping
from typing import Any, Literal

from stpp.methods import TRAINED, Average, Method, Step, Trained, both_views
from stpp.settings import Section, setting

NAMES = ("cutmix_seg",)


class Settings(Section):
    """CutMix-Seg."""

    momentum: float = setting(0.99, "Share of the teacher that each step keeps.", ge=0, lt=1)
    threshold: float = setting(0.97, "Least probability of a pixel of which the teacher is sure.", ge=0, le=1)
    weight: float = setting(1.0, "Weight of the consistency.", ge=0)
    view: Literal["weak", "strong"] = setting(
        "weak", "What the student sees, but for the box: the teacher's weak view, or `augmentation.student.unlabeled`."
    )


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, and the student's distance from the teacher on mixed images."""
    import torch

    from stpp.engine.labelers import note_labels
    from stpp.engine.losses import average
    from stpp.engine.mixing import boxes, half_box, mixed, partners

    box = boxes(batch, half_box, "box")
    with torch.no_grad():
        logits = nets["teacher"](batch.views["weak"])
        targets = mixed(box, logits, partners(logits)).softmax(dim=1)
    note_labels(batch, logits.argmax(dim=1), at)
    images, valid = (mixed(box, own, partners(own)) for own in (batch.views[settings.view], batch.valid[settings.view]))
    # Apart, so that without the consistency the student learns what it would on labeled images alone.
    supervised = at.supervised(nets["student"](batch.images), batch.masks)
    squares = (nets["student"](images).softmax(dim=1) - targets).square().sum(dim=1)
    everywhere = torch.ones_like(valid)
    sure = average(targets.amax(dim=1) >= settings.threshold, everywhere, at.team)
    at.notes["counted"] = sure
    return {
        "supervised": supervised,
        "consistency": settings.weight * sure * average(squares * valid, everywhere, at.team),
    }


def after_step(nets: Mapping[str, Any], settings: Settings, at: Any) -> None:
    """The teacher follows the student, with the statistics of its batch norms."""
    nets["teacher"].follow(nets["student"], settings.momentum, buffers=True)


METHOD = Method(
    "cutmix_seg",
    "one training: the student agrees with its moving average on images with a box of another image",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        both_views,
        {"student": Trained(), "teacher": Average(of="student")},
        result="teacher",
        after_step=after_step,
        mixes=True,
        of_maps=True,
        unlabeled_passes=1 + TRAINED,
    ),
)
