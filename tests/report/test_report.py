"""The table's numbers against the standard library's."""

import json
import statistics
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pandas as pd
import pytest

from stpp.report.statistics import experiment_table
from stpp.report.table import as_text, correlation_within, declines, run_row, score_correlation
from stpp.stages.evaluate import summary

SAVED = {
    "stages": 2,
    "cpu_hours": 1.0,
    "gpu_hours": 0.0,
    "stages_alone": 3,
    "cpu_hours_alone": 4.0,
    "gpu_hours_alone": 0.0,
}


def runs(**values: list[float]) -> pd.DataFrame:
    """Runs of experiments with these mIoU, seeds 0, 1, ..."""
    return pd.DataFrame(
        [
            {"experiment": name, "partition": 0, "seed": seed, "method": "st"}
            | {"subset": "test", "images": 5, "result": "student", "student_test": miou, "miou": miou}
            for name, column in values.items()
            for seed, miou in enumerate(column)
        ]
    )


def table_of(frame: pd.DataFrame, baseline: str = "base") -> pd.DataFrame:
    """The table with one baseline for all."""
    return experiment_table(frame, dict.fromkeys(frame["experiment"], baseline))


def test_mean_standard_deviation_and_paired_difference() -> None:
    base, other = [0.40, 0.45, 0.41], [0.44, 0.46, 0.48]
    table = table_of(runs(base=base, other=other)).set_index("experiment")
    differences = [b - a for a, b in zip(base, other)]
    assert table.loc["other", "n"] == 3
    assert table.loc["other", "miou_mean"] == pytest.approx(statistics.mean(other), rel=1e-12)
    assert table.loc["other", "miou_sd"] == pytest.approx(statistics.stdev(other), rel=1e-12)
    assert table.loc["other", "difference_mean"] == pytest.approx(statistics.mean(differences), rel=1e-12)
    assert table.loc["other", "difference_sd"] == pytest.approx(statistics.stdev(differences), rel=1e-12)


def test_differences_are_paired_by_seed_not_by_order() -> None:
    shuffled = runs(base=[0.1, 0.5], other=[0.2, 0.6]).iloc[[0, 1, 3, 2]]
    table = table_of(shuffled).set_index("experiment")
    assert table.loc["other", "difference_mean"] == pytest.approx(0.1)
    assert table.loc["other", "difference_sd"] == pytest.approx(0, abs=1e-12)


def test_a_student_that_is_worse_than_an_earlier_network_is_said() -> None:
    run = {"experiment": "e", "partition": 0, "seed": 0, "method": "st++", "subset": "test"}
    table = pd.DataFrame(
        [
            run
            | {"teacher_test": 0.5, "phase1_test": 0.7, "phase2_test": 0.65, "student_test": 0.6, "phase1_val": 0.9},
            run | {"teacher_test": 0.65, "student_test": 0.6, "seed": 1, "partition": 2},
            {
                "experiment": "s",
                "partition": 0,
                "seed": 0,
                "method": "supervised",
                "subset": "test",
                "supervised_test": 0.8,
            },
        ]
    )
    said = declines(table)
    assert [text.partition(": ")[0] for text in said] == ["e, seed 0", "e, seed 0", "e, partition 2, seed 1"]
    assert "worse than the student of phase 1 on test: 60.00 against 70.00 % mIoU" in said[0]
    assert "worse than the student of phase 2 on test: 60.00 against 65.00 % mIoU" in said[1]
    assert "worse than the teacher on test: 60.00 against 65.00 % mIoU" in said[2]


def test_one_run_has_no_standard_deviation() -> None:
    frame = runs(base=[0.4], other=[0.5])
    table = table_of(frame)
    assert np.isnan(table["miou_sd"][0])
    text = as_text("x", frame, table, None, SAVED, [], [])
    assert "nan" not in text.lower()
    header = text.splitlines()[2].split("  ")
    assert "95 % interval" not in header and "sd" not in header
    assert "so there is no interval" in text


def test_the_text_has_the_interval_and_what_it_means() -> None:
    frame = runs(base=[0.40, 0.45, 0.41], other=[0.44, 0.46, 0.48])
    text = as_text("x", frame, table_of(frame), None, SAVED, [], [])
    # Differences of 4, 1 and 7 %: mean 4, sd 3, and 4.303 * 3 / sqrt(3) to either side.
    assert "+4.00    3.00  [-3.45, +11.45]" in text
    assert "difference to base  its sd    95 % interval" in text
    assert "3 runs are few" in text


@pytest.mark.parametrize(
    ("scores", "true", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 90], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),
    ],
)
def test_spearmans_rho(scores: list[float], true: list[float], expected: float) -> None:
    """1 - 6 sum(d^2) / (n (n^2 - 1)) where nothing is tied: here 1 - 6 * 4 / 120 = 0.8 for the last case."""
    ids = [f"i{k}" for k in range(len(scores))]
    images = pd.DataFrame({"id": ids, "miou": true}).sample(frac=1, random_state=0)
    assert score_correlation(pd.DataFrame({"id": ids, "score": scores}), images) == pytest.approx(expected)


def test_correlation_within_equal_numbers_of_classes_is_not_that_of_their_number() -> None:
    classes = [1, 1, 1, 2, 2, 2, 2, 3, 4, 4]
    score = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1]
    true = [0.7, 0.8, 0.9, 0.3, 0.5, 0.4, 0.6, 0.2, 0.1, 0.05]
    ids = [f"i{k}" for k in range(10)]
    scores, images = (
        pd.DataFrame({"id": ids, "classes": classes, "score": score}),
        pd.DataFrame({"id": ids, "miou": true}),
    )
    # By hand: -1 of 3 images; 1 - 6 * 18 / 60 = -0.8 of 4; one image alone; a constant score.
    assert correlation_within(scores, images) == pytest.approx((2 * -1 + 3 * -0.8) / 5)
    assert score_correlation(scores, images) > 0.7
    assert np.isnan(correlation_within(scores.assign(score=0.5), images))
    images.loc[1, "miou"] = np.nan
    assert correlation_within(scores, images) == pytest.approx((1 * -1 + 3 * -0.8) / 4)


def test_an_image_without_a_true_mask_does_not_count() -> None:
    scores = pd.DataFrame({"id": ["a", "b", "c"], "score": [1.0, 2.0, 3.0]})
    assert score_correlation(scores, pd.DataFrame({"id": ["b", "c"], "miou": [0.1, 0.2]})) == pytest.approx(1)


def test_a_class_that_occurs_nowhere_has_no_iou_and_is_not_averaged() -> None:
    confusion = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    found = summary(confusion, ["a", "b", "c"], 1)
    assert found["iou"] == {"a": pytest.approx(6 / 9), "b": pytest.approx(3 / 6), "c": None}
    assert found["miou"] == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert found["pixel_accuracy"] == pytest.approx(9 / 12)
    json.dumps(found, allow_nan=False)


def test_the_finished_runs_numbers_are_those_of_the_stages(finished: Path) -> None:
    table = pd.read_csv(finished / "my results/tiny/runs.csv").set_index("experiment")
    runs = finished / "my results/runs/tiny/experiments"
    for experiment in fabricate.TINY["experiments"]:
        seed = runs / experiment / "seed0"
        last = "teacher" if experiment == "suponly" else "student"
        metrics = json.loads((seed / f"{last}-test/metrics.json").read_text())
        assert table.loc[experiment, "miou"] == metrics["miou"]
        rows = np.array(metrics["confusion"], float)
        union = rows.sum(0) + rows.sum(1) - rows.diagonal()
        assert metrics["miou"] == pytest.approx(np.mean((rows.diagonal() / np.maximum(union, 1))[union > 0]))
    groups = json.loads((runs / "st++/seed0/stability-truth/metrics.json").read_text())["groups"]
    assert table.loc["st++", "reliable"] == groups["reliable"]["miou"]
    assert groups["reliable"]["images"] == groups["unreliable"]["images"] == 3


def test_a_run_without_val_and_test_has_no_result(tmp_path: Path) -> None:
    run: dict[str, Any] = {"experiment": "e", "partition": 0, "seed": 0, "method": "st"}
    frame = pd.DataFrame([run_row(tmp_path, run | {"stages": fabricate.parts(teacher="train/t")})])
    assert "no mIoU was measured" in as_text("x", frame, table_of(frame, "e"), None, SAVED, [], [])
