"""What the table says of several runs: intervals, what numbers cost, and published numbers beside ours."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stpp.errors import StppError
from stpp.report.costs import experiment_costs, sharing, stage_hours
from stpp.report.published import beside_ours, of_results, read_published
from stpp.report.statistics import bootstrap_interval, experiment_table, paired_difference


def test_the_interval_is_that_of_all_resamples() -> None:
    values = np.array([0.3, -0.1, 0.8, 0.25])
    every = np.sort([np.mean(drawn) for drawn in itertools.product(values, repeat=4)])
    assert bootstrap_interval(values) == pytest.approx(tuple(np.quantile(every, [0.025, 0.975])), abs=0.02)
    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_of_three_runs_the_interval_is_the_range() -> None:
    assert bootstrap_interval(np.array([0.2, -0.3, 0.1])) == pytest.approx((-0.3, 0.2), abs=1e-12)
    assert np.isnan(bootstrap_interval(np.array([0.2]))).all()


def test_what_the_interval_of_three_runs_is_worth() -> None:
    """It encloses the true median in 1 - 2 ** (1 - 3) = 75 % of all cases."""
    rng = np.random.default_rng(1)
    intervals = [bootstrap_interval(rng.normal(size=3)) for _ in range(1000)]
    assert np.mean([low < 0 < high for low, high in intervals]) == pytest.approx(0.75, abs=0.05)


def test_runs_are_paired_by_partition_and_seed() -> None:
    index = pd.MultiIndex.from_tuples([(1, 0), (1, 1), (2, 0)], names=["partition", "seed"])
    other = pd.Series([0.5, 0.6, 0.9], index[::-1])
    found = paired_difference(pd.Series([0.91, 0.62, 0.53], index), other)
    assert found["difference_n"] == 3
    assert found["difference_mean"] == pytest.approx((0.01 + 0.02 + 0.03) / 3)
    alone = paired_difference(pd.Series([0.91], index[:1]), other)
    assert (alone["difference_n"], alone["difference_mean"]) == (1, pytest.approx(0.01))
    assert np.isnan(alone["difference_sd"])


def test_each_experiment_has_its_own_baseline() -> None:
    miou = {"a": 0.5, "a-st": 0.6, "b": 0.1, "b-st": 0.9}
    runs = pd.DataFrame(
        [
            {"experiment": name, "partition": 0, "seed": 0, "method": "st", "subset": "val", "miou": value}
            for name, value in miou.items()
        ]
    )
    table = experiment_table(runs, {"a": "a", "a-st": "a", "b": "b", "b-st": "b"}).set_index("experiment")
    assert table["difference_mean"]["a-st"] == pytest.approx(0.1)
    assert table["difference_mean"]["b-st"] == pytest.approx(0.8)
    assert np.isnan(table["difference_mean"]["b"])


# --- costs ------------------------------------------------------------------------------------------------------------

RECORDS: dict[str, dict[str, Any]] = {
    "train/t": {"device": "cuda", "processes": 2, "seconds": 3600, "cpu_seconds": 1800},
    "train/s": {"device": "cpu", "processes": 1, "seconds": 7200, "cpu_seconds": 3600},
    "score/k": {"seconds": 36, "cpu_seconds": 36},
}
RUNS = [
    {"experiment": "a", "stages": {"teacher": "train/t"}},
    {"experiment": "b", "stages": {"teacher": "train/t", "score": "score/k", "student": "train/s"}},
]


def test_hours_are_those_of_all_processes() -> None:
    assert stage_hours(RECORDS["train/t"]) == {"cpu_hours": 1, "gpu_hours": 2}
    assert stage_hours(RECORDS["score/k"]) == {"cpu_hours": 0.01, "gpu_hours": 0}
    assert np.isnan(stage_hours({"seconds": "?"})["cpu_hours"])


def test_an_experiment_costs_all_that_it_needs() -> None:
    costs = experiment_costs(RUNS, RECORDS).set_index("experiment")
    assert costs["cpu_hours"].to_dict() == {"a": 1, "b": 2.01}
    assert costs["gpu_hours"].to_dict() == {"a": 2, "b": 2}


def test_what_is_shared_is_computed_once() -> None:
    saved = sharing(RUNS, RECORDS)
    assert (saved["stages"], saved["stages_alone"]) == (3, 4)
    assert (saved["cpu_hours"], saved["cpu_hours_alone"]) == (pytest.approx(2.01), pytest.approx(3.01))
    assert (saved["gpu_hours"], saved["gpu_hours_alone"]) == (2, 4)


# --- published numbers ------------------------------------------------------------------------------------------------

PUBLISHED = """\
config,experiment,role,network,labels,method,miou,source
mine,pixel,student,Net,1/8,pixels,73.5,a paper
mine,pixel,phase1,Net,1/8,"pixels, phase 1",71.5,a paper
mine,,,Net,1/8,Other,70.0,another
yours,pixel,student,Net,1/8,pixels,60.0,a paper
"""


def test_published_numbers_stand_beside_the_same_network_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    path.write_text(PUBLISHED)
    runs = pd.DataFrame(
        [
            {"experiment": "pixel", "subset": "test", "result": "student", "student_test": s, "phase1_test": p}
            for s, p in ((0.7, 0.6), (0.8, 0.64))
        ]
    )
    published = beside_ours(read_published(path, "mine"), runs)
    assert published["miou"].tolist() == [0.735, 0.715, 0.7]
    assert published["ours_mean"].tolist()[:2] == [pytest.approx(0.75), pytest.approx(0.62)]
    assert published["n"].tolist() == [2, 2, 0]
    assert of_results(published, runs).to_dict("records") == [{"experiment": "pixel", "published": 0.735}]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "", PUBLISHED.replace("70.0", "seventy")])
def test_a_file_that_has_no_published_numbers_is_a_clear_message(text: str, tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    path.write_text(text)
    with pytest.raises(StppError, match=r"as published numbers.*expected a CSV file"):
        read_published(path, "mine")
