"""UniMatch V2 (Yang, Zhao, Qi, Yang and Zhao, 2024).

The teacher, a moving average of the student, labels the weak view. Its sure labels are those of two strong views, each
with a box of another image, and with complementary halves of the channels of the features. The paper's network is a
DINOv2 with the decoder `dpt`, its optimizer AdamW; both are settings of the network and the training, and so is a
frozen encoder, `tune: none`. As everywhere, the other image is the second of a pair; in the authors' code it is that of
the batch in reverse order.
"""

from collections.abc import Mapping
from typing import Any

from stpp.methods import TRAINED, Average, Method, Step, Trained
from stpp.settings import Section, setting

NAMES = ("unimatch_v2",)


class Settings(Section):
    """UniMatch V2."""

    momentum: float = setting(0.996, "Share of the teacher that each step keeps, at most.", ge=0, lt=1)
    threshold: float = setting(0.95, "Least probability of a label that counts.", ge=0, le=1)
    cutmix: float = setting(0.5, "Probability of a box of another image in each strong view.", ge=0, le=1)
    weight: float = setting(1.0, "Weight of the loss of unlabeled images.", ge=0)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, and of two strong views with the teacher's sure labels."""
    from stpp.engine.batch import together
    from stpp.engine.labelers import hard_labels, note_labels
    from stpp.engine.losses import average, pixel_cross_entropy
    from stpp.engine.mixing import boxes, fitting_box, mixed, partners
    from stpp.engine.perturbation import complementary_channels

    student, views = nets["student"], ("strong", "strong2")
    labels, confidence = hard_labels(nets["teacher"].evaluated(batch.views["weak"]))
    note_labels(batch, labels, at)
    sure = confidence >= settings.threshold
    at.notes["counted"] = average(batch.valid["weak"] & sure, batch.valid["weak"], at.team)
    box = {view: boxes(batch, fitting_box, f"box {view}", settings.cutmix) for view in views}
    supervised = at.supervised(student(batch.images), batch.masks)
    images = together(*(mixed(box[view], batch.views[view], partners(batch.views[view])) for view in views))
    strong = student.dropped(images, complementary_channels(batch, student))
    losses = []
    for view, logits in zip(views, strong.chunk(2)):
        own = (labels, sure, batch.valid[view])
        labels_in, sure_in, valid = (mixed(box[view], part, partners(part)) for part in own)
        losses.append(average(pixel_cross_entropy(logits, labels_in) * (valid & sure_in), valid, at.team))
    return {"supervised": supervised / 2, "consistency": settings.weight / 4 * (losses[0] + losses[1])}


def after_step(nets: Mapping[str, Any], settings: Settings, at: Any) -> None:
    """The teacher follows the student, with the statistics of its batch norms."""
    from stpp.engine.networks import average_decay

    nets["teacher"].follow(nets["student"], average_decay(at.iteration, settings.momentum), buffers=True)


METHOD = Method(
    "unimatch_v2",
    "one training: confident labels of a moving average teach two strong views with complementary halves of features",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak", "strong", "strong2"),
        {"student": Trained(), "teacher": Average(of="student")},
        of_maps=True,
        result="teacher",
        after_step=after_step,
        mixes=True,
        unlabeled_passes=1 + 2 * TRAINED,
    ),
)
