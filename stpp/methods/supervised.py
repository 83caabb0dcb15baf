"""Full supervision: the upper bound, a training on the true masks of all images."""

from typing import Any

from stpp.methods import Method

NAMES = ("supervised",)


def plan(graph: Any) -> dict[str, Any]:
    """One network, trained like a student on the true masks of all images, with weak augmentation."""
    parts: dict[str, Any] = graph.supervised()
    return parts


METHOD = Method("supervised", "one training on the true masks of all images", plan, truth=True, teacher=False)
