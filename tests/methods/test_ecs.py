"""Our reading of error-correcting supervision against values that were computed by hand."""

from math import log
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import STUDENT, TEACHER, Constant, batch, companions, moment

from stpp.methods.ecs import METHOD, Settings, corrected, corrector_target, step

LOGITS = torch.tensor(TEACHER).T.reshape(1, 3, 2, 2).log()
SAID = [[0.1, 0.1, 0.1, 0.7], [0.1, 0.1, 0.6, 0.2], [0.0, 0.0, 0.0, 1.0], [0.25, 0.25, 0.1, 0.4]]
"""What the corrector says of the four pixels: right, class 2, right, right."""


class Corrector:
    """One that says that, whatever it sees."""

    def __call__(self, images: Tensor, maps: Tensor) -> Tensor:
        table = torch.tensor(SAID).T.reshape(1, 4, 2, 2).clamp(min=1e-9).log()
        return table.expand(len(images), -1, -1, -1)

    frozen = __call__


def test_the_corrector_is_to_say_what_is_right_and_what_the_others_should_be() -> None:
    masks = torch.tensor([[[0, 1], [1, 0]]], dtype=torch.uint8)
    assert corrector_target(LOGITS, masks).tolist() == [[[3, 1], [3, 3]]]
    masks[0, 1, 1] = 255
    assert corrector_target(LOGITS, masks).tolist() == [[[3, 1], [3, 255]]]


def test_labels_are_corrected_where_the_corrector_says_so() -> None:
    corrections = torch.tensor(SAID).T.reshape(1, 4, 2, 2).log()
    labels, certainty = corrected(LOGITS, corrections)
    assert labels.tolist() == [[[0, 2], [1, 0]]]
    assert certainty.flatten().tolist() == pytest.approx([0.7, 0.6, 1, 0.4])


def test_a_label_counts_as_much_as_the_corrector_is_certain() -> None:
    at = moment()
    found = step(batch(0), {"student": Constant(STUDENT), "corrector": Corrector()}, Settings(), at)
    # The student's labels 0, 1, 1, 0 become 0, 2, 1, 0.
    expected = (0.7 * log(2) + 0.6 * log(4) + log(2) + 0.4 * log(2)) / 2.7
    assert float(found["corrected"]) == pytest.approx(expected, abs=1e-6)
    assert float(at.notes["largest_class"]) == 0.5
    objections = -(log(0.7) + log(0.2) + 0 + log(0.4)) / 4
    assert float(found["objections"]) == pytest.approx(0.1 * objections, abs=1e-6)
    # Of the true label 0: right, 0, 0, right.
    own = -(log(0.7) + log(0.1) + log(1e-9) + log(0.4)) / 4
    assert float(found["corrector"]) == pytest.approx(own, rel=1e-5)


def test_padding_is_no_label() -> None:
    nets = {"student": Constant(STUDENT), "corrector": Corrector()}
    found = step(batch(0, valid=[[True, False], [False, False]]), nets, Settings(), moment())
    assert float(found["corrected"]) == pytest.approx(log(2), abs=1e-6)
    nothing = step(batch(0, valid=[[False, False], [False, False]]), nets, Settings(), moment())
    assert float(nothing["corrected"]) == 0


def test_each_network_learns_from_its_own_losses_alone() -> None:
    student: Any = Constant(STUDENT)
    nets = {"student": student, **companions(METHOD.online, Settings())}  # type: ignore[arg-type]
    found = step(batch(0, images=2), nets, Settings(), moment())
    corrector = nets["corrector"].module
    (found["corrected"] + found["objections"]).backward(retain_graph=True)
    assert bool(student.logits.grad.any()) and all(each.grad is None for each in corrector.parameters())
    student.logits.grad = None
    found["corrector"].backward()
    assert student.logits.grad is None and all(each.grad is not None for each in corrector.parameters())
