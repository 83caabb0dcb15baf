"""The images of one training: labeled and pseudo-labeled rows, over-sampled, shuffled and augmented."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from stpp.common.bands import RGB_PLACES, Bands
from stpp.common.labels import CERTAIN, IGNORE
from stpp.data.augmentation import Windows, augment, sample_rng
from stpp.data.cache import DecodedCache
from stpp.data.images import LargeImage
from stpp.data.manifest import Row
from stpp.data.reading import image_of, large_image_of, mask_of
from stpp.data.strong import Mask, hue_tables
from stpp.data.views import view_masks
from stpp.plan.counts import labeled_repeat
from stpp.store.maps import MapStore
from stpp.store.masks import MaskStore, first_labels

Key = tuple[int, int]
"""Epoch and index of a sample."""


@dataclass(frozen=True)
class Sample:
    """One entry of an epoch: an image, and where its mask comes from.

    Without stores that is its file. A pixel of a pseudo-label is what the first of the stores that does not ignore it
    says. The mask of a `bare` image is 0 everywhere: after its augmentation it says which pixels are the image's.
    """

    row: Row
    stores: tuple[MaskStore, ...] = ()
    bare: bool = False


def samples_of(
    role: str,
    labeled: Sequence[Row],
    unlabeled: Sequence[Row],
    stores: Sequence[Path],
    repeat: int | None,
    factors: Sequence[float] | None = None,
) -> list[Sample]:
    """The list of an epoch: each labeled image `repeat` times, then every pseudo-labeled image once.

    Default of `repeat`: `labeled_repeat`. Of several `factors`, each is that of an image, which occurs so many times as
    often, rounded half up. The pseudo-labeled images are those of `unlabeled` that occur in a store, in the order of
    `unlabeled`.
    """
    where: dict[str, tuple[MaskStore, ...]] = {}
    for store in [MaskStore(path) for path in stores]:
        where |= {id: (*where.get(id, ()), store) for id in store.ids}
    pseudo = [Sample(row, where[row.id]) for row in unlabeled if row.id in where]
    if repeat is None:
        repeat = labeled_repeat(role, len(labeled), len(pseudo))
    counts = [int(repeat * factor + 0.5) for factor in factors or [1.0] * len(labeled)]
    passes = [Sample(row) for number in range(max(counts)) for row, count in zip(labeled, counts) if number < count]
    return passes + pseudo


class TrainingSet(Dataset[tuple[Any, ...]]):
    """Augmented samples, addressed by (epoch, index), so that a sample is a function of these and the seed alone.

    An item is, for each of the `views` of `stpp.data.augmentation.augment`, the image, uint8 (crop, crop, bands), and
    the mask, uint8 (crop, crop), 255 = ignore. With `confident` the mask is uint8 (crop, crop, 2): beside the label its
    confidence, 255 for a true one and at most 254 for a pseudo-label, for 0..1; pseudo-labels of a store without
    confidence are as sure as they can be. Images are RGB, or have the `bands` that are given. Up to `cache` bytes of
    decoded images are kept in a scratch file, and the masks of those that have no room there. Of a large image that is
    not kept, a crop reads its window alone, where the file has such.

    With `maps`, the stores of labeled and of unlabeled images, an item has in place of the image what an encoder has
    made of one of its stored views, a list of maps float16 (h, w, channels), and the mask of that view.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        encoding: Mapping[str, Any],
        augmentation: Mapping[str, Mapping[str, Any]],
        *,
        crop: int,
        base_size: int,
        seed: int,
        role: str,
        views: Sequence[str] = ("strong",),
        cache: int = 0,
        confident: bool = False,
        maps: Mapping[str, Sequence[Path]] | None = None,
        bands: Bands | None = None,
    ) -> None:
        self.samples = samples
        self.views = views
        self.encoding = encoding
        self.augmentation = augmentation
        self.bands, self.rgb = bands, RGB_PLACES if bands is None else bands.rgb
        self.size: dict[str, Any] = {"crop": crop, "base_size": base_size}
        self.seed, self.role = seed, role
        self.confident = confident
        shapes = {sample.row.id: (sample.row.height, sample.row.width) for sample in samples}
        self.numbers = {id: number for number, id in enumerate(shapes)}
        decoded = 0 if maps else 3 if bands is None else len(bands.numbers)
        self.cache = DecodedCache(list(shapes.values()), cache, decoded)
        self.masks = DecodedCache(list(shapes.values())[self.cache.kept :], cache - self.cache.size, 0)
        self.large: dict[str, LargeImage | None] = {}
        self.maps = {
            kind: {id: store for store in map(MapStore, paths) for id in store.ids}
            for kind, paths in (maps or {}).items()
        }
        turned = any((part.get("jitter") or {}).get("hue") or part.get("operations") for part in augmentation.values())
        if turned and self.rgb and not maps:
            hue_tables()  # here, for all processes that load data

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> tuple[Any, ...]:
        epoch, index = key
        sample = self.samples[index]
        image, mask = self.decoded(sample)
        if self.confident:
            mask = np.stack([mask, self.confidence(sample, mask)], axis=2)
        kind = "unlabeled" if sample.stores or sample.bare else "labeled"
        settings = self.augmentation[kind]
        draw: dict[str, Any] = {"seed": self.seed, "role": self.role, "epoch": epoch, "index": index}
        if self.maps:
            id = sample.row.id
            store = self.maps[kind][id]
            kinds = len(self.views)
            number = int(sample_rng(**draw, part="view").integers(len(store.views) // kinds))
            masks = view_masks(mask, settings, id, number, **self.size, seen=self.views)
            stored = (store.maps(id, kinds * number + place) for place in range(kinds))
            maps = [[torch.from_numpy(each) for each in found] for found in stored]
            return tuple(part for pair in zip(maps, map(torch.from_numpy, masks)) for part in pair)
        seen = augment(image, mask, settings, self.views, **self.size, **draw, rgb=self.rgb)
        return tuple(torch.from_numpy(array) for view in seen for array in view)

    def decoded(self, sample: Sample) -> tuple[Windows, Mask]:
        """Image and mask of a sample, not augmented; an image without bands where its maps are stored."""
        number, row = self.numbers[sample.row.id], sample.row
        if (pair := self.cache.get(number)) is not None:
            return pair
        image: Windows = np.empty((row.height, row.width, 0), np.uint8) if self.maps else self.image(row, number)
        mask = np.zeros(image.shape[:2], np.uint8) if sample.bare else self.mask(sample, number)
        if isinstance(image, np.ndarray):
            self.cache.put(number, image, mask)
        return image, mask

    def mask(self, sample: Sample, number: int) -> Mask:
        """The mask of a sample, which is decoded once where there is room for it alone."""
        row, stores, place = sample.row, sample.stores, number - self.cache.kept
        if place >= 0 and (pair := self.masks.get(place)) is not None:
            return pair[1]
        mask = first_labels([store[row.id] for store in stores]) if stores else mask_of(row, self.encoding)
        if place >= 0:
            self.masks.put(place, np.empty((*mask.shape, 0), np.uint8), mask)
        return mask

    def image(self, row: Row, number: int) -> Windows:
        """The image of a row, decoded, or by windows where it is large and the cache does not keep it."""
        if self.cache.has_room(number):
            return image_of(row, self.bands)
        if row.id not in self.large:
            self.large[row.id] = large_image_of(row, self.bands)
        return self.large[row.id] or image_of(row, self.bands)

    @staticmethod
    def confidence(sample: Sample, mask: Mask) -> Mask:
        """The confidence of a sample's labels, as in an item; that of the store whose label it is."""
        if not sample.stores:
            return np.full_like(mask, CERTAIN)
        steps = np.full_like(mask, CERTAIN - 1)
        id = sample.row.id
        for store in reversed(sample.stores):
            own = store.confidence_steps(id) if store.has_confidence else np.uint8(CERTAIN)
            steps = np.where(store[id] == IGNORE, steps, np.minimum(own, np.uint8(CERTAIN - 1)))
        return steps


class EpochBatches(Sampler[list[Key]]):
    """The batches of a whole training, epoch after epoch; an epoch's last incomplete batch is dropped.

    One sampler for all epochs, so that the workers never wait at an epoch's end. The order of an epoch is a function
    of (seed, role, epoch). `start` batches are left out: a training that goes on has had them.
    """

    def __init__(self, size: int, batch_size: int, epochs: int, seed: int, role: str) -> None:
        self.size, self.batch_size, self.epochs, self.seed, self.role = size, batch_size, epochs, seed, role
        self.start = 0

    @property
    def batches_per_epoch(self) -> int:
        return self.size // self.batch_size

    def __len__(self) -> int:
        return self.batches_per_epoch * self.epochs

    def __iter__(self) -> Iterator[list[Key]]:
        for epoch in range(self.epochs):
            first = max(0, self.start - epoch * self.batches_per_epoch)
            if first >= self.batches_per_epoch:
                continue
            order = sample_rng(self.seed, self.role, epoch, 0, "order").permutation(self.size)
            for batch in range(first, self.batches_per_epoch):
                indices = order[batch * self.batch_size : (batch + 1) * self.batch_size]
                yield [(epoch, int(index)) for index in indices]

    def from_batch(self, start: int) -> "EpochBatches":
        """The same batches from number `start` (from 0) on."""
        rest = copy(self)
        rest.start = start
        return rest
