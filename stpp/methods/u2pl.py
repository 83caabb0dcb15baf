"""U2PL (Wang et al., CVPR 2022): reliable pixels, by the entropy of the teacher, and what unreliable ones are not.

The teacher, a moving average of the student, labels the weak view in evaluation mode; half of the images get a box of
their partner. A second prediction of the teacher, of the mixed images in training mode, says which pixels are the most
uncertain ones: a share of them, which shrinks over the training, is left out. As in the authors' code, the mean over
the pixels that are kept is multiplied by all pixels over the kept ones.

The contrastive term is off by default. With it, reliable pixels are drawn to the mean features of their class, and away
from those of pixels that are surely not of it. In the authors' code, the anchors of one class meet the mean of another
one where a class is absent, and labeled pixels never are negatives; here neither is so. Anchors and what is remembered
are chosen for each image, features come from before the decoder's last layer, and all memories have one size.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from stpp.methods import TRAINED, Average, Companion, Method, Step, Trained
from stpp.settings import Section, setting

NAMES = ("u2pl",)


class Settings(Section):
    """U2PL, by default without its contrastive loss."""

    momentum: float = setting(0.99, "Share of the teacher that each step keeps, at most.", ge=0, lt=1)
    uncertain: float = setting(
        20.0, "Percent of the pixels that are left out at first, less and less to the end.", "%", ge=0, lt=100
    )
    warmup_epochs: int = setting(
        1, "Epochs on labeled images alone; the paper: 1 for Pascal VOC, 0 for Cityscapes.", "epochs", ge=0
    )
    cutmix: float = setting(0.5, "Probability of a box of another image.", ge=0, le=1)
    weight: float = setting(1.0, "Weight of the loss of unlabeled images.", ge=0)
    contrastive: float = setting(0.0, "Weight of the contrastive loss; the paper: 1.", ge=0)
    anchors: int = setting(8, "Pixels of each class and image, at most, that it draws; the paper: 256 a batch.", ge=1)
    negatives: int = setting(50, "Pixels that each of them is drawn away from.", ge=1)
    lowest_rank: int = setting(3, "Classes that an uncertain pixel ranks higher are none that it is not.", ge=1)
    memory: int = setting(30000, "Pixels of each class that are remembered.", ge=1)
    dropout: float = setting(0.1, "Share of the channels that the head of the contrastive loss drops.", ge=0, lt=1)
    remembered: int = setting(64, "Pixels of each class and image, at most, that a step adds to them.", ge=1)


def kept_percent(settings: Settings, at: Any) -> float:
    """Percent of the pixels that count in this epoch."""
    epoch, epochs = at.iteration // at.per_epoch, at.total // at.per_epoch
    return float(100 - settings.uncertain * (1 - epoch / epochs))


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, and of mixed images with the teacher's labels where it is not uncertain."""
    import torch

    from stpp.engine.batch import together
    from stpp.engine.labelers import entropy, hard_labels, note_labels, percentile
    from stpp.engine.losses import average, pixel_cross_entropy
    from stpp.engine.memory import contrast, remember
    from stpp.engine.mixing import boxes, mixed, partners, wide_box

    if at.iteration < settings.warmup_epochs * at.per_epoch:
        with torch.no_grad():
            nets["teacher"](batch.images)  # for the statistics of its batch norms alone
        supervised = at.supervised(nets["student"](batch.images), batch.masks)
        nothing = torch.zeros_like(supervised)
        at.notes.update(dict.fromkeys(("counted", "largest_class", "largest_true"), nothing))
        losses = {"supervised": supervised, "consistency": nothing}
        return {**losses, "contrast": nothing} if settings.contrastive else losses
    weak = batch.views["weak"]
    labels, _ = hard_labels(nets["teacher"].evaluated(weak))
    note_labels(batch, labels, at)
    box = boxes(batch, wide_box, "box", settings.cutmix)
    images, labels = (mixed(box, own, partners(own)) for own in (weak, labels))
    both, sizes = together(batch.images, images), [len(batch.images), len(images)]
    logits, features = predicted(nets["student"], nets.get("representation"), both)
    labeled, unlabeled = logits.split(sizes)
    with torch.no_grad():
        certain, averaged = predicted(nets["teacher"], nets.get("average"), both)
        uncertainty = entropy(certain.split(sizes)[1])
    kept = uncertainty < percentile(uncertainty, kept_percent(settings, at), at.team)
    share = average(kept, torch.ones_like(kept), at.team)
    at.notes["counted"] = share
    learned = average(pixel_cross_entropy(unlabeled, labels) * kept, kept, at.team) / share.clamp(min=1e-12)
    losses = {"supervised": at.supervised(labeled, batch.masks), "consistency": settings.weight * learned}
    if settings.contrastive:
        pixels = pixels_of(features, averaged, certain, batch.masks, labels, uncertainty, settings, at)
        memory, team = nets["memory"].module, at.team
        drawn = contrast(pixels, memory, batch, settings.anchors, settings.negatives, team)
        losses["contrast"] = settings.contrastive * drawn
        remember(pixels, memory, batch, sizes[0], settings.lowest_rank, settings.remembered, team)
    return losses


def predicted(net: Any, head: Any, images: Any) -> tuple[Any, Any]:
    """The logits of images, and what the `head` makes of the decoder's features; without one, None."""
    if head is None:
        return net(images), None
    logits, _, features = net.with_features(images)
    return logits, head(features)


def pixels_of(
    student: Any, teacher: Any, logits: Any, masks: Any, labels: Any, uncertainty: Any, settings: Settings, at: Any
) -> Any:
    """What the contrastive loss is about, at the places of the features (N, D, h, w) of both networks.

    `logits` (N, C, H, W) are the teacher's, `masks` and `labels` those of the labeled and of the unlabeled images, and
    `uncertainty` (U, H, W) the teacher's entropy. As many are uncertain as are left out, and as many are certain.
    """
    import torch
    import torch.nn.functional as F

    from stpp.engine.labelers import percentile
    from stpp.engine.memory import Pixels, at_places

    share = 100 - kept_percent(settings, at)
    bounds = [percentile(uncertainty, percent, at.team) for percent in (share, 100 - share)]
    known = torch.cat([masks.long(), labels])
    everywhere = torch.ones_like(masks, dtype=torch.bool)
    low = torch.cat([everywhere, uncertainty <= bounds[0]])
    high = torch.cat([everywhere, uncertainty >= bounds[1]])
    probabilities = F.interpolate(logits, size=student.shape[-2:]).softmax(dim=1)
    return Pixels(
        student.flatten(2).transpose(1, 2),
        teacher.flatten(2).transpose(1, 2),
        probabilities.flatten(2).transpose(1, 2),
        *(at_places(each, student) for each in (known, low, high)),
    )


def companions(settings: Settings) -> dict[str, Any]:
    """The heads of both networks and the memory; none without the contrastive loss."""
    if not settings.contrastive:
        return {}
    return {
        "representation": Companion(partial(representation, settings)),
        "average": Average(of="representation"),
        "memory": Companion(partial(memory, settings)),
    }


def representation(settings: Settings, network: Any, classes: int) -> Any:
    """The head whose features are contrasted."""
    from stpp.models.projection import Representation

    return Representation(network.classifier.width, settings.dropout)


def memory(settings: Settings, network: Any, classes: int) -> Any:
    """What is remembered of pixels that are surely not of a class."""
    from stpp.engine.memory import Memory

    return Memory(classes, settings.memory, 256)


def after_step(nets: Mapping[str, Any], settings: Settings, at: Any) -> None:
    """The teacher has the student's parameters until an epoch after the warm-up, and then follows it."""
    from stpp.engine.networks import average_decay

    since = at.iteration - settings.warmup_epochs * at.per_epoch
    decay = average_decay(since, settings.momentum) if since >= at.per_epoch else 0.0
    nets["teacher"].follow(nets["student"], decay)
    if settings.contrastive:
        nets["average"].follow(nets["representation"], decay)


METHOD = Method(
    "u2pl",
    "one training with the labels of a moving average, which count where it is certain",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak",),
        {"student": Trained(), "teacher": Average(of="student")},
        of_maps=True,
        result="teacher",
        companions=companions,
        after_step=after_step,
        mixes=True,
        labeled_passes=1 + TRAINED,
        unlabeled_passes=2 + TRAINED,
    ),
)
