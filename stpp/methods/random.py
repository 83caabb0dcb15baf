"""The control of ST++: the images of the first phase are drawn at random (ST++, table 5)."""

from typing import Any

from stpp.methods import Method

NAMES = ("random",)


def plan(graph: Any) -> dict[str, Any]:
    """The teacher, and two phases: on a random part of the unlabeled images, then on all."""
    run, teacher = graph.teacher()
    return graph.phases(run, graph.two_phases(teacher, graph.select_random(), run))


METHOD = Method(
    "random",
    "two phases; the first one on a random part of the unlabeled images",
    plan,
    unlabeled="reliable",
    phase1=True,
)
