from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpp.data.partition import covering_sample, fold, sample, sample_size
from stpp.errors import StppError

IDS = st.lists(st.text(max_size=6), unique=True, min_size=1, max_size=30)
POOLS = st.dictionaries(st.text(max_size=4), st.frozensets(st.integers(0, 5), max_size=3), min_size=1, max_size=20)


@given(IDS, st.data(), st.integers(0, 99))
def test_a_sample_has_the_asked_size_and_splits_the_ids(ids, data, seed):
    count = data.draw(st.integers(1, len(ids)))
    drawn = sample(ids, count, seed, "partition")
    assert len(drawn) == count
    assert drawn | {id_ for id_ in ids if id_ not in drawn} == set(ids)


@given(IDS, st.data(), st.integers(0, 99))
def test_a_sample_depends_on_the_seed_but_not_on_the_order(ids, data, seed):
    count = data.draw(st.integers(1, len(ids)))
    shuffled = data.draw(st.permutations(ids))
    assert sample(ids, count, seed, "partition") == sample(shuffled, count, seed, "partition")


@given(IDS, st.data(), st.integers(0, 99))
def test_a_smaller_sample_is_part_of_a_larger_one(ids, data, seed):
    small, large = sorted(data.draw(st.tuples(*[st.integers(1, len(ids))] * 2)))
    assert sample(ids, small, seed, "partition") <= sample(ids, large, seed, "partition")


@given(st.lists(st.text(max_size=6), unique=True, min_size=2, max_size=30), st.data(), st.integers(0, 99))
def test_each_id_is_in_one_fold_whatever_their_order(ids, data, seed):
    of = data.draw(st.integers(2, len(ids)))
    folds = [fold(ids, of, number, seed) for number in range(1, of + 1)]
    assert Counter(id_ for each in folds for id_ in each) == Counter(ids)
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    shuffled = data.draw(st.permutations(ids))
    assert fold(shuffled, of, 1, seed) == folds[0]


def test_seeds_and_purposes_draw_differently():
    ids = [f"image{number}" for number in range(100)]
    draws = [sample(ids, 50, seed, purpose) for seed in range(3) for purpose in ("partition", "val_split")]
    assert len(set(map(frozenset, draws))) == len(draws)


def test_a_draw_stays_the_same_in_every_version():
    assert sample([f"image{number}" for number in range(10)], 3, 0, "partition") == {"image4", "image6", "image8"}


def test_every_image_is_drawn_equally_often():
    ids = [f"image{number}" for number in range(10)]
    times = Counter(id_ for seed in range(2000) for id_ in sample(ids, 3, seed, "partition"))
    assert all(520 < times[id_] < 680 for id_ in ids)  # 600 expected, standard deviation about 20


@pytest.mark.parametrize(
    ("split", "total", "size"),
    [
        ({"count": 7}, 10, 7),
        ({"count": 7, "fraction": None}, 7, 7),
        ({"fraction": 0.25}, 10, 3),  # 2.5, to the nearest
        ({"fraction": 0.24, "count": None}, 10, 2),
        ({"fraction": 0.001}, 10, 1),  # at least one
        ({"fraction": 0.125}, 10582, 1323),
        ({"fraction": 0.29}, 100, 29),  # in spite of 0.29 * 100 < 29
    ],
)
def test_the_size_of_a_split(split, total, size):
    assert sample_size(split, total) == size


def test_more_images_than_there_are_is_refused():
    with pytest.raises(StppError, match=r"8 images are asked for and there are 7: ask for 1 to 7"):
        sample_size({"count": 8}, 7)


@given(POOLS, st.data(), st.integers(0, 99))
def test_a_covering_sample_covers_all_classes_or_says_how_many_it_takes(labels, data, seed):
    count = data.draw(st.integers(1, len(labels)))
    wanted = set().union(*labels.values())
    try:
        drawn = covering_sample(labels, count, seed, "partition")
    except StppError as error:
        assert count < len(wanted)  # as many images as classes always do
        assert "to cover all" in str(error)
    else:
        assert len(drawn) == count
        assert set().union(*(labels[id_] for id_ in drawn)) == wanted
        assert drawn == covering_sample(dict(reversed(labels.items())), count, seed, "partition")


def test_a_sample_that_covers_anyway_is_left_alone():
    labels = {f"image{number}": frozenset({0, 1}) for number in range(20)}
    assert covering_sample(labels, 5, 3, "partition") == sample(list(labels), 5, 3, "partition")


def test_a_class_in_one_image_of_many_is_found():
    labels = {f"image{number}": frozenset({0}) for number in range(1000)} | {"rare": frozenset({1})}
    drawn = covering_sample(labels, 2, 0, "partition")
    assert "rare" in drawn
    assert len(drawn) == 2


def test_a_cover_that_needs_more_images_is_refused():
    labels = {f"image{number}": frozenset({number}) for number in range(5)}
    with pytest.raises(StppError, match=r"4 images cannot be drawn to cover all 5 classes .* ask for at least 5"):
        covering_sample(labels, 4, 0, "partition")
