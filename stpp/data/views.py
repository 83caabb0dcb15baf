"""The views of training images that are drawn once: each is a function of the image's id and of the view's number.

So they are the same in all runs, roles and passes, and what a frozen encoder makes of them can be kept. Which of its
views a pass sees of an image, is drawn anew.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from stpp.common.bands import RGB_PLACES
from stpp.data.augmentation import augment, augmented_mask
from stpp.data.strong import Mask, Pixels

ROLE = "views"
"""The stream of random numbers that all views come from."""
SEEN = ("strong",)
"""How a view is seen where no method wants to see it weakly augmented as well."""


def view_pixels(
    image: Pixels,
    settings: Mapping[str, Any],
    id: str,
    number: int,
    *,
    crop: int,
    base_size: int,
    rgb: Sequence[int] | None = RGB_PLACES,
    seen: Sequence[str] = SEEN,
) -> list[Pixels]:
    """View `number` (from 0) of the image of this id, as it is `seen`: each uint8 (crop, crop, bands).

    `settings`, `rgb` and the names of what is seen are those of `augment`.
    """
    blank = np.zeros(image.shape[:2], np.uint8)
    how: dict[str, Any] = {"crop": crop, "base_size": base_size, "rgb": rgb, **_draw(id, number)}
    return [pixels for pixels, _ in augment(image, blank, settings, seen, **how)]


def view_masks(
    mask: Mask,
    settings: Mapping[str, Any],
    id: str,
    number: int,
    *,
    crop: int,
    base_size: int,
    seen: Sequence[str] = SEEN,
) -> list[Mask]:
    """The masks of that view, of the image's mask: uint8 (crop, crop), with the planes of `mask` if it has several."""
    return augmented_mask(mask, settings, crop=crop, base_size=base_size, views=seen, **_draw(id, number))


def _draw(id: str, number: int) -> dict[str, Any]:
    return {"seed": 0, "role": ROLE, "epoch": number, "index": crc32(id.encode())}
