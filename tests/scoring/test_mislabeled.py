"""Labels that are probably wrong, against an account pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stpp.scoring.mislabeled import BORDER, Suspect, confidence_sums, sure_from, suspects

labels = arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 2, 255]))
predictions = arrays(np.uint8, (4, 5), elements=st.integers(0, 2))
confidences = arrays(np.float32, (4, 5), elements=st.sampled_from([0.25, 0.5, 1.0]))


@given(labels, predictions, confidences)
def test_sure_is_the_mean_confidence_of_right_pixels(
    true: np.ndarray, predicted: np.ndarray, confidence: np.ndarray
) -> None:
    found = sure_from(*confidence_sums(true, predicted, confidence, 3))
    for label in range(3):
        right = [float(c) for t, p, c in zip(true.ravel(), predicted.ravel(), confidence.ravel()) if t == p == label]
        assert found[label] == (pytest.approx(np.mean(right)) if right else np.inf)


def test_a_region_that_is_contradicted_for_sure_is_found_without_its_border() -> None:
    true = np.zeros((20, 30), np.uint8)
    predicted, confidence = true.copy(), np.full(true.shape, 0.6, np.float32)
    predicted[5:15, 10:20], confidence[5:15, 10:20] = 1, 0.9
    (found,) = suspects(true, predicted, confidence, np.array([0.5, 0.8]))
    inner = 10 - 2 * BORDER
    assert found == Suspect(0, 1, inner**2 / 600, pytest.approx(0.9), (12, 7, 18, 13))
    assert found.weight == pytest.approx(0.9 * inner**2 / 600)


@pytest.mark.parametrize("change", ["unsure", "ignored", "thin"])
def test_what_is_unsure_left_out_or_thin_is_not_doubted(change: str) -> None:
    true = np.zeros((20, 30), np.uint8)
    predicted, confidence = true.copy(), np.full(true.shape, 0.9, np.float32)
    if change == "thin":
        predicted[5 : 5 + 2 * BORDER, :] = 1
    else:
        predicted[5:15, 10:20] = 1
        confidence[5:15, 10:20] = 0.7 if change == "unsure" else 0.9
        true[5:15, 10:20] = 255 if change == "ignored" else 0
    assert suspects(true, predicted, confidence, np.array([0.5, 0.8])) == []


def test_a_region_at_the_edge_of_the_image_has_no_border_there() -> None:
    true, predicted = np.zeros((10, 10), np.uint8), np.ones((10, 10), np.uint8)
    (found,) = suspects(true, predicted, np.ones((10, 10), np.float32), np.array([1.0, 1.0]))
    assert found.share == 1 and found.box == (0, 0, 10, 10)


def test_each_pair_of_classes_is_a_suspect_of_its_own() -> None:
    true, predicted = np.zeros((12, 24), np.uint8), np.zeros((12, 24), np.uint8)
    true[:, 12:] = 1
    predicted[:, :12], predicted[:, 12:] = 2, 0
    found = suspects(true, predicted, np.ones(true.shape, np.float32), np.zeros(3))
    assert [(each.labeled, each.predicted) for each in found] == [(0, 2), (1, 0)]
