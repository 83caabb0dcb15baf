"""ST++: selective self-training in two phases, the first on the images with stable masks (ST++, algorithm 2)."""

from typing import Any

from stpp.methods import Method

NAMES = ("st++",)


def plan(graph: Any) -> dict[str, Any]:
    """The teacher, the stability of its masks, and two phases: on the reliable images, then on all."""
    run, teacher = graph.teacher()
    return graph.phases(run, graph.two_phases(teacher, graph.select_stable(teacher, run), run))


METHOD = Method(
    "st++",
    "two phases; the first one on the images whose masks are stable",
    plan,
    unlabeled="reliable",
    phase1=True,
)
