"""Reliable and unreliable images: how many, which, in which order; the list files."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpp.errors import StppError
from stpp.scoring.selection import select_random, select_reliable
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
