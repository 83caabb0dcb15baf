"""Mask stores of the same images, as the checkpoints of one training give them, read side by side."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stpp.common.errors import StppError
from stpp.store.masks import MaskStore


def masks_of(stores: Sequence[MaskStore], image: str) -> list[NDArray[np.uint8]]:
    """The masks of `image` in the stores, uint8 (H, W) each. StppError if they differ in size."""
    masks = [store[image] for store in stores]
    check_sizes(stores, image, masks)
    return masks


def check_sizes(stores: Sequence[MaskStore], image: str, masks: Sequence[NDArray[np.uint8]]) -> None:
    """Raise StppError if the masks of `image` in the stores, uint8 (H, W) each, differ in size."""
    for store, mask in zip(stores, masks):
        if mask.shape != masks[0].shape:
            raise StppError(
                f"The masks of image {image!r} differ in size: {masks[0].shape} in {stores[0].path}, "
                f"{mask.shape} in {store.path}. Predict both again from the same images."
            )


def masks_in_order(stores: Sequence[MaskStore], start: int) -> Iterator[tuple[str, list[NDArray[np.uint8]]]]:
    """Each image's id and its masks in the stores, uint8 (H, W) each, from image number `start` (from 0) on.

    One image is in memory at a time. StppError if the stores differ in classes or images.
    """
    check_alike(stores)
    for found in zip(*(store.masks(start) for store in stores), strict=True):
        for store, (id, _) in zip(stores, found):
            if id != found[0][0]:
                raise _unlike(stores[0], store, f"{found[0][0]!r} in one is {id!r} in the other")
        yield found[0][0], [mask for _, mask in found]


def check_alike(stores: Sequence[MaskStore]) -> None:
    """Raise StppError if the stores of the checkpoints differ in classes or in the number of images."""
    first = stores[0]
    for store in stores[1:]:
        if store.classes != first.classes:
            raise StppError(
                f"{first.path} has the classes {', '.join(first.classes)}, {store.path} has "
                f"{', '.join(store.classes)}. Checkpoints of one training share their classes: predict again."
            )
        if len(store) != len(first):
            raise _unlike(first, store, f"{len(first)} in one, {len(store)} in the other")


def _unlike(one: MaskStore, other: MaskStore, found: str) -> StppError:
    return StppError(
        f"{one.path} and {other.path} hold different images: {found}. Predict the same list of images with every "
        "checkpoint."
    )
