"""AdvSemiSeg: adversarial learning (Hung, Tsai, Liou, Lin and Yang, BMVC 2018), in some tables AdvSSL.

A discriminator tells true maps of labels from predicted ones, pixel by pixel. The network learns to be taken for true,
on labeled and, less, on unlabeled images. The defaults are those of PixelSSL, whose numbers the ST++ paper quotes: no
self-training. With `self_training`, as in the paper, pixels of unlabeled images that are taken for true are labels.
Padding and pixels without a label count nowhere here; the adversarial loss is there in every step, also where no pixel
is taken for true; and the discriminator sees predictions of labeled and of unlabeled images.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from stpp.methods import TRAINED, Companion, Method, Step
from stpp.settings import Section, setting

NAMES = ("advsemiseg",)


class Settings(Section):
    """Adversarial learning for semi-supervised segmentation."""

    weight: float = setting(0.001, "Weight of the adversarial loss of unlabeled images.", ge=0)
    labeled: float = setting(0.01, "Weight of the adversarial loss of labeled images.", ge=0)
    self_training: float = setting(
        0.0, "Weight of the labels of unlabeled images that are taken for true; the paper: 0.1.", ge=0
    )
    threshold: float = setting(0.2, "Least probability of being true of a label that counts.", ge=0, le=1)
    self_training_from: float = setting(0.25, "Share of the training after which self-training begins.", ge=0, lt=1)
    rate: float = setting(0.0001, "Learning rate of the discriminator.", gt=0)
    width: int = setting(64, "Channels of the first layer of the discriminator.", ge=1)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, the adversarial losses, and that of the discriminator."""
    import torch
    import torch.nn.functional as F

    from stpp.common.labels import IGNORE
    from stpp.engine.labelers import note_labels
    from stpp.engine.losses import average, judged, pixel_cross_entropy

    known, valid = batch.masks != IGNORE, batch.valid["weak"]
    labeled, unlabeled = nets["student"](batch.images), nets["student"](batch.views["weak"])
    sizes, guessed = [len(labeled), len(unlabeled)], torch.cat([labeled, unlabeled]).softmax(dim=1)
    scores_labeled, scores_unlabeled = nets["discriminator"].frozen(guessed)[:, 0].split(sizes)
    losses = {
        "supervised": at.supervised(labeled, batch.masks),
        "adversarial": settings.labeled * judged(scores_labeled, True, known, at.team),
        "unlabeled": settings.weight * judged(scores_unlabeled, True, valid, at.team),
    }
    if settings.self_training:
        begun = at.iteration >= settings.self_training_from * at.total
        kept = valid & (scores_unlabeled.detach().sigmoid() >= settings.threshold) & begun
        labels = unlabeled.argmax(dim=1)
        note_labels(batch, labels, at)
        learned = pixel_cross_entropy(unlabeled, labels) * kept
        at.notes["counted"] = average(kept, valid, at.team)
        losses["self_training"] = settings.self_training * average(learned, kept, at.team)
    true = F.one_hot(batch.masks.long() * known, labeled.shape[1]).movedim(3, 1) * known[:, None]
    seen = torch.cat([guessed.detach(), true.to(guessed.dtype)])
    fake, real = nets["discriminator"](seen)[:, 0].split([sum(sizes), sizes[0]])
    told = judged(fake, False, torch.cat([known, valid]), at.team) + judged(real, True, known, at.team)
    return {**losses, "discriminator": told / 2}


def discriminator(settings: Settings, network: Any, classes: int) -> Any:
    """What tells true maps of labels from predicted ones."""
    from stpp.models.critics import PixelDiscriminator

    return PixelDiscriminator(classes, settings.width)


METHOD = Method(
    "advsemiseg",
    "one training: a discriminator that tells true masks from predictions teaches the student what true ones look like",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak",),
        companions=lambda settings: {"discriminator": Companion(partial(discriminator, settings), settings.rate)},
        unlabeled_passes=TRAINED,
    ),
)
