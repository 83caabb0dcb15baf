"""Stability scores against pixel sets; the score table and its file."""

import math
from fractions import Fraction
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stpp.common.errors import StppError
from stpp.runtime.progress import Progress
from stpp.scoring import stability
from stpp.scoring.stability import (
    COMPARISONS,
    DEFINITIONS,
    ahead,
    mask_mean_iou,
    most_stable_first,
    pair_confusions,
    pairs,
    ranks,
    score_table,
    scores_of,
    usual_ious,
)
from stpp.stages import score
from stpp.stages.score import compare_masks
from stpp.store.alike import masks_in_order
from stpp.store.masks import MaskStore, MaskWriter, voc_palette
from stpp.store.scores import read_score_table, write_score_table

CLASSES = 3
some_masks = st.integers(2, 4).flatmap(
    lambda count: arrays(np.uint8, (count, 4, 5), elements=st.sampled_from([0, 1, 2, 255]))
)


def exact_mean_iou(a, b):
    """Mean IoU from sets of pixels, in exact fractions; None if no pixel has a class in both."""
    a, b = a.ravel().tolist(), b.ravel().tolist()
    kept = [k for k in range(len(a)) if a[k] != 255 and b[k] != 255]
    values = []
    for c in {a[k] for k in kept} | {b[k] for k in kept}:
        in_a, in_b = {k for k in kept if a[k] == c}, {k for k in kept if b[k] == c}
        values.append(Fraction(len(in_a & in_b), len(in_a | in_b)))
    return sum(values) / len(values) if values else None


def write_stores(folder, checkpoints, ids=None, classes=("a", "b", "c"), confidences=None):
    """One store a checkpoint; `checkpoints[k][i]` is the mask of image i, `confidences[k][i]` what is known of it."""
    stores = []
    for k, masks in enumerate(checkpoints, start=1):
        path = folder / f"masks_{k}.h5"
        how = {"classes": classes, "palette": voc_palette(len(classes)), "confidence": confidences is not None}
        with MaskWriter(path, **how, producer=str(k)) as writer:
            known = confidences[k - 1] if confidences else [None] * len(masks)
            for name, mask, confidence in zip(ids or [f"im{i}" for i in range(len(masks))], masks, known):
                writer.add(name, np.asarray(mask, np.uint8), confidence)
        stores.append(MaskStore(path))
    return stores


def scored(stores, definition, how="miou"):
    """The score table of the stores, as the stage makes it."""
    compared = pairs(len(stores), definition)
    rows = np.array([compare_masks(stores, *image, compared, how) for image in masks_in_order(stores, 0)])
    usual = usual_ious([rows[:, 1 + len(compared) :]], CLASSES) if how == "per_class" else None
    scores = scores_of(rows, len(stores), definition, usual)
    return score_table(stores[0].ids, rows, ranks(scores["score"]), compared, scores)


def stability_scores(masks, classes, pair_list):
    """`mask_mean_iou` of pairs of masks in one pass, and the number of classes of the last one."""
    confusions, present = pair_confusions(masks, classes, pair_list)
    return np.array([stability.mean_iou(confusion) for confusion in confusions]), present


@given(some_masks)
def test_mask_mean_iou_is_the_mean_over_classes_in_either_mask(masks):
    expected = exact_mean_iou(masks[0], masks[1])
    found = mask_mean_iou(masks[0], masks[1], CLASSES)
    if expected is None:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(float(expected), abs=1e-12)
        assert found == mask_mean_iou(masks[1], masks[0], CLASSES)


def test_pixels_ignored_in_either_mask_are_left_out():
    a = np.array([[0, 1, 255, 1]], np.uint8)
    b = np.array([[0, 255, 2, 0]], np.uint8)
    # Counted: (0, 0) and (1, 0), so class 0: 1 of 2, class 1: 0 of 1; class 2 is under an ignored pixel only.
    assert mask_mean_iou(a, b, CLASSES) == 0.25


def test_equal_masks_score_one_and_disjoint_masks_zero():
    mask = np.array([[0, 1], [2, 2]], np.uint8)
    assert mask_mean_iou(mask, mask, CLASSES) == 1.0
    assert mask_mean_iou(np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8), CLASSES) == 0.0


def test_masks_of_different_shape_or_values_are_refused():
    with pytest.raises(ValueError, match="shape"):
        mask_mean_iou(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), CLASSES)
    with pytest.raises(ValueError, match="value 3"):
        mask_mean_iou(np.full((1, 1), 3, np.uint8), np.zeros((1, 1), np.uint8), CLASSES)
    with pytest.raises(ValueError, match="value 3"):
        stability_scores(np.full((3, 1, 1), 3, np.uint8), CLASSES, [(1, 3)])


def test_pairs_of_each_definition():
    assert pairs(3, "sum") == pairs(3, "mean") == [(1, 3), (2, 3)]
    assert pairs(2, "all_pairs") == [(1, 2)]
    for count in range(2, 7):
        assert pairs(count, "all_pairs") == list(combinations(range(1, count + 1), 2))
        assert pairs(count, "sum") == [(j, count) for j in range(1, count)]


@pytest.mark.parametrize(("count", "definition", "message"), [(1, "sum", "at least 2"), (3, "max", "'max'")])
def test_pairs_refuses_what_cannot_be_compared(count, definition, message):
    with pytest.raises(StppError, match=message):
        pairs(count, definition)


@given(some_masks, st.booleans())
def test_scores_of_one_pass_equal_the_pairwise_ones(masks, joint):
    pair_list = pairs(len(masks), "all_pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stability, "_MOST_BINS", 10**9 if joint else 0)
        found, present = stability_scores(masks, CLASSES, pair_list)
        assert present == len(set(masks[-1].ravel().tolist()) - {255})
    expected = [mask_mean_iou(masks[i - 1], masks[j - 1], CLASSES) for i, j in pair_list]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("count", "classes"), [(3, 21), (4, 21), (2, 255), (3, 150)])
def test_one_pass_equals_pairwise_on_large_masks_of_many_classes(count, classes):
    rng = np.random.default_rng(classes)
    masks = rng.integers(0, classes, (count, 190, 230), dtype=np.uint8)
    masks[1:, 20:] = masks[0, 20:]
    masks[-1, :, :9] = 255
    pair_list = pairs(count, "all_pairs")
    expected = [mask_mean_iou(masks[i - 1], masks[j - 1], classes) for i, j in pair_list]
    np.testing.assert_allclose(stability_scores(masks, classes, pair_list)[0], expected, rtol=0, atol=1e-12)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=12))
def test_ranks_count_the_better_ones_and_the_equal_ones_before(scores):
    expected = [
        1 + sum(s > score or (s == score and k < here) for k, s in enumerate(scores))
        for here, score in enumerate(scores)
    ]
    values = np.array(scores, np.float64)
    assert ranks(values).tolist() == expected
    assert [expected[k] for k in most_stable_first(values)] == list(range(1, len(scores) + 1))


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=12), st.integers(0, 12))
def test_a_rank_is_one_among_the_images_nearby_and_those_ahead_in_the_rest_of_the_list(scores, cut):
    before, after = np.array(scores[:cut], np.float64), np.array(scores[cut:], np.float64)
    assert (ranks(before) + ahead(before, after, earlier=False)).tolist() == ranks(np.array(scores))[:cut].tolist()
    assert (ranks(after) + ahead(after, before, earlier=True)).tolist() == ranks(np.array(scores))[cut:].tolist()


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("numbers", [1, 8, 9, 40, 10**6])
def test_the_table_does_not_depend_on_how_many_numbers_are_in_memory(tmp_path, monkeypatch, definition, numbers):
    monkeypatch.setattr(score, "PART", numbers)
    monkeypatch.setattr(score, "BLOCK", 3)
    masks = np.random.default_rng(0).integers(0, 2, (3, 17, 1, 3), dtype=np.uint8)  # small, so that many are alike
    stores = write_stores(tmp_path, masks)
    with Progress(tmp_path / "unfinished", "x", minutes=60) as progress:
        parts = score.compare_in_parts(stores, pairs(3, definition), progress)
    assert len(parts) == math.ceil(17 / math.ceil(numbers / (1 + len(pairs(3, definition)))))
    scores = partial(scores_of, checkpoints=3, definition=definition)
    write_score_table(score.tables(stores[0], parts, pairs(3, definition), scores), tmp_path / "scores.csv")
    expected = scored(stores, definition)
    assert len(set(expected["score"])) < 17
    pd.testing.assert_frame_equal(read_score_table(tmp_path / "scores.csv"), expected, check_exact=True)


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_score_table_holds_every_comparison_of_every_image(tmp_path, definition, count):
    rng = np.random.default_rng(count)
    shapes = [(4, 5), (7, 3), (6, 6), (4, 5)]
    checkpoints = [[rng.integers(0, CLASSES, shape) for shape in shapes] for _ in range(count)]
    stores = write_stores(tmp_path, checkpoints)
    table = scored(stores, definition)
    compared = pairs(count, definition)
    assert list(table.columns) == [
        "id",
        "classes",
        *(f"iou_{i}_{j}" for i, j in compared),
        "sum",
        "mean",
        "score",
        "rank",
    ]
    assert table["id"].tolist() == ["im0", "im1", "im2", "im3"]
    for row in range(len(shapes)):
        exact = {
            (i, j): exact_mean_iou(checkpoints[i - 1][row], checkpoints[j - 1][row])
            for i, j in combinations(range(1, count + 1), 2)
        }
        for i, j in compared:
            assert table[f"iou_{i}_{j}"][row] == pytest.approx(float(exact[i, j]), abs=1e-12)
        assert table["classes"][row] == len(set(checkpoints[-1][row].ravel().tolist()) - {255})
        with_last = sum(value for (_, j), value in exact.items() if j == count)
        expected = {
            "sum": with_last,
            "mean": with_last / (count - 1),
            "all_pairs": sum(exact.values()) / len(exact),
        }
        assert table["sum"][row] == pytest.approx(float(expected["sum"]), abs=1e-12)
        assert table["mean"][row] == pytest.approx(float(expected["mean"]), abs=1e-12)
        assert table["score"][row] == pytest.approx(float(expected[definition]), abs=1e-12)
    assert table["rank"].tolist() == table["score"].rank(ascending=False, method="first").astype(int).tolist()


def exact_ious(a, b):
    """For each class in either mask its intersection, as pixels, and the size of its union, from sets of pixels."""
    kept = (a != 255) & (b != 255)
    sets = {c: [{tuple(p) for p in np.argwhere(kept & (mask == c))} for mask in (a, b)] for c in range(CLASSES)}
    return {c: (one & other, len(one | other)) for c, (one, other) in sets.items() if one | other}


@pytest.mark.parametrize("definition", DEFINITIONS)
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_comparison_is_that_of_pixel_sets(tmp_path_factory, definition, seed):
    rng = np.random.default_rng(seed)
    masks = rng.choice(np.array([0, 0, 1, 2, 255], np.uint8), (3, 4, 3, 4))
    masks[:, 1] = 0  # the background alone
    masks[:, 2] = 1
    steps = rng.integers(0, 256, masks.shape)
    folder = tmp_path_factory.mktemp("stores")
    stores = write_stores(folder, list(masks), confidences=list(steps / 255))
    tables = {how: scored(stores, definition, how) for how in COMPARISONS}
    class_means = {c: [] for c in range(CLASSES)}  # by class, the mean IoU over pairs of each image that has it
    for image in range(4):
        found = {c: [] for c in range(CLASSES)}
        for i, j in pairs(3, definition):
            ious = exact_ious(masks[i - 1, image], masks[j - 1, image])
            least = np.minimum(steps[i - 1, image], steps[j - 1, image]) / 255
            expected = {
                "miou": np.mean([len(both) / either for both, either in ious.values()]),
                "foreground": np.mean([len(both) / either for c, (both, either) in ious.items() if c] or [0]),
                "soft": np.mean([sum(least[p] for p in both) / either for both, either in ious.values()]),
            }
            for how, value in expected.items():
                assert tables[how][f"iou_{i}_{j}"][image] == pytest.approx(value, abs=1e-12), how
            for c, (both, either) in ious.items():
                found[c].append(len(both) / either)
        for c, values in found.items():
            class_means[c].append(np.mean(values) if values else None)
    usual = {c: np.mean([v for v in values if v is not None] or [0]) for c, values in class_means.items()}
    for image in range(4):
        own = [(class_means[c][image], usual[c]) for c in range(CLASSES) if class_means[c][image] is not None]
        expected = np.mean([(1 + value - mean) / 2 for value, mean in own])
        assert tables["per_class"]["score"][image] == pytest.approx(expected, abs=1e-12)
        assert tables["per_class"]["mean"][image] == pytest.approx(tables["miou"]["mean"][image], abs=1e-12)
    assert (tables["miou"]["mean"][1], tables["foreground"]["mean"][1]) == (1, 0)
    assert tables["foreground"]["mean"][2] == 1


def test_what_is_usual_does_not_depend_on_the_parts():
    rows = np.random.default_rng(0).random((101, 3))
    rows[rng_mask := np.random.default_rng(1).random(rows.shape) < 0.3] = np.nan
    whole = usual_ious([rows], 3)
    assert usual_ious([rows[:1], rows[1:40], rows[40:40], rows[40:]], 3).tolist() == whole.tolist()
    np.testing.assert_allclose(whole, [rows[~rng_mask[:, c], c].mean() for c in range(3)])
    assert np.isnan(usual_ious([np.full((2, 3), np.nan)], 3)).all()


def test_soft_agreement_needs_confidence(tmp_path):
    with pytest.raises(StppError, match="without confidence"):
        scored(write_stores(tmp_path, [[np.eye(3)]] * 2), "mean", "soft")


def test_an_image_whose_mask_does_not_change_ranks_first_and_ties_keep_the_list_order(tmp_path):
    still, changing = np.eye(3), np.zeros((3, 3))
    stores = write_stores(tmp_path, [[changing, still, still], [1 - changing, still, still]])
    table = scored(stores, "sum")
    assert table["score"].tolist() == [0.0, 1.0, 1.0]
    assert table["rank"].tolist() == [3, 1, 2]


def test_stores_of_another_order_are_refused(tmp_path):
    still, changing = np.eye(3), np.zeros((3, 3))
    one = write_stores(tmp_path, [[still, changing]], ids=["x", "y"])
    (tmp_path / "other").mkdir()
    other = write_stores(tmp_path / "other", [[1 - changing, still]], ids=["y", "x"])
    with pytest.raises(StppError, match="'x' in one is 'y' in the other"):
        scored(one + other, "mean")


def test_stores_that_do_not_belong_together_are_refused(tmp_path):
    mask = np.zeros((2, 2))
    (first,) = write_stores(tmp_path, [[mask, mask]])
    for name, masks, options, message in [
        ("images", [mask], {}, "2 in one, 1 in the other"),
        ("classes", [mask, mask], {"classes": ("a", "b")}, "a, b, c"),
        ("sizes", [mask, np.zeros((2, 3))], {}, r"im1.*\(2, 3\)"),
        ("ignored", [mask, np.full((2, 2), 255)], {}, "im1.*no pixel"),
    ]:
        (tmp_path / name).mkdir()
        with pytest.raises(StppError, match=message):
            scored([first, *write_stores(tmp_path / name, [masks], **options)], "sum")


@st.composite
def tables(draw):
    count = draw(st.integers(2, 4))
    definition = draw(st.sampled_from(DEFINITIONS))
    names = draw(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])), unique=True, max_size=5))
    unit = st.floats(0, 1)
    compared = pairs(count, definition)
    columns = {f"iou_{i}_{j}": draw(st.lists(unit, min_size=len(names), max_size=len(names))) for i, j in compared}
    total = np.sum([columns[f"iou_{i}_{j}"] for i, j in compared if j == count], axis=0, dtype=np.float64)
    score = np.mean(list(columns.values()), axis=0, dtype=np.float64) if definition == "all_pairs" else total
    return pd.DataFrame(
        {
            "id": pd.Series(names, dtype=pd.Series(["x"]).dtype),
            **{name: np.array(values, np.float64) for name, values in columns.items()},
            "sum": total,
            "mean": total / (count - 1),
            "score": score,
            "rank": ranks(score),
        }
    )


@settings(max_examples=60)
@given(tables())
def test_a_score_table_comes_back_exactly(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("table") / "scores.csv"
    write_score_table([table], path)
    pd.testing.assert_frame_equal(read_score_table(path), table, check_exact=True)


@pytest.mark.parametrize("name", ["NA", "001", "1e3", "a,b", 'quo"ted', " space ", "ümläut/🙂", "True", "nan"])
def test_ids_that_look_like_something_else_come_back_as_text(tmp_path, name):
    mask = np.eye(3)
    table = scored(write_stores(tmp_path, [[mask, mask]] * 2, ids=[name, "other"]), "sum")
    write_score_table([table], tmp_path / "scores.csv")
    pd.testing.assert_frame_equal(read_score_table(tmp_path / "scores.csv"), table, check_exact=True)


HEADER = "id,iou_1_2,sum,mean,score,rank"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("id,sum,mean,score,rank\na,1,1,1,1\n", "iou_1_2"),
        ("id,iou_1_2,sum,mean,rank\na,1,1,1,1\n", "lacks the column score"),
        (f"{HEADER}\na,1,1,1,1,1\na,1,1,1,1,2\n", "'a' more than once"),
        (f"{HEADER}\na,1.5,1,1,1,1\n", "iou_1_2 of image 'a' is .*1.5.* from 0 to 1"),
        (f"{HEADER}\na,1,1,-0.1,1,1\n", "mean of image 'a'"),
        (f"{HEADER}\na,1,1,1,1.01,1\n", "score of image 'a'"),
        (f"{HEADER}\na,nan,1,1,1,1\n", "iou_1_2 of image 'a' is"),
        (f"{HEADER}\na,1,inf,1,1,1\n", "sum of image 'a'"),
        (f"{HEADER}\na,1,1,1,high,1\n", "score of image 'a' is 'high'"),
        (f"{HEADER}\na,1,1,1,1,1\nb,1,1,1\n", "row 2 has 4 values"),
        (f"{HEADER}\n\na,1,1,1,1,1\n", "row 1 has 0 values"),
        (f"{HEADER}\na,1,1,1,1,1\nb,1,1,1,1,3\n", "ranks are not 1 to 2"),
        (f"{HEADER}\na,1,1,1,1,1\nb,1,1,1,1,\n", "ranks are not 1 to 2"),
        (f"{HEADER}\na,1,1,1,1,1\nb,1,1,1,1,1.5\n", "ranks are not 1 to 2"),
        (f"{HEADER}\na,1,1,1,1,1,7,8\n", "row 1 has 8 values, the header has 6"),
        (f'{HEADER}\n"a,1,1,1,1,1\n', "cannot be read"),
    ],
)
def test_a_damaged_score_table_is_refused_with_the_place(tmp_path, text, message):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(StppError, match=message) as caught:
        read_score_table(path)
    assert str(path) in str(caught.value)


def test_a_score_table_may_have_further_columns(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(f"{HEADER},true_iou\na,1,1,1,1,1,\nb,0.5,0.5,0.5,0.5,2,0.75\n")
    assert list(read_score_table(path).columns)[-1] == "true_iou"


def test_a_missing_score_table_says_what_to_run(tmp_path):
    with pytest.raises(StppError, match="run the scoring stage"):
        read_score_table(tmp_path / "scores.csv")
