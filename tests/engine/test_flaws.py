"""Maps of flaws, on four pixels that were computed by hand, and against naive computations."""

import numpy as np
import pytest
import torch
from toy import STUDENT, TEACHER

from stpp.engine.flaws import blurred, flaw_map, flaw_target, flaws, mutual_targets, stretched

OWN, OTHER = (torch.tensor(table).T.reshape(1, 3, 2, 2) for table in (TEACHER, STUDENT))
MASK = torch.tensor([[[0, 1], [1, 0]]], dtype=torch.uint8)


def test_a_flaw_is_what_the_true_class_lacks() -> None:
    assert flaws(OWN, MASK).flatten().tolist() == pytest.approx([0.2, 0.7, 0.2, 0.04], abs=1e-6)
    unknown = MASK.clone()
    unknown[0, 0, 1] = 255
    assert flaws(OWN, unknown).flatten().tolist() == pytest.approx([0.2, 0, 0.2, 0.04], abs=1e-6)


def test_each_network_learns_from_the_one_that_is_less_wrong() -> None:
    left, right = torch.tensor([[[0.1, 0.7], [0.9, 0.2]]]), torch.tensor([[[0.3, 0.65], [0.4, 0.2]]])
    target, lost = mutual_targets(OWN, OTHER, left, right, 0.6)
    back, lost_too = mutual_targets(OTHER, OWN, right, left, 0.6)

    def sources(found: torch.Tensor, own: torch.Tensor) -> list[bool]:
        return (found == own).all(dim=1).flatten().tolist()

    assert sources(target, OWN) == [True, True, False, True]
    assert sources(back, OTHER) == [False, True, True, True]
    assert lost.flatten().tolist() == lost_too.flatten().tolist() == [False, True, False, False]


def test_no_gradient_reaches_a_target() -> None:
    own, other = OWN.clone().requires_grad_(), OTHER.clone().requires_grad_()
    target, _ = mutual_targets(own, other, torch.zeros(1, 2, 2), torch.ones(1, 2, 2), 0.6)
    assert not target.requires_grad and not flaw_target(own, MASK).requires_grad


@pytest.mark.parametrize("size", [2, 5, 8])
def test_a_blur_is_a_mean_by_a_gaussian(size: int) -> None:
    torch.manual_seed(0)
    maps, odd = torch.rand(2, 12, 15), size + 1 - size % 2
    deviation, around = 0.3 * ((odd - 1) / 2 - 1) + 0.8, odd // 2
    reach = int(4 * deviation + 0.5)
    gaussian = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    one = np.pad(np.eye(odd)[around], reach, mode="symmetric")
    weights = np.convolve(one, gaussian / gaussian.sum(), mode="valid")
    weights = np.outer(weights, weights)
    found = blurred(maps, size)
    for number, each in enumerate(maps.numpy()):
        padded = np.pad(each, around, mode="reflect")
        for place in np.ndindex(each.shape):
            window = padded[place[0] : place[0] + odd, place[1] : place[1] + odd]
            assert float(found[number][place]) == pytest.approx((window * weights).sum(), rel=1e-5)
    assert torch.equal(blurred(maps, 0), maps)


def test_a_map_is_0_to_1_in_each_image() -> None:
    maps = torch.tensor([[[1.0, 3.0], [2.0, 1.0]], [[5.0, 5.0], [5.0, 5.0]]])
    assert stretched(maps).tolist() == [[[0, 1], [0.5, 0]], [[0, 0], [0, 0]]]


def test_where_no_flaw_exceeds_a_tenth_there_is_none() -> None:
    detected = torch.tensor([[[0.05, 0.1], [-3.0, 0.0]], [[0.05, 0.2], [-3.0, 0.0]]])
    assert flaw_map(detected).tolist() == [[[0, 0], [0, 0]], [[0.25, 1], [0, 0]]]


def test_the_target_grows_around_a_flaw() -> None:
    probabilities = torch.zeros(1, 2, 16, 16)
    probabilities[:, 0] = 1
    mask = torch.zeros(1, 16, 16, dtype=torch.uint8)
    mask[0, 8, 8] = 1
    target = flaw_target(probabilities, mask)[0]
    assert float(target.max()) == 1 == float(target[8, 8]) and float(target.min()) == 0
    assert torch.allclose(target, target.T) and float(target[8, 11]) > 0 == float(target[8, 15])
