"""S4L against values that were computed by hand."""

from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import batch, moment

from stpp.engine.perturbation import quarter_turns, turned
from stpp.methods.s4l import Settings, step


class Pixelwise:
    """A network whose logits are the pixels: turned images have turned logits."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.calls.append(len(images))
        return images


def turns_of(logits: Tensor) -> Tensor:
    """All turns are as probable."""
    return torch.zeros(len(logits), 4)


def test_all_turns_are_told_and_turned_labels_are_learned() -> None:
    torch.manual_seed(0)
    seen = batch(images=2)
    pixels, masks = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8)
    masks[0, :3] = 255
    seen = replace(seen, images=pixels, masks=masks, views={"weak": torch.randn(2, 3, 8, 8)})
    nets: dict[str, Any] = {"student": Pixelwise(), "turns": turns_of}
    found = step(seen, nets, Settings(), moment())
    assert float(found["turns"]) == pytest.approx(0.1 * log(4), abs=1e-6)
    assert pytest.approx(0.138629, abs=1e-6) == 0.1 * log(4)
    assert float(found["turned"]) == pytest.approx(0.1 * float(found["supervised"]), rel=1e-5) != 0
    assert nets["student"].calls == [8], "labeled and unlabeled images and their turned copies share one batch"


def test_the_second_half_is_turned_as_the_head_is_told() -> None:
    seen = batch(images=2)
    told: list[Tensor] = []

    def turns_of(logits: Tensor) -> Tensor:
        # Sure of the right answer: 0 for the first half, and what was drawn for the others.
        right = torch.tensor([0, 0, 0, 0, *quarter_turns(seen)])
        told.append(right)
        return 50 * torch.nn.functional.one_hot(right, 4).float()

    found = step(seen, {"student": Pixelwise(), "turns": turns_of}, Settings(weight=1.0), moment())
    assert float(found["turns"]) == pytest.approx(0, abs=1e-6)
    assert set(told[0].tolist()) <= {0, 1, 2, 3}


def test_a_turn_is_clockwise_and_four_quarters_are_none() -> None:
    pixels = torch.rand(3, 2, 5, 5)
    once = turned(pixels, [1, 2, 3])
    for number, turn in enumerate([1, 2, 3]):
        assert np.array_equal(once[number], np.rot90(pixels[number].numpy(), -turn, axes=(1, 2)))
    assert torch.equal(turned(once, [3, 2, 1]), pixels)
    # A clockwise quarter is a transposition and a mirrored last axis.
    assert torch.equal(turned(pixels[:1], [1]), pixels[:1].transpose(2, 3).flip(3))


def test_turns_are_drawn_for_each_image() -> None:
    many = quarter_turns(batch(images=300))
    assert many == quarter_turns(batch(images=300)) and len(many) == 600
    assert np.bincount(many, minlength=4).tolist() == pytest.approx([0, 200, 200, 200], abs=40)
