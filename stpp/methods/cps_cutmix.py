"""CPS with CutMix: cross pseudo supervision (Chen, Yuan, Zeng and Wang, CVPR 2021) on mixed images.

Each of two networks labels two unlabeled images; the other one learns the labels, mixed, on the mixed image. Labeled
images have their cross-entropy alone. As in the authors' code, the labels are computed in training mode, and count on
all pixels. The first network is the result.
"""

from collections.abc import Mapping
from typing import Any

from stpp.methods import TRAINED, Method, Step, Trained
from stpp.settings import Section, setting

NAMES = ("cps_cutmix",)


class Settings(Section):
    """Cross pseudo supervision with CutMix."""

    weight: float = setting(
        1.0, "Weight of the cross supervision; the paper: 1 for Pascal VOC, 5 for Cityscapes.", ge=0
    )


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of both networks on labeled images, and of each on the other's labels of mixed images."""
    import torch

    from stpp.engine.labelers import note_labels
    from stpp.engine.losses import cross_entropy
    from stpp.engine.mixing import boxes, mixed, partners, three_boxes

    box = boxes(batch, three_boxes, "boxes")
    weak = batch.views["weak"]
    images = mixed(box, weak, partners(weak))
    with torch.no_grad():
        labels = {name: net(weak).argmax(dim=1) for name, net in nets.items()}
    note_labels(batch, labels["second"], at)  # those that the result learns
    labels = {name: mixed(box, own, partners(own)) for name, own in labels.items()}
    supervised = [at.supervised(net(batch.images), batch.masks) for net in nets.values()]
    first, second = nets["first"](images), nets["second"](images)
    cross = cross_entropy(first, labels["second"], at.team) + cross_entropy(second, labels["first"], at.team)
    return {"supervised": supervised[0] + supervised[1], "cross": settings.weight * cross}


METHOD = Method(
    "cps_cutmix",
    "one training of two networks that teach each other on images with boxes of another image",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak",),
        {"first": Trained(), "second": Trained()},
        of_maps=True,
        result="first",
        mixes=True,
        labeled_passes=2 * TRAINED,
        unlabeled_passes=2 + 2 * TRAINED,
    ),
)
