"""Plain self-training: ST without the strong augmentation of pseudo-labeled images (ST++, table 6)."""

from typing import Any

from stpp.methods import Method

NAMES = ("plain",)


def plan(graph: Any) -> dict[str, Any]:
    """The teacher, its labels of all unlabeled images, and the student that is trained on them."""
    run, teacher = graph.teacher()
    return graph.phases(run, [graph.only_phase(teacher, weak_only=True)], weak_only=True)


METHOD = Method("plain", "self-training without strong augmentation", plan)
