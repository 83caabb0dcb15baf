"""ST++ by pixels: the first phase on the reliable pixels of all images."""

from typing import Any

from stpp.methods import Method

NAMES = ("pixel",)


def plan(graph: Any) -> dict[str, Any]:
    """The teacher, and two phases: on the reliable pixels of its labels, then on all."""
    run, teacher = graph.teacher()
    return graph.phases(run, graph.two_phases_of_pixels(teacher, run))


METHOD = Method("pixel", "two phases; the first one on the reliable pixels of all images", plan, phase1=True)
