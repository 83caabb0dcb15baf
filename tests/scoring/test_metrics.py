"""Confusion matrix, IoU, mean IoU and accuracy against counting by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stpp.common.labels import IGNORE
from stpp.scoring.metrics import confusion_matrix, iou, joint_histogram, mean_iou, pixel_accuracy

CLASSES = 4


@st.composite
def mask_pairs(draw):
    """(predicted, true) of one shape; the true one has ignored pixels, under which the prediction is anything."""
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    true = draw(arrays(np.uint8, shape, elements=st.sampled_from([*range(CLASSES), IGNORE])))
    predicted = draw(arrays(np.uint8, shape, elements=st.integers(0, CLASSES - 1)))
    anything = draw(arrays(np.uint8, shape))
    return np.where(true == IGNORE, anything, predicted), true


def pixel_sets(mask, keep):
    """For each class, the set of positions where it is, among those to keep."""
    return [{tuple(p) for p in np.argwhere((mask == c) & keep)} for c in range(CLASSES)]


@given(mask_pairs())
def test_confusion_matrix_counts_every_valid_pixel_once(pair):
    predicted, true = pair
    expected = np.zeros((CLASSES, CLASSES), int)
    for p, t in zip(predicted.ravel().tolist(), true.ravel().tolist()):
        if t != IGNORE:
            expected[t, p] += 1
    found = confusion_matrix(predicted, true, CLASSES)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


@given(mask_pairs())
def test_iou_is_intersection_over_union_of_pixel_sets(pair):
    predicted, true = pair
    expected = [
        len(p & t) / len(p | t) if p | t else math.nan
        for p, t in zip(pixel_sets(predicted, true != IGNORE), pixel_sets(true, true != IGNORE))
    ]
    confusion = confusion_matrix(predicted, true, CLASSES)
    np.testing.assert_array_equal(iou(confusion), expected)
    present = [value for value in expected if not math.isnan(value)]
    if present:
        assert mean_iou(confusion) == pytest.approx(sum(present) / len(present), abs=1e-12)
    else:
        assert math.isnan(mean_iou(confusion))


@given(mask_pairs())
def test_accuracy_is_the_share_of_equal_valid_pixels(pair):
    predicted, true = pair
    equal = [p == t for p, t in zip(predicted.ravel().tolist(), true.ravel().tolist()) if t != IGNORE]
    found = pixel_accuracy(confusion_matrix(predicted, true, CLASSES))
    if equal:
        assert found == pytest.approx(sum(equal) / len(equal), abs=1e-12)
    else:
        assert math.isnan(found)


@given(mask_pairs(), st.randoms())
def test_confusion_of_a_whole_is_the_sum_over_its_parts_in_any_order(pair, random):
    rows = list(zip(*pair))
    random.shuffle(rows)
    total = sum(confusion_matrix(predicted, true, CLASSES) for predicted, true in rows)
    np.testing.assert_array_equal(total, confusion_matrix(*pair, CLASSES))


def test_mean_iou_of_a_worked_example():
    # Class 0: 1 common of 3; class 1: 1 of 3; class 2 is only predicted: 0 of 1; class 3 occurs nowhere.
    true = np.array([[0, 0, 1, 1, 255]], np.uint8)
    predicted = np.array([[0, 1, 1, 2, 3]], np.uint8)
    confusion = confusion_matrix(predicted, true, CLASSES)
    np.testing.assert_allclose(iou(confusion), [1 / 2, 1 / 3, 0, np.nan])
    assert mean_iou(confusion) == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    assert pixel_accuracy(confusion) == 0.5


def test_rows_are_the_truth():
    confusion = confusion_matrix(np.array([[2]], np.uint8), np.array([[1]], np.uint8), 3)
    assert confusion[1, 2] == 1
    assert confusion.sum() == 1


@pytest.mark.parametrize("classes", [1, 2, 19, 254, 255])
def test_masks_larger_than_a_block_are_counted_whole(classes):
    rng = np.random.default_rng(classes)
    predicted = rng.integers(0, classes, (301, 407), dtype=np.uint8)
    true = rng.integers(0, classes, (301, 407), dtype=np.uint8)
    true[rng.random(true.shape) < 0.1] = IGNORE
    confusion = confusion_matrix(predicted, true, classes)
    assert confusion.shape == (classes, classes)
    for c in (0, classes // 2, classes - 1):
        assert confusion[c].sum() == (true == c).sum()
        assert confusion[:, c].sum() == ((predicted == c) & (true != IGNORE)).sum()
        assert confusion[c, c] == ((predicted == c) & (true == c)).sum()


def test_views_and_transposed_masks_are_counted_in_their_own_order():
    rng = np.random.default_rng(0)
    predicted = rng.integers(0, CLASSES, (20, 30), dtype=np.uint8)
    true = rng.integers(0, CLASSES, (20, 30), dtype=np.uint8)
    np.testing.assert_array_equal(
        confusion_matrix(predicted.T[::2], np.ascontiguousarray(true.T[::2]), CLASSES),
        confusion_matrix(predicted[:, ::2], true[:, ::2], CLASSES),
    )


@pytest.mark.parametrize("value", [CLASSES, 200, IGNORE])
def test_a_predicted_value_that_is_no_class_is_refused(value):
    true = np.zeros((2, 2), np.uint8)
    predicted = np.array([[0, 0], [0, value]], np.uint8)
    with pytest.raises(ValueError, match=f"value {value}|holds {value}"):
        confusion_matrix(predicted, true, CLASSES)
    true[1, 1] = IGNORE
    assert confusion_matrix(predicted, true, CLASSES)[0, 0] == 3


def test_a_true_value_that_is_no_class_is_refused():
    with pytest.raises(ValueError, match="value 4"):
        confusion_matrix(np.zeros((1, 2), np.uint8), np.array([[0, CLASSES]], np.uint8), CLASSES)


def test_other_dtypes_and_shapes_are_refused():
    mask = np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="uint8"):
        confusion_matrix(mask.astype(np.int64), mask, CLASSES)
    with pytest.raises(ValueError, match="shape"):
        confusion_matrix(mask, mask.T, CLASSES)


def test_nothing_counted_gives_nan_without_a_warning():
    empty = np.zeros((CLASSES, CLASSES), np.int64)
    assert math.isnan(mean_iou(empty))
    assert math.isnan(pixel_accuracy(empty))
    assert np.isnan(iou(empty)).all()


@given(arrays(np.uint8, (3, 5, 4), elements=st.sampled_from([0, 1, 2, IGNORE])))
def test_joint_histogram_counts_combinations(masks):
    joint = joint_histogram(list(masks), 3)
    assert joint.shape == (4, 4, 4)
    assert joint.sum() == 20
    position = {0: 0, 1: 1, 2: 2, IGNORE: 3}
    for combination in set(zip(*(mask.ravel().tolist() for mask in masks))):
        here = np.logical_and.reduce([mask == value for mask, value in zip(masks, combination)])
        assert joint[tuple(position[value] for value in combination)] == here.sum()


@pytest.mark.parametrize("side", [1, 50], ids=["noise", "patches"])
def test_joint_histogram_counts_images_of_many_pixels(side):
    rng = np.random.default_rng(side)
    small = rng.choice([0, 1, 2, IGNORE], size=(3, 650 // side, 650 // side)).astype(np.uint8)
    masks = small.repeat(side, axis=1).repeat(side, axis=2)
    joint = joint_histogram(list(masks), 3)
    values, counts = np.unique(np.where(masks == IGNORE, 3, masks).reshape(3, -1), axis=1, return_counts=True)
    expected = np.zeros((4, 4, 4), int)
    expected[tuple(values)] = counts
    np.testing.assert_array_equal(joint, expected)
