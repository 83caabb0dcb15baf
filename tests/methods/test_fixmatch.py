"""FixMatch against values that were computed by hand."""

from math import log
from typing import Any

import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, moment

from stpp.methods.fixmatch import Settings, step


def loss(**changes: Any) -> float:
    settings = {name: changes.pop(name) for name in ("threshold", "weight") if name in changes}
    found = step(batch(images=2, **changes), {"student": Constant(TEACHER, STUDENT)}, Settings(**settings), moment())
    assert float(found["supervised"]) == 0, "no pixel is labeled"
    return float(found["consistency"])


def test_sure_pixels_count_and_the_mean_is_over_all_of_the_image() -> None:
    assert loss() == pytest.approx(log(2) / 4 / 2, abs=1e-6)
    assert loss(threshold=0.0) == pytest.approx(5 * log(2) / 4 / 2, abs=1e-6)
    assert loss(valid=[[False, True], [True, True]]) == pytest.approx(log(2) / 3 / 2, abs=1e-6)
    assert loss(valid=[[False, False], [False, False]]) == 0
    assert loss(weight=0.0) == 0


def test_no_gradient_reaches_the_labels_and_the_share_that_counts_is_noted() -> None:
    student, at = Constant(TEACHER, STUDENT), moment()
    losses = step(batch(images=2), {"student": student}, Settings(), at)
    torch.stack(list(losses.values())).sum().backward()
    weak, strong = student.tables
    assert strong.grad is not None and bool(strong.grad.any())
    assert weak.grad is None or not weak.grad.any()
    assert student.calls == [4, 2], "labeled and weak images go together"
    assert float(at.notes["counted"]) == 1 / 4
