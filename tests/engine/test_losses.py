"""Losses on the four pixels whose values were computed by hand, and against an own account of them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toy import STUDENT, TEACHER, moment

from stpp.engine.labelers import sharpened
from stpp.engine.losses import cross_entropy, hard_cross_entropy, soft_cross_entropy, supervised_loss
from stpp.settings.training import Ohem, Training

LOGITS = torch.tensor(TEACHER).T.reshape(1, 3, 2, 2).log()
TRUTH = torch.tensor([[[0, 1], [1, 0]]], dtype=torch.uint8)
TEAM = moment().team


def hard(kept: int, truth: Tensor = TRUTH, threshold: float = 0.7) -> float:
    return float(hard_cross_entropy(LOGITS, truth, TEAM, threshold=threshold, kept=kept))


def test_hard_pixels_alone_count_but_never_fewer_than_asked_for() -> None:
    found = [hard(kept) for kept in (1, 2, 3, 5)]
    assert found == pytest.approx([1.203973, 0.550087, 0.550087, 0.422771], abs=1e-6)
    ignored = torch.tensor([[[255, 1], [1, 0]]], dtype=torch.uint8)
    found = [hard(kept, ignored) for kept in (1, 2, 3, 4)]
    assert found == pytest.approx([1.203973, 0.713558, 0.489313, 0.489313], abs=1e-6)
    assert hard(1, torch.full_like(TRUTH, 255)) == 0


@pytest.mark.parametrize("kept", [1, 40, 100, 150])
def test_hard_pixels_are_those_of_a_sorted_list(kept: int) -> None:
    generator = torch.Generator().manual_seed(kept)
    logits = torch.randn(2, 4, 9, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    truth = torch.randint(0, 4, (2, 9, 8), generator=generator, dtype=torch.uint8)
    truth[0, :3] = 255
    p = logits.detach().softmax(dim=1).numpy().transpose(0, 2, 3, 1)
    labels = truth.numpy()
    true = np.sort([p[place][labels[place]] for place in np.ndindex(labels.shape) if labels[place] != 255])
    counted = true if 2 * kept > len(true) else true[true <= max(0.3, true[2 * kept - 1])]
    loss = hard_cross_entropy(logits, truth, TEAM, threshold=0.3, kept=kept)
    assert float(loss.detach()) == pytest.approx(-np.log(counted).mean(), rel=1e-9)
    loss.backward()
    assert logits.grad is not None and int((logits.grad.abs().sum(dim=1) > 0).sum()) == len(counted)


def test_which_loss_labels_have_is_a_setting() -> None:
    assert supervised_loss(Training().model_dump()) is cross_entropy
    asked = supervised_loss(Training(ohem=Ohem(kept=1)).model_dump())
    assert float(asked(LOGITS, TRUTH, TEAM)) == pytest.approx(1.203973, abs=1e-6)


def test_soft_cross_entropy_has_the_gradient_of_the_divergence() -> None:
    student = torch.tensor(STUDENT).T.reshape(1, 3, 2, 2).log().requires_grad_()
    targets = torch.tensor(TEACHER).T.reshape(1, 3, 2, 2).requires_grad_()
    valid = torch.tensor([[[True, True], [True, False]]])
    loss = soft_cross_entropy(student, targets, valid, TEAM)
    expected = np.mean([-np.dot(t, np.log(s)) for t, s in list(zip(TEACHER, STUDENT))[:3]])
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert targets.grad is None
    other = student.detach().clone().requires_grad_()
    parts = F.kl_div(other.log_softmax(dim=1), targets.detach(), reduction="none").sum(dim=1) * valid
    (parts.sum() / 3).backward()
    torch.testing.assert_close(student.grad, other.grad)
    assert float(soft_cross_entropy(student, targets, valid & False, TEAM)) == 0


def test_sharpened_probabilities_are_powers_that_sum_to_one() -> None:
    p = torch.tensor(TEACHER).T.reshape(1, 3, 2, 2)
    squares = np.square(TEACHER)
    expected = squares / squares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(sharpened(p, 0.5).reshape(3, 4).T, expected, rtol=1e-6)
    torch.testing.assert_close(sharpened(p, 1.0), p)
    assert float(sharpened(p, 0.01).amax(dim=1).min()) == pytest.approx(1, abs=1e-6)
