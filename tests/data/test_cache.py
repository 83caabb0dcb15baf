"""The cache of decoded images: what goes in comes out, in every process, and no disk is too small."""

import os
import resource
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpp.data import cache as module
from stpp.data.cache import DecodedCache


def pair(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(256, size=(*shape, 3), dtype=np.uint8), rng.integers(256, size=shape, dtype=np.uint8)


def same(found, expected) -> bool:
    return all(one.shape == other.shape and (one == other).all() for one, other in zip(found, expected, strict=True))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=6), st.integers(0, 600), st.randoms())
def test_what_goes_in_comes_out_as_far_as_there_is_room(shapes, limit, random):
    cache, kept = DecodedCache(shapes, limit), 0
    order = random.sample(range(len(shapes)), len(shapes))
    assert all(cache.get(number) is None for number in order)
    for number in order:
        cache.put(number, *pair(shapes[number], number))
    for number, (height, width) in enumerate(shapes):
        kept += 4 * height * width
        found = cache.get(number)
        assert (found is not None) == (kept <= limit)
        if found is not None:
            assert same(found, pair(shapes[number], number))


def test_images_of_any_number_of_bands_are_kept():
    cache = DecodedCache([(4, 5), (2, 3)], 1000, bands=6)
    rng = np.random.default_rng(0)
    pairs = [
        (rng.integers(256, size=(*shape, 6), dtype=np.uint8), rng.integers(256, size=shape, dtype=np.uint8))
        for shape in ((4, 5), (2, 3))
    ]
    for number, each in enumerate(pairs):
        cache.put(number, *each)
    assert all(same(cache.get(number), each) for number, each in enumerate(pairs))
    cache = DecodedCache([(4, 5)], 1000)
    cache.put(0, *pairs[0])
    assert cache.get(0) is None


def test_another_shape_than_announced_is_not_kept():
    cache = DecodedCache([(4, 5)], 1000)
    cache.put(0, *pair((5, 4)))
    assert cache.get(0) is None


def test_processes_share_it():
    cache = DecodedCache([(4, 5), (6, 7)], 1000)
    cache.put(0, *pair((4, 5)))
    context = get_context("fork")
    worker = context.Process(target=lambda: os._exit(0 if same(cache.get(0), pair((4, 5))) else 1))
    filler = context.Process(target=lambda: cache.put(1, *pair((6, 7), 1)))
    for process in (worker, filler):
        process.start()
        process.join()
        assert process.exitcode == 0
    assert same(cache.get(1), pair((6, 7), 1))


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    cache = DecodedCache([(40, 50)], 10**6)
    cache.put(0, *pair((40, 50)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", [0, 100, 8000, 8100])
def test_a_full_disk_ends_the_caching_and_nothing_else(room):
    """The limit on a file's size answers as a full disk does: a short write, then an error."""
    shapes = [(40, 50), (40, 50)]

    def fill() -> None:
        cache = DecodedCache(shapes, 10**6)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        for number, shape in enumerate(shapes):
            cache.put(number, *pair(shape, number))
        found = [cache.get(number) for number in range(2)]
        whole = [each is None or same(each, pair(shapes[0], number)) for number, each in enumerate(found)]
        os._exit(0 if all(whole) and found[1] is None else 1)

    process = get_context("fork").Process(target=fill)
    process.start()
    process.join()
    assert process.exitcode == 0
