"""GCT: guided collaborative training (Ke, Qiu, Li, Yan and Lau, ECCV 2020), as in PixelSSL.

A flaw detector learns on labeled images where predictions are wrong. Two networks teach each other, pixel by pixel: the
one that is more wrong learns the other one's probabilities, and where both are, each learns to be found without flaw.
The first network is the result. In the authors' code, each network computes its images twice with the same weights,
once without gradients; here once, which gives the same but for dropout and the running statistics of batch norm. All
three learn from one backward pass, as none of them is asked after another one has changed. Pixels without a label and
padding teach nothing here. A map that shows no flaws is 0; in the authors' code, it is less where no pixel of it was 0.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from stpp.methods import TRAINED, Companion, Method, Step, Trained
from stpp.settings import Section, setting

NAMES = ("gct",)


class Settings(Section):
    """Guided collaborative training."""

    weight: float = setting(100.0, "Weight of the squared difference from the less wrong prediction.", ge=0)
    correction: float = setting(1.0, "Weight of the flaws that are found where both networks are wrong.", ge=0)
    flaw: float = setting(0.6, "Flaw over which a network is wrong.", ge=0, le=1)
    ramp_epochs: float = setting(
        3.0, "Epochs in which `weight` grows, by exp(-5 (1 - t)^2); PixelSSL: 3, for PSPNet 5.", "epochs", ge=0
    )
    detector: float = setting(10.0, "Weight of the flaw detector's own loss.", gt=0)
    rate: float = setting(0.0001, "Learning rate of the flaw detector.", gt=0)
    width: int = setting(64, "Channels of the first layer of the flaw detector.", ge=2)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, what the networks teach each other, and the flaw detector's loss."""
    import torch

    from stpp.common.labels import IGNORE
    from stpp.engine.flaws import flaw_map, flaw_target, mutual_targets
    from stpp.engine.losses import average, sigmoid_ramp, squared_error

    labeled, images = len(batch.images), torch.cat([batch.images, batch.views["weak"]])
    valid = torch.cat([batch.masks != IGNORE, batch.valid["weak"]])
    logits = [nets[name](images) for name in ("first", "second")]
    guessed = [each.softmax(dim=1) for each in logits]
    found = [nets["detector"](images, each.detach()) for each in guessed]
    maps = [flaw_map(each) for each in found]
    ramp_length = settings.ramp_epochs * at.per_epoch
    weight = settings.weight * (sigmoid_ramp(at.iteration / ramp_length) if ramp_length else 1)

    def learned(own: int, other: int) -> tuple[Any, Any]:
        target, lost = mutual_targets(guessed[own], guessed[other], maps[own], maps[other], settings.flaw)
        flaws = nets["detector"].frozen(images, guessed[own]).square()
        return squared_error(guessed[own], target, valid, at.team), average(flaws * (lost & valid), valid, at.team)

    def detected(number: int) -> Any:
        target = flaw_target(guessed[number][:labeled], batch.masks)
        errors = (found[number][:labeled] - target).square()
        return average(errors, torch.ones_like(errors), at.team)

    (mutual1, flaws1), (mutual2, flaws2) = learned(0, 1), learned(1, 0)
    return {
        "supervised": sum(at.supervised(each[:labeled], batch.masks) for each in logits),
        "mutual": weight * (mutual1 + mutual2),
        "correction": settings.correction * (flaws1 + flaws2),
        "detector": settings.detector * (detected(0) + detected(1)) / 2,
    }


def detector(settings: Settings, network: Any, classes: int) -> Any:
    """What finds where predictions are wrong."""
    from stpp.models.critics import FlawDetector

    return FlawDetector(network.backbone.bands + classes, settings.width)


METHOD = Method(
    "gct",
    "one training of two networks: each learns from the other where a flaw detector finds the other less wrong",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak",),
        {"first": Trained(), "second": Trained()},
        companions=lambda settings: {"detector": Companion(partial(detector, settings), settings.rate)},
        result="first",
        labeled_passes=2 * TRAINED,
        unlabeled_passes=2 * TRAINED,
    ),
)
