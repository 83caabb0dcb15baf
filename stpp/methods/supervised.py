"""Full supervision: the upper bound, a training on the true masks of all images."""

from typing import Any

from stpp.methods import Method

NAMES = ("supervised",)


def plan(graph: Any) -> dict[str, str]:
    """One network, trained like a student on the true masks of all images, with weak augmentation."""
    network = graph.train_supervised()
    return {"supervised": network, **graph.evaluations("supervised", "supervised", network)}


METHOD = Method("supervised", "one training on the true masks of all images", plan, truth=True, teacher=False)
