"""Guided collaborative training against values that were computed by hand."""

from math import exp
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import STUDENT, TEACHER, Constant, batch, companions, moment

from stpp.methods.gct import METHOD, Settings, step

SQUARED = (0.135 + 0.185 + 0.135 + 0.3174) / 3
"""The sum over the four pixels of the squared differences of the two networks, a mean over the classes."""


class Detector:
    """Finds these flaws in the predictions of the first and of the second network."""

    def __init__(self, *flaws: list[list[float]]) -> None:
        self.flaws = [torch.tensor(each) for each in flaws]

    def __call__(self, images: Tensor, maps: Tensor) -> Tensor:
        first = bool(torch.allclose(maps[0, :, 0, 0], torch.tensor(STUDENT[0])))
        return self.flaws[0 if first else 1].expand(len(images), 2, 2)

    frozen = __call__


def losses(detector: Detector, settings: Settings, iteration: int = 0, **changes: Any) -> dict[str, float]:
    nets = {"first": Constant(STUDENT), "second": Constant(TEACHER), "detector": detector}
    found = step(batch(0, **changes), nets, settings, moment(iteration))
    return {name: float(value.detach()) for name, value in found.items()}


WRONG, RIGHT = [[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 0.0]]


def test_each_network_learns_where_the_other_one_is_less_wrong() -> None:
    # Pixels a and d: the first learns from the second; b: the second from the first; c: a tie, each keeps its own.
    found = losses(Detector(WRONG, RIGHT), Settings(ramp_epochs=0))
    assert found["mutual"] == pytest.approx(100 * (0.135 + 0.3174 + 0.185) / 3 / 4, rel=1e-5)
    assert found["correction"] == 0


def test_where_both_are_wrong_each_is_to_be_found_without_flaw() -> None:
    found = losses(Detector(WRONG, WRONG), Settings())
    assert found["mutual"] == 0
    assert found["correction"] == pytest.approx((2 / 4) + (2 / 4), rel=1e-5)


def test_what_they_teach_each_other_counts_more_and_more() -> None:
    found = [losses(Detector(WRONG, RIGHT), Settings(ramp_epochs=2), at)["mutual"] for at in (0, 4, 8)]
    assert [each / found[-1] for each in found] == pytest.approx([exp(-5), exp(-1.25), 1], rel=1e-5)


def test_padding_teaches_nothing() -> None:
    found = losses(Detector(WRONG, RIGHT), Settings(ramp_epochs=0), valid=[[False, True], [True, True]])
    assert found["mutual"] == pytest.approx(100 * (0.135 + 2 * (0.3174 + 0.185)) / 3 / 7, rel=1e-5)


def test_networks_that_agree_teach_each_other_nothing() -> None:
    nets: dict[str, Any] = {name: Constant(STUDENT) for name in ("first", "second")}
    nets |= companions(METHOD.online, Settings())  # type: ignore[arg-type]
    assert float(step(batch(0), nets, Settings(ramp_epochs=0), moment())["mutual"]) == 0


def test_each_of_the_three_learns_from_its_own_losses_alone() -> None:
    first: Any = Constant(STUDENT)
    second: Any = Constant(TEACHER)
    nets = {"first": first, "second": second, **companions(METHOD.online, Settings())}  # type: ignore[arg-type]
    detector: Any = nets["detector"].module
    torch.nn.init.constant_(detector.score.bias, 0.5)  # else it finds no flaws at all
    found = step(batch(0, times=32), nets, Settings(ramp_epochs=0, flaw=0.0), moment())
    (found["mutual"] + found["correction"]).backward(retain_graph=True)
    assert all(bool(net.logits.grad.any()) for net in (first, second))
    assert all(each.grad is None for each in detector.parameters())
    first.logits.grad = second.logits.grad = None
    found["detector"].backward()
    assert first.logits.grad is None and second.logits.grad is None
    assert all(each.grad is not None for each in detector.parameters())
