"""Contrasted features, against values that were computed by hand and naive loops."""

from math import exp, log
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy import batch, moment

from stpp.engine.contrast import Bank, Places, chosen, contrast, of_team, places, pooled
from stpp.engine.distributed import Team
from stpp.store.tensorfile import write_tensors


def one(anchor: list[float], negatives: list[list[float]], labels: list[int], temperature: float = 1.0) -> float:
    given = torch.tensor([anchor], dtype=torch.float32)
    others = (torch.tensor(negatives, dtype=torch.float32).reshape(-1, 2), torch.tensor(labels, dtype=torch.int64))
    return float(contrast(given, given, torch.tensor([0]), others, temperature)[0])


def test_a_place_is_told_from_those_of_other_labels() -> None:
    assert one([1, 0], [[0, 1]], [1]) == pytest.approx(0.313262, abs=1e-6)
    assert one([1, 0], [[0, 1], [1, 0]], [1, 0]) == pytest.approx(0.313262, abs=1e-6), "one of its own label"
    assert one([1, 0], [[0, 1], [-1, 0]], [1, 2]) == pytest.approx(0.407606, abs=1e-6)
    assert one([1, 0], [[1, 0]] * 50, [1] * 50) == pytest.approx(log(51), abs=1e-5)
    assert one([1, 0], [[0, 1], [0.6, 0.8]], [1, 255]) == pytest.approx(0.313262, abs=1e-6), "no label"
    assert one([1, 0], [], []) == 0
    assert one([1, 0], [[0, 1]], [1], temperature=0.1) == pytest.approx(log(1 + exp(-10)), rel=1e-2)


def test_many_anchors_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from stpp.engine import contrast as module

    torch.manual_seed(0)
    anchors = torch.nn.functional.normalize(torch.randn(23, 5), dim=1).requires_grad_()
    others = torch.randn(7, 5), torch.randint(0, 3, (7,))
    labels, found = torch.randint(0, 3, (23,)), []
    for chunk in (4, 100):
        monkeypatch.setattr(module, "CHUNK", chunk)
        losses = contrast(anchors, anchors, labels, others, 0.5)
        (gradient,) = torch.autograd.grad(losses.sum(), anchors)
        found.append((losses, gradient))
    assert torch.allclose(found[0][0], found[1][0]) and torch.allclose(found[0][1], found[1][1], atol=1e-6)
    for k in range(23):
        anchor = anchors[k].detach()
        p = float(anchor @ anchor) / 0.5
        n = [float(anchor @ each) / 0.5 for each, label in zip(*others) if label != labels[k]]
        expected = -log(exp(p) / (exp(p) + sum(map(exp, n))))
        assert float(found[0][0][k].detach()) == pytest.approx(expected, abs=1e-5)


def test_no_anchors_are_no_loss() -> None:
    nothing = torch.zeros(0, 4, requires_grad=True)
    found = contrast(nothing, nothing, torch.zeros(0), (torch.zeros(2, 4), torch.zeros(2)), 1.0).sum()
    found.backward()
    assert float(found) == 0 and nothing.grad is not None


def test_places_that_are_not_wholly_of_the_image_have_no_label() -> None:
    valid = torch.ones(1, 16, 24, dtype=torch.bool)
    valid[0, 15, 9] = False
    images = torch.zeros(1, 3, 16, 24)
    means = pooled(torch.arange(4.0).repeat_interleave(6).view(1, 1, 4, 6), images)
    assert means.flatten().tolist() == [0.5, 0.5, 0.5, 2.5, 2.5, 2.5]
    logits = torch.stack([means[:, 0], torch.ones(1, 2, 3)], dim=1)
    found = places(torch.nn.functional.normalize(torch.ones(1, 4, 2, 3), dim=1), logits, valid)
    assert found.labels.tolist() == [[[1, 1, 1], [0, 255, 0]]] and found.directions.shape == (1, 2, 3, 4)
    assert float(found.confidence[0, 0, 0]) == pytest.approx(1 / (1 + exp(-0.5)))


def test_places_are_drawn_for_each_image_without_gradients() -> None:
    directions = torch.rand(2, 3, 4, 5, requires_grad=True)
    found = Places(directions, torch.arange(24).view(2, 3, 4), torch.rand(2, 3, 4))
    drawn, labels = chosen(batch(images=2), found, "x", 5)
    assert drawn.shape == (10, 5) and not drawn.requires_grad
    assert len(set(labels.tolist())) == 10 and set(labels[:5].tolist()) <= set(range(12))
    assert torch.equal(drawn, directions.detach().flatten(0, 2)[labels])
    assert len(chosen(batch(images=2), found, "x", 100)[1]) == 24


def test_those_of_a_team_are_of_one_size() -> None:
    class Pair(Team):
        """The other process has one place more."""

        def largest(self, *values: int) -> list[int]:
            return [value + 1 for value in values]

        def gather(self, values: Tensor) -> Tensor:
            return torch.stack([values, values])

    directions, labels = of_team(torch.ones(2, 3), torch.tensor([1, 2]), Pair(torch.device("cpu"), 0, 2))
    assert directions.shape == (6, 3) and labels.tolist() == [1, 2, 255, 1, 2, 255]
    alone = of_team(torch.ones(2, 3), torch.tensor([1, 2]), moment().team)
    assert alone[0].shape == (2, 3) and alone[1].tolist() == [1, 2]


def test_a_bank_is_saved_with_its_directions(tmp_path: Path) -> None:
    bank, other = Bank(3), Bank(3)
    assert bank.beside(torch.ones(2, 3), torch.tensor([0, 1]))[0].shape == (2, 3)
    bank.keep(torch.full((4, 3), 2.0), torch.tensor([5, 6, 7, 8]))
    write_tensors({"bank": bank.state_dict()}, tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True)["bank"])
    directions, labels = other.beside(torch.ones(2, 3), torch.tensor([0, 1]))
    assert directions[:, 0].tolist() == [1, 1, 2, 2, 2, 2] and labels.tolist() == [0, 1, 5, 6, 7, 8]
