"""S4GAN (Mittal, Tatarchenko and Brox, TPAMI 2021), without the second branch, a classifier of whole images (MLMT).

A discriminator judges whole images with their segmentations. Unlabeled images whose predictions it takes for true are
learned from, and the mean features that it has of predictions are to be those of true masks. True and predicted
segmentations are seen with images of one scale, that of the step; the authors' code scales each by another batch. The
true ones are those of the labeled images of the step, not of a third draw. Padding is no label here.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from stpp.methods import TRAINED, Companion, Method, Step
from stpp.settings import Section, setting

NAMES = ("s4gan",)


class Settings(Section):
    """S4GAN."""

    weight: float = setting(1.0, "Weight of the labels of unlabeled images that are taken for true.", ge=0)
    matching: float = setting(0.1, "Weight of the difference of the discriminator's features.", ge=0)
    threshold: float = setting(
        0.6,
        "Least probability of being true of an image that counts; the paper: 0.6 for Pascal VOC, 0.7 for Cityscapes.",
        ge=0,
        le=1,
    )
    dropout: float = setting(0.5, "Share of the channels that the discriminator drops.", ge=0, lt=1)
    rate: float = setting(
        0.0001, "Learning rate of the discriminator; the paper: 0.0001, for Cityscapes 0.00001.", gt=0
    )
    width: int = setting(64, "Channels of the first layer of the discriminator.", ge=1)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images and of those taken for true, matched features, and the discriminator's loss."""
    import torch
    import torch.nn.functional as F

    from stpp.common.labels import IGNORE
    from stpp.engine.labelers import hard_labels, note_labels
    from stpp.engine.losses import average, judged, pixel_cross_entropy

    known, weak, discriminator = batch.masks != IGNORE, batch.views["weak"], nets["discriminator"]
    labeled, unlabeled = nets["student"](batch.images), nets["student"](weak)
    everything = torch.cat([batch.images, weak])
    least, most = (at.team.gather(extreme) for extreme in (everything.amin(), everything.amax()))
    least, most = least.min(), most.max()
    real_images, fake_images = ((images - least) / (most - least).clamp(min=1e-6) for images in (batch.images, weak))
    true = F.one_hot(batch.masks.long() * known, labeled.shape[1]).movedim(3, 1) * known[:, None]
    true, guessed = true.to(labeled.dtype), unlabeled.softmax(dim=1)

    scores, features = discriminator.frozen(fake_images, guessed)
    _, wanted = discriminator.frozen(real_images, true)
    labels, _ = hard_labels(unlabeled)
    note_labels(batch, labels, at)
    taken = (scores.detach().sigmoid() > settings.threshold) & (at.iteration > 0)
    kept = batch.valid["weak"] & taken[:, None, None]
    at.notes["counted"] = average(kept, batch.valid["weak"], at.team)
    learned = average(pixel_cross_entropy(unlabeled, labels) * kept, kept, at.team)
    apart = (mean_of(wanted, at.team) - mean_of(features, at.team)).abs().mean()

    fake, _ = discriminator(fake_images, guessed.detach())
    real, _ = discriminator(real_images, true)
    told = [judged(each, true, torch.ones_like(each), at.team) for each, true in ((fake, False), (real, True))]
    return {
        "supervised": at.supervised(labeled, batch.masks),
        "self_training": settings.weight * learned,
        "matching": settings.matching * apart,
        "discriminator": (told[0] + told[1]) / 2,
    }


def mean_of(features: Any, team: Any) -> Any:
    """The mean of the features (N, D) of the whole team's images, (D,)."""
    return team.sum(features.sum(dim=0)) / team.sum(features.new_full((), len(features)))


def discriminator(settings: Settings, network: Any, classes: int) -> Any:
    """What judges whole images with their segmentations."""
    from stpp.models.critics import ImageDiscriminator

    return ImageDiscriminator(network.backbone.bands + classes, settings.dropout, settings.width)


METHOD = Method(
    "s4gan",
    "one training: a discriminator chooses the images whose predictions become labels, and makes predictions more like "
    "true masks",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak",),
        companions=lambda settings: {"discriminator": Companion(partial(discriminator, settings), settings.rate)},
        unlabeled_passes=TRAINED,
    ),
)
