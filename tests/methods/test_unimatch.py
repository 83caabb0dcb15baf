"""UniMatch against values that were computed by hand."""

from math import log

import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, draws, moment

from stpp.engine.batch import Batch
from stpp.engine.perturbation import dropped_channels
from stpp.methods.unimatch import Settings, step


def test_two_strong_views_count_as_much_as_the_features() -> None:
    student = Constant(TEACHER, STUDENT, STUDENT)
    losses = step(batch(images=2), {"student": student}, Settings(), moment())
    one = log(2) / 4
    assert float(losses["consistency"]) == pytest.approx((one / 4 + one / 4) / 2, abs=1e-6)
    assert float(losses["features"]) == pytest.approx(one / 2 / 2, abs=1e-6)
    # With a supervised loss of 1, the whole is .586643.
    assert 0.5 + float(losses["consistency"] + losses["features"]) == pytest.approx(0.586643, abs=1e-6)
    assert student.calls == [4, 4, 4], "labeled and weak images, their features, and both strong views"


def test_no_gradient_reaches_the_labels() -> None:
    student = Constant(TEACHER, STUDENT, STUDENT)
    torch.stack(list(step(batch(images=2), {"student": student}, Settings(), moment()).values())).sum().backward()
    clean, features, _ = student.tables
    assert features.grad is not None and bool(features.grad.any())
    assert clean.grad is None or not clean.grad.any()


def test_channels_are_dropped_image_by_image() -> None:
    class Wide(Constant):
        module = type("Module", (), {"backbone": type("Backbone", (), {"channels": (4, 5000)})})

    small: Batch = batch(images=2)
    low, last = dropped_channels(small, Wide(STUDENT), 0.5)  # type: ignore[arg-type]
    assert low.shape == (4, 4) and last.shape == (4, 5000)
    assert set(last.unique().tolist()) == {0, 2}
    assert last.mean(dim=1).tolist() == pytest.approx([1] * 4, abs=0.1)
    assert not torch.equal(last[2], last[3])
    expected = draws("unlabeled", 1, "channels 1").random(5000) >= 0.5
    assert (last[3] > 0).tolist() == expected.tolist()
