"""DMT: dynamic mutual training (Feng et al., Pattern Recognition 2022).

Two networks label for each other in turns. Of the labels, the surest pixels of every class are kept, a share of them
that grows from phase to phase. The network that learns goes on from its own weights, and weighs each pixel by whether
it agrees at that moment. The authors' networks begin with weights of different data sets; these differ in their random
heads and in the order of images. They label at one scale and augment weakly, as the authors do.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from stpp.methods import Method, Step
from stpp.settings import Section, setting

NAMES = ("dmt",)


class Settings(Section):
    """Dynamic mutual training."""

    shares: list[Annotated[float, Field(gt=0, le=1)]] = setting(
        [0.2, 0.4, 0.6, 0.8, 1.0],
        "Share of the pixels of each class that is kept; for each of them, both networks are trained once.",
        min_length=1,
        max_length=20,
    )
    agree: float = setting(
        5.0, "Exponent of the label's probability where the network agrees; the paper: 5, for Cityscapes 3.", ge=0
    )
    disagree: float = setting(5.0, "The same where it does not, and is less sure than the labeler was.", ge=0)


def plan(graph: Any) -> dict[str, Any]:
    """Two teachers, and phases in which one network learns from the other's labels."""
    parts: dict[str, Any] = graph.mutual(METHOD, graph.config.methods.dmt.shares)
    return parts


def step(batch: Any, nets: Mapping[str, Any], settings: Settings, at: Any) -> dict[str, Any]:
    """Cross-entropy of labeled and pseudo-labeled images, each pixel weighted; the mean over all with a label."""
    from stpp.common.labels import IGNORE
    from stpp.engine.labelers import agreement_weights
    from stpp.engine.losses import average, pixel_cross_entropy

    logits = nets["student"](batch.images)
    weights = agreement_weights(logits, batch.masks, batch.confidence, settings.agree, settings.disagree)
    losses = weights * pixel_cross_entropy(logits, batch.masks)
    return {"supervised": average(losses, batch.masks != IGNORE, at.team)}


METHOD = Method(
    "dmt",
    "two networks that label for each other in turns, and weigh each label by whether they agree with it",
    plan,
    settings=Settings,
    own_step=Step(step, confident=True),
)
