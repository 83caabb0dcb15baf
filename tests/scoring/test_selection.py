"""Reliable and unreliable images: how many, which, in which order; the list files."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpp.common.errors import StppError
from stpp.scoring.selection import balanced_first, constant_last, select_random, select_reliable
from stpp.store.idlist import read_list, write_list

few_scores = st.lists(st.sampled_from([0.0, 0.1, 0.2, 1.0, 1.9]), min_size=1, max_size=30)


def names(count):
    return [f"images/{k:04d}" for k in range(count)]


@given(few_scores, st.integers(1, 100))
def test_reliable_images_are_the_first_of_a_stable_sort(scores, percent):
    count = len(scores) * percent // 100
    if not count:
        return
    ids = names(len(scores))
    reliable, unreliable = select_reliable(ids, scores, percent / 100)
    best = sorted(ids, key=lambda image: -scores[ids.index(image)])[:count]
    assert reliable == [image for image in ids if image in best]
    assert unreliable == [image for image in ids if image not in best]


def test_ties_go_to_the_earlier_image_and_lists_keep_their_order():
    reliable, unreliable = select_reliable(["d", "c", "b", "a"], [0.5, 1.0, 0.5, 0.5], 0.5)
    assert (reliable, unreliable) == (["d", "c"], ["b", "a"])


def test_the_count_is_the_exact_floor_for_every_two_digit_share():
    for total in range(1, 250):
        ids, scores = names(total), [0.5] * total
        for percent in (1, 7, 10, 25, 29, 30, 33, 50, 57, 58, 70, 75, 90, 99, 100):
            exact = total * percent // 100
            if exact:
                assert len(select_reliable(ids, scores, percent / 100)[0]) == exact, (total, percent)


@pytest.mark.parametrize(
    ("total", "share", "count"),
    [(100, 0.29, 29), (30, 0.1, 3), (10, 0.7, 7), (10582, 0.5, 5291), (9, 1 / 3, 3), (7, 0.5, 3), (5, 1, 5)],
)
def test_the_count_is_not_spoilt_by_floating_point(total, share, count):
    assert len(select_reliable(names(total), [0.0] * total, share)[0]) == count
    assert len(select_random(names(total), share, seed=0)[0]) == count


@pytest.mark.parametrize("share", [0, -0.5, 1.01, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    for select in (lambda: select_reliable(["a"], [1.0], share), lambda: select_random(["a"], share, 0)):
        with pytest.raises(StppError, match="above 0 and at most 1"):
            select()


def test_an_empty_reliable_list_is_refused():
    for select in (lambda: select_reliable(names(3), [1.0] * 3, 0.2), lambda: select_random(names(3), 0.2, 0)):
        with pytest.raises(StppError, match=r"0\.2 of 3 unlabeled images.*raise the share"):
            select()


seen = st.lists(st.sets(st.integers(0, 2), min_size=1, max_size=3), min_size=2, max_size=20)


def matrix(images):
    """Which classes each image has, bool (N, 3)."""
    return np.array([[c in image for c in range(3)] for image in images])


@given(seen, seen, st.integers(50, 100), st.randoms())
def test_images_of_one_class_come_last_but_for_those_that_the_labeled_set_has(images, labeled, percent, random):
    scores = [random.choice([0.2, 0.5, 1.0]) for _ in images]
    ids, count = names(len(images)), len(images) * percent // 100
    reliable, _ = select_reliable(ids, scores, percent / 100, [constant_last(matrix(images), matrix(labeled))])
    best = sorted(range(len(images)), key=lambda k: -scores[k])
    left = {c: count * labeled.count({c}) // len(labeled) for c in range(3)}
    early, late = [], []
    for k in best:
        (c, *others) = images[k]
        if others or left[c] > 0:
            early.append(k)
            left[c] -= not others
        else:
            late.append(k)
    assert reliable == [ids[k] for k in sorted((early + late)[:count])]


def test_empty_masks_take_no_more_than_their_share():
    images, labeled = [{0}] * 6 + [{0, 1}] * 6, [{0}] + [{0, 1}] * 5
    ids, scores = names(12), [1.0] * 6 + [0.5] * 6
    assert select_reliable(ids, scores, 0.5)[0] == ids[:6]
    last = constant_last(matrix(images), matrix(labeled))
    assert select_reliable(ids, scores, 0.5, [last])[0] == [ids[0], *ids[6:11]]
    always = constant_last(matrix(images), matrix([{0}] * 6))
    assert select_reliable(ids, scores, 0.5, [always])[0] == ids[:6]


@given(seen, st.integers(50, 100), st.randoms())
def test_each_predicted_class_has_its_share_from_the_rarest_on(images, percent, random):
    scores = [random.choice([0.2, 0.5, 1.0]) for _ in images]
    ids, count = names(len(images)), len(images) * percent // 100
    reliable, _ = select_reliable(ids, scores, percent / 100, [balanced_first(matrix(images))])
    best = sorted(range(len(images)), key=lambda k: -scores[k])
    chosen = []
    for c in sorted(range(3), key=lambda c: sum(c in image for image in images)):
        wanted = sum(c in image for image in images) * count // len(images)
        for k in best:
            if sum(c in images[one] for one in chosen) < wanted and len(chosen) < count:
                chosen += [k] if c in images[k] and k not in chosen else []
    chosen += [k for k in best if k not in chosen][: count - len(chosen)]
    assert reliable == [ids[k] for k in sorted(chosen)]


def test_a_rare_class_with_low_scores_is_selected():
    images = [{0}] * 8 + [{0, 2}] * 4
    ids, scores = names(12), [1.0] * 8 + [0.1, 0.4, 0.3, 0.2]
    assert select_reliable(ids, scores, 0.5, [balanced_first(matrix(images))])[0] == [*ids[:4], *ids[9:11]]


@pytest.mark.parametrize("scores", [[1.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_scores_that_do_not_fit_the_images_are_a_bug(scores):
    with pytest.raises(ValueError, match="2 finite scores"):
        select_reliable(["a", "b"], scores, 0.5)


@given(st.integers(2, 60), st.integers(0, 2**32))
def test_a_random_draw_splits_the_list_in_order_and_grows_with_the_share(total, seed):
    ids = names(total)
    half, rest = select_random(ids, 0.5, seed)
    assert len(half) == total // 2
    assert sorted(half + rest) == ids
    assert half == sorted(half)
    assert rest == sorted(rest)
    assert select_random(ids, 0.5, seed) == (half, rest)
    assert set(half) <= set(select_random(ids, 0.75, seed)[0])


def test_every_image_is_drawn_equally_often_over_the_seeds():
    drawn = Counter(image for seed in range(2000) for image in select_random(names(5), 0.4, seed)[0])
    # 2 of 5 images, 2000 draws: 800 expected, standard deviation 22.
    assert all(690 < drawn[image] < 910 for image in names(5))


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1), unique=True))
def test_a_list_comes_back_as_it_was_written(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("list") / "ids.txt"
    write_list(ids, path)
    assert read_list(path) == ids
    assert path.read_bytes() == "".join(image + "\n" for image in ids).encode()


@pytest.mark.parametrize("image", ["a\nb", "a\r", ""])
def test_ids_that_are_no_line_are_refused(tmp_path, image):
    with pytest.raises(StppError, match="one line"):
        write_list([image], tmp_path / "ids.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a\n\nb\n", "empty line, number 2"), (b"a\nb\na\n", "'a' more than once"), (b"\xff\n", "not UTF-8")],
)
def test_a_damaged_list_is_refused(tmp_path, content, message):
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    with pytest.raises(StppError, match=message):
        read_list(path)


def test_a_missing_list_says_what_to_run(tmp_path):
    with pytest.raises(StppError, match="run the selection stage"):
        read_list(tmp_path / "ids.txt")
