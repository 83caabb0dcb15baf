"""PseudoSeg against values that were computed by hand."""

from math import exp, log, sqrt
from typing import Any

import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, companions, moment

from stpp.engine.labelers import sharpened
from stpp.methods.pseudoseg import METHOD, Settings, classes_of, fused, step


def test_two_predictions_are_joined_at_one_scale() -> None:
    decoder, maps = (torch.tensor([logit, 0.0]).view(1, 2, 1, 1) for logit in (3.0, 1.0))
    assert sqrt(10 / 4) == pytest.approx(1.581139, abs=1e-6)
    joined = fused(decoder, maps, moment().team)
    expected = (1 / (1 + exp(-1.897367)) + 1 / (1 + exp(-0.632456))) / 2
    assert float(joined[0, 0]) == pytest.approx(0.761320, abs=1e-6) == pytest.approx(expected, abs=1e-6)
    assert float(sharpened(joined, 0.5)[0, 0]) == pytest.approx(0.910508, abs=1e-6)


def test_classes_of_a_mask_are_those_that_it_has_but_for_the_first() -> None:
    masks = torch.tensor([[[0, 2], [255, 0]], [[1, 1], [2, 1]]], dtype=torch.uint8)
    assert classes_of(masks, 4).tolist() == [[False, True, False], [True, True, False]]


class Maps:
    """Refined maps that are the student's probabilities, and even odds for each class of an image."""

    def __init__(self) -> None:
        self.logits = torch.tensor(STUDENT).T.reshape(1, 3, 2, 2).log().requires_grad_()
        self.present: list[Any] = []

    def __call__(self, maps: Any, valid: Any, present: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        assert len(maps) == 2
        self.present.append(present)
        return self.logits.expand(len(valid), -1, -1, -1), torch.zeros(len(valid), 2)

    frozen = __call__


def losses(**changes: Any) -> tuple[dict[str, Any], Maps, Any]:
    nets: dict[str, Any] = {"student": Constant(TEACHER, STUDENT, STUDENT), "activation": Maps()}
    return step(batch(1, **changes), nets, Settings(), moment()), nets["activation"], nets["student"]


def test_the_strong_view_learns_the_joined_label() -> None:
    found, _, _ = losses()
    logits = [torch.tensor(table).log() for table in (TEACHER, STUDENT)]
    scale = torch.stack(logits).square().mean().sqrt()
    targets = sum((each / scale).softmax(dim=1) for each in logits) / 2
    targets = targets**2 / (targets**2).sum(dim=1, keepdim=True)  # type: ignore[operator]
    expected = -(targets * torch.tensor(STUDENT).log()).sum(dim=1).mean()
    assert float(found["consistency"]) == pytest.approx(float(expected), abs=1e-5)
    assert float(found["of_images"]) == pytest.approx(log(2), abs=1e-6)
    labeled = -sum(log(p[1]) for p in STUDENT) / 4
    assert float(found["refined"]) == pytest.approx(labeled, abs=1e-5)


def test_labeled_images_have_their_true_classes_and_others_those_that_are_told() -> None:
    _, maps, _ = losses()
    assert maps.present[0] is None and maps.present[1].tolist() == [[True, False]]


def test_no_gradient_reaches_the_labels() -> None:
    found, maps, student = losses()
    found["consistency"].backward()
    weak, strong, _ = student.tables
    assert maps.logits.grad is None and weak.grad is None and bool(strong.grad.any())


def test_padding_takes_no_part() -> None:
    nothing, _, _ = losses(valid=[[False, False], [False, False]])
    assert float(nothing["consistency"]) == 0


def test_the_attention_learns_from_labels_alone() -> None:
    nets: dict[str, Any] = {"student": Constant(TEACHER, STUDENT, STUDENT)}
    nets |= companions(METHOD.online, Settings())  # type: ignore[arg-type]
    found = step(batch(1, images=2, times=2), nets, Settings(), moment())
    found["consistency"].backward(retain_graph=True)
    module = nets["activation"].module
    assert all(each.grad is None for each in module.parameters())
    (found["refined"] + found["of_images"]).backward()
    assert all(each.grad is not None for each in module.parameters())
