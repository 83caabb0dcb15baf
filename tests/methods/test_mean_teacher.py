"""Mean Teacher against values that were computed by hand."""

import math
from typing import Any

import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, moment

from stpp.engine.networks import Net, average_decay
from stpp.methods.mean_teacher import Settings, after_step, step

# Mean over four pixels and three classes of the squared differences: .135, .185, .135 and .3174.
SQUARED = (0.135 + 0.185 + 0.135 + 0.3174) / 12


def losses(settings: Settings, at: int = 0, **changes: Any) -> tuple[dict[str, Any], dict[str, Constant]]:
    nets = {"student": Constant(STUDENT), "teacher": Constant(TEACHER)}
    return step(batch(**changes), nets, settings, moment(at)), nets


def test_the_consistency_is_the_squared_difference_of_probabilities() -> None:
    found, nets = losses(Settings())
    assert float(found["consistency"]) == pytest.approx(100 * SQUARED, abs=1e-5)
    assert pytest.approx(6.436667, abs=1e-6) == 100 * SQUARED
    assert float(found["supervised"]) == 0, "no pixel is labeled"
    assert nets["student"].calls == [2] and nets["teacher"].calls == [1]


def test_only_the_student_learns_from_it() -> None:
    found, nets = losses(Settings(), mask=1)
    sum(found.values()).backward()
    assert nets["student"].logits.grad is not None and nets["teacher"].logits.grad is None


def test_padding_takes_no_part() -> None:
    found, _ = losses(Settings(weight=1.0), valid=[[True, False], [False, False]])
    assert float(found["consistency"]) == pytest.approx(0.135 / 3, abs=1e-6)
    nothing, _ = losses(Settings(), valid=[[False, False], [False, False]])
    assert float(nothing["consistency"]) == 0


def test_the_weight_grows_over_its_epochs() -> None:
    weights = [float(losses(Settings(ramp_epochs=2), at)[0]["consistency"]) / 100 / SQUARED for at in (0, 4, 8, 12)]
    assert weights == pytest.approx([math.exp(-5), math.exp(-1.25), 1, 1], rel=1e-5)


def test_the_consistency_may_be_a_cross_entropy_with_sharpened_targets() -> None:
    def expected(power: float) -> float:
        targets = [[p**power / sum(q**power for q in pixel) for p in pixel] for pixel in TEACHER]
        return sum(-t * math.log(s) for ts, ss in zip(targets, STUDENT) for t, s in zip(ts, ss)) / 4

    for temperature in (1.0, 0.5):
        settings = Settings(loss="cross_entropy", weight=1.0, temperature=temperature)
        assert float(losses(settings)[0]["consistency"]) == pytest.approx(expected(1 / temperature), abs=1e-6)


def test_the_teacher_is_first_the_mean_of_all_students_and_then_a_moving_average() -> None:
    assert [average_decay(t, 0.99) for t in range(4)] == pytest.approx([0, 1 / 2, 2 / 3, 3 / 4])
    assert average_decay(10_000, 0.99) == 0.99
    linear: Any = torch.nn.Linear(1, 1, bias=False)
    nets = {name: Net(torch.nn.Linear(1, 1, bias=False), linear, "fp32") for name in ("student", "teacher")}  # type: ignore[arg-type]
    states = [3.0, -1.0, 4.0, 2.5, 7.0]
    for t, state in enumerate(states):
        torch.nn.init.constant_(nets["student"].module.weight, state)  # type: ignore[arg-type]
        after_step(nets, Settings(momentum=0.75), moment(t))
        expected = sum(states[: t + 1]) / (t + 1) if t < 4 else 0.75 * sum(states[:4]) / 4 + 0.25 * states[4]
        assert float(nets["teacher"].module.weight) == pytest.approx(expected, rel=1e-6)  # type: ignore[arg-type]
