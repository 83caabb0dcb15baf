"""Files that are read while the network works on those before them."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Content = TypeVar("Content")

READERS = max(4, min(16, len(os.sched_getaffinity(0))))
"""Threads: one for each core that the process may use, within limits. Decoding leaves Python's lock to others."""


def windows(items: Iterable[Item], read: Callable[[Item], Content], size: int) -> Iterator[list[tuple[Item, Content]]]:
    """`items` with what `read` makes of each, in order, `size` at a time; the last window may be shorter.

    While the caller has one window, threads read the next; no more is in memory. What `read` raises is raised here,
    when the item's window is due.
    """
    rest = iter(items)
    with ThreadPoolExecutor(READERS) as pool:
        ahead = [(item, pool.submit(read, item)) for item in islice(rest, size)]
        try:
            while window := ahead:
                ahead = [(item, pool.submit(read, item)) for item in islice(rest, size)]
                yield [(item, content.result()) for item, content in window]
        finally:
            pool.shutdown(cancel_futures=True)
