"""What is done to features, against values that were computed by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import batch

from stpp.engine.perturbation import (
    adversarial,
    at_features,
    uniform,
    unit,
    with_noise,
    without_boxes,
    without_channels,
    without_most_active,
)


def test_numbers_are_drawn_for_each_image_and_each_part() -> None:
    seen = batch(images=3)
    found = uniform(seen, "a", (50, 40), -1, 3)
    assert found.shape == (3, 50, 40) and torch.equal(found, uniform(seen, "a", (50, 40), -1, 3))
    assert not torch.equal(found, uniform(seen, "b", (50, 40), -1, 3)) and not torch.equal(found[0], found[1])
    assert float(found.min()) >= -1 and float(found.max()) < 3 and float(found.mean()) == pytest.approx(1, abs=0.1)


def test_half_of_the_channels_are_dropped() -> None:
    features = torch.rand(2, 2000, 3, 3) + 0.1
    factors = without_channels(batch(images=2), features, "x") / features
    assert torch.equal(factors.amin(dim=(2, 3)), factors.amax(dim=(2, 3)))
    assert set(factors.unique().tolist()) == {0, 2} and float(factors.mean()) == pytest.approx(1, abs=0.05)


def test_noise_multiplies_each_value() -> None:
    factors = with_noise(batch(images=2), torch.full((2, 8, 9, 9), 2.0), "x") / 2
    assert 0.7 <= float(factors.min()) < 0.72 and 1.28 < float(factors.max()) <= 1.3


def test_the_most_active_places_are_dropped() -> None:
    features = torch.tensor([1.0, 2.0, 10.0]).expand(1, 4, 1, 3) + torch.tensor([-0.5, 0.5, 0, 0]).view(1, 4, 1, 1)
    found = without_most_active(batch(), features, "x")
    assert torch.equal(found[..., :2], features[..., :2]) and not found[..., 2].any()


def test_a_box_in_each_object_is_dropped() -> None:
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[0, 10:40, 20:60] = True
    mask[0, 50:55, 2:7] = True  # a contour of 20 points
    kept = without_boxes(batch(), torch.ones(1, 1, 64, 64), mask, "x")[0, 0]
    rows, columns = np.nonzero(kept.numpy() == 0)
    assert len(rows) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1), "one box"
    assert rows.max() - rows.min() + 1 == pytest.approx(0.4 * 30, abs=1.01)
    assert columns.max() - columns.min() + 1 == pytest.approx(0.4 * 40, abs=1.01)
    assert rows.min() >= 10 and rows.max() < 40 and columns.min() >= 20 and columns.max() < 60


def test_a_hole_is_no_object() -> None:
    mask = torch.ones(1, 64, 64, dtype=torch.bool)
    mask[0, 10:50, 10:50] = False
    kept = without_boxes(batch(), torch.ones(1, 1, 64, 64), mask, "x")[0, 0]
    rows, columns = np.nonzero(kept.numpy() == 0)
    assert len(rows) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1), "one box"
    assert len(rows) == pytest.approx((0.4 * 64) ** 2, rel=0.1)


def test_masks_reach_the_places_of_features() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :4] = True
    assert at_features(mask, torch.zeros(1, 5, 2, 2)).tolist() == [[[[1, 1], [0, 0]]]]


def test_the_adversarial_step_is_the_one_that_changes_a_linear_decoder() -> None:
    """Of two classes, the direction is the difference of their weights."""
    torch.manual_seed(0)
    weights = torch.randn(2, 6)

    def decode(x: Tensor) -> Tensor:
        return torch.einsum("kc,nchw->nkhw", weights, x)

    features = torch.zeros(2, 6, 1, 1, requires_grad=True)
    moved = adversarial(batch(images=2), features, decode, "x", length=2.0)
    along = unit((weights[1] - weights[0])[None])[0]
    assert (moved.detach().flatten(1).norm(dim=1)).tolist() == pytest.approx([2, 2], rel=1e-5)
    assert (moved.detach().flatten(1) @ along).abs().tolist() == pytest.approx([2, 2], rel=1e-4)
    moved.sum().backward()
    assert features.grad is not None and torch.equal(features.grad, torch.ones_like(features))
