from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpp.common.errors import StppError
from stpp.data.partition import covering_sample, fold, groups_of, sample, sample_size

IDS = st.lists(st.text(max_size=6), unique=True, min_size=1, max_size=30)
GROUPS = st.dictionaries(st.text(max_size=4), st.sampled_from("abcde"), min_size=1, max_size=30)
POOLS = st.dictionaries(st.text(max_size=4), st.frozensets(st.integers(0, 5), max_size=3), min_size=1, max_size=20)


def alone(ids):
    """Each id as a group of its own."""
    return {id_: id_ for id_ in ids}


@given(IDS, st.data(), st.integers(0, 99))
def test_a_sample_has_the_asked_size_and_splits_the_ids(ids, data, seed):
    count = data.draw(st.integers(1, len(ids)))
    drawn = sample(alone(ids), count, seed, "partition")
    assert len(drawn) == count
    assert drawn | {id_ for id_ in ids if id_ not in drawn} == set(ids)


@given(IDS, st.data(), st.integers(0, 99))
def test_a_sample_depends_on_the_seed_but_not_on_the_order(ids, data, seed):
    count = data.draw(st.integers(1, len(ids)))
    shuffled = data.draw(st.permutations(ids))
    assert sample(alone(ids), count, seed, "partition") == sample(alone(shuffled), count, seed, "partition")


@given(IDS, st.data(), st.integers(0, 99))
def test_a_smaller_sample_is_part_of_a_larger_one(ids, data, seed):
    small, large = sorted(data.draw(st.tuples(*[st.integers(1, len(ids))] * 2)))
    assert sample(alone(ids), small, seed, "partition") <= sample(alone(ids), large, seed, "partition")


@given(st.lists(st.text(max_size=6), unique=True, min_size=2, max_size=30), st.data(), st.integers(0, 99))
def test_each_id_is_in_one_fold_whatever_their_order(ids, data, seed):
    of = data.draw(st.integers(2, len(ids)))
    folds = [fold(alone(ids), of, number, seed) for number in range(1, of + 1)]
    assert Counter(id_ for each in folds for id_ in each) == Counter(ids)
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    shuffled = data.draw(st.permutations(ids))
    assert fold(alone(shuffled), of, 1, seed) == folds[0]


def test_seeds_and_purposes_draw_differently():
    ids = [f"image{number}" for number in range(100)]
    draws = [sample(alone(ids), 50, seed, purpose) for seed in range(3) for purpose in ("partition", "val_split")]
    assert len(set(map(frozenset, draws))) == len(draws)


def test_a_draw_stays_the_same_in_every_version():
    assert sample(alone([f"image{number}" for number in range(10)]), 3, 0, "partition") == {
        "image4",
        "image6",
        "image8",
    }


def test_every_image_is_drawn_equally_often():
    ids = [f"image{number}" for number in range(10)]
    times = Counter(id_ for seed in range(2000) for id_ in sample(alone(ids), 3, seed, "partition"))
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
    with pytest.raises(StppError, match=r"8 images are asked for, but there are 7: ask for 1 to 7"):
        sample_size({"count": 8}, 7)


@given(POOLS, st.data(), st.integers(0, 99))
def test_a_covering_sample_covers_all_classes_or_says_how_many_it_takes(labels, data, seed):
    count = data.draw(st.integers(1, len(labels)))
    wanted = set().union(*labels.values())
    try:
        drawn = covering_sample(labels, alone(labels), count, seed, "partition")
    except StppError as error:
        assert count < len(wanted)  # as many images as classes always do
        assert "to cover all" in str(error)
    else:
        assert len(drawn) == count
        assert set().union(*(labels[id_] for id_ in drawn)) == wanted
        assert drawn == covering_sample(dict(reversed(labels.items())), alone(labels), count, seed, "partition")


def test_a_sample_that_covers_anyway_is_left_alone():
    labels = {f"image{number}": frozenset({0, 1}) for number in range(20)}
    assert covering_sample(labels, alone(labels), 5, 3, "partition") == sample(alone(list(labels)), 5, 3, "partition")


def test_a_class_in_one_image_of_many_is_found():
    labels = {f"image{number}": frozenset({0}) for number in range(1000)} | {"rare": frozenset({1})}
    drawn = covering_sample(labels, alone(labels), 2, 0, "partition")
    assert "rare" in drawn
    assert len(drawn) == 2


def test_a_cover_that_needs_more_images_is_refused():
    labels = {f"image{number}": frozenset({number}) for number in range(5)}
    with pytest.raises(StppError, match=r"4 images cannot be drawn to cover all 5 classes .* ask for at least 5"):
        covering_sample(labels, alone(labels), 4, 0, "partition")


# --- groups -----------------------------------------------------------------------------------------------------------


@given(GROUPS, st.data(), st.integers(0, 99))
def test_a_sample_takes_whole_groups_and_as_many_ids_as_they_allow(groups, data, seed):
    count = data.draw(st.integers(1, len(groups)))
    drawn = sample(groups, count, seed, "partition")
    sizes = Counter(groups.values())
    taken = {groups[id_] for id_ in drawn}
    assert drawn == {id_ for id_, group in groups.items() if group in taken}
    # No other group would bring it nearer, unless even the smallest one is too large.
    others = [abs(len(drawn) + size - count) for group, size in sizes.items() if group not in taken]
    assert len(drawn) == min(sizes.values()) or all(apart >= abs(len(drawn) - count) for apart in others)
    assert sample(dict(reversed(groups.items())), count, seed, "partition") == drawn


@given(GROUPS, st.data(), st.integers(0, 99))
def test_folds_take_whole_groups(groups, data, seed):
    of = data.draw(st.integers(1, len({*groups.values()})))
    folds = [fold(groups, of, number, seed) for number in range(1, of + 1)]
    assert Counter(id_ for each in folds for id_ in each) == Counter(groups.keys())
    for group in {*groups.values()}:
        assert sum(any(groups[id_] == group for id_ in each) for each in folds) == 1


def test_more_folds_than_groups_are_refused():
    with pytest.raises(
        StppError, match=r"3 folds are asked for, but there are 2 groups of labeled images; ask for fewer"
    ):
        fold({"a": "x", "b": "x", "c": "y"}, 3, 1, 0)


def test_a_covering_sample_of_groups():
    groups = {f"{patient}/{number}": patient for patient in "pqrs" for number in range(5)}
    labels = {id_: frozenset({0, 1} if group == "r" else {0}) for id_, group in groups.items()}
    drawn = covering_sample(labels, groups, 5, 0, "partition")
    assert drawn == {f"r/{number}" for number in range(5)}
    rare = labels | {"p/0": frozenset({2}), "q/0": frozenset({3}), "s/0": frozenset({4})}
    with pytest.raises(StppError, match=r"no draw of about 5 images in whole groups has all 5 classes that occur"):
        covering_sample(rare, groups, 5, 0, "partition")


@pytest.mark.parametrize(
    ("pattern", "id_", "group"),
    [
        (None, "a/b_1", "a/b_1"),
        ("{group}/*", "patient7/scan/slice3", "patient7"),
        ("*/{group}_*", "images/video_12_frame3", "video"),
        ("{group}_frame*", "images/video_12_frame3", "images/video_12"),
        ("*{group}", "abc", "abc"),
        ("tile({group})*", "tile(7)x", "7"),
        ("{group}/*", "alone", None),
        ("{group}_*", "_x", None),
    ],
)
def test_what_stands_for_the_group(pattern, id_, group):
    assert groups_of([id_], pattern).get(id_) == group
