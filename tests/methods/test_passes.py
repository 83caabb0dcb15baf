"""What the steps of methods say that they compute, against the images that pass through networks in one step."""

from collections import Counter
from dataclasses import replace
from typing import Any

import fabricate
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from toy import STUDENT, Constant, batch, companions, moment

from stpp.methods import TRAINED, Trained, methods
from stpp.models import build
from stpp.settings.training import Network

STEPS = {method.name: step for method in methods() if (step := method.online or method.own_step)}
LABELED, UNLABELED = 0.0, 1.0
"""The pixels of images of both kinds."""


class Counting(Constant):
    """A network that adds what it computes to `found`: forward passes of images with and without labels."""

    def __init__(self, found: Counter[float], trained: bool) -> None:
        super().__init__(STUDENT)
        self.found, self.trained = found, trained

    def note(self, images: Tensor, passes: float) -> None:
        for image in images:
            self.found[float(image.max())] += passes

    def __call__(self, images: Tensor) -> Tensor:
        self.note(images, TRAINED if self.trained and torch.is_grad_enabled() else 1)
        return super().__call__(images)

    def evaluated(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self(images)

    def perturbed(self, images: Tensor, dropped: list[Tensor]) -> tuple[Tensor, Tensor]:
        self.note(images, TRAINED / 2)
        logits = self(images)
        return logits, logits


@pytest.mark.parametrize("name", STEPS)
def test_a_step_computes_what_it_says(name: str) -> None:
    step = STEPS[name]
    found: Counter[float] = Counter()
    (chosen,) = (method for method in methods() if method.name == name)
    images = batch(mask=1, images=4, times=8)
    seen = {view: torch.full_like(pixels, UNLABELED) for view, pixels in images.views.items()}
    images = replace(images, views=seen, confidence=torch.ones(images.masks.shape))
    assert chosen.settings is not None
    nets: dict[str, Any] = dict(companions(step, chosen.settings()))
    nets |= {network: Counting(found, isinstance(kind, Trained)) for network, kind in step.networks.items()}
    step.step(images, nets, chosen.settings(), moment(iteration=32))  # after a warm-up
    assert found[LABELED] == 4 * step.labeled_passes
    assert found[UNLABELED] == 4 * step.unlabeled_passes
    assert bool(step.unlabeled_passes) == bool(step.views(chosen.settings()))


def test_perturbed_features_are_computed_once_and_decoded_twice() -> None:
    network = build(Network(**fabricate.TINY["network"]).model_dump(), 3)
    seen: list[int] = []
    network.backbone.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    network.classifier.register_forward_pre_hook(lambda module, given: seen.append(len(given[0][-1])))
    factors = [torch.ones(2, channels) for channels in network.backbone.channels]
    network(torch.zeros(2, 3, 24, 24), factors)
    assert seen == [2, 4]


@pytest.mark.manual
@pytest.mark.parametrize("architecture", ["deeplabv3plus", "pspnet"])
def test_the_decoder_of_the_papers_networks_is_about_half_of_a_pass(architecture: str) -> None:
    def operations(module: torch.nn.Module) -> int:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, 3, 33, 33))
        return int(counter.get_total_flops())

    spec = Network.model_validate({"architecture": architecture, "backbone": "resnet50"})
    network = build(spec.model_dump(), 21).eval()
    assert 0.4 < 1 - operations(network.backbone) / operations(network) < 0.5
