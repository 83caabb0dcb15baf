"""S4L: self-supervised semi-supervised learning (Zhai, Oliver, Kolesnikov and Beyer, ICCV 2019), for segmentation.

All images are seen twice, as they are and turned by 90, 180 or 270 degrees, in one batch. A second head tells from the
logits which of the four turns an image has. The paper is about classification; the form and the defaults are those of
PixelSSL, whose numbers the ST++ paper quotes. Here, the loss of turned labels is a mean over the pixels with a label.
"""

from collections.abc import Mapping
from typing import Any

from stpp.methods import TRAINED, Companion, Method, Step
from stpp.settings import Section, setting

NAMES = ("s4l",)


class Settings(Section):
    """Self-supervised semi-supervised learning."""

    weight: float = setting(0.1, "Weight of the loss of telling turns, of labeled and unlabeled images.", ge=0)
    turned: float = setting(0.1, "Weight of the loss of turned labeled images.", ge=0)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, of turned ones, and of the four turns."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    from stpp.engine.losses import average
    from stpp.engine.perturbation import quarter_turns, turned

    labeled, sizes = len(batch.images), [len(batch.images), len(batch.views["weak"])]
    images, turns = torch.cat([batch.images, batch.views["weak"]]), quarter_turns(batch)
    logits = nets["student"](torch.cat([images, turned(images, turns)]))
    plain, around = (each.split(sizes)[0] for each in logits.chunk(2))
    of_turns = batch.placed(np.array([0] * len(turns) + turns))
    told = F.cross_entropy(nets["turns"](logits), of_turns, reduction="none")
    return {
        "supervised": at.supervised(plain, batch.masks),
        "turned": settings.turned * at.supervised(around, turned(batch.masks, turns[:labeled])),
        "turns": settings.weight * average(told, torch.ones_like(told), at.team),
    }


def head(network: Any, classes: int) -> Any:
    """What tells the turns from the logits."""
    from stpp.models.critics import RotationHead

    return RotationHead(classes)


METHOD = Method(
    "s4l",
    "one training: the network also predicts by how many quarter turns each image is turned",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak",),
        companions=lambda settings: {"turns": Companion(head)},
        labeled_passes=2 * TRAINED,
        unlabeled_passes=2 * TRAINED,
    ),
)
