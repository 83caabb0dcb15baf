"""FixMatch (Sohn et al., NeurIPS 2020) for segmentation, as UniMatch's authors train it.

The network's own labels of the weak view, where it is sure, are those of the strong view with a box of another image.
Both losses have half of the weight, and the mean is over the pixels of the image, sure or not, as in the authors' code.
There, the box comes from a second draw of the same image, labeled in evaluation mode; here it comes from the other
image of a pair, labeled like the first.
"""

from collections.abc import Mapping
from typing import Any

from stpp.methods import TRAINED, Method, Step
from stpp.settings import Section, setting

NAMES = ("fixmatch",)


class Settings(Section):
    """FixMatch."""

    threshold: float = setting(
        0.95, "Least probability of a label that counts; the paper: 0.95 for Pascal VOC, 0 for Cityscapes.", ge=0, le=1
    )
    cutmix: float = setting(0.5, "Probability of a box of another image in the strong view.", ge=0, le=1)
    weight: float = setting(1.0, "Weight of the loss of unlabeled images.", ge=0)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, and of the strong views with the sure labels of the weak ones."""
    from stpp.engine.batch import together
    from stpp.engine.labelers import hard_labels, note_labels
    from stpp.engine.losses import average, pixel_cross_entropy
    from stpp.engine.mixing import boxes, fitting_box, mixed, partners

    box = boxes(batch, fitting_box, "box", settings.cutmix)
    labeled, weak = nets["student"](together(batch.images, batch.views["weak"])).split([len(batch.images), len(box)])
    strong = nets["student"](mixed(box, batch.views["strong"], partners(batch.views["strong"])))
    labels, confidence = hard_labels(weak)
    note_labels(batch, labels, at)
    labels, confidence, valid = (mixed(box, own, partners(own)) for own in (labels, confidence, batch.valid["strong"]))
    kept = valid & (confidence >= settings.threshold)
    at.notes["counted"] = average(kept, valid, at.team)
    consistency = average(pixel_cross_entropy(strong, labels) * kept, valid, at.team)
    supervised = at.supervised(labeled, batch.masks)
    return {"supervised": supervised / 2, "consistency": settings.weight / 2 * consistency}


METHOD = Method(
    "fixmatch",
    "one training: confident labels of weak views teach strong views with a box of another image",
    teacher=False,
    settings=Settings,
    online=Step(step, lambda settings: ("weak", "strong"), mixes=True, of_maps=True, unlabeled_passes=2 * TRAINED),
)
