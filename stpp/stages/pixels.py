"""The stage that keeps the reliable pixels of pseudo-labels: the control to the selection of images.

The pseudo-labels of all images are kept, but for the pixels that are not reliable, which become 255. Reliable is a
pixel on which all K checkpoints agree, or one of high confidence.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stpp import disk
from stpp.errors import StppError
from stpp.labels import IGNORE
from stpp.runtime.job import Job, Runtime
from stpp.store.alike import check_alike, masks_of
from stpp.store.masks import MaskStore, MaskWriter

Reliable = Callable[[str], NDArray[np.bool_]]
"""Which pixels of the image with this id are reliable: bool (H, W)."""


def run(job: Job, runtime: Runtime) -> None:
    """Write the pseudo-labels with 255 for all pixels but the reliable ones, as `masks.h5`."""
    labels = MaskStore(job.input("labels"))
    if job.settings["by"] == "agreement":
        reliable = agreeing([MaskStore(path) for path in job.inputs("masks")])
    else:
        reliable = confident(labels, job.settings["confidence"])
    with job.writing(disk.MASKS) as path:
        kept = keep_reliable(labels, reliable, job.recipe["identity"], path)
    left = MaskStore(job.folder / disk.MASKS).class_pixels
    if lost := [name for name, before, after in zip(labels.classes, labels.class_pixels, left) if before > after == 0]:
        job.warn(f"{job.folder.name}: no pixel of the class {', '.join(lost)} is reliable")
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


def keep_reliable(labels: MaskStore, reliable: Reliable, producer: str, out: Path) -> int:
    """Write a store of `labels` in which all pixels but the reliable ones are 255; returns how many were kept.

    One mask is in memory at a time. StppError if no pixel is reliable, or if a mask differs in size from what is said
    of its pixels.
    """
    with MaskWriter(out, classes=labels.classes, palette=labels.palette, producer=producer) as writer:
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
            writer.add(image, np.where(chosen, mask, IGNORE).astype(np.uint8))
        if not kept:
            raise StppError(
                f"No pixel of {labels.path} is reliable, so there is nothing to train the first phase on: lower "
                "selection.confidence, or take selection.pixels: agreement."
            )
    return kept
