"""The first term of U2PL against values that were computed by hand."""

from math import log
from typing import Any

import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, moment

from stpp.methods import u2pl
from stpp.methods.u2pl import Settings, kept_percent, step


def test_the_most_uncertain_pixels_are_left_out_and_the_others_count_for_them() -> None:
    nets, at = {"student": Constant(STUDENT), "teacher": Constant(TEACHER)}, moment()
    found = step(batch(images=2), nets, Settings(warmup_epochs=0), at)
    assert float(found["consistency"]) == pytest.approx(4 * log(2) / 3, abs=1e-6)
    assert float(at.notes["counted"]) == pytest.approx(3 / 4)
    torch.stack(list(found.values())).sum().backward()
    assert nets["teacher"].logits.grad is None
    assert nets["teacher"].calls == [2, 4] and nets["student"].calls == [4]


def test_no_unlabeled_image_is_seen_in_the_warm_up() -> None:
    nets = {"student": Constant(STUDENT), "teacher": Constant(TEACHER)}
    at = moment(3)
    found = step(batch(mask=0, images=2), nets, Settings(warmup_epochs=1), at)
    assert {name: float(value) for name, value in at.notes.items()} == dict.fromkeys(
        ("counted", "largest_class", "largest_true"), 0
    )
    assert float(found["consistency"]) == 0 and float(found["supervised"]) > 0
    assert nets["teacher"].calls == nets["student"].calls == [2], "the teacher's batch norms see the labeled images"


def test_fewer_and_fewer_pixels_are_left_out() -> None:
    percents = [kept_percent(Settings(), moment(epoch * 4, total=320)) for epoch in (0, 40, 79)]
    assert percents == [80, 90, 99.75]


def test_the_teacher_has_the_students_parameters_until_an_epoch_after_the_warm_up() -> None:
    decays = []

    class Following:
        def follow(self, other: Any, decay: float) -> None:
            decays.append(decay)

    for iteration in (0, 4, 7, 8, 10_000):
        u2pl.after_step({"student": None, "teacher": Following()}, Settings(), moment(iteration))
    assert decays == [0, 0, 0, pytest.approx(4 / 5), 0.99]
