"""What the table says of several runs: intervals, what numbers cost, and published numbers next to ours."""

import math
import statistics
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pandas as pd
import pytest

from stpp.common.errors import StppError
from stpp.report.costs import experiment_costs, sharing, stage_hours
from stpp.report.published import beside_ours, of_results, read_published
from stpp.report.statistics import experiment_table, notes, paired_difference, t_interval, t_probability, t_quantile

# 97.5 and 99.5 % quantiles by degrees of freedom, those of printed tables; the digits beyond are those that mpmath's
# regularised incomplete beta function gives.
QUANTILES = {
    1: (12.706205, 63.656741),
    2: (4.302653, 9.924843),
    3: (3.182446, 5.840909),
    4: (2.776445, 4.604095),
    5: (2.570582, 4.032143),
    8: (2.306004, 3.355387),
    9: (2.262157, 3.249836),
    10: (2.228139, 3.169273),
    29: (2.045230, 2.756386),
    30: (2.042272, 2.749996),
    100: (1.983972, 2.625891),
}


@pytest.mark.parametrize("freedom", QUANTILES)
def test_quantiles_are_those_of_a_table(freedom: int) -> None:
    for probability, expected in zip((0.975, 0.995), QUANTILES[freedom]):
        assert t_quantile(freedom, probability) == pytest.approx(expected, rel=0, abs=6e-7)
    assert t_quantile(freedom, 0.5) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 12, 31])
def test_the_probability_is_the_area_below_the_density(freedom: int) -> None:
    """Of Student's density, summed up by the trapezoidal rule from 0 to 2.5."""
    factor = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    t = np.linspace(0, 2.5, 20_001)
    area = np.trapezoid(factor * (1 + t**2 / freedom) ** (-(freedom + 1) / 2), t)
    assert t_probability(2.5, freedom) == pytest.approx(0.5 + area, abs=1e-8)
    assert t_probability(-2.5, freedom) == pytest.approx(0.5 - area, abs=1e-8)


def test_many_degrees_of_freedom_are_as_the_normal_distribution() -> None:
    assert t_quantile(20_000) == pytest.approx(statistics.NormalDist().inv_cdf(0.975), abs=2e-4)


@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_the_interval_encloses_the_true_mean_in_95_of_100_cases(n: int) -> None:
    """Within 4 standard errors of the simulation, which are 2 %; one with the normal quantile reaches 70 to 92 %."""
    values = pd.DataFrame(np.random.default_rng(n).normal(0.01, 0.02, (n, 2000)))
    intervals = [t_interval(values[column]) for column in values]
    assert np.mean([low < 0.01 < high for low, high in intervals]) == pytest.approx(0.95, abs=0.02)


def test_runs_that_share_a_partition_do_not_count_as_independent() -> None:
    """95 of 100 intervals enclose the true mean if partitions differ more than seeds; of runs one by one, about 60."""
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product([[1, 2, 3], range(4)], names=["partition", "seed"])
    enclosed = []
    for _ in range(1000):
        differences = pd.Series(rng.normal(0.01, 0.02, 3).repeat(4) + rng.normal(0, 0.01, 12), index)
        found = paired_difference(differences, 0 * differences)
        enclosed.append(found["difference_low"] < 0.01 < found["difference_high"])
        assert (found["difference_of"], found["difference_n"]) == ("partitions", 3)
        assert found["difference_mean"] == pytest.approx(differences.mean())
    assert np.mean(enclosed) == pytest.approx(0.95, abs=0.028)


def test_runs_of_one_partition_count_one_by_one() -> None:
    index = pd.MultiIndex.from_product([[7], [0, 1, 2]], names=["partition", "seed"])
    found = paired_difference(pd.Series([0.5, 0.6, 0.8], index), pd.Series([0.4, 0.4, 0.5], index))
    assert (found["difference_of"], found["difference_n"]) == ("runs", 3)
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (found["difference_low"], found["difference_high"]) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-7)


def test_runs_are_paired_by_partition_and_seed() -> None:
    index = pd.MultiIndex.from_tuples([(1, 0), (1, 1), (2, 0)], names=["partition", "seed"])
    other = pd.Series([0.5, 0.6, 0.9], index[::-1])
    found = paired_difference(pd.Series([0.91, 0.62, 0.53], index), other)
    assert found["difference_n"] == 2
    assert found["difference_mean"] == pytest.approx(((0.01 + 0.02) / 2 + 0.03) / 2)
    alone = paired_difference(pd.Series([0.91], index[:1]), other)
    assert (alone["difference_of"], alone["difference_n"]) == ("runs", 1)
    assert alone["difference_mean"] == pytest.approx(0.01)
    assert np.isnan([alone[f"difference_{what}"] for what in ("sd", "low", "high")]).all()


def compared(rows: int, seeds: int, partitions: int = 1) -> pd.DataFrame:
    """The table of a baseline and so many rows beside it."""
    names = ["base", *(f"row{row}" for row in range(rows))]
    runs = pd.DataFrame(
        [
            {"experiment": name, "partition": partition, "seed": seed, "method": "st", "subset": "val", "miou": miou}
            for name in names
            for partition in range(partitions)
            for seed, miou in enumerate(np.linspace(0.4, 0.5, seeds))
        ]
    )
    return experiment_table(runs, dict.fromkeys(names, "base"))


def test_few_runs_are_said_to_be_few() -> None:
    assert notes(compared(0, 3)) == []
    assert "no interval" in " ".join(notes(compared(1, 1)))
    for seeds, errors in ((2, "12.7"), (3, "4.3")):
        assert f"{seeds} runs are few: the interval reaches {errors} standard errors" in " ".join(
            notes(compared(1, seeds))
        )
    assert "few" not in " ".join(notes(compared(1, 4)))


def test_what_counts_as_one_difference_is_said() -> None:
    assert "not for other labeled images" in " ".join(notes(compared(1, 4)))
    said = " ".join(notes(compared(1, 4, partitions=3)))
    assert "each partition counts once" in said
    assert "3 partitions are few" in said


def test_what_chance_would_give_is_said_of_several_rows() -> None:
    """24 rows of three runs: each has the same sign three times with probability 1/4."""
    assert "24 rows are compared" in notes(compared(24, 3))[-1]
    assert "6 of them the same sign in all runs, and 1.2 of them an interval without 0" in notes(compared(24, 3))[-1]
    assert "rows are compared" not in " ".join(notes(compared(1, 3)))


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
    {"experiment": "a", "stages": fabricate.parts(teacher="train/t")},
    {"experiment": "b", "stages": fabricate.parts(teacher="train/t", score="score/k", student="train/s")},
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
