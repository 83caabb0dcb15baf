"""Directional context-aware consistency against values that were computed by hand."""

from math import exp, log
from typing import Any

import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, companions, moment

from stpp.engine.contrast import Places
from stpp.methods.dcc import METHOD, Settings, directed, step

SETTINGS = Settings(temperature=1.0)
LABELS = torch.tensor([0, 0, 0])
NEGATIVES = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0])


def directions() -> torch.Tensor:
    return torch.tensor([[1.0, 0.0]] * 3)


def contrast(own: list[float], other: list[float], labels: torch.Tensor = LABELS) -> torch.Tensor:
    one = Places(directions(), labels, torch.tensor(own))
    two = Places(directions(), LABELS, torch.tensor(other))
    found: torch.Tensor = directed(one, two, NEGATIVES, SETTINGS, moment().team)
    return found


def test_a_place_is_drawn_to_a_surer_one_alone() -> None:
    once = log(1 + exp(-1))
    assert float(contrast([0.5, 0.9, 0.5], [0.8, 0.8, 0.7])) == pytest.approx(once, abs=1e-6)
    assert once == pytest.approx(0.313262, abs=1e-6)
    assert float(contrast([0.5, 0.5, 0.5], [0.8, 0.8, 0.8])) == pytest.approx(once, abs=1e-6)
    assert float(contrast([0.9, 0.8, 0.5], [0.8, 0.8, 0.75])) == 0
    assert float(contrast([0.5, 0.9, 0.9], [0.8, 0.8, 0.8], torch.tensor([255, 0, 0]))) == 0


def test_the_surer_place_learns_nothing() -> None:
    own, other = directions().requires_grad_(), directions().requires_grad_()
    parts = Places(own, LABELS, torch.full((3,), 0.5)), Places(other, LABELS, torch.full((3,), 0.9))
    directed(*parts, NEGATIVES, SETTINGS, moment().team).backward()
    assert own.grad is not None and bool(own.grad.any()) and other.grad is None


def losses(iteration: int, settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    nets: dict[str, Any] = {"student": Constant(STUDENT, TEACHER)}
    nets |= companions(METHOD.online, settings)  # type: ignore[arg-type]
    return step(batch(0, images=2, times=16), nets, settings, moment(iteration)), nets


def test_no_unlabeled_image_is_seen_in_the_warm_up() -> None:
    found, nets = losses(7, Settings(warmup_epochs=2))
    assert float(found["contrast"]) == 0 and nets["student"].calls == [2]
    found, nets = losses(8, Settings(warmup_epochs=2))
    assert nets["student"].calls == [2, 2, 2]


def test_the_next_step_sees_the_places_of_the_last_one() -> None:
    _, nets = losses(40, Settings(negatives=3))
    bank = nets["bank"].module
    # Two crops of two images, of nine places each.
    assert bank.directions.shape == (12, 128) and set(bank.labels.tolist()) == {0}
    assert bank.directions.norm(dim=1).tolist() == pytest.approx([1] * 12, abs=1e-5)
