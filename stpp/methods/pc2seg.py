"""PC2Seg: pixel contrastive-consistent learning (Zhong, Yuan, Wu, Yuan, Peng and Wang, ICCV 2021).

The strong view is to have the probabilities of the weak one, and each of its places the features of that place in the
weak view, and not those of places with other labels. There is no public code, and only these two ideas are from the
paper. Our reading: places and projection are those of `dcc`, negatives are places of the weak views of the whole batch
whose label differs and is sure, and no gradient reaches the weak view. The weights are ours: those of CCT and DCC for
such losses.
"""

from collections.abc import Mapping
from typing import Any

from stpp.methods import TRAINED, Companion, Method, Step
from stpp.settings import Section, setting

NAMES = ("pc2seg",)


class Settings(Section):
    """Pixel contrastive-consistent learning, in our reading."""

    weight: float = setting(30.0, "Weight of the mean squared difference of the probabilities of both views.", ge=0)
    contrast: float = setting(0.1, "Weight of the contrast of features.", ge=0)
    least: float = setting(0.75, "Least probability of a label that others are told from.", ge=0, lt=1)
    temperature: float = setting(0.1, "What products of features are divided by.", gt=0)
    negatives: int = setting(800, "Places of each image, at most, that others are compared with.", ge=1)


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled images, consistency of both views, and contrast of their features."""
    import torch

    from stpp.common.labels import IGNORE
    from stpp.engine.contrast import chosen, contrast, of_team, places, pooled
    from stpp.engine.labelers import note_labels
    from stpp.engine.losses import average, squared_error

    student, projection = nets["student"], nets["projection"]

    def seen(view: str, project: Any) -> tuple[Any, Any]:
        logits, _, features = student.with_features(batch.views[view])
        means = pooled(features, batch.views[view])
        return logits, places(project(means), student.classified(means), batch.valid[view])

    labeled = student(batch.images)
    with torch.no_grad():
        targets, weak = seen("weak", projection.frozen)
    guessed, strong = seen("strong", projection)
    note_labels(batch, targets.argmax(dim=1), at)
    apart = squared_error(guessed.softmax(dim=1), targets.softmax(dim=1), batch.valid["strong"], at.team)
    sure = weak._replace(labels=weak.labels.masked_fill(weak.confidence < settings.least, IGNORE))
    negatives = of_team(*chosen(batch, sure, "negatives", settings.negatives), at.team)
    kept = (strong.labels != IGNORE) & (weak.labels != IGNORE)
    parts = (strong.directions[kept], weak.directions[kept], weak.labels[kept])
    contrasts = average(contrast(*parts, negatives, settings.temperature), kept, at.team)
    return {
        "supervised": at.supervised(labeled, batch.masks),
        "consistency": settings.weight * apart,
        "contrast": settings.contrast * contrasts,
    }


def projection(network: Any, classes: int) -> Any:
    """From the features of the decoder to directions."""
    from stpp.models.projection import Projection

    return Projection(network.classifier.width)


METHOD = Method(
    "pc2seg",
    "one training: strong views learn the probabilities and the features of weak views, place by place",
    teacher=False,
    settings=Settings,
    online=Step(
        step,
        lambda settings: ("weak", "strong"),
        companions=lambda settings: {"projection": Companion(projection)},
        unlabeled_passes=1 + TRAINED,
    ),
)
