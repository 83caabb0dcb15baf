"""CPS: cross pseudo supervision (Chen, Yuan, Zeng and Wang, CVPR 2021), without CutMix.

Two networks, which differ in their random heads, teach each other with hard labels of all images, padding included, as
the authors' code does. The first one is the result.
"""

from collections.abc import Mapping
from typing import Any

from stpp.methods import TRAINED, Method, Step, Trained
from stpp.settings import Section, setting

NAMES = ("cps",)


class Settings(Section):
    """Cross pseudo supervision."""

    weight: float = setting(
        1.5, "Weight of the cross supervision; the paper: 1.5 for Pascal VOC, 6 for Cityscapes.", ge=0
    )


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of both networks on labeled images, and of each on the other's labels of all images."""
    import torch

    from stpp.engine.labelers import note_labels
    from stpp.engine.losses import cross_entropy

    first, second = nets["first"], nets["second"]
    # Four forward passes, as the authors': batch norm never sees labeled and unlabeled images together.
    labeled1, unlabeled1 = first(batch.images), first(batch.views["weak"])
    labeled2, unlabeled2 = second(batch.images), second(batch.views["weak"])
    supervised = at.supervised(labeled1, batch.masks) + at.supervised(labeled2, batch.masks)
    all1, all2 = torch.cat([labeled1, unlabeled1]), torch.cat([labeled2, unlabeled2])
    labels1, labels2 = all1.argmax(dim=1), all2.argmax(dim=1)
    note_labels(batch, labels2[len(batch.images) :], at)  # those that the result learns
    cross = cross_entropy(all1, labels2, at.team) + cross_entropy(all2, labels1, at.team)
    return {"supervised": supervised, "cross": settings.weight * cross}


METHOD = Method(
    "cps",
    "one training of two networks that teach each other on all images",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak",),
        {"first": Trained(), "second": Trained()},
        of_maps=True,
        result="first",
        labeled_passes=2 * TRAINED,
        unlabeled_passes=2 * TRAINED,
    ),
)
