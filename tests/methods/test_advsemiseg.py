"""AdvSemiSeg against values that were computed by hand."""

from math import exp, log, log1p
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import STUDENT, Constant, batch, companions, moment

from stpp.methods.advsemiseg import METHOD, Settings, step


class Judge:
    """A discriminator that gives every pixel one logit; `seen` are the maps of each call."""

    def __init__(self, logit: float) -> None:
        self.logit, self.seen = logit, list[Tensor]()

    def __call__(self, maps: Tensor) -> Tensor:
        self.seen.append(maps)
        return torch.full_like(maps[:, :1], self.logit)

    frozen = __call__


def losses(logit: float, settings: Settings, mask: int = 0, **changes: Any) -> tuple[dict[str, float], Judge, Any]:
    judge, at = Judge(logit), moment(changes.pop("iteration", 20))
    found = step(batch(mask, **changes), {"student": Constant(STUDENT), "discriminator": judge}, settings, at)
    return {name: float(value) for name, value in found.items()}, judge, at


def test_a_discriminator_that_knows_nothing_costs_ln_2_everywhere() -> None:
    found, _, at = losses(0.0, Settings(self_training=0.1))
    assert found["adversarial"] == pytest.approx(0.01 * log(2), abs=1e-7)
    assert found["unlabeled"] == pytest.approx(0.001 * log(2), abs=1e-7)
    assert found["self_training"] == pytest.approx(0.1 * log(2), abs=1e-6), "half is more than 0.2: all labels count"
    assert found["discriminator"] == pytest.approx(log(2), abs=1e-6)
    assert float(at.notes["counted"]) == 1


def test_where_nothing_is_taken_for_true_the_adversarial_loss_remains() -> None:
    found, _, at = losses(-5.0, Settings(self_training=0.1))
    assert found["self_training"] == 0 == float(at.notes["counted"])
    assert found["unlabeled"] == pytest.approx(0.001 * 5.006715, abs=1e-8)
    told = (log1p(exp(-5)) + 5 + log1p(exp(-5))) / 2
    assert found["discriminator"] == pytest.approx(told, abs=1e-6)


def test_self_training_begins_later_and_is_none_of_the_defaults() -> None:
    assert losses(0.0, Settings(self_training=0.1), iteration=9)[0]["self_training"] == 0
    assert losses(0.0, Settings(self_training=0.1), iteration=10)[0]["self_training"] > 0
    found, _, at = losses(0.0, Settings())
    assert "self_training" not in found and not at.notes


def test_labels_of_self_training_are_noted() -> None:
    _, _, at = losses(0.0, Settings(self_training=0.1))
    assert float(at.notes["largest_class"]) == 0.5, "two of the four pixels are of class 0, two of class 1"
    assert float(at.notes["largest_true"]) == 1


def test_the_discriminator_sees_probabilities_and_labels_as_0_and_1() -> None:
    _, judge, _ = losses(0.0, Settings(), mask=2)
    guessed, both = judge.seen
    assert torch.allclose(guessed.sum(dim=1), torch.ones(2, 2, 2))
    assert torch.equal(both[:2], guessed) and not both.requires_grad
    assert both[2].flatten(1).tolist() == [[0] * 4, [0] * 4, [1] * 4]


def test_pixels_without_a_label_and_padding_count_nowhere() -> None:
    class Varied(Judge):
        def __call__(self, maps: Tensor) -> Tensor:
            return torch.tensor([[3.0, -2.0], [self.logit, 1.0]]).expand(len(maps), 1, 2, 2)

        frozen = __call__

    found = []
    for logit in (-30.0, 30.0):
        seen = batch(1, valid=[[True, True], [False, True]])
        seen.masks[:, 1, 0] = 255
        nets = {"student": Constant(STUDENT), "discriminator": Varied(logit)}
        found.append(step(seen, nets, Settings(self_training=1.0), moment(20)))
    assert found[0].keys() == found[1].keys()
    assert all(float(value) == pytest.approx(float(found[1][name]), rel=1e-6) for name, value in found[0].items())


def test_each_network_learns_from_its_own_losses_alone() -> None:
    student: Any = Constant(STUDENT)
    nets = {"student": student, **companions(METHOD.online, Settings())}  # type: ignore[arg-type]
    found = step(batch(0), nets, Settings(), moment())
    critic = nets["discriminator"].module
    (found["adversarial"] + found["unlabeled"]).backward(retain_graph=True)
    assert bool(student.logits.grad.any()) and all(each.grad is None for each in critic.parameters())
    student.logits.grad = None
    found["discriminator"].backward()
    assert student.logits.grad is None and all(bool(each.grad.any()) for each in critic.parameters())
