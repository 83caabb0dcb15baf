"""CutMix-Seg against values that were computed by hand."""

from typing import Any

import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, moment

from stpp.engine.networks import Net
from stpp.methods.cutmix_seg import Settings, after_step, step


def loss(threshold: float, **changes: Any) -> float:
    nets = {"student": Constant(STUDENT), "teacher": Constant(TEACHER)}
    found = step(batch(images=2, **changes), nets, Settings(threshold=threshold), moment())
    torch.stack(list(found.values())).sum().backward()
    assert nets["teacher"].logits.grad is None
    assert nets["student"].calls == [2, 2], "labeled and unlabeled images go apart"
    return float(found["consistency"])


def test_the_share_of_sure_pixels_weighs_the_squared_differences() -> None:
    assert loss(0.0) == pytest.approx(0.193100, abs=1e-6)
    assert loss(0.95) == pytest.approx(0.048275, abs=1e-6)
    assert loss(0.97) == 0


def test_padding_adds_nothing_and_counts_in_the_mean() -> None:
    assert loss(0.0, valid=[[False, True], [True, True]]) == pytest.approx(0.159350, abs=1e-6)
    assert loss(0.0, valid=[[False, False], [False, False]]) == 0


def test_the_teacher_follows_with_the_statistics_of_its_batch_norms() -> None:
    nets: dict[str, Any] = {}
    for name in ("student", "teacher"):
        norm: Any = torch.nn.BatchNorm2d(1)
        nets[name] = Net(norm, norm, "fp32")
    student, teacher = (nets[name].module for name in ("student", "teacher"))
    torch.nn.init.constant_(student.weight, 3.0)
    student.running_mean.fill_(8.0)
    student.num_batches_tracked.fill_(5)
    for _ in range(2):
        after_step(nets, Settings(momentum=0.75), moment())
    assert float(teacher.weight) == pytest.approx(3 - 2 * 0.75**2)
    assert float(teacher.running_mean) == pytest.approx(8 - 8 * 0.75**2)
    assert int(teacher.num_batches_tracked) == 5
