"""What the numbers cost, and how much was saved because experiments share stages."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stpp.plan.parts import folders

Record = Mapping[str, Any]
"""The content of a `stage.json`."""

HOURS = ("cpu_hours", "gpu_hours")


def stage_hours(record: Record) -> dict[str, float]:
    """What a stage took: `cpu_hours`, processor time of all its processes; `gpu_hours`, its wall time times its GPUs.

    Hours are NaN if the record does not tell.
    """
    processes = _number(record, "processes") if "processes" in record else 1.0
    gpus = processes if str(record.get("device", "cpu")).startswith("cuda") else 0.0
    return {
        "cpu_hours": _number(record, "cpu_seconds") * processes / 3600,
        "gpu_hours": _number(record, "seconds") * gpus / 3600 if gpus else 0.0,
    }


def experiment_costs(runs: Sequence[Mapping[str, Any]], records: Mapping[str, Record]) -> pd.DataFrame:
    """One row an experiment: `cpu_hours` and `gpu_hours` of all stages of one run, the mean over its runs.

    `records` are by folder of the stage. Stages that other experiments need too count in full.
    """
    hours = {folder: stage_hours(record) for folder, record in records.items()}
    rows = [
        {"experiment": run["experiment"]}
        | {kind: sum(hours[folder][kind] for folder in folders(run)) for kind in HOURS}
        for run in runs
    ]
    return pd.DataFrame(rows).groupby("experiment", sort=False).mean().reset_index()


def sharing(runs: Sequence[Mapping[str, Any]], records: Mapping[str, Record]) -> dict[str, float]:
    """What sharing saved: number of `stages` and their hours, and the same with `_alone`, if no two runs shared any."""
    needed = [folder for run in runs for folder in sorted(folders(run))]
    found: dict[str, float] = {}
    for suffix, counted in (("", sorted(set(needed))), ("_alone", needed)):
        found[f"stages{suffix}"] = len(counted)
        found |= {f"{kind}{suffix}": sum(stage_hours(records[folder])[kind] for folder in counted) for kind in HOURS}
    return found


def _number(record: Record, key: str) -> float:
    value = record.get(key)
    return float(value) if isinstance(value, int | float) else math.nan
