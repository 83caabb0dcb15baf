"""The numbers of the table: over the runs of an experiment, and against its baseline, run by run."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PAIRED_BY = ["partition", "seed"]
"""What two runs of different experiments have in common if their difference means something."""

RESAMPLES = 10_000


def experiment_table(runs: pd.DataFrame, baselines: Mapping[str, str]) -> pd.DataFrame:
    """One row an experiment, in the order of `runs` (rows as `stpp.report.table.run_row` makes them).

    Of the result, in [0, 1]: `n` runs that have one, `miou_mean` and `miou_sd` (over n - 1; NaN for one run).
    `val_last_...` and `val_best_...`: the same of the last network on val after its last epoch and at its best one;
    `reliable_...`, `unreliable_...`, `spearman_...`: of what the stability score was worth, where that is known.
    `difference_...`: what `paired_difference` says of the experiment and its baseline.
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
        for column in ("miou", "val_last", "val_best", "reliable", "unreliable", "spearman"):
            if column in group:
                row |= {f"{column}_mean": group[column].mean(), f"{column}_sd": group[column].std()}
        baseline = baselines[str(name)]
        row["baseline"] = baseline
        if name != baseline:
            row |= paired_difference(results[name], results[baseline])
        rows.append(row)
    return pd.DataFrame(rows)


def paired_difference(values: pd.Series, baseline: pd.Series) -> dict[str, float]:
    """Of the differences `values` - `baseline` between runs of the same index: how many, mean, standard deviation
    (over n - 1), and both ends of the bootstrap interval; NaN where there are too few."""
    difference = (values - baseline).dropna().to_numpy(float)
    low, high = bootstrap_interval(difference)
    return {
        "difference_n": len(difference),
        "difference_mean": float(difference.mean()) if len(difference) else math.nan,
        "difference_sd": float(difference.std(ddof=1)) if len(difference) > 1 else math.nan,
        "difference_low": low,
        "difference_high": high,
    }


def bootstrap_interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` (n,) at `level`: both ends, NaN for fewer than two values.

    The mean of n values drawn from `values` with replacement, 10 000 times with a fixed seed; the interval holds the
    middle share `level` of these means (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13). With few
    runs it is too narrow: for n <= 3 it is just the least and the greatest value, which enclose the median of what the
    values were drawn from in 1 - 2 ** (1 - n) of all cases, 50 % for n = 2 and 75 % for n = 3. Runs that share a seed
    or a partition count as independent.
    """
    if len(values) < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    means = values[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
