"""Losses on the four pixels whose values were computed by hand, and against an own account of them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toy import STUDENT, TEACHER, moment

from stpp.engine.labelers import sharpened
from stpp.engine.losses import balanced_loss, cross_entropy, hard_cross_entropy, soft_cross_entropy, supervised_loss
from stpp.settings.training import Loss, Ohem, Training

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


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """Random logits, masks with ignored pixels and confidences: true labels in the first image, none in the second."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    masks = torch.randint(0, 3, (2, 5, 6), generator=generator, dtype=torch.uint8)  # class 3 is in no mask
    masks[:, 0] = 255
    confidence = torch.rand(2, 5, 6, generator=generator)
    confidence[0] = 1
    return logits.requires_grad_(), masks, confidence


WEIGHTS = [0.5, 3.0, 1.0, 7.0]


def by_hand(asked: Loss, weights: list[float] | None) -> float:
    """The loss of the scene, pixel by pixel."""
    logits, masks, confidence = (part.detach().numpy() for part in scene())
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    total = weight = 0.0
    both, sizes, known = np.zeros((3, 4))
    for n, y, x in zip(*np.nonzero(masks != 255)):
        own, label, sure = p[n, :, y, x], masks[n, y, x], confidence[n, y, x]
        target = np.where(np.arange(4) == label, sure, (1 - sure) / 3) if asked.soft else np.eye(4)[label]
        loss = -(target * np.log(own)).sum() * (1 - own[label]) ** asked.focal
        source = 1.0 if sure == 1 else asked.pseudo_labeled
        here = source * (weights[label] if weights else 1)
        total, weight = total + here * loss, weight + here
        both[label] += source * own[label]
        known[label] += source
        sizes += source * own
    dice = np.mean([1 - 2 * b / (s + k) for b, s, k in zip(both, sizes, known) if k])
    return float(total / weight + asked.dice * dice)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(
    "asked", [{}, {"pseudo_labeled": 0.25}, {"soft": True}, {"focal": 2.0}, {"dice": 0.5, "pseudo_labeled": 0.5}]
)
def test_the_balanced_loss_is_that_of_single_pixels(asked: dict[str, float], weights: list[float] | None) -> None:
    logits, masks, confidence = scene()
    loss = Loss(**asked)
    found = supervised_loss(Training(loss=loss).model_dump(), torch.tensor(weights) if weights else None)
    result = found(logits, masks, TEAM, confidence=confidence)
    assert float(result.detach()) == pytest.approx(by_hand(loss, weights), rel=1e-6)
    result.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert not logits.grad[:, :, 0].any(), "no gradient comes from an ignored pixel"


def test_a_balanced_loss_that_asks_for_nothing_is_cross_entropy_and_weights_agree_with_torch() -> None:
    logits, masks, _ = scene()
    torch.testing.assert_close(balanced_loss(logits, masks, TEAM), cross_entropy(logits, masks, TEAM))
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    expected = F.cross_entropy(logits, masks.long(), weights, ignore_index=255)
    torch.testing.assert_close(balanced_loss(logits, masks, TEAM, class_weights=weights), expected)


def test_hard_pixels_alone_count_in_a_balanced_loss() -> None:
    # The pixels b and c are hard: p = 0.3 of class 1, whose loss is 1.203973, and p = 0.8 with three to be kept.
    for kept, expected in ((1, [1]), (3, [0, 1, 2])):
        pixels = [(0.8, 0), (0.3, 1), (0.8, 1), (0.96, 0)]
        losses = [(-np.log(pixels[k][0]), WEIGHTS[pixels[k][1]]) for k in expected]
        found = balanced_loss(
            LOGITS, TRUTH, TEAM, class_weights=torch.tensor(WEIGHTS), ohem={"threshold": 0.7, "kept": kept}
        )
        assert float(found) == pytest.approx(sum(a * w for a, w in losses) / sum(w for _, w in losses), rel=1e-5)


@pytest.mark.parametrize("asked", [{"focal": 0.5}, {"dice": 1.0}, {"soft": True}, {"pseudo_labeled": 0.0}])
def test_sure_networks_and_empty_masks_have_finite_gradients(asked: dict[str, float]) -> None:
    loss = supervised_loss(Training(loss=Loss(**asked)).model_dump())
    for masks in (torch.zeros(1, 2, 2, dtype=torch.uint8), torch.full((1, 2, 2), 255, dtype=torch.uint8)):
        logits = torch.tensor([100.0, 0, 0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2).clone().requires_grad_()
        found = loss(logits, masks, TEAM, confidence=torch.full((1, 2, 2), 0.9))
        found.backward()
        assert found.isfinite() and logits.grad is not None and logits.grad.isfinite().all()
        if (masks == 255).all():
            assert float(found.detach()) == 0 and not logits.grad.any()


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
