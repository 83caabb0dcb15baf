"""U2PL against values that were computed by hand; its contrastive term is in `tests/engine/test_memory.py`."""

from math import log
from typing import Any

import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, companions, moment

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


def test_the_contrastive_term_is_off_by_default() -> None:
    assert u2pl.METHOD.online is not None
    assert not u2pl.METHOD.online.companions(Settings())
    assert set(u2pl.METHOD.online.companions(Settings(contrastive=1.0))) == {"representation", "average", "memory"}


def test_with_it_reliable_pixels_learn_what_uncertain_ones_are_not() -> None:
    settings = Settings(contrastive=2.0, warmup_epochs=0, lowest_rank=1, memory=20)
    nets: dict[str, Any] = {"student": Constant(STUDENT), "teacher": Constant(TEACHER)}
    nets |= companions(u2pl.METHOD.online, settings)  # type: ignore[arg-type]
    seen = batch(mask=1, images=2, times=4)
    first = step(seen, nets, settings, moment())
    assert float(first["contrast"]) == 0, "nothing is remembered yet"
    memory = nets["memory"].module
    # Labeled pixels of class 1 are surely not of the others; uncertain ones rank class 1 second.
    assert bool((memory.counts > 0).all())
    nets["student"].logits.grad = None
    second = step(seen, nets, settings, moment(1))
    second["contrast"].backward()
    assert float(second["contrast"]) > 0
    assert all(each.grad is not None for each in nets["representation"].module.parameters())
    assert all(each.grad is None for each in nets["average"].module.parameters())


def test_the_head_of_the_teacher_follows_that_of_the_student() -> None:
    settings = Settings(contrastive=1.0, warmup_epochs=0)
    nets: dict[str, Any] = companions(u2pl.METHOD.online, settings)  # type: ignore[arg-type]
    before = [each.clone() for each in nets["average"].module.parameters()]
    with torch.no_grad():
        for each in nets["representation"].module.parameters():
            each += 1

    class Still:
        def follow(self, other: Any, decay: float) -> None:
            pass

    u2pl.after_step({"student": None, "teacher": Still(), **nets}, settings, moment(7))
    for was, now in zip(before, nets["average"].module.parameters()):
        assert torch.allclose(now, was + 1 / 8, atol=1e-5)
