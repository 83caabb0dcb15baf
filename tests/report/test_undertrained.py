"""Trainings that ended while they were gaining are warned of."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stpp.report import undertrained


def history(*miou: float | None) -> pd.DataFrame:
    """Of a training of 10 iterations an epoch."""
    return pd.DataFrame({"iterations": [10 * (i + 1) for i in range(len(miou))], "val_miou": miou}, dtype=float)


@pytest.mark.parametrize(
    ("miou", "gain"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.80, 0.83], 0.03),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 0.7, 0.8, 0.80, 0.83], -0.07),
        ([None] * 8 + [0.5, 0.4], -0.1),
        ([None] * 9 + [0.5], math.nan),
        ([0.1, 0.2, 0.3], 0.1),
    ],
)
def test_the_best_of_the_last_tenth_is_compared_with_the_best_before(miou: list[float | None], gain: float) -> None:
    assert undertrained.last_gain(history(*miou)) == pytest.approx(gain, nan_ok=True)


def test_the_mean_over_runs_decides_and_shared_trainings_are_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undertrained, "verified", lambda path: path)
    gains = {"teacher0": 0.05, "teacher1": 0.01, "student0": 0.015, "student1": -0.02}
    for name, gain in gains.items():
        (tmp_path / "train" / name).mkdir(parents=True)
        history(*[0.5] * 9, 0.5 + gain).to_csv(tmp_path / "train" / name / "metrics.csv", index=False)

    def run(experiment: str, seed: int, *names: str) -> dict[str, Any]:
        parts = {name: {"kind": "network", "folder": f"train/{name}{seed}", "title": name} for name in names}
        return {"experiment": experiment, "partition": 0, "seed": seed, "stages": parts}

    runs = [run("suponly", seed, "teacher") for seed in (0, 1)] + [run("st", s, "teacher", "student") for s in (0, 1)]
    (said,) = undertrained.warnings(runs, tmp_path)
    assert said.startswith("the training of the teacher of suponly may be too short: its last tenth brought 3.0 points")


def test_several_short_trainings_are_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undertrained, "verified", lambda path: path)
    for name, gain in {"teacher": 0.05, "phase1": 0.02, "student": 0.0}.items():
        (tmp_path / "train" / name).mkdir(parents=True)
        history(*[0.5] * 9, 0.5 + gain).to_csv(tmp_path / "train" / name / "metrics.csv", index=False)
    titles = {"teacher": "teacher", "phase1": "phase 1", "student": "final student"}
    parts = {
        name: {"kind": "network", "folder": f"train/{name}", "title": title, "phase": number}
        for number, (name, title) in enumerate(titles.items())
    }
    (said,) = undertrained.warnings([{"experiment": "st++", "partition": 0, "seed": 0, "stages": parts}], tmp_path)
    assert said.startswith("2 trainings may be too short")
    assert said.endswith("the teacher of st++ (5.0 points), the student of phase 1 of st++ (2.0 points)")
