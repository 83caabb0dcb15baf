"""A mean teacher with CutMix and hard labels, against values that were computed by hand."""

from math import log
from typing import Any

import pytest
from toy import STUDENT, TEACHER, Constant, batch, moment

from stpp.methods.consistency import Settings, step


def losses(**changes: Any) -> tuple[dict[str, Any], dict[str, Constant], dict[str, Any]]:
    given = {key: changes.pop(key) for key in ("valid", "mask") if key in changes}
    nets, at = {"student": Constant(STUDENT), "teacher": Constant(TEACHER)}, moment()
    return step(batch(images=2, **given), nets, Settings(**changes), at), nets, at.notes


def test_all_labels_count_without_a_threshold() -> None:
    found, nets, notes = losses()
    assert float(found["consistency"].detach()) == pytest.approx(5 / 4 * log(2), abs=1e-6)
    assert float(notes["counted"]) == 1
    assert nets["student"].calls == [2, 2] and nets["teacher"].calls == [2], "labeled and unlabeled images go apart"


def test_labels_below_the_threshold_stay_in_the_mean() -> None:
    found, _, notes = losses(threshold=0.95)
    assert float(found["consistency"].detach()) == pytest.approx(log(2) / 4, abs=1e-6)
    assert float(notes["counted"]) == pytest.approx(1 / 4)


def test_padding_does_not() -> None:
    found, _, _ = losses(valid=[[True, False], [True, True]])
    assert float(found["consistency"].detach()) == pytest.approx(log(2), abs=1e-6)
    nothing, _, _ = losses(valid=[[False, False], [False, False]])
    assert float(nothing["consistency"].detach()) == 0


def test_only_the_student_learns_from_it() -> None:
    found, nets, _ = losses(mask=1)
    (found["supervised"] + found["consistency"]).backward()
    assert nets["student"].logits.grad is not None and nets["teacher"].logits.grad is None
