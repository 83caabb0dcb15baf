"""The streams of a training: labeled, or labeled and pseudo-labeled images; and unlabeled images beside them.

A batch has so many samples of each stream. The last stream leads: an epoch is one pass over it. The one beside it
begins anew, in another order, whenever it is at its end.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from math import ceil
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler, default_collate

from stpp.data.augmentation import sample_rng
from stpp.data.dataset import EpochBatches, Key, TrainingSet

StreamKey = tuple[int, int, int]
"""The number of a stream, and epoch and index of a sample in it."""


class Streams(Dataset[tuple[int, tuple[Any, ...]]]):
    """Samples of several streams, addressed by `StreamKey`; the last tensor of each is its epoch and index."""

    def __init__(self, sets: Sequence[TrainingSet]) -> None:
        self.sets = sets

    def __getitem__(self, key: StreamKey) -> tuple[int, tuple[Any, ...]]:
        stream, epoch, index = key
        return stream, (*self.sets[stream][epoch, index], torch.tensor((epoch, index)))

    @property
    def images(self) -> int:
        """Samples in one pass over the leading stream."""
        return len(self.sets[-1])

    def id(self, key: StreamKey) -> str:
        """The id of a sample's image."""
        return self.sets[key[0]].samples[key[2]].row.id


def joined(items: Sequence[tuple[int, tuple[Any, ...]]]) -> list[Any]:
    """The tensors of a batch's samples, stacked, one list a stream: images, masks, and so on for each view."""
    streams: dict[int, list[tuple[Any, ...]]] = {}
    for stream, tensors in items:
        streams.setdefault(stream, []).append(tensors)
    return [default_collate(streams[stream]) for stream in sorted(streams)]


def in_pairs(share: Callable[[list[Any]], list[Any]]) -> Callable[[list[Key]], list[Key]]:
    """What cuts as `share` does, but never between the first and the second of a pair: 0 and 1, 2 and 3, and so on."""

    def shared(keys: list[Key]) -> list[Key]:
        return [key for pair in share(list(zip(keys[::2], keys[1::2]))) for key in pair]

    return shared


class Repeated:
    """Batches of `batch_size` of a stream, pass after pass over its `size` samples.

    The order of a pass is a function of (seed, role, pass). A batch may have the end of one and the beginning of the
    next.
    """

    def __init__(self, size: int, batch_size: int, seed: int, role: str) -> None:
        self.size, self.batch_size, self.seed, self.role = size, batch_size, seed, role

    def batch(self, number: int) -> list[Key]:
        """The keys, pass and index, of batch `number` (from 0)."""
        places = range(number * self.batch_size, (number + 1) * self.batch_size)
        orders = {
            at: sample_rng(self.seed, self.role, at, 0, "order").permutation(self.size)
            for at in dict.fromkeys(place // self.size for place in places)
        }
        return [(place // self.size, int(orders[place // self.size][place % self.size])) for place in places]


class Rounds(Sampler[list[Key]]):
    """The batches of a whole training of so many iterations, rounded up, pass after pass over a stream.

    `epochs` equal parts stand for its epochs. `start` batches are left out: a training that goes on has had them.
    """

    def __init__(self, stream: Repeated, iterations: int, epochs: int) -> None:
        self.stream, self.epochs = stream, epochs
        self.batches_per_epoch = -(-iterations // epochs)
        self.start = 0

    @property
    def batch_size(self) -> int:
        return self.stream.batch_size

    def __len__(self) -> int:
        return self.batches_per_epoch * self.epochs

    def __iter__(self) -> Iterator[list[Key]]:
        return (self.stream.batch(number) for number in range(self.start, len(self)))

    def from_batch(self, start: int) -> "Rounds":
        """The same batches from number `start` (from 0) on."""
        rest = copy(self)
        rest.start = start
        return rest


def whole_training(
    size: int, batch_size: int, training: Mapping[str, Any], seed: int, role: str
) -> EpochBatches | Rounds:
    """The batches of a stream of `size` samples, for as many epochs or iterations as a training's settings ask for."""
    if training["iterations"] is not None:
        return Rounds(Repeated(size, batch_size, seed, role), training["iterations"], training["epochs"])
    return EpochBatches(size, batch_size, training["epochs"], seed, role)


def lengthened(training: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The settings of a training that takes `factor` times as many epochs or iterations, rounded up."""
    name = "epochs" if training["iterations"] is None else "iterations"
    return {**training, name: ceil(factor * training[name])}


class StreamBatches(Sampler[list[StreamKey]]):
    """The batches of a whole training: of `leading` alone, or of `beside` and then of `leading`.

    `start` batches are left out: a training that goes on has had them. `share` cuts out of a stream's part of each
    batch what is wanted of it.
    """

    def __init__(self, leading: EpochBatches | Rounds, beside: Repeated | None = None) -> None:
        self.leading, self.beside = leading, beside
        self.start = 0
        self.share: Callable[[list[Key]], list[Key]] = list

    @property
    def batch_size(self) -> int:
        """Samples of all streams in a batch."""
        return self.leading.batch_size + (self.beside.batch_size if self.beside else 0)

    @property
    def batches_per_epoch(self) -> int:
        return self.leading.batches_per_epoch

    @property
    def epochs(self) -> int:
        return self.leading.epochs

    def __len__(self) -> int:
        return len(self.leading)

    def __iter__(self) -> Iterator[list[StreamKey]]:
        for number, keys in enumerate(self.leading.from_batch(self.start), self.start):
            parts = [keys] if self.beside is None else [self.beside.batch(number), keys]
            yield [(stream, *key) for stream, part in enumerate(parts) for key in self.share(part)]

    def from_batch(self, start: int) -> "StreamBatches":
        """The same batches from number `start` (from 0) on."""
        rest = copy(self)
        rest.start = start
        return rest

    def shared(self, share: Callable[[list[Key]], list[Key]]) -> "StreamBatches":
        """`share` of each stream's part of these batches."""
        parts = copy(self)
        parts.share = share
        return parts
