"""Cross pseudo supervision against values that were computed by hand."""

from math import log

import pytest
from toy import STUDENT, TEACHER, Constant, batch, moment

from stpp.methods.cps import Settings, step

# The first network's loss on the second one's labels 0, 0, 1, 0, and the second one's on the labels 0, 1, 1, 0.
FIRST, SECOND = 5 * log(2) / 4, -(log(0.8) + log(0.3) + log(0.8) + log(0.96)) / 4


def test_each_network_learns_the_labels_of_the_other() -> None:
    nets = {"first": Constant(STUDENT), "second": Constant(TEACHER)}
    found = step(batch(), nets, Settings(), moment())
    assert pytest.approx((0.866434, 0.422771), abs=1e-6) == (FIRST, SECOND)
    assert float(found["cross"]) == pytest.approx(1.5 * (FIRST + SECOND), abs=1e-5)
    assert float(found["cross"]) == pytest.approx(1.933807, abs=1e-5)
    assert float(found["supervised"]) == 0, "no pixel is labeled"
    assert nets["first"].calls == nets["second"].calls == [1, 1], "labeled and unlabeled images go apart"


def test_each_network_learns_through_its_own_logits() -> None:
    nets = {"first": Constant(STUDENT), "second": Constant(TEACHER)}
    found = step(batch(mask=0), nets, Settings(weight=0.0), moment())
    labeled = [-sum(log(p[0]) for p in probabilities) / 4 for probabilities in (STUDENT, TEACHER)]
    assert float(found["supervised"]) == pytest.approx(sum(labeled), abs=1e-5)
    assert float(found["cross"]) == 0
    sum(step(batch(), nets, Settings(), moment()).values()).backward()  # type: ignore[union-attr]
    assert all(net.logits.grad is not None and bool(net.logits.grad.any()) for net in nets.values())


def test_networks_that_agree_still_grow_surer() -> None:
    nets = {"first": Constant(TEACHER), "second": Constant(TEACHER)}
    mean = -(log(0.8) + log(0.6) + log(0.8) + log(0.96)) / 4
    assert float(step(batch(), nets, Settings(weight=1.0), moment())["cross"]) == pytest.approx(2 * mean, abs=1e-5)
