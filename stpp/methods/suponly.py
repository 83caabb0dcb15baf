"""SupOnly: the lower bound, a training on the labeled images alone."""

from typing import Any

from stpp.methods import Method

NAMES = ("suponly",)


def plan(graph: Any) -> dict[str, str]:
    """The teacher, and its evaluations."""
    teacher = graph.train_teacher()
    return {"teacher": teacher, **graph.evaluations("teacher", "teacher", teacher)}


METHOD = Method("suponly", "the teacher alone, on labeled images", plan, unlabeled="none")
