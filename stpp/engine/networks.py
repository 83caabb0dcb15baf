"""The networks of a training by their names, and how one follows another."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stpp.engine.distributed import Team
from stpp.engine.initial import initial_network, take_weights
from stpp.engine.optimisation import casting, forward
from stpp.methods import Average, Trained
from stpp.models.network import Maps, SegmentationNetwork


class Net:
    """A network of a training: called with normalised images (N, bands, H, W), it gives logits float32 (N, C, H, W).

    In place of images it takes their maps, where those are stored.

    `module` has its weights. A call computes gradients, unless it is made under `torch.no_grad`.
    """

    def __init__(self, module: SegmentationNetwork, call: Callable[..., Any], precision: str) -> None:
        self.module = module
        self._call = call
        self._precision = precision

    def __call__(self, images: Tensor | Maps) -> Tensor:
        return forward(self._call, images, self._precision)

    @torch.no_grad()
    def evaluated(self, images: Tensor) -> Tensor:
        """The logits in evaluation: no dropout, the statistics of batch norm as they are, no gradients."""
        self.module.eval()
        logits = forward(self.module, images, self._precision)
        self.module.train()
        return logits

    def perturbed(self, images: Tensor, dropped: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The logits of `images`, and those from features of which channels are dropped.

        `dropped` has a factor for each image and channel, (N, channels), of each feature map.
        """
        logits = forward(lambda x: self._call(x, dropped), images, self._precision)
        return logits[: len(images)], logits[len(images) :]

    def dropped(self, images: Tensor, dropped: Sequence[Tensor]) -> Tensor:
        """The logits from features of which channels are dropped, as in `perturbed`, alone."""
        return forward(lambda x: self._call(x, dropped, False), images, self._precision)

    def with_features(self, images: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """The logits of `images`, the maps of the encoder and the features of the decoder, all float32."""
        with casting(images.device, self._precision):
            logits, maps, features = self._call(images, with_features=True)
        return logits.float(), [each.float() for each in maps], features.float()

    @torch.no_grad()
    def classified(self, features: Tensor) -> Tensor:
        """The logits of features of the decoder, float32 (N, C, h, w), without gradients."""
        with casting(features.device, self._precision):
            logits: Tensor = self.module.classifier.classify(features)
        return logits.float()

    def follow(self, other: "Net", decay: float, *, buffers: bool = False) -> None:
        """Become what `follow` makes of this network and the `other` one."""
        follow(self.module, other.module, decay, buffers=buffers)


@torch.no_grad()
def follow(module: nn.Module, other: nn.Module, decay: float, *, buffers: bool = False) -> None:
    """Let each parameter w of `module` become `decay` w + (1 - `decay`) w', w' that of the `other` one.

    With `buffers` so do the statistics of batch norms, and their counts are taken over; without, they stay those of
    the images that this module has seen.
    """
    own, others = list[Tensor](module.parameters()), list[Tensor](other.parameters())
    if buffers:
        pairs = list(zip(module.buffers(), other.buffers()))
        own += [mine for mine, _ in pairs if mine.is_floating_point()]
        others += [theirs for mine, theirs in pairs if mine.is_floating_point()]
        if counts := [pair for pair in pairs if not pair[0].is_floating_point()]:
            torch._foreach_copy_([mine for mine, _ in counts], [theirs for _, theirs in counts])
    torch._foreach_lerp_(own, others, 1 - decay)


def average_decay(iteration: int, most: float) -> float:
    """min(1 - 1 / (t + 1), `most`) at iteration t: at first, a network that follows is the plain mean of all states."""
    return min(1 - 1 / (iteration + 1), most)


def networks_of(
    named: Mapping[str, Trained | Average],
    settings: Mapping[str, Any],
    weights: str | None,
    start: Path | None,
    team: Team,
    seed_of: Callable[[str], int],
    *,
    compile: bool,
) -> dict[str, Net]:
    """The networks of a training, on the team's device; the first process says what each starts from.

    The head of each trained network is drawn anew, the backbones begin with the same `weights`, the path of a state
    dict, where there is one. With the checkpoint `start`, the first trained network begins with all of its weights,
    the others with those of its encoder. An average begins as a copy of what it follows.
    """
    nets: dict[str, Net] = {}
    precision = settings["training"]["precision"]
    for number, name in enumerate(name for name, kind in named.items() if isinstance(kind, Trained)):
        part = f"init{number}" if number else "init"
        torch.manual_seed(seed_of(part))
        module, loaded = initial_network(settings, weights)
        if start is not None:
            loaded = take_weights(module, start, head=number == 0)
        module.freeze(settings["training"]["tune"])
        if team.leads:
            print(loaded)
        module.to(device=team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        call: Callable[..., Any] = team.together(module)
        if compile:
            call = torch.compile(call, options={"fallback_random": True})  # the dropout of an uncompiled network
        nets[name] = Net(module, call, precision)
    for name, kind in named.items():
        if isinstance(kind, Average):
            module = deepcopy(nets[kind.of].module).requires_grad_(False)
            nets[name] = Net(module, module, precision)
    return {name: nets[name] for name in named}


def trained(nets: Mapping[str, Net]) -> Iterator[SegmentationNetwork]:
    """The networks among these that have parameters to be trained."""
    for net in nets.values():
        if any(parameter.requires_grad for parameter in net.module.parameters()):
            yield net.module
