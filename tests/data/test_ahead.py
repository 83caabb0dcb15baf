"""Reading ahead: the order, how far, and what becomes of errors and of the threads."""

import threading
import time
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpp.data.ahead import READERS, windows


@given(st.lists(st.integers(), max_size=30), st.integers(1, 8))
def test_all_come_in_order_in_windows_of_that_size(items: list[int], size: int) -> None:
    found = list(windows(items, lambda item: 2 * item, size))
    assert [pair for window in found for pair in window] == [(item, 2 * item) for item in items]
    assert all(len(window) == size for window in found[:-1])


@pytest.mark.parametrize("size", [1, 3])
def test_the_next_window_is_read_meanwhile_and_no_more(size: int) -> None:
    asked: list[int] = []
    given_out = windows(count(), asked.append, size)
    for number in range(1, 4):
        next(given_out)
        deadline = time.monotonic() + 10
        while len(asked) < (number + 1) * size and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert sorted(asked) == list(range((number + 1) * size))
    given_out.close()


def test_a_window_is_read_by_several_threads() -> None:
    together = threading.Barrier(READERS, timeout=10)
    assert len(next(windows(range(READERS), lambda item: together.wait(), READERS))) == READERS


def test_an_error_comes_when_its_window_is_due() -> None:
    def read(item: int) -> int:
        if item == 3:
            raise ValueError("damaged")
        return item

    seen = []
    with pytest.raises(ValueError, match="damaged"):
        for window in windows(range(8), read, 2):
            seen += [item for item, _ in window]
    assert seen == [0, 1]


def test_no_thread_is_left_when_the_caller_stops() -> None:
    before = set(threading.enumerate())
    for _ in windows(range(1000), lambda item: time.sleep(0.001), 4):
        break
    given_out = windows(range(1000), lambda item: item, 4)
    next(given_out)
    given_out.close()
    assert set(threading.enumerate()) == before
