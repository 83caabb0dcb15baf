"""ECS: error-correcting supervision (Mendel, de Souza, Rauber, Papa and Palm, ECCV 2020).

A second network sees an image with its segmentation, and learns on labeled images which pixels are right and what the
others should be. It helps to train on labeled images, and corrects the labels of unlabeled ones, which count as much as
it is certain of them. There is no public code, and only the idea is from the paper. Our reading: the corrector is
small, has one class more, "right as it is", and learns by cross-entropy; on labeled images the network is penalised by
-ln of that class, on unlabeled ones a pixel has the weight of the corrector's largest probability, and the mean is over
these weights. The weights of the losses are ours as well.
"""

from collections.abc import Mapping
from typing import Any

from stpp.methods import TRAINED, Companion, Method, Step
from stpp.settings import Section, setting

NAMES = ("ecs",)


class Settings(Section):
    """Error-correcting supervision, in our reading."""

    weight: float = setting(1.0, "Weight of the corrected labels of unlabeled images.", ge=0)
    labeled: float = setting(0.1, "Weight of what the corrector objects to on labeled images.", ge=0)
    rate: float = setting(0.0001, "Learning rate of the corrector.", gt=0)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images and of corrected labels, the corrector's objections, and its own loss."""
    import torch

    from stpp.common.labels import IGNORE
    from stpp.engine.labelers import note_labels
    from stpp.engine.losses import average, cross_entropy, pixel_cross_entropy

    corrector, known, weak = nets["corrector"], batch.masks != IGNORE, batch.views["weak"]
    labeled, unlabeled = nets["student"](batch.images), nets["student"](weak)
    images, sizes = torch.cat([batch.images, weak]), [len(labeled), len(unlabeled)]
    guessed = torch.cat([labeled, unlabeled]).softmax(dim=1)
    said, corrections = corrector.frozen(images, guessed).log_softmax(dim=1).split(sizes)
    objections = average(-said[:, -1] * known, known, at.team)
    labels, certainty = corrected(unlabeled, corrections)
    note_labels(batch, labels, at)
    weights = certainty * batch.valid["weak"]
    learned = team_mean(pixel_cross_entropy(unlabeled, labels), weights, at.team)
    own = corrector(images, guessed.detach())[: sizes[0]]
    return {
        "supervised": at.supervised(labeled, batch.masks),
        "objections": settings.labeled * objections,
        "corrected": settings.weight * learned,
        "corrector": cross_entropy(own, corrector_target(labeled, batch.masks), at.team),
    }


def corrector_target(logits: Any, masks: Any) -> Any:
    """What the corrector is to say, integers (N, H, W): C of C classes where the prediction is right, else the label.

    255 where `masks` are.
    """
    from stpp.common.labels import IGNORE

    right = (logits.argmax(dim=1) == masks) & (masks != IGNORE)
    return masks.long().masked_fill(right, logits.shape[1])


def corrected(logits: Any, corrections: Any) -> tuple[Any, Any]:
    """Labels of the logits (N, C, H, W) after `corrections`, log-probabilities (N, C + 1, H, W), and their certainty.

    No gradients.
    """
    import torch

    certainty, said = corrections.detach().exp().max(dim=1)
    return torch.where(said == logits.shape[1], logits.argmax(dim=1), said), certainty


def team_mean(values: Any, weights: Any, team: Any) -> Any:
    """The mean of `values` (N, H, W) by these weights over the team; zero where all weights are."""
    return team.sum((values * weights).sum()) / team.sum(weights.sum()).clamp(min=1e-12)


def corrector(network: Any, classes: int) -> Any:
    """What says which predictions are right, and what the others should be."""
    from stpp.models.critics import Corrector

    return Corrector(network.backbone.bands, classes)


METHOD = Method(
    "ecs",
    "one training: a second network corrects the labels that the first one gives",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak",),
        companions=lambda settings: {"corrector": Companion(corrector, settings.rate)},
        unlabeled_passes=TRAINED,
    ),
)
