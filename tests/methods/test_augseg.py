"""AugSeg against values that were computed by hand."""

from math import log
from typing import Any

import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, moment

from stpp.methods import augseg
from stpp.methods.augseg import Settings, step


@pytest.mark.parametrize("valid", [None, [[False, True], [True, True]]])
def test_the_mean_is_over_all_pixels_also_padding(valid: Any) -> None:
    nets = {"student": Constant(STUDENT), "teacher": Constant(TEACHER)}
    found = step(batch(images=2, valid=valid), nets, Settings(), moment())
    assert float(found["consistency"]) == pytest.approx(log(2) / 4, abs=1e-6)
    torch.stack(list(found.values())).sum().backward()
    assert nets["teacher"].logits.grad is None
    assert nets["student"].calls == [4], "labeled and unlabeled images go together"


def test_the_teacher_is_the_student_in_the_first_epoch_and_then_follows_it() -> None:
    followed: list[tuple[float, bool]] = []

    class Following:
        def follow(self, other: Any, decay: float, *, buffers: bool) -> None:
            followed.append((decay, buffers))

    for iteration in (0, 3, 4, 5, 10_000):
        augseg.after_step({"student": None, "teacher": Following()}, Settings(), moment(iteration))
    assert followed == [(0, True), (0, True), (pytest.approx(4 / 5), True), (pytest.approx(5 / 6), True), (0.999, True)]


def test_a_patch_of_a_labeled_image_brings_its_true_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    from stpp.engine import mixing

    # All of each image comes from a labeled image, by way of its partner.
    everywhere = torch.ones(2, 2, 2, dtype=torch.bool)
    monkeypatch.setattr(mixing, "patches", lambda *given: everywhere)
    monkeypatch.setattr(mixing, "boxes", lambda *given: everywhere)
    nets = {"student": Constant(STUDENT), "teacher": Constant(TEACHER)}
    at = moment()
    found = step(batch(mask=2, images=2), nets, Settings(), at)
    assert float(found["consistency"]) == pytest.approx(-log(0.25), abs=1e-6)
    assert float(at.notes["counted"]) == 1
