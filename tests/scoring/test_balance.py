"""Weights of classes and repetition of images, against an own account of their formulas."""

import math
from fractions import Fraction
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stpp.scoring.balance import class_pixels, class_weights, image_repeats

some_pixels = arrays(np.int64, st.tuples(st.integers(1, 6), st.just(4)), elements=st.integers(0, 9)).filter(np.any)


def test_pixels_of_each_class_are_counted_without_the_ignored_ones() -> None:
    masks = [np.array([[0, 2, 255]], np.uint8), np.array([[2, 2], [255, 255]], np.uint8)]
    assert class_pixels(masks, 4).tolist() == [[1, 0, 1, 0], [0, 0, 2, 0]]
    assert class_pixels([], 4).shape == (0, 4)


@given(some_pixels)
def test_weights_are_median_over_frequency(pixels: np.ndarray) -> None:
    rows = pixels.tolist()
    seen = [c for c in range(4) if any(row[c] for row in rows)]
    around = {c: Fraction(sum(row[c] for row in rows), sum(sum(row) for row in rows if row[c])) for c in seen}
    among = {c: Fraction(sum(row[c] for row in rows), sum(sum(row) for row in rows)) for c in seen}
    expected = [float(median(around.values()) / around[c]) if c in seen else 1 for c in range(4)]
    np.testing.assert_allclose(class_weights(pixels, "median_frequency"), expected)
    expected = [math.sqrt(median(among.values()) / among[c]) if c in seen else 1 for c in range(4)]
    np.testing.assert_allclose(class_weights(pixels, "inverse_sqrt"), expected)


def test_weights_of_a_worked_example() -> None:
    # Class 0: 90 of 200 pixels; class 1: 8 of the 100 of its image; class 2: 2 of 100. Class 3 is nowhere.
    pixels = np.array([[90, 8, 2, 0], [100, 0, 0, 0]])
    assert class_weights(pixels, "median_frequency").tolist() == pytest.approx([0.08 / 0.95, 1, 4, 1])
    assert class_weights(pixels, "inverse_sqrt").tolist() == pytest.approx([math.sqrt(0.04 / 0.95), 1, 2, 1])


@given(some_pixels, st.floats(0, 1))
def test_an_image_repeats_as_its_rarest_class_asks(pixels: np.ndarray, rare: float) -> None:
    rows = pixels.tolist()
    share = [sum(row[c] > 0 for row in rows) / len(rows) for c in range(4)]
    expected = [max([1, *(math.sqrt(rare / share[c]) for c in range(4) if row[c])]) for row in rows]
    np.testing.assert_allclose(image_repeats(pixels, rare), expected)
