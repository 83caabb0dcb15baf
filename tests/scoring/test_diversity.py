"""Which images differ most: the farthest-first traversal against its definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stpp.scoring.diversity import LIKE, SAME, farthest_first


def rows(*angles: float) -> np.ndarray:
    """Points of the unit circle, by their angles in degrees."""
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


NOTHING = np.empty((0, 2), np.float32)


def test_each_one_is_the_farthest_from_what_is_known_and_taken() -> None:
    assert farthest_first(rows(10, 90, 179, 130), rows(0), 3) == [2, 1, 3]


def test_without_known_rows_the_first_one_begins() -> None:
    assert farthest_first(rows(50, 51, 230), NOTHING, 2) == [0, 2]


def test_what_is_known_or_taken_already_is_left_out() -> None:
    assert farthest_first(rows(0, 90, 90, 89.99), rows(0), 4) == [1]


def test_what_is_nearer_than_a_quarter_of_the_usual_distance_is_like_it() -> None:
    """The usual distance is that of 40 degrees, of which 11 are more than a quarter and 9 less."""
    assert farthest_first(rows(9, 40, 80), rows(0), 3) == [2, 1]
    assert farthest_first(rows(11, 40, 80), rows(0), 3) == [2, 1, 0]
    assert farthest_first(rows(40, 80, 89), rows(0), 3) == [2, 0]


def test_nothing_like_an_avoided_row_is_taken_however_far_it_is_from_the_known_ones() -> None:
    assert farthest_first(rows(40, 80, 120), rows(0), 3, rows(121)) == [1, 0]
    assert farthest_first(rows(40, 80, 120), rows(0), 3, rows(161)) == [2, 0, 1]
    assert farthest_first(rows(40, 80, 120), rows(0), 3, NOTHING) == [2, 0, 1]


def test_near_rows_are_not_alike_where_all_are_near() -> None:
    assert farthest_first(rows(1, 2.1, 3), rows(0), 3) == [2, 0, 1]
    assert farthest_first(rows(0.01, 0.02), rows(0), 2) == []


@given(st.lists(st.integers(0, 3599), min_size=1, max_size=12), st.lists(st.integers(0, 3599), min_size=1, max_size=4))
def test_the_traversal_is_within_twice_the_best_cover(angles: list[int], given: list[int]) -> None:
    features, known = rows(*(a / 10 for a in angles)), rows(*(a / 10 for a in given))
    chosen = farthest_first(features, known, 3)
    assert len({*chosen}) == len(chosen)

    def radius(numbers: list[int]) -> float:
        centres = np.concatenate([known, features[numbers]])
        return float(np.linalg.norm(features[:, None] - centres[None], axis=2).min(axis=1).max())

    best = min(
        radius([a, b, c]) for a in range(len(features)) for b in range(len(features)) for c in range(len(features))
    )
    usual = np.median(np.linalg.norm(features[:, None] - known[None], axis=2).min(axis=1))
    assert radius(chosen) <= max(2 * best, LIKE * float(usual), SAME) + 1e-5
