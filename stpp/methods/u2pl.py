"""U2PL (Wang et al., CVPR 2022), its first term: reliable pixels, by the entropy of the teacher.

The teacher, a moving average of the student, labels the weak view in evaluation mode; half of the images get a box of
their partner. A second prediction of the teacher, of the mixed images in training mode, says which pixels are the most
uncertain ones: a share of them, which shrinks over the training, is left out. As in the authors' code, the mean over
the pixels that are kept is multiplied by all pixels over the kept ones. Their contrastive term, which learns from the
unreliable pixels, is not here.
"""

from collections.abc import Mapping
from typing import Any

from stpp.methods import TRAINED, Average, Method, Step, Trained
from stpp.settings import Section, setting

NAMES = ("u2pl",)


class Settings(Section):
    """U2PL without its contrastive loss."""

    momentum: float = setting(0.99, "Share of the teacher that each step keeps, at most.", ge=0, lt=1)
    uncertain: float = setting(
        20.0, "Percent of the pixels that are left out at first, less and less to the end.", "%", ge=0, lt=100
    )
    warmup_epochs: int = setting(
        1, "Epochs on labeled images alone; the paper: 1 for Pascal VOC, 0 for Cityscapes.", "epochs", ge=0
    )
    cutmix: float = setting(0.5, "Probability of a box of another image.", ge=0, le=1)
    weight: float = setting(1.0, "Weight of the loss of unlabeled images.", ge=0)


def kept_percent(settings: Settings, at: Any) -> float:
    """Percent of the pixels that count in this epoch."""
    epoch, epochs = at.iteration // at.per_epoch, at.total // at.per_epoch
    return float(100 - settings.uncertain * (1 - epoch / epochs))


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, and of mixed images with the teacher's labels where it is not uncertain."""
    import torch

    from stpp.engine.labelers import entropy, hard_labels, note_labels, percentile
    from stpp.engine.losses import average, pixel_cross_entropy
    from stpp.engine.mixing import boxes, mixed, partners, wide_box

    if at.iteration < settings.warmup_epochs * at.per_epoch:
        with torch.no_grad():
            nets["teacher"](batch.images)  # for the statistics of its batch norms alone
        supervised = at.supervised(nets["student"](batch.images), batch.masks)
        nothing = torch.zeros_like(supervised)
        at.notes.update(dict.fromkeys(("counted", "largest_class", "largest_true"), nothing))
        return {"supervised": supervised, "consistency": nothing}
    weak = batch.views["weak"]
    labels, _ = hard_labels(nets["teacher"].evaluated(weak))
    note_labels(batch, labels, at)
    box = boxes(batch, wide_box, "box", settings.cutmix)
    images, labels = (mixed(box, own, partners(own)) for own in (weak, labels))
    both, sizes = torch.cat([batch.images, images]), [len(batch.images), len(images)]
    labeled, unlabeled = nets["student"](both).split(sizes)
    with torch.no_grad():
        uncertainty = entropy(nets["teacher"](both).split(sizes)[1])
    kept = uncertainty < percentile(uncertainty, kept_percent(settings, at), at.team)
    share = average(kept, torch.ones_like(kept), at.team)
    at.notes["counted"] = share
    learned = average(pixel_cross_entropy(unlabeled, labels) * kept, kept, at.team) / share.clamp(min=1e-12)
    return {"supervised": at.supervised(labeled, batch.masks), "consistency": settings.weight * learned}


def after_step(nets: Mapping[str, Any], settings: Settings, at: Any) -> None:
    """The teacher has the student's parameters until an epoch after the warm-up, and then follows it."""
    from stpp.engine.networks import average_decay

    since = at.iteration - settings.warmup_epochs * at.per_epoch
    nets["teacher"].follow(nets["student"], average_decay(since, settings.momentum) if since >= at.per_epoch else 0.0)


METHOD = Method(
    "u2pl",
    "one training: labels of a moving average count where it is not uncertain; without the paper's contrastive loss",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak",),
        {"student": Trained(), "teacher": Average(of="student")},
        result="teacher",
        after_step=after_step,
        mixes=True,
        labeled_passes=1 + TRAINED,
        unlabeled_passes=2 + TRAINED,
    ),
)
