"""The numbers of the table: over the runs of an experiment, and against its baseline, run by run."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

PAIRED_BY = ["partition", "seed"]
"""What two runs of different experiments have in common if their difference means something."""

LEVEL = 0.95
"""Of the intervals."""
WORTH = ("reliable", "unreliable", "spearman", "spearman_within")
"""Columns of the table of runs that say what the stability score was worth."""
FEW = 3
"""Up to so many differences are said to be few."""


def experiment_table(runs: pd.DataFrame, baselines: Mapping[str, str]) -> pd.DataFrame:
    """One row an experiment, in the order of `runs` (rows as `stpp.report.table.run_row` makes them).

    Of the result, in [0, 1]: `n` runs that have one, `miou_mean` and `miou_sd` (over n - 1; NaN for one run).
    `val_last_...` and `val_best_...`: the same of the last network on val after its last epoch and at its best one;
    `reliable_...`, `unreliable_...`, `spearman_...`, `spearman_within_...`: of what the stability score was worth,
    where that is known.
    `baseline`, and `difference_...`: what `paired_difference` says of the experiment and its baseline.
    """
    if "miou" not in runs:
        return pd.DataFrame({"experiment": runs["experiment"].unique()})
    results = {name: group.set_index(PAIRED_BY)["miou"] for name, group in runs.groupby("experiment", sort=False)}
    rows = []
    for name, group in runs.groupby("experiment", sort=False):
        row: dict[str, Any] = {
            "experiment": name,
            "method": group["method"].iloc[0],
            "subset": group["subset"].iloc[0],
            "n": int(group["miou"].count()),
        }
        for column in ("miou", "val_last", "val_best", *WORTH):
            if column in group:
                row |= {f"{column}_mean": group[column].mean(), f"{column}_sd": group[column].std()}
        baseline = baselines[str(name)]
        row["baseline"] = baseline
        if name != baseline:
            row |= paired_difference(results[name], results[baseline])
        rows.append(row)
    return pd.DataFrame(rows)


def paired_difference(values: pd.Series, baseline: pd.Series) -> dict[str, Any]:
    """Of the differences `values` - `baseline` between runs of the same index (`PAIRED_BY`).

    `difference_of`: what counts as one difference. That is `runs`; with two partitions or more it is `partitions`, the
    mean difference of each, since runs of the same partition share their labeled images and so are not independent:
    counted one by one they would make the interval too narrow. `difference_n`: how many there are; `difference_mean`;
    `difference_sd`, over n - 1; `difference_low`, `difference_high`: their t interval. NaN where there are too few.
    """
    differences = (values - baseline).dropna()
    by_partition = differences.groupby(level="partition").mean()
    several = len(by_partition) > 1
    units = by_partition if several else differences
    low, high = t_interval(units)
    return {
        "difference_of": "partitions" if several else "runs",
        "difference_n": len(units),
        "difference_mean": float(units.mean()),
        "difference_sd": float(units.std()),
        "difference_low": low,
        "difference_high": high,
    }


def notes(table: pd.DataFrame) -> list[str]:
    """What to bear in mind with the differences of `table` (as `experiment_table` makes it): sentences for people.

    None where nothing is compared.
    """
    compared = table[table["difference_n"] > 0] if "difference_n" in table else table.iloc[:0]
    if compared.empty:
        return []
    of, counts = compared["difference_of"].iloc[0], compared["difference_n"]
    pairs = "seed and partition" if of == "partitions" else "seed"
    said = [f"Difference: the mIoU minus that of the baseline, in runs of the same {pairs}; its mean and sd."]
    if counts.max() == 1:
        return [
            *said,
            "One run says nothing about spread, so there is no interval. Add seeds before you believe a gain.",
        ]
    if of == "partitions":
        said.append(
            "Runs of one partition share their labeled images, so each partition counts once, by its mean difference: "
            "sd and interval are over partitions."
        )
    said.append("95 % interval: Student's t interval of the mean difference.")
    if of == "runs":
        said.append("It allows for other seeds, not for other labeled images.")
    if (least := int(counts[counts > 1].min())) <= FEW:
        said.append(
            f"{least} {of} are few: the interval reaches {t_quantile(least - 1):.1f} standard errors to either side, "
            "and relies on differences that vary normally, which so few cannot show."
        )
    if len(compared) > 1:
        same_sign, without_zero = float((2.0 ** (1 - counts)).sum()), (1 - LEVEL) * len(compared)
        said.append(
            f"{len(compared)} rows are compared. If none differed from its baseline, chance alone would give "
            f"{same_sign:.2g} of them the same sign in all {of}, and {without_zero:.2g} of them an interval without 0."
        )
    return said


# --- Student's t ------------------------------------------------------------------------------------------------------


def t_interval(values: pd.Series) -> tuple[float, float]:
    """Student's two-sided 95 % interval of the mean of what `values` (n,) were drawn from: both ends.

    Mean -+ t * sd / sqrt(n), with the t distribution's 97.5 % quantile of n - 1 degrees of freedom. It is exact, for
    every n, if the values are independent and normal. NaN for fewer than two values.
    """
    if len(values) < 2:
        return math.nan, math.nan
    mean, half = float(values.mean()), t_quantile(len(values) - 1) * float(values.std()) / math.sqrt(len(values))
    return mean - half, mean + half


def t_quantile(freedom: int, probability: float = (1 + LEVEL) / 2) -> float:
    """The t below which Student's distribution with `freedom` >= 1 degrees of freedom has `probability`, in [0.5, 1).

    By bisection of `t_probability`, to the last digits of a float.
    """
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < probability:
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if t_probability(middle, freedom) < probability else (low, middle)
    return high


def t_probability(t: float, freedom: int) -> float:
    """The probability, in (0, 1), that Student's t with `freedom` >= 1 degrees of freedom is at most `t`.

    The finite series for whole degrees of freedom, Abramowitz and Stegun, Handbook of Mathematical Functions, 1964,
    26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    within = math.sin(angle) * total
    return 0.5 + ((angle + within) / math.pi if odd else within / 2)
