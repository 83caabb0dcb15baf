"""PseudoSeg (Zou, Zhang, Zhang, Li, Bian, Huang and Pfister, ICLR 2021).

The label of the weak view is a mean of two predictions, sharpened: that of the network, and class-activation maps that
an attention refines. The strong view learns it. The activation maps come from the same forward pass as the prediction
here, in training mode; the authors compute a second one in evaluation. They are plain ones of a linear classifier, of
which the authors' gradients are an average. Losses are of whole pixels, not of the decoder's own resolution; both
predictions are scaled by one number of the whole batch. The strong view is that of the configuration. Class 0 is taken
for the background.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from stpp.methods import TRAINED, Companion, Method, Step
from stpp.settings import Section, setting

NAMES = ("pseudoseg",)


class Settings(Section):
    """PseudoSeg."""

    weight: float = setting(1.0, "Weight of the labels of unlabeled images.", ge=0)
    temperature: float = setting(0.5, "Of the labels, p^(1/T) normalised; below 1 they are nearer to hard ones.", gt=0)
    threshold: float = setting(0.0, "Least probability of a label that counts.", ge=0, le=1)
    attention: float = setting(1.0, "Weight of the losses of refined maps and of classes of labeled images.", ge=0)
    width: int = setting(128, "Channels of the attention.", ge=1)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, twice, which classes they have, and soft cross-entropy of strong views."""
    import torch
    import torch.nn.functional as F

    from stpp.common.labels import IGNORE
    from stpp.engine.labelers import note_labels, sharpened
    from stpp.engine.losses import average, cross_entropy
    from stpp.models.blocks import resize

    student, activation, weak, valid = nets["student"], nets["activation"], batch.views["weak"], batch.valid
    with torch.no_grad():
        predicted, maps, _ = student.with_features(weak)
        refined = resize(activation.frozen(maps[-2:], valid["weak"])[0], weak)
        targets = sharpened(fused(predicted, refined, at.team), settings.temperature)
    confidence, labels = targets.max(dim=1)
    note_labels(batch, labels, at)
    strong = student(batch.views["strong"])
    seen = valid["strong"]
    kept = seen & (confidence >= settings.threshold)
    at.notes["counted"] = average(kept, seen, at.team)
    learned = average(-(targets * strong.log_softmax(dim=1)).sum(dim=1) * kept, seen, at.team)

    labeled, maps, _ = student.with_features(batch.images)
    present = classes_of(batch.masks, labeled.shape[1])
    again, of_images = activation(maps[-2:], batch.masks != IGNORE, present)
    told = F.binary_cross_entropy_with_logits(of_images, present.to(of_images.dtype), reduction="none")
    return {
        "supervised": at.supervised(labeled, batch.masks),
        "refined": settings.attention * cross_entropy(resize(again, batch.images), batch.masks, at.team),
        "of_images": settings.attention * average(told, torch.ones_like(told), at.team),
        "consistency": settings.weight * learned,
    }


def fused(first: Any, second: Any, team: Any) -> Any:
    """The mean of two predictions (N, C, H, W), from their logits over the root of the mean square of both."""
    squares = team.sum(first.square().sum() + second.square().sum())
    scale = (squares / team.sum(first.new_full((), 2 * first.numel())) + 1e-8).sqrt()
    return ((first / scale).softmax(dim=1) + (second / scale).softmax(dim=1)) / 2


def classes_of(masks: Any, classes: int) -> Any:
    """Which classes but 0 are in each of the masks (N, H, W): bool (N, classes - 1)."""
    import torch

    return torch.stack([(masks == label).flatten(1).any(dim=1) for label in range(1, classes)], dim=1)


def activation(settings: Settings, network: Any, classes: int) -> Any:
    """What makes refined class-activation maps of the last two maps of the encoder."""
    from stpp.models.activation import RefinedActivation

    return RefinedActivation(network.backbone.channels[-2:], classes, settings.width)


METHOD = Method(
    "pseudoseg",
    "one training: the mean of the prediction and of refined class-activation maps teaches strong views",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak", "strong"),
        companions=lambda settings: {"activation": Companion(partial(activation, settings))},
        unlabeled_passes=1 + TRAINED,
    ),
)
