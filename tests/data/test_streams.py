"""The streams of an online training: how batches are put together, whatever process loads them."""

from collections import Counter
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stpp.data.dataset import EpochBatches
from stpp.data.streams import Repeated, Rounds, StreamBatches, joined, whole_training
from stpp.engine.distributed import Team

sizes = st.integers(1, 30)


def batches(labeled: int, unlabeled: int, half: int, epochs: int = 3) -> StreamBatches:
    leading = EpochBatches(unlabeled, half, epochs, 7, "student-unlabeled")
    return StreamBatches(leading, Repeated(labeled, half, 7, "student-labeled"))


@given(labeled=sizes, unlabeled=sizes, half=st.integers(1, 5))
def test_every_batch_has_its_part_of_both_streams(labeled: int, unlabeled: int, half: int) -> None:
    found = list(batches(labeled, unlabeled, half))
    assert len(found) == len(batches(labeled, unlabeled, half)) == 3 * (unlabeled // half)
    for batch in found:
        assert [stream for stream, _, _ in batch] == [0] * half + [1] * half
    seen = Counter(index for batch in found for stream, _, index in batch if stream == 0)
    if found:
        assert max(seen.values()) - min(seen[index] for index in range(labeled)) <= 1, "none comes twice before all"
    for epoch in range(3):
        once = [index for batch in found for stream, at, index in batch if stream == 1 and at == epoch]
        assert len(set(once)) == len(once) == unlabeled // half * half


@given(labeled=sizes, unlabeled=st.integers(5, 30), half=st.integers(1, 5), start=st.integers(0, 20))
def test_a_training_that_goes_on_has_the_batches_that_are_left(
    labeled: int, unlabeled: int, half: int, start: int
) -> None:
    whole = batches(labeled, unlabeled, half)
    assert list(whole.from_batch(start)) == list(islice(whole, start, None))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_shares_of_a_team_are_the_batch(size: int) -> None:
    whole = batches(5, 9, 3)
    parts = [list(whole.shared(Team(torch.device("cpu"), rank, size).share)) for rank in range(size)]
    for batch, *shares in zip(whole, *parts):
        assert sorted(key for share in shares for key in share) == sorted(batch)
        assert {stream for share in shares for stream, _, _ in share} == {0, 1}


def test_samples_are_stacked_by_stream() -> None:
    one, two = torch.zeros(2, 2), torch.ones(2, 2)
    labeled, unlabeled = joined([(0, (one, two)), (1, (two,)), (0, (two, one))])
    assert [tensor.shape for tensor in labeled] == [(2, 2, 2), (2, 2, 2)]
    assert torch.equal(labeled[0], torch.stack([one, two])) and torch.equal(unlabeled[0], two[None])


@given(size=sizes, batch=st.integers(1, 7), iterations=st.integers(1, 90), start=st.integers(0, 30))
def test_iterations_run_through_a_stream_pass_after_pass(size: int, batch: int, iterations: int, start: int) -> None:
    training = {"iterations": iterations, "epochs": 20}
    rounds = whole_training(size, batch, training, 7, "student")
    assert isinstance(rounds, Rounds) and (rounds.epochs, rounds.batch_size) == (20, batch)
    assert iterations <= len(rounds) == 20 * rounds.batches_per_epoch < iterations + 20
    found = list(rounds)
    assert [len(keys) for keys in found] == [batch] * len(rounds)
    keys = [key for keys in found for key in keys]
    assert len(set(keys)) == len(keys), "no sample is augmented twice alike"
    for at in range(len(keys) // size):
        assert sorted(keys[at * size : (at + 1) * size]) == [(at, index) for index in range(size)]
    assert list(rounds.from_batch(start)) == found[start:] and list(rounds) == found


def test_without_iterations_the_length_is_in_epochs() -> None:
    batches = whole_training(9, 2, {"iterations": None, "epochs": 3}, 7, "student")
    assert isinstance(batches, EpochBatches) and len(batches) == 3 * 4
