"""The benchmarks run; how fast things are is for people to look at, on a machine that does nothing else.

`make bench` as a whole is in test_doc_workflows.py.
"""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

BENCHMARKS = ROOT / "benchmarks"
pytestmark = pytest.mark.manual


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_kind_of_work_is_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, shape, suffix in (("images", (60, 80, 3), "jpg"), ("masks", (60, 80), "png")):
        (tmp_path / folder).mkdir()
        for number in range(4):
            pixels = rng.integers(11, size=shape, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.{suffix}")
    work = ["weak-png", "strong-jpeg", "score-memory", "score-stored", "train-bf16"]
    options = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks"), "--only", ",".join(work)]
    options += ["--count", "4", "--crop", "33", "--turns", "1", "--csv", str(tmp_path / "speed.csv")]
    printed = run(str(BENCHMARKS / "speed"), *options)
    assert [line.split()[0] for line in printed.splitlines()[2:]] == work
    with (tmp_path / "speed.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["work"] for row in rows] == work
    assert all(float(row["images_per_second"]) > 0 and float(row["peak_mb"]) > 100 for row in rows)


@pytest.mark.parametrize(("method", "batch"), [("suponly", "2"), ("unimatch", "4")])
def test_the_floor_has_its_rates(method: str, batch: str) -> None:
    options = ["--backbone", "mobilenet_v2", "--crop", "33", "--batch", batch, "--images", "4", "--turns", "1"]
    options += ["--method", method]
    options += ["--precision", "fp32"]  # bf16 takes minutes where the processor has no instructions for it
    lines = run(str(BENCHMARKS / "speed" / "floor.py"), *options).splitlines()[1:]
    rates = {line[:15].strip(): float(line[15:].split()[0]) for line in lines if "GFLOP/s" in line}
    assert list(rates) == ["matrix products", "bare step", "prediction"]
    assert all(rate > 1 for rate in rates.values())
