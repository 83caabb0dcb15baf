"""The beds of `make real`: four configurations that differ in their data alone, and one table over them."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from stpp.settings.configfile import read

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


def test_a_bed_that_has_not_run_is_said(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/beds.py"), "cars", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "run `make real` first" in done.stderr
