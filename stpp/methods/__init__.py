"""The methods: a file each.

A file says which names it has, in a line `NAMES = ("...",)` that is read without importing it, and what the method is,
in a `METHOD`. Its `plan`, where it has one, adds stages to the graph that it is handed. Where unlabeled images take
part in every step of the training, its `step` says how; it imports torch and the engine's parts when it is called, so
that planning stays free of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from stpp.common.registry import METHODS, component, modules
from stpp.settings import Section

Views = tuple[str, ...]
"""What a step gets of each unlabeled image: `weak`, the crop, scaled and flipped; `strong`, the same crop with all that
`augmentation.student.unlabeled` asks for. All views of an image share one draw of the geometry."""


TRAINED = 3
"""What a pass that is learned from counts as in forward passes: the gradients of the weights and of the inputs cost as
much as the forward pass, each."""


@dataclass(frozen=True)
class Trained:
    """A network that an optimizer trains. Each has a random head of its own; all encoders begin with equal weights."""


@dataclass(frozen=True)
class Average:
    """A network or a companion that is never trained, but follows another one as its moving average."""

    of: str


@dataclass(frozen=True)
class Companion:
    """A small network that a method has beside those that segment: a second head, a discriminator, a bank of features.

    `make(network, classes)` gives a module with weights drawn anew, for the first of the method's networks, a
    `stpp.models.network.SegmentationNetwork`, and the number of classes. The optimizer of the training trains it as it
    does the head of a network; with a `rate`, Adam does instead, at that learning rate, whatever the batch, times the
    schedule of the training.
    """

    make: Callable[[Any, int], Any]
    rate: float | None = None


@dataclass(frozen=True)
class Step:
    """What each iteration of a training does.

    `step(batch, networks, settings, at)` gives the losses by name, whose sum is minimised: `batch` is a
    `stpp.engine.batch.Batch`, `networks` are callable, from images to logits, `at` is a `stpp.engine.batch.Moment`.
    `after_step(networks, settings, at)` runs after the optimizer's step. `networks` has all networks by name; `result`
    is the one that is validated, saved and evaluated. So has it the `companions`, which no artifact keeps. All learn
    from one backward pass, so a step says by `frozen` and `detach` whom a loss is not for.

    `views` are those of unlabeled images, which are half of each batch; where there are none, a batch has images with
    labels alone. A method that `mixes` takes pairs of images, so that each process has an even number of both kinds.
    With `confident` the batch has the confidence of the labels. A step `of_maps` hands images to networks, joins and
    mixes them by functions of the engine, so stored maps of an encoder can stand for them.

    `labeled_passes` and `unlabeled_passes` say what a step computes, in forward passes of a labeled and of an unlabeled
    image through all networks together: `TRAINED` for one that is learned from, 1 without gradients. A second pass
    through the decoder alone, from the same features, counts as half a pass, and what companions compute as none.
    """

    step: Callable[[Any, Mapping[str, Any], Any, Any], Mapping[str, Any]]
    views: Callable[[Any], Views] = lambda settings: ()
    networks: Mapping[str, Trained | Average] = field(default_factory=lambda: {"student": Trained()})
    result: str = "student"
    companions: Callable[[Any], Mapping[str, Companion | Average]] = lambda settings: {}
    after_step: Callable[[Mapping[str, Any], Any, Any], None] = lambda networks, settings, at: None
    mixes: bool = False
    confident: bool = False
    of_maps: bool = False
    labeled_passes: float = TRAINED
    unlabeled_passes: float = 0

    @property
    def least_batch(self) -> int:
        """The smallest batch of one process: an image of each kind, or a pair."""
        return 4 if self.mixes else 2

    def batch_multiple(self, processes: int) -> int:
        """What a batch of so many processes has to be a multiple of: none may have half a pair, or more pairs."""
        return self.least_batch * processes if self.mixes else 1


@dataclass(frozen=True)
class Method:
    """What a configuration, the plan, the workflow, the report and the documentation know of a method.

    `summary` is a noun phrase that ends a sentence "It is ...". `plan(graph)` adds the stages of one run to a
    `stpp.plan.methodgraph.MethodGraph`, and gives its parts by name, in the order of the method; without it, they
    are one training by the step `online`, in which unlabeled images take part, and its evaluations. `own_step` is that
    of trainings which the plan names. `settings` are its own, in the section `methods.<name>`. `unlabeled`
    says which unlabeled images its smallest training needs; `truth`, that it reads their true masks; `teacher`, that it
    trains one on labeled images alone; `phase1`, that one of its students has the length `training.phase1`.
    """

    name: str
    summary: str
    plan: Callable[[Any], dict[str, Any]] | None = None
    unlabeled: Literal["none", "reliable", "all"] = "all"
    truth: bool = False
    teacher: bool = True
    phase1: bool = False
    settings: type[Section] | None = None
    online: Step | None = None
    own_step: Step | None = None

    def stages(self, graph: Any) -> dict[str, Any]:
        """The parts of one run by name, whose stages are added to a `stpp.plan.methodgraph.MethodGraph`."""
        found: dict[str, Any] = self.plan(graph) if self.plan else graph.online(self)
        return found

    @property
    def target(self) -> str:
        """Its name in letters, digits and underscores: what to type after `snakemake`, and its section in `methods`."""
        return self.name.replace("+", "p")


def both_views(settings: Any) -> Views:
    """The weak view, which the labeler sees, and `settings.view`, which the student does."""
    return tuple(dict.fromkeys(("weak", settings.view)))


def names() -> tuple[str, ...]:
    """The names of all methods; no method is imported."""
    return tuple(modules(METHODS))


@cache
def method(name: str) -> Method:
    """The method of that name. Raises KeyError for an unknown one."""
    found: Method = component(METHODS, name).METHOD
    return found


def step_of(settings: Mapping[str, Any]) -> tuple[Step, Any] | None:
    """The step of a training with these settings of a stage, and the own settings of the method that it is from.

    None means a step on images and masks alone, as in self-training.
    """
    if "method" not in settings:
        return None
    ((name, own),) = settings["method"].items()
    chosen = method(name)
    step = chosen.online or chosen.own_step
    assert step is not None  # else the plan would not have named it
    return step, chosen.settings(**own) if chosen.settings else None


def methods() -> list[Method]:
    """All methods, in the alphabetical order of their files."""
    return [method(name) for name in names()]
