"""CCT: cross-consistency training (Ouali, Hudelot and Tami, CVPR 2020).

Further decoders see the features of unlabeled images, each perturbed in one of seven ways, and are to agree with the
main decoder, which learns from labels alone. All see the last map of the encoder; in the authors' network, a pyramid
pooling belongs to the encoder. The defaults are the 30 decoders of the paper. What the authors draw once for a batch is
drawn for each image here, padding does not count, and the step of VAT is one that float32 can tell from none. An object
has all points of its contour here; the authors leave out those between corners, so that a rectangle is none.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from stpp.methods import TRAINED, Companion, Method, Step
from stpp.settings import Section, setting

NAMES = ("cct",)


class Settings(Section):
    """Cross-consistency training."""

    weight: float = setting(30.0, "Weight of the consistency, a mean over the decoders.", ge=0)
    ramp: float = setting(0.1, "Share of the training in which the weight grows, by exp(-5 (1 - t)^2).", ge=0, le=1)
    channels: int = setting(6, "Decoders whose features lose half of their channels; at least 1.", ge=1, le=30)
    boxes: int = setting(6, "Decoders whose features lose a box of each object.", ge=0, le=30)
    adversarial: int = setting(2, "Decoders whose features are moved where the prediction changes most.", ge=0, le=30)
    foreground: int = setting(2, "Decoders that see the features of foreground alone.", ge=0, le=30)
    background: int = setting(2, "Decoders that see the features of background alone, class 0.", ge=0, le=30)
    activations: int = setting(6, "Decoders whose features lose the most active places.", ge=0, le=30)
    noise: int = setting(6, "Decoders whose features are multiplied by up to 0.7 or 1.3.", ge=0, le=30)


KINDS = ("channels", "boxes", "adversarial", "foreground", "background", "activations", "noise")


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, and the distance of the decoders from the main one on unlabeled ones."""
    from stpp.engine.labelers import note_labels
    from stpp.engine.losses import sigmoid_ramp, squared_error
    from stpp.models.blocks import resize

    weak, valid = batch.views["weak"], batch.valid["weak"]
    labeled = nets["student"](batch.images)
    logits, maps, _ = nets["student"].with_features(weak)
    targets = logits.detach().softmax(dim=1)
    labels = targets.argmax(dim=1)
    note_labels(batch, labels, at)
    seen = perturbed(batch, maps[-1], labels > 0, nets["decoders"], settings)
    guessed = (resize(each, weak).softmax(dim=1) for each in nets["decoders"](seen))
    apart = sum(squared_error(each, targets, valid, at.team) for each in guessed) / len(seen)
    ramp_length = settings.ramp * at.total
    weight = settings.weight * (sigmoid_ramp(at.iteration / ramp_length) if ramp_length else 1)
    return {"supervised": at.supervised(labeled, batch.masks), "consistency": weight * apart}


def perturbed(batch: Any, features: Any, foreground: Any, decoders: Any, settings: Settings) -> list[Any]:
    """What each of the decoders sees of the features (U, D, h, w); `foreground`, bool (U, H, W), is the main one's."""
    from stpp.engine import perturbation as by

    inside = by.at_features(foreground, features)
    ways: dict[str, Callable[[str, Any], Any]] = {
        "channels": lambda part, _: by.without_channels(batch, features, part),
        "boxes": lambda part, _: by.without_boxes(batch, features, foreground, part),
        "adversarial": lambda part, own: by.adversarial(batch, features, own, part),
        "foreground": lambda *_: features * inside,
        "background": lambda *_: features * (1 - inside),
        "activations": lambda part, _: by.without_most_active(batch, features, part),
        "noise": lambda part, _: by.with_noise(batch, features, part),
    }
    planned = [(kind, number) for kind in KINDS for number in range(getattr(settings, kind))]
    return [ways[kind](f"{kind} {number}", decoders.child(k)) for k, (kind, number) in enumerate(planned)]


def decoders(settings: Settings, network: Any, classes: int) -> Any:
    """The further decoders, in the order of their kinds."""
    from stpp.models.upsampling import UpsamplingDecoders

    count, encoder = sum(getattr(settings, kind) for kind in KINDS), network.backbone
    return UpsamplingDecoders(count, encoder.channels[-1], classes, encoder.strides[-1])


METHOD = Method(
    "cct",
    "one training: further decoders of perturbed features learn to agree with the main one on unlabeled images",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak",),
        companions=lambda settings: {"decoders": Companion(partial(decoders, settings))},
        unlabeled_passes=TRAINED,
    ),
)
