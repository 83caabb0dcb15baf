"""Who is mixed with whom, and which pixels: the boxes of each paper, and the classes of ClassMix."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import batch

from stpp.data.streams import in_pairs
from stpp.engine.batch import together
from stpp.engine.distributed import Team
from stpp.engine.mixing import (
    Sampler,
    beta_box,
    boxes,
    fitting_box,
    half_box,
    half_of_classes,
    mixed,
    partners,
    patches,
    three_boxes,
    wide_box,
)
from stpp.models.network import Maps


@given(st.integers(1, 5))
def test_partners_are_pairs_and_nobody_is_its_own(pairs: int) -> None:
    own = torch.arange(2 * pairs)
    assert partners(own).tolist() == [number ^ 1 for number in range(2 * pairs)]
    assert torch.equal(partners(partners(own)), own)


@given(st.integers(1, 12), st.integers(1, 4))
def test_processes_hold_whole_pairs(pairs: int, size: int) -> None:
    keys = [(0, number) for number in range(2 * pairs)]
    shares = [in_pairs(Team(torch.device("cpu"), rank, size).share)(keys) for rank in range(size)]
    assert [key for share in shares for key in share] == keys
    assert all(share[0][1] % 2 == 0 and len(share) % 2 == 0 for share in shares if share)


def test_a_mask_moves_image_and_labels_alike() -> None:
    images, labels = torch.rand(4, 3, 5, 6), torch.randint(9, (4, 5, 6))
    mask = torch.rand(4, 5, 6) < 0.5
    new_images, new_labels = (mixed(mask, own, partners(own)) for own in (images, labels))
    for number, row, column in np.ndindex(4, 5, 6):
        source = number ^ 1 if mask[number, row, column] else number
        assert torch.equal(new_images[number, :, row, column], images[source, :, row, column])
        assert new_labels[number, row, column] == labels[source, row, column]


@pytest.mark.parametrize(
    ("sampler", "area"),
    [
        (fitting_box, 0.208),
        (half_box, 0.4996),
        (three_boxes, 0.251),
        (wide_box, 0.5),
        (beta_box(4, 4), 0.359),
        (beta_box(8, 2), 0.164),
    ],
)
def test_the_boxes_cover_as_much_as_in_the_authors_code(sampler: Sampler, area: float) -> None:
    rng = np.random.default_rng(0)
    found = np.mean([np.count_nonzero(sampler(rng, 161, 161)) for _ in range(20_000)]) / 161**2
    assert found == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("sampler", [fitting_box, half_box, wide_box, beta_box(4, 4)])
def test_a_box_is_a_rectangle_of_an_image_of_any_shape(sampler: Sampler) -> None:
    rng = np.random.default_rng(1)
    for height, width in [(33, 48), (2, 2), (1, 9)] * 20:
        mask = sampler(rng, height, width)
        rows, columns = mask.any(axis=1), mask.any(axis=0)
        assert mask.shape == (height, width)
        assert np.array_equal(mask, rows[:, None] & columns[None])
        for side in (rows, columns):
            assert np.count_nonzero(np.diff(np.r_[0, side.astype(int), 0])) <= 2, "in one piece"


def test_boxes_are_functions_of_the_image_and_the_part() -> None:
    first, again = (boxes(batch(images=4), whole, "box", 0.5) for _ in range(2))
    assert torch.equal(first, again)
    assert not boxes(batch(images=4), whole, "box", 0.0).any() and boxes(batch(images=4), whole, "box").all()


def whole(rng: np.random.Generator, height: int, width: int) -> "np.ndarray[tuple[int, int], np.dtype[np.bool_]]":
    return np.ones((height, width), dtype=bool)


def test_patches_of_labeled_images_come_where_a_network_is_unsure() -> None:
    assert patches(batch(images=2), whole, "patch", torch.zeros(2)).all()
    assert not patches(batch(images=2), whole, "patch", torch.ones(2)).any()


def chosen(labels: list[int], part: str = "classes") -> Callable[[], set[int]]:
    ids = torch.tensor(labels).view(1, 1, -1).expand(2, -1, -1)
    mask = half_of_classes(batch(images=2), ids, 6, part)
    assert all(mask[ids == label].unique().numel() <= 2 for label in labels)
    return lambda: {label for label in labels if mask[0, 0, labels.index(label)]}


@pytest.mark.parametrize(("labels", "count"), [([3], 0), ([0, 5], 1), ([0, 1, 2, 4, 5], 2), ([0, 1, 2, 3, 4, 5], 3)])
def test_half_of_the_classes_that_occur_are_chosen(labels: list[int], count: int) -> None:
    assert len(chosen([*labels, *labels])()) == count


def test_every_class_is_chosen_as_often_as_another() -> None:
    counts = np.zeros(6)
    for number in range(300):
        counts[list(chosen([1, 3, 4, 5], f"classes {number}")())] += 1
    assert counts[[0, 2]].sum() == 0 and counts.sum() == 600
    assert counts[[1, 3, 4, 5]] == pytest.approx(150, abs=40)


def test_stored_maps_are_joined_and_mixed_as_images_are() -> None:
    """Of one pixel a place, maps are images; of coarser ones, the nearest pixel decides."""
    torch.manual_seed(0)
    images, mask = torch.rand(4, 3, 6, 8), torch.rand(4, 6, 8) < 0.5
    fine, coarse = images, images[:, :, ::2, ::2]
    maps = Maps([fine, coarse], (6, 8))
    found = mixed(mask, maps, partners(maps))
    torch.testing.assert_close(found.maps[0], mixed(mask, images, partners(images)), rtol=0, atol=0)
    torch.testing.assert_close(found.maps[1], mixed(mask[:, ::2, ::2], coarse, partners(coarse)), rtol=0, atol=0)
    both = together(maps, found)
    assert len(both) == 8 and both.size == (6, 8)
    torch.testing.assert_close(both.maps[1], torch.cat([coarse, found.maps[1]]), rtol=0, atol=0)
    assert torch.equal(together(images, images), torch.cat([images, images]))
