"""ST: self-training with strong augmentation of pseudo-labeled images (ST++, algorithm 1)."""

from typing import Any

from stpp.methods import Method

NAMES = ("st",)


def plan(graph: Any) -> dict[str, Any]:
    """The teacher, its labels of all unlabeled images, and the student that is trained on them."""
    run, teacher = graph.teacher()
    return graph.phases(run, [graph.only_phase(teacher)])


METHOD = Method("st", "self-training with strong augmentation of pseudo-labeled images", plan)
