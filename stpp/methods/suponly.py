"""SupOnly: the lower bound, a training on the labeled images alone."""

from typing import Any

from stpp.methods import Method

NAMES = ("suponly",)


def plan(graph: Any) -> dict[str, Any]:
    """The teacher, and its evaluations."""
    parts: dict[str, Any] = graph.teacher()[0]
    return parts


METHOD = Method("suponly", "the teacher alone, on labeled images", plan, unlabeled="none")
