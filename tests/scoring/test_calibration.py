"""How right predictions are by class and confidence, against an account pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stpp.scoring.calibration import LEVELS, PRIOR, expected_precision, level_names, pixels_by_confidence, precision

CLASSES = 3
masks = arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 2, 255]))
confidences = arrays(np.uint8, (3, 4), elements=st.integers(0, 255))


def level_of(step: int) -> int:
    return max(number for number, low in enumerate(LEVELS) if step >= low * 255)


@given(masks, confidences)
def test_each_pixel_counts_in_its_class_and_level(mask: np.ndarray, confidence: np.ndarray) -> None:
    expected = np.zeros((CLASSES, len(LEVELS)), int)
    for label, step in zip(mask.ravel().tolist(), confidence.ravel().tolist()):
        if label != 255:
            expected[label, level_of(step)] += 1
    np.testing.assert_array_equal(pixels_by_confidence(mask, confidence, CLASSES), expected)


def test_a_level_with_many_pixels_keeps_its_share_and_one_without_takes_that_of_its_class() -> None:
    pixels, right = np.zeros((2, len(LEVELS)), int), np.zeros((2, len(LEVELS)), int)
    pixels[0, 0], right[0, 0] = 10_000_000, 2_000_000
    pixels[0, 1], right[0, 1] = 10_000_000, 6_000_000
    found = precision(right, pixels)
    assert found[0, :3].tolist() == pytest.approx([0.2, 0.6, 0.4], abs=1e-4)
    assert np.isnan(found[1]).all()
    pixels[0, 2], right[0, 2] = 500, 0
    of_class = 8_000_000 / 20_000_500
    assert precision(right, pixels)[0, 2] == pytest.approx(PRIOR * of_class / (500 + PRIOR))


def test_expected_is_the_mean_over_the_pixels_that_are_judged() -> None:
    known = np.full((3, len(LEVELS)), np.nan)
    known[0, :2] = 0.2, 0.8
    pixels = np.zeros((3, len(LEVELS)), int)
    pixels[0, :2] = 30, 10
    pixels[1, 0] = 5
    found = expected_precision(pixels, known)
    assert found[0] == pytest.approx((30 * 0.2 + 10 * 0.8) / 40)
    assert np.isnan(found[1:]).all()  # nothing is known of one, and the other one is never predicted


def test_predictions_of_the_same_kind_are_judged_as_they_are() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 10**7, (CLASSES, len(LEVELS)))
    right = (pixels * rng.random((CLASSES, len(LEVELS)))).astype(int)
    found = expected_precision(pixels, precision(right, pixels))
    np.testing.assert_allclose(found, right.sum(axis=1) / pixels.sum(axis=1), atol=1e-3)


def test_levels_are_named() -> None:
    assert level_names()[0] == "0 to 0.5" and level_names()[-1] == "0.99 to 1" and len(level_names()) == len(LEVELS)
