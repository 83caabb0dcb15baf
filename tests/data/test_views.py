"""The views that are drawn once: functions of the image's id and the view's number, with the masks of their own."""

from typing import Any
from zlib import crc32

import numpy as np
import pytest
from tiny_data import labels, photo

from stpp.data.augmentation import augment
from stpp.data.views import view_masks, view_pixels

WEAK: dict[str, Any] = {"scale": [0.5, 2.0], "flip": 0.5}
STRONG: dict[str, Any] = WEAK | {
    "jitter": {"p": 0.8, "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.25},
    "grayscale": {"p": 0.2},
    "blur": {"p": 0.5, "sigma": [0.1, 2.0]},
    "cutout": {"p": 0.7, "area": [0.02, 0.4], "ratio": [0.3, 3.0], "fill": "random"},
}
HOW = {"crop": 24, "base_size": 32}


@pytest.mark.parametrize("settings", [WEAK, STRONG, {"scale": None, "flip": 0.0}], ids=["weak", "strong", "none"])
@pytest.mark.parametrize("planes", [0, 2])
def test_the_mask_is_that_of_the_augmented_pair(settings: dict[str, Any], planes: int) -> None:
    """Against `augment`, which makes image and mask together."""
    mask = labels(1, (30, 40))
    if planes:
        mask = np.stack([mask, labels(2, (30, 40))], axis=2)
    image = photo(1, (30, 40))
    for number in range(30):
        draw = {"seed": 0, "role": "views", "epoch": number, "index": crc32(b"a/b")}
        for seen in (("strong",), ("weak", "strong", "strong2")):
            pixels, masks = zip(*augment(image, mask, settings, seen, **HOW, **draw))
            np.testing.assert_array_equal(view_masks(mask, settings, "a/b", number, **HOW, seen=seen), masks)
            np.testing.assert_array_equal(view_pixels(image, settings, "a/b", number, **HOW, seen=seen), pixels)


def test_cutout_is_left_out_of_the_mask() -> None:
    settings = {"cutout": {"p": 1.0, "area": [0.2, 0.2], "ratio": [1.0, 1.0], "fill": 7}}
    image, mask = np.full((24, 24, 3), 99, np.uint8), np.ones((24, 24), np.uint8)
    (pixels,) = view_pixels(image, settings, "a", 0, crop=24, base_size=24)
    (found,) = view_masks(mask, settings, "a", 0, crop=24, base_size=24)
    np.testing.assert_array_equal(found == 255, (pixels == 7).all(axis=2))
    assert 0.1 < (found == 255).mean() < 0.3


def test_a_view_depends_on_id_and_number_alone() -> None:
    image, how = photo(1, (60, 90)), {"crop": 24, "base_size": 80}
    views = {(id, k): view_pixels(image, WEAK, id, k, **how)[0].tobytes() for id in ("a", "b") for k in range(4)}
    assert len(set(views.values())) == len(views)
    again = {key: view_pixels(image, WEAK, *key, **how)[0].tobytes() for key in reversed(views)}
    assert again == views
