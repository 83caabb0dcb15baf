"""DCC: context-aware consistency with directional contrast (Lai, Tian, Jiang, Liu, Zhao, Wang and Jia, CVPR 2021).

Two overlapping crops of an image show the same places in different surroundings. The features of a place are drawn to
those of the other crop, if that is surer of its label, and away from features of other labels, also of the last step.
Both crops are cut from the strong views of one crop here, `crop` as wide and high, and each has its own colours and its
own direction; in the authors' code, both are as large as the crops of labeled images. They draw the features that
others are compared with for each process, and here it is for each image, so that processes change nothing.
"""

from collections.abc import Mapping
from typing import Any

from stpp.methods import TRAINED, Companion, Method, Step
from stpp.settings import Section, setting

NAMES = ("dcc",)
VIEWS = ("strong", "strong2")


class Settings(Section):
    """Directional context-aware consistency."""

    weight: float = setting(0.1, "Weight of the contrast of the two crops.", ge=0)
    warmup_epochs: int = setting(5, "Epochs on labeled images alone.", "epochs", ge=0)
    least: float = setting(0.75, "Least probability of a label that others are drawn to.", ge=0, lt=1)
    temperature: float = setting(0.1, "What products of features are divided by.", gt=0)
    crop: float = setting(0.75, "Side of each crop, as a share of that of the training.", gt=0.1, le=1)
    negatives: int = setting(800, "Places of each crop, at most, that others are compared with.", ge=1)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, and the contrast of two crops of unlabeled ones."""
    import torch

    from stpp.engine import crops
    from stpp.engine.contrast import Places, chosen, of_team, places, pooled

    student, bank = nets["student"], nets["bank"].module
    supervised = at.supervised(student(batch.images), batch.masks)
    if at.iteration < settings.warmup_epochs * at.per_epoch:
        return {"supervised": supervised, "contrast": torch.zeros_like(supervised)}
    pairs, seen = crops.pairs(batch, settings.crop, "crops"), []
    for number, view in enumerate(VIEWS):
        images, valid = (crops.cut(values[view], pairs, number) for values in (batch.views, batch.valid))
        _, _, features = student.with_features(images)
        means = pooled(features, images)
        seen.append(places(nets["projection"](means), student.classified(means), valid))
    drawn = [chosen(batch, each, f"negatives {number}", settings.negatives) for number, each in enumerate(seen)]
    directions, labels = (torch.cat(parts) for parts in zip(*drawn))
    own = of_team(directions, labels, at.team)
    negatives = bank.beside(*own)
    bank.keep(*own)
    one, other = (Places(*parts) for parts in zip(*(crops.shared(parts, pairs) for parts in zip(*seen))))
    contrasts = [directed(*each, negatives, settings, at.team) for each in ((one, other), (other, one))]
    return {"supervised": supervised, "contrast": settings.weight * (contrasts[0] + contrasts[1])}


def directed(own: Any, other: Any, negatives: Any, settings: Settings, team: Any) -> Any:
    """The contrast of the places (P,) of one crop with those of the other one, where that is surer; the mean of these.

    Zero where it is nowhere.
    """
    from stpp.common.labels import IGNORE
    from stpp.engine.contrast import contrast
    from stpp.engine.losses import average

    known = (own.labels != IGNORE) & (other.labels != IGNORE)
    kept = known & (other.confidence > settings.least) & (own.confidence < other.confidence)
    parts = (own.directions[kept], other.directions[kept], own.labels[kept])
    return average(contrast(*parts, negatives, settings.temperature), kept, team)


def projection(network: Any, classes: int) -> Any:
    """From the features of the decoder to directions."""
    from stpp.models.projection import Projection

    return Projection(network.classifier.width)


def bank(network: Any, classes: int) -> Any:
    """The directions of the last step."""
    from stpp.engine.contrast import Bank

    return Bank(128)


METHOD = Method(
    "dcc",
    "one training: each place has similar features in two overlapping crops, unlike those of places with other labels",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: VIEWS,
        companions=lambda settings: {"projection": Companion(projection), "bank": Companion(bank)},
        unlabeled_passes=2 * TRAINED,
    ),
)
