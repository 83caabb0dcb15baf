"""The beds of `make real`: four configurations that differ in their data alone, and one table over them."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from conftest import ROOT

from stpp.settings.configfile import read


@pytest.fixture
def beds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the table."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("beds")


BEDS = sorted((ROOT / "experiments/beds").glob("*.yaml"))


def test_beds_differ_in_their_data_and_crops_alone() -> None:
    found = [read(path).model_dump(exclude={"name", "data"}) for path in BEDS]
    for config in found:
        for role in ("teacher", "student"):
            del config["training"][role]["crop"]
    assert len(found) == 4 and all(config == found[0] for config in found)


@pytest.mark.parametrize("path", BEDS, ids=lambda path: path.stem)
def test_a_bed_that_is_not_there_is_said(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "stpp", "plan", path], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "The data root ../shared/" in done.stderr and "is not a folder" in done.stderr


def test_the_table_has_all_experiments_and_what_val_would_hand_over(finished: Path, tmp_path: Path) -> None:
    view = finished / "my results/tiny"
    for folder in ("", "runs"):
        (tmp_path / folder / "beds-x").parent.mkdir(exist_ok=True)
        (tmp_path / folder / "beds-x").symlink_to(finished / "my results" / folder / "tiny")
    command = [sys.executable, str(ROOT / "benchmarks/beds.py"), "x", "--results", str(tmp_path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    table = pd.read_csv(view / "table.csv").set_index("experiment")
    for line, (name, row) in zip(lines[1:], table.iterrows()):
        assert line.split()[:2] == [name, f"{100 * row['miou_mean']:.2f}"]
    assert lines[-1].split()[:2] == ["x", "0"]


@pytest.mark.parametrize(
    ("longer", "masks", "counts"), [(0.509, 0.56, "yes"), (0.511, 0.6, "no"), (0.505, 0.55, "no"), (0.4, 0.56, "yes")]
)
def test_a_bed_counts_where_labels_are_what_is_missing(
    longer: float, masks: float, counts: str, tmp_path: Path, beds: ModuleType
) -> None:
    rows = {"suponly": 0.5, "suponly-longer": longer, "supervised": masks}
    pd.DataFrame({"experiment": rows.keys(), "miou_mean": rows.values()}).to_csv(tmp_path / "table.csv")
    found = beds.counting("x", tmp_path)
    assert found[0] == "x" and float(found[1]) == pytest.approx(100 * (longer - 0.5)) and found[3] == counts
    assert float(found[2]) == pytest.approx(100 * (masks - max(0.5, longer)))


def test_a_forecast_is_right_where_a_method_is_above_the_baseline_as_it_said(tmp_path: Path, beds: ModuleType) -> None:
    miou = {"suponly-compute": (0.5, 0.6), "suponly": (0.7, 0.7), "st": (0.55, 0.5), "supervised": (0.9, 0.9)}
    rows = [
        {"experiment": name, "method": name.partition("-")[0], "seed": seed, "miou": value}
        for name, both in miou.items()
        for seed, value in enumerate(both)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv")
    assert beds.forecast(tmp_path) == {}
    for pays, right in ((True, [True, False]), (False, [False, True])):
        (tmp_path / "outlook.json").write_text(json.dumps({"pays": pays}))
        assert beds.forecast(tmp_path) == {"st": right}
    found = beds.forecasts({"a": {"st": [True, False]}, "b": {"st": [True, True], "e": [False, False]}, "c": {}})
    assert found == [
        ["method", "a", "b", "c"],
        ["st", "1 of 2", "2 of 2", ""],
        ["e", "", "0 of 2", ""],
        ["all", "1 of 2", "2 of 4", ""],
        ["all beds", "3 of 6", "", ""],
    ]


def test_a_bed_that_has_not_run_is_said(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/beds.py"), "cars", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "run `make real` first" in done.stderr
