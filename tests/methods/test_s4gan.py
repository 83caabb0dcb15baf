"""S4GAN against values that were computed by hand."""

from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import STUDENT, Constant, batch, companions, moment

from stpp.engine.distributed import Team
from stpp.methods.s4gan import METHOD, Settings, mean_of, step


class Judge:
    """Says how probably true the images are that predictions or masks come with, and has features of both."""

    def __init__(self, *probabilities: float) -> None:
        self.logits = torch.tensor(probabilities).logit()
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append((images, maps))
        real = bool(((maps == 0) | (maps == 1)).all())
        spread = torch.tensor([[0.5, -1.0], [-0.5, 1.0]]) * 2
        return self.logits, torch.tensor([1.0, 3.0] if real else [2.0, 1.0]) + spread

    frozen = __call__


def test_only_images_that_are_taken_for_true_are_learned_from() -> None:
    nets, at = {"student": Constant(STUDENT), "discriminator": Judge(0.7, 0.5)}, moment(1)
    found = step(batch(0, images=2), nets, Settings(), at)
    assert float(found["self_training"]) == pytest.approx(log(2), abs=1e-6)
    assert float(at.notes["counted"]) == 0.5
    assert float(found["matching"]) == pytest.approx(0.15, abs=1e-6)


def test_a_discriminator_that_knows_nothing_costs_ln_2() -> None:
    found = step(
        batch(0, images=2), {"student": Constant(STUDENT), "discriminator": Judge(0.5, 0.5)}, Settings(), moment()
    )
    assert float(found["discriminator"]) == pytest.approx(log(2), abs=1e-6)


def test_in_the_first_iteration_nothing_is_learned_from_predictions() -> None:
    nets = {"student": Constant(STUDENT), "discriminator": Judge(0.9, 0.9)}
    assert float(step(batch(0, images=2), nets, Settings(), moment(0))["self_training"]) == 0
    assert float(step(batch(0, images=2), nets, Settings(), moment(1))["self_training"]) > 0


def test_images_of_both_kinds_are_scaled_alike_and_unknown_pixels_are_no_class() -> None:
    judge = Judge(0.5)
    seen = batch(1)
    seen.masks[0, 0, 0] = 255
    seen = replace(seen, images=torch.full((1, 3, 2, 2), 2.0), views={"weak": torch.full((1, 3, 2, 2), -2.0)})
    seen.images[0, 0, 0, 0] = 6.0
    step(seen, {"student": Constant(STUDENT), "discriminator": judge}, Settings(), moment())
    images = {float(given[0, 1, 1, 1]) for given, _ in judge.seen}
    assert images == {0.0, 0.5}
    masks = [maps for given, maps in judge.seen if float(given[0, 1, 1, 1]) == 0.5]
    assert all(mask[0, :, 0, 0].tolist() == [0, 0, 0] and mask[0, :, 1, 1].tolist() == [0, 1, 0] for mask in masks)


def test_padding_of_an_image_that_is_taken_for_true_is_no_label() -> None:
    nets = {"student": Constant(STUDENT), "discriminator": Judge(0.9)}
    found = step(batch(0, valid=[[True, False], [True, True]]), nets, Settings(), moment(1))
    assert float(found["self_training"]) == pytest.approx(log(2), abs=1e-6)


def test_each_network_learns_from_its_own_losses_alone() -> None:
    student: Any = Constant(STUDENT)
    nets = {"student": student, **companions(METHOD.online, Settings(dropout=0.0))}  # type: ignore[arg-type]
    found = step(batch(0, images=2), nets, Settings(threshold=0.0), moment(1))
    critic = nets["discriminator"].module
    (found["matching"] + found["self_training"]).backward(retain_graph=True)
    assert bool(student.logits.grad.any()) and all(each.grad is None for each in critic.parameters())
    student.logits.grad = None
    found["discriminator"].backward()
    assert student.logits.grad is None and all(bool(each.grad.any()) for each in critic.parameters())


def test_mean_features_are_those_of_the_whole_team() -> None:
    class Pair(Team):
        """The other process has one image, of features 5 and 9."""

        def sum(self, values: Tensor) -> Tensor:
            return values + (torch.tensor([5.0, 9.0]) if values.ndim else 1)

    features = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    assert mean_of(features, Pair(torch.device("cpu"), 0, 2)).tolist() == [2.0, 4.0]
