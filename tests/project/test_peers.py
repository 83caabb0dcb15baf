"""stpp beside other libraries: the same network, and a clear word where one is missing or differs."""

import csv
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from stpp.models import build

SPEED = ROOT / "benchmarks/speed"
LIBRARY = "segmentation_models_pytorch"


@pytest.fixture
def smp(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SPEED))
    return importlib.import_module("smp")


def beside(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        str(SPEED),
        "--images",
        str(folder / "images"),
        "--masks",
        str(folder / "masks"),
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def photographs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, shape, suffix in (("images", (60, 80, 3), "jpg"), ("masks", (60, 80), "png")):
        (folder / name).mkdir()
        for number in range(2):
            Image.fromarray(rng.integers(11, size=shape, dtype=np.uint8)).save(folder / name / f"{number}.{suffix}")


def test_a_peer_that_is_not_installed_is_said(tmp_path: Path) -> None:
    if importlib.util.find_spec(LIBRARY):
        pytest.skip("it is installed")
    done = beside(tmp_path, "--peer", "smp")
    assert (
        done.returncode == 2 and f"{LIBRARY} is not installed; pip install segmentation-models-pytorch" in done.stderr
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--peer", "smp", "--reference", "x"), "--peer takes neither --reference nor --weights"),
        (("--only", "walk"), "no such work beside nobody: walk"),
    ],
)
def test_what_makes_no_sense_is_refused(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = beside(tmp_path, *options)
    assert done.returncode == 2 and message in done.stderr


def test_parameters_are_counted_as_a_network_counts_them(smp: ModuleType) -> None:
    network = build({"backbone": "tiny"}, 3)
    assert smp.parameters_in(network.state_dict()) == sum(each.numel() for each in network.parameters())


@pytest.mark.parametrize(("theirs", "same"), [(100, True), (101, True), (99, True), (103, False), (97, False)])
def test_networks_of_other_sizes_are_not_compared(theirs: int, same: bool, smp: ModuleType) -> None:
    assert (smp.unlike(theirs, 100) == "") == same


def test_both_sides_take_turns_at_the_same_network(tmp_path: Path) -> None:
    pytest.importorskip(LIBRARY)
    photographs(tmp_path)
    options = ["--peer", "smp", "--backbone", "mobilenet_v2", "--only", "train-fp32,predict-fp32"]
    options += ["--count", "2", "--batch", "2", "--crop", "64", "--turns", "1", "--csv", str(tmp_path / "speed.csv")]
    done = beside(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "speed.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["work"] for row in rows] == ["train-fp32", "predict-fp32"]
    assert all(float(row["ratio"]) > 0 and float(row["target"]) == 1.1 for row in rows)


def test_an_encoder_that_it_lacks_is_said(tmp_path: Path) -> None:
    pytest.importorskip(LIBRARY)
    photographs(tmp_path)
    done = beside(
        tmp_path, "--peer", "smp", "--backbone", "tiny", "--only", "train-fp32", "--count", "2", "--batch", "2"
    )
    assert done.returncode != 0 and "has no encoder tiny" in done.stderr
