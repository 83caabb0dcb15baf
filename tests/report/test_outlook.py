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
from stpp.report.outlook import Signs, calibration, content, of_pseudo_labels, sentences, standard_error, will_pay
from stpp.scoring.calibration import LEVELS, level_names
from stpp.store.masks import MaskStore


def signs(**changes: Any) -> Signs:
    known = {
        "labeled": 40,
        "full": 0.60,
        "half": 0.55,
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
    assert standard_error(teacher, *halves) == pytest.approx(statistics.stdev(differences) / math.sqrt(3))
    assert math.isnan(standard_error(teacher[:1], *halves))


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
        "Unlabeled images will probably pay: twice as many labels bring +5.0 points, and 80 % of the pixels of "
        "pseudo-labels would be right, on average over the classes."
    )
    assert said[1] == (
        "On val, 40 labeled images alone give 60.0 % mIoU, and one half of them 55.0 %: twice as many labels bring "
        "+5.0 points (standard error 1.1)."
    )
    assert said[2:] == [
        "If that goes on, each further point takes 6 more labeled images.",  # 40 * (2^0.2 - 1)
        "Of all pixels of pseudo-labels, about 88 % would be right.",
    ]


def test_where_more_labels_bring_little_unlabeled_images_do_not_pay() -> None:
    found = signs(half=0.599, error=math.nan)
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
        "over the classes."
    )
    assert said[4] == "They would be wrong more often than right for car (30 % right)."
    assert said[5] == (
        "They would lose car, sign, which are predicted less than half as often as in the labeled images."
    )


def test_without_unlabeled_images_the_labels_alone_are_told_of() -> None:
    found = signs(precision={}, found={}, right=math.nan)
    assert len(sentences(found)) == 2 and content(found)["pays"] is None and content(found)["right"] is None


def test_an_outlook_adds_two_teachers_and_what_compares_them() -> None:
    without = plan_of(fabricate.tiny())
    plan = plan_of(fabricate.tiny(outlook=True))
    added = Counter(folder.partition("/")[0] for folder in plan.stages.keys() - without.stages.keys())
    assert added == {"train": 2, "evaluate": 4, "predict": 3, "outlook": 1, "report": 1}
    assert plan.stages[plan.outlook].inputs["teacher"].split("/")[1] in {
        folder.split("/")[1] for folder in without.stages
    }
    assert not without.outlook


def test_an_outlook_without_a_val_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problems, match="`outlook` compares networks on val, but there is no val set"):
        fabricate.planned(tmp_path, outlook=True, data=fabricate.TINY["data"] | {"val": None})


def test_an_outlook_is_computed_and_says_what_its_stages_measured(tmp_path: Path) -> None:
    experiments = {"suponly": {"method": "suponly"}}
    folder = fabricate.computed(tmp_path / "run", "chart", "report", outlook=True, experiments=experiments)
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
    assert told["full"] == miou(recipe["inputs"]["teacher"])
    assert told["half"] == pytest.approx(statistics.mean(map(miou, recipe["inputs"]["halves"])))
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
