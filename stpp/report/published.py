"""Published numbers next to ours."""

from pathlib import Path
from typing import Any

import pandas as pd

from stpp.common.errors import StppError

COLUMNS = ["config", "experiment", "role", "network", "labels", "method", "miou", "source"]
"""Of a file of published numbers. `miou` is in percent; `experiment` and `role` (the network of a run: teacher, phase1,
student, ...) say which of our numbers stands next to it, and are empty for methods that are not ours."""


def read_published(path: Path, config: str) -> pd.DataFrame:
    """The rows of a file of published numbers that belong to the configuration of this name, as text, mIoU in [0, 1].

    Raises StppError if it is no such file.
    """
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
        if missing := [name for name in COLUMNS if name not in rows]:
            raise ValueError(f"it has no column {', '.join(missing)}")
        rows = rows[rows["config"] == config][COLUMNS].reset_index(drop=True)
        rows["miou"] = rows["miou"].astype(float) / 100
    except (OSError, ValueError) as error:
        raise StppError(
            f"cannot read {path} (setting `published`) as published numbers: {error}; expected a CSV file with the "
            f"columns {', '.join(COLUMNS)}, `miou` in percent"
        ) from None
    return rows


def beside_ours(published: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """`published` with `ours_mean`, `ours_sd` and `n` of the same network on the subset of the result.

    They are missing for methods that are not ours, and for experiments that the configuration does not have.
    """
    ours: list[dict[str, Any]] = []
    for experiment, role in zip(published["experiment"], published["role"]):
        group = runs[runs["experiment"] == experiment]
        column = f"{role}_{group['subset'].iloc[0]}" if len(group) and "subset" in group else ""
        values = group[column].dropna() if column in group else pd.Series(dtype=float)
        ours.append({"ours_mean": values.mean(), "ours_sd": values.std(), "n": len(values)})
    return pd.concat([published, pd.DataFrame(ours, columns=["ours_mean", "ours_sd", "n"])], axis=1)


def of_results(published: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The published number of each experiment's result: `experiment`, `published` in [0, 1]."""
    results = (
        runs[["experiment", "result"]].drop_duplicates() if "result" in runs else runs[["experiment"]].assign(result="")
    )
    both = results.merge(published, left_on=["experiment", "result"], right_on=["experiment", "role"])
    return both[["experiment", "miou"]].rename(columns={"miou": "published"})
