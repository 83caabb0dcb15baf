"""What labels alone tell of unlabeled images: the signs by hand, and what is said of them."""

import json
import math
import statistics
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pandas as pd
import pytest
from fabricate import plan_of

from stpp.common.errors import Problems
from stpp.report.outlook import (
    Signs,
    calibration,
    content,
    of_pseudo_labels,
    reached,
    sentences,
    standard_error,
    will_pay,
)
from stpp.scoring.calibration import LEVELS, level_names
from stpp.scoring.metrics import mean_iou
from stpp.store.masks import MaskStore


def signs(**changes: Any) -> Signs:
    known = {
        "labeled": 40,
        "curve": {10: 0.48, 20: 0.55, 40: 0.60},
        "on_val": True,
        "error": 0.011,
        "precision": {"road": 0.9, "car": 0.7},
        "found": {"road": 1.0, "car": 0.9},
        "right": 0.88,
    }
    return Signs(**known | changes)


def test_the_standard_error_is_that_of_the_mean_difference_over_images() -> None:
    teacher = pd.Series({"a": 0.5, "b": 0.7, "c": math.nan, "d": 0.6})
    halves = [pd.Series({"a": 0.4, "b": 0.5, "c": 0.3, "d": 0.6}), pd.Series({"a": 0.2, "b": 0.7, "c": 0.1, "d": 0.4})]
    differences = [0.5 - 0.3, 0.7 - 0.6, 0.6 - 0.5]
    assert standard_error(halves, [teacher]) == pytest.approx(statistics.stdev(differences) / math.sqrt(3))
    assert math.isnan(standard_error(halves, [teacher[:1]]))
    # Without a val set each network is measured on other images.
    apart = [pd.Series({"a": 0.4, "b": 0.5}), pd.Series({"c": 0.6})]
    assert standard_error([series - 0.1 * len(series) for series in apart], apart) == pytest.approx(
        statistics.stdev([0.2, 0.2, 0.1]) / math.sqrt(3)
    )


def test_networks_on_val_are_averaged_and_those_on_other_images_are_taken_together() -> None:
    networks = [{"miou": 0.5, "confusion": [[3, 1], [0, 2]]}, {"miou": 0.7, "confusion": [[5, 0], [3, 0]]}]
    assert reached(networks, on_val=True) == pytest.approx(0.6)
    assert reached(networks, on_val=False) == pytest.approx((8 / 12 + 2 / 6) / 2)  # of [[8, 1], [3, 2]]


def test_pseudo_labels_are_judged_by_what_the_halves_got_right() -> None:
    def table(*rows: list[int]) -> list[list[int]]:
        return [[*row, *[0] * (len(LEVELS) - len(row))] for row in rows]

    large = 10**7
    held = [
        {
            "confusion": [[60, 0], [20, 20]],
            "confidence": {"pixels": table([large, large], [0, large]), "right": table([0, large], [0, large // 2])},
        },
        {
            "confusion": [[100, 0], [0, 0]],
            "confidence": {"pixels": table([0, 0], [0, large]), "right": table([0, 0], [0, large // 4])},
        },
    ]
    pixels = np.array(table([10, 30], [0, 10]))
    precision, found, right = of_pseudo_labels(["road", "car"], held, pixels)
    assert precision == pytest.approx({"road": 0.75, "car": 0.375}, abs=1e-3)
    assert found == pytest.approx({"road": 0.8 / 0.8, "car": 0.2 / 0.2})
    assert right == pytest.approx((40 * 0.75 + 10 * 0.375) / 50, abs=1e-3)

    assert calibration(["road", "car"], held)["road"]["0.5 to 0.6"] == pytest.approx(1, abs=1e-3)
    assert calibration(["road", "car"], held)["car"]["0.5 to 0.6"] == pytest.approx(0.375, abs=1e-3)


def test_a_class_that_labels_do_not_have_and_one_that_nobody_predicts() -> None:
    empty = [[0] * len(LEVELS)] * 2
    held = [{"confusion": [[5, 0], [0, 0]], "confidence": {"pixels": empty, "right": empty}}]
    precision, found, _ = of_pseudo_labels(["road", "car"], held, np.array([[1] * len(LEVELS), empty[0]]))
    assert math.isnan(precision["road"]) and math.isnan(precision["car"]) and math.isnan(found["car"])


def test_labels_that_are_scarce_and_pseudo_labels_that_are_right_pay() -> None:
    said = sentences(signs())
    assert will_pay(signs()) and said[0] == (
        "Unlabeled images will probably pay: twice as many labels bring +5.0 points, so about 6 more labeled images "
        "bring one point, and 80 % of the pixels of pseudo-labels would be right, on average over the classes."
    )  # 40 * (2^0.2 - 1)
    assert said[1] == (
        "Networks that learn from 40 labeled images reach 60.0 % mIoU on val, 55.0 % with 20 and 48.0 % with 10: twice "
        "as many labels bring +5.0 points (standard error 1.1)."
    )
    assert said[2:] == ["Of all pixels of pseudo-labels, about 88 % would be right."]


def test_without_a_val_set_the_curve_ends_at_one_half_of_the_labels() -> None:
    found = signs(curve={9: 0.48, 20: 0.55}, on_val=False)
    # From 9 to 20 is 1.15 times as many as twice as many.
    assert found.gain == pytest.approx(0.07 / math.log2(20 / 9))
    assert sentences(found)[1].startswith(
        "Networks that learn from 20 labeled images reach 55.0 % mIoU on labeled images that they have not seen, "
        "48.0 % with 9: "
    )


def test_where_more_labels_bring_little_unlabeled_images_do_not_pay() -> None:
    found = signs(curve={20: 0.599, 40: 0.60}, error=math.nan)
    assert not will_pay(found)
    assert sentences(found)[0] == (
        "Unlabeled images will probably not pay: labels are not what is missing, because twice as many bring +0.1 "
        "points."
    )
    assert found.labels_for_a_point is None
    assert sentences(found)[1].endswith("twice as many labels bring +0.1 points.")


def test_pseudo_labels_that_are_wrong_do_not_pay_and_name_the_classes() -> None:
    found = signs(precision={"road": 0.5, "car": 0.3, "sign": math.nan}, found={"road": 1.2, "car": 0.1, "sign": 0.3})
    said = sentences(found)
    assert not will_pay(found)
    assert said[0] == (
        "Unlabeled images will probably not pay: only 40 % of the pixels of pseudo-labels would be right, on average "
        "over the classes; pseudo-labels would lose car, sign: the teacher predicts them less than half as often as in "
        "the labeled images."
    )
    assert said[-1] == "They would be wrong more often than right for car (30 % right)."


def test_without_unlabeled_images_the_labels_alone_are_told_of() -> None:
    found = signs(precision={}, found={}, right=math.nan)
    assert len(sentences(found)) == 1 and content(found)["pays"] is None and content(found)["right"] is None


def test_an_outlook_adds_four_teachers_and_what_compares_them() -> None:
    without = plan_of(fabricate.tiny())
    plan = plan_of(fabricate.tiny(outlook=True))
    added = Counter(folder.partition("/")[0] for folder in plan.stages.keys() - without.stages.keys())
    assert added == {"train": 4, "evaluate": 6, "predict": 3, "outlook": 1, "report": 1}
    (teacher,) = plan.stages[plan.outlook].inputs["all"]
    assert teacher.rpartition("/")[0] in without.stages
    assert not without.outlook


ALONE = {"suponly": {"method": "suponly"}}
MORE = fabricate.TINY["data"] | {"labeled": "unlabeled.txt", "unlabeled": None, "val": None}
"""The six images of that list are labeled."""


def recipes(folder: Path, pattern: str) -> list[Any]:
    return [json.loads(path.read_text()) for path in folder.glob(f"my results/stages/{pattern}/recipe.json")]


def test_fewer_labels_are_learned_for_as_many_iterations(tmp_path: Path) -> None:
    folder = fabricate.planned(tmp_path / "a", outlook=True)
    parts = [*recipes(folder, "train/half*"), *recipes(folder, "train/quarter*")]
    teacher = fabricate.TINY["training"]["teacher"]
    expected = teacher["epochs"] * (4 * 2 // teacher["batch_size"])  # 4 labeled images, each twice an epoch
    assert [recipe["settings"]["training"]["iterations"] for recipe in parts] == [expected] * 4


def test_where_halves_differ_in_size_their_mean_counts(tmp_path: Path) -> None:
    data = MORE | {"partition": {"count": 5}}
    folder = fabricate.planned(tmp_path / "a", outlook=True, folds=3, data=data, experiments=ALONE)
    (recipe,) = recipes(folder, "outlook/*")
    assert recipe["settings"]["sizes"] == {"quarter": 1.5, "half": 2.5}  # of 2 and 3, and of 1 and 2
    found = signs(curve={2.5: 0.4, 5: 0.5})
    assert found.gain == pytest.approx(0.1)
    assert "40.0 % with 2.5: " in sentences(found)[1]


def test_an_outlook_on_too_few_labels_is_refused(tmp_path: Path) -> None:
    data = fabricate.TINY["data"] | {"unlabeled": None, "partition": {"count": 3}}
    with pytest.raises(Problems, match="takes 4 of them, but there are 3; leave it out"):
        fabricate.planned(tmp_path / "a", outlook=True, data=data, experiments=ALONE)


@pytest.mark.parametrize("val", [True, False], ids=["val", "no val"])
def test_an_outlook_is_computed_and_says_what_its_stages_measured(tmp_path: Path, val: bool) -> None:
    changes = {"experiments": {"suponly": {"method": "suponly"}}, "outlook": True}
    changes |= {} if val else {"data": fabricate.TINY["data"] | {"val": None}}
    folder = fabricate.computed(tmp_path / "run", "chart", "report", **changes)
    told = json.loads((folder / "my results/tiny/outlook.json").read_text())
    (stage,) = folder.glob("my results/stages/outlook/*")
    recipe = json.loads((stage / "recipe.json").read_text())

    def miou(path: str) -> float:
        value: float = json.loads((stage.parents[1] / path).read_text())["miou"]
        return value

    own = [*(field.name for field in fields(Signs)), "labels_for_a_point"]
    assert list(told) == ["pays", *own, "sentences"]
    assert list(told["calibration"]) == recipe["settings"]["classes"]
    assert all(list(levels) == level_names() for levels in told["calibration"].values())
    sizes = {"quarter": 1, "half": 2} | ({"all": 4} if val else {})
    assert [each["labeled"] for each in told["curve"]] == list(sizes.values())
    assert recipe["settings"]["judge"] == ("val" if val else "test") and told["on_val"] is val
    if val:
        expected = [statistics.mean(map(miou, recipe["inputs"][name])) for name in sizes]
    else:
        paths = [[stage.parents[1] / path for path in recipe["inputs"][name]] for name in sizes]
        confusions = [[json.loads(path.read_text())["confusion"] for path in each] for each in paths]
        expected = [mean_iou(np.sum(each, axis=0)) for each in confusions]
    assert [each["miou"] for each in told["curve"]] == pytest.approx(expected)
    assert told["labeled"] == 4 and told["pays"] in (True, False)
    held = [json.loads((stage.parents[1] / path).read_text()) for path in recipe["inputs"]["held"]]
    for metrics in held:
        pixels, right = (np.array(metrics["confidence"][name]) for name in ("pixels", "right"))
        confusion = np.array(metrics["confusion"])
        np.testing.assert_array_equal(pixels.sum(axis=1), confusion.sum(axis=0))
        np.testing.assert_array_equal(right.sum(axis=1), np.diagonal(confusion))
    assert sum(metrics["images"] for metrics in held) == 4
    with MaskStore(stage.parents[1] / recipe["inputs"]["masks"]) as masks:
        assert masks.has_confidence and len(masks) == 6
