"""The stage that keeps the reliable pixels of pseudo-labels: the control to the selection of images, and DMT's.

The pseudo-labels of all images are kept, but for the pixels that are not reliable, which become 255. Reliable is a
pixel on which all K checkpoints agree, one of high confidence, or one of the most confident ones of its class: a share
of the class, or so many that the classes are as frequent as in the labeled images.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.labels import IGNORE
from stpp.data.reading import mask_of
from stpp.runtime.job import Job, Runtime
from stpp.scoring.balance import class_pixels
from stpp.scoring.selection import CONFIDENCES, aligned_steps, class_steps
from stpp.store.alike import check_alike, masks_of
from stpp.store.masks import MaskStore, MaskWriter

Reliable = Callable[[str], NDArray[np.bool_]]
"""Which pixels of the image with this id are reliable: bool (H, W)."""


def run(job: Job, runtime: Runtime) -> None:
    """Write the pseudo-labels with 255 for all pixels but the reliable ones, as `masks.h5`."""
    labels = MaskStore(job.input("labels"))
    match job.settings["by"]:
        case "agreement":
            reliable = agreeing([MaskStore(path) for path in job.inputs("masks")])
        case "confidence":
            reliable = confident(labels, job.settings["confidence"])
        case "aligned":
            encoding = job.settings["encoding"]
            masks = (mask_of(row, encoding) for row in job.rows("labeled"))
            pixels = class_pixels(masks, encoding["classes"]).sum(axis=0)
            reliable = aligned(labels, pixels / pixels.sum(), job.settings["share"], job.settings["seed"])
        case _:
            reliable = surest(labels, job.settings["share"])
    with job.writing(disk.MASKS) as path:
        kept = keep_reliable(labels, reliable, job.recipe["identity"], path, job.settings.get("keep_confidence", False))
    left = MaskStore(job.folder / disk.MASKS).class_pixels
    if lost := [name for name, before, after in zip(labels.classes, labels.class_pixels, left) if before > after == 0]:
        job.warn(f"{job.folder.name}: no pixel of {', '.join(lost)} is reliable")
    job.finish(images=len(labels), reliable_pixels=kept, pixels=sum(labels.class_pixels))


def agreeing(stores: Sequence[MaskStore]) -> Reliable:
    """Reliable are the pixels that have one and the same class in the masks of all stores.

    Raises StppError if the stores differ in classes or images, and where the masks of an image differ in size.
    """
    check_alike(stores)

    def reliable(image: str) -> NDArray[np.bool_]:
        first, *others = masks_of(stores, image)
        agreed = first != IGNORE
        for mask in others:
            agreed &= mask == first
        return agreed

    return reliable


def confident(store: MaskStore, least: float) -> Reliable:
    """Reliable are the pixels whose confidence, in steps of 1/255, is at least `least` (0..1).

    StppError where the store was written without confidence.
    """
    # Kept as n / 255 in float32: this threshold lies between two steps, so that rounding decides nothing.
    threshold = (np.ceil(255 * least - 1e-6) - 0.5) / 255
    return lambda image: store.confidence(image) > threshold


def surest(store: MaskStore, share: float) -> Reliable:
    """Reliable are, of each class, the `share` (0..1) of all its pixels that is the most confident, by `class_steps`.

    Reads the store once. StppError where it was written without confidence.
    """
    least = class_steps(confidence_counts(store), share)
    return lambda image: store.confidence_steps(image) >= least[store[image]]


def aligned(store: MaskStore, frequency: NDArray[np.float64], share: float, seed: int) -> Reliable:
    """Reliable are the surest pixels of each class, so many as `aligned_steps` says for `frequency` (C,) and `share`.

    Which pixels of the last step count is drawn by `seed` and the image. Reads the store once. StppError where it was
    written without confidence.
    """
    steps, parts = aligned_steps(confidence_counts(store)[: len(frequency)], frequency, share)

    def reliable(image: str) -> NDArray[np.bool_]:
        mask, confidence = store[image], store.confidence_steps(image)
        labels = np.where(mask == IGNORE, 0, mask)  # ignored pixels are left out later
        drawn = np.random.default_rng([seed, crc32(image.encode())]).random(mask.shape) < parts[labels]
        return (confidence > steps[labels]) | ((confidence == steps[labels]) & drawn)

    return reliable


def confidence_counts(store: MaskStore) -> NDArray[np.int64]:
    """How many pixels of each label have which confidence in all masks: int64 (256, 256), from label and step."""
    counts = np.zeros((IGNORE + 1, CONFIDENCES), np.int64)
    for image, mask in store:
        where = mask.astype(np.int64) * CONFIDENCES + store.confidence_steps(image)
        counts += np.bincount(where.reshape(-1), minlength=counts.size).reshape(counts.shape)
    return counts


def keep_reliable(
    labels: MaskStore, reliable: Reliable, producer: str, out: Path, keep_confidence: bool = False
) -> int:
    """Write a store of `labels` in which all pixels but the reliable ones are 255; returns how many were kept.

    One mask is in memory at a time. With `keep_confidence`, the new store has that of the old one. StppError if no
    pixel is reliable, or if a mask differs in size from what is said of its pixels.
    """
    with MaskWriter(
        out, classes=labels.classes, palette=labels.palette, producer=producer, confidence=keep_confidence
    ) as writer:
        kept = 0
        for image, mask in labels:
            chosen = reliable(image)
            if chosen.shape != mask.shape:
                raise StppError(
                    f"The masks of image {image!r} differ in size: {mask.shape} in {labels.path}, {chosen.shape} in "
                    "those that select its pixels. Predict both again from the same images."
                )
            chosen &= mask != IGNORE
            kept += int(chosen.sum())
            confidence = labels.confidence(image) if keep_confidence else None
            writer.add(image, np.where(chosen, mask, IGNORE).astype(np.uint8), confidence)
        if not kept:
            raise StppError(
                f"No pixel of {labels.path} is reliable, so there is nothing to train the first phase on: lower "
                "selection.confidence, or take selection.pixels: agreement."
            )
    return kept
