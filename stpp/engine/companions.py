"""The small networks of a method beside those that segment: a second head, a discriminator, a bank of features."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from stpp.engine.distributed import Team
from stpp.engine.networks import Net, follow
from stpp.engine.optimisation import casting
from stpp.methods import Average, Companion


class Beside:
    """A companion of the networks of a training: called with tensors, it gives what its module does, as float32.

    That is a tensor, or several in a tuple. `rate` is the learning rate of its own optimizer, None where it learns as
    the heads of the networks.
    """

    def __init__(self, module: nn.Module, call: Callable[..., Any], precision: str, rate: float | None) -> None:
        self.module, self.rate = module, rate
        self._call, self._precision = call, precision

    def __call__(self, *inputs: Any) -> Any:
        return self._computed(self._call, *inputs)

    def frozen(self, *inputs: Any) -> Any:
        """The same, but gradients reach the inputs alone, and not this companion."""
        with without_gradients(self.module):
            return self._computed(self.module, *inputs)

    def follow(self, other: "Beside", decay: float) -> None:
        """Let the parameters follow those of the `other` one, as `stpp.engine.networks.follow` says."""
        follow(self.module, other.module, decay)

    @property
    def learns(self) -> bool:
        """Whether it has parameters to be trained."""
        return any(parameter.requires_grad for parameter in self.module.parameters())

    def child(self, number: int) -> Callable[[Tensor], Tensor]:
        """A part of a companion that is a list of modules, in float32; gradients reach its input alone."""
        module = list(self.module.children())[number]

        def call(inputs: Tensor) -> Tensor:
            with without_gradients(module), casting(inputs.device, "fp32"):
                outputs: Tensor = module(inputs)
            return outputs

        return call

    def _computed(self, call: Callable[..., Any], *inputs: Any) -> Any:
        with casting(next(self.module.parameters()).device, self._precision):
            outputs = call(*inputs)
        return outputs.float() if isinstance(outputs, Tensor) else tuple(each.float() for each in outputs)


@contextmanager
def without_gradients(module: nn.Module) -> Iterator[None]:
    """What `module` computes meanwhile gives no gradients to its parameters."""
    module.requires_grad_(False)
    yield
    module.requires_grad_(True)


def companions_of(
    named: Mapping[str, Companion | Average],
    nets: Mapping[str, Net],
    settings: Mapping[str, Any],
    team: Team,
    seed_of: Callable[[str], int],
) -> dict[str, Beside]:
    """The companions of a training, on the team's device, beside its `nets`.

    Their weights are drawn anew, each from a seed of its own, and no other random number depends on that. An average
    begins as a copy of what it follows, which has to be named before it.
    """
    found: dict[str, Beside] = {}
    classes, precision = len(settings["classes"]), settings["training"]["precision"]
    for name, kind in named.items():
        if isinstance(kind, Average):
            module = deepcopy(found[kind.of].module).requires_grad_(False)
            found[name] = Beside(module, module, precision, None)
            continue
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(f"init {name}"))
            module = kind.make(next(iter(nets.values())).module, classes).to(team.device)
        call = team.together(module) if any(True for _ in module.parameters()) else module  # a bank has none
        found[name] = Beside(module, call, precision, kind.rate)
    return found
