"""UniMatch (Yang, Qi, Feng, Zhang and Shi, CVPR 2023), its first version.

FixMatch with two strong views, and a third prediction from features of the weak view, half of whose channels are
dropped. The sure labels of the weak view are those of all three. As in the authors' code, the labeled images take part
in the batch whose features are dropped, and count there for the batch norm alone. The boxes are those of FixMatch here.
"""

from collections.abc import Mapping
from typing import Any

from stpp.methods import TRAINED, Method, Step
from stpp.settings import Section, setting

NAMES = ("unimatch",)


class Settings(Section):
    """UniMatch."""

    threshold: float = setting(
        0.95, "Least probability of a label that counts; the paper: 0.95 for Pascal VOC, 0 for Cityscapes.", ge=0, le=1
    )
    cutmix: float = setting(0.5, "Probability of a box of another image in each strong view.", ge=0, le=1)
    dropped: float = setting(0.5, "Share of the channels that are dropped.", ge=0, lt=1)
    weight: float = setting(1.0, "Weight of the loss of unlabeled images.", ge=0)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, and of three predictions with the sure labels of the weak view."""
    from stpp.engine.batch import together
    from stpp.engine.labelers import hard_labels, note_labels
    from stpp.engine.losses import average, pixel_cross_entropy
    from stpp.engine.mixing import boxes, fitting_box, mixed, partners
    from stpp.engine.perturbation import dropped_channels

    student, views = nets["student"], ("strong", "strong2")
    box = {view: boxes(batch, fitting_box, f"box {view}", settings.cutmix) for view in views}
    images, sizes = together(batch.images, batch.views["weak"]), [len(batch.images), len(batch.views["weak"])]
    clean, perturbed = student.perturbed(images, dropped_channels(batch, student, settings.dropped))
    labeled, weak = clean.split(sizes)
    strong = student(together(*(mixed(box[v], batch.views[v], partners(batch.views[v])) for v in views)))
    labels, confidence = hard_labels(weak)
    note_labels(batch, labels, at)
    sure = confidence >= settings.threshold

    def consistency(logits: Any, labels: Any, sure: Any, valid: Any) -> Any:
        return average(pixel_cross_entropy(logits, labels) * (valid & sure), valid, at.team)

    losses = [consistency(perturbed[sizes[0] :], labels, sure, batch.valid["weak"]) / 2]
    for view, logits in zip(views, strong.split(sizes[1])):
        own = (labels, sure, batch.valid[view])
        losses.append(consistency(logits, *(mixed(box[view], part, partners(part)) for part in own)) / 4)
    at.notes["counted"] = average(batch.valid["weak"] & sure, batch.valid["weak"], at.team)
    supervised = at.supervised(labeled, batch.masks)
    return {
        "supervised": supervised / 2,
        "features": settings.weight / 2 * losses[0],
        "consistency": settings.weight / 2 * (losses[1] + losses[2]),
    }


METHOD = Method(
    "unimatch",
    "one training: confident labels of weak views teach two strong views and perturbed features",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak", "strong", "strong2"),
        of_maps=True,
        mixes=True,
        # All images of the weak view's batch pass through the decoder twice.
        labeled_passes=1.5 * TRAINED,
        unlabeled_passes=3.5 * TRAINED,
    ),
)
