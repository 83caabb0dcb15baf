"""Trainings whose network PyTorch compiles."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fabricate
import numpy as np
import pandas as pd
import pytest
from conftest import Snakemake


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a teacher that is planned and not yet trained."""
    folder = fabricate.planned(tmp_path_factory.mktemp("compiled"))
    return folder / fabricate.only(folder, "train/teacher*")


def trained(teacher: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stpp", "train", str(teacher), "--gpus", "0", *options]
    for path in teacher.iterdir():
        if path.is_file() and path.name != "recipe.json":
            path.unlink()
    surroundings = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"} | environment
    return subprocess.run(
        command, cwd=teacher.parents[3], env=surroundings, capture_output=True, text=True, timeout=600
    )


@pytest.mark.manual
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_compiled_network_learns_what_it_learns_otherwise_and_the_same_bytes_each_time(teacher: Path) -> None:
    histories, files, compiled = [], [], []
    for options in ([], ["--compile"], ["--compile"]):
        done = trained(teacher, *options)
        assert done.returncode == 0, done.stderr
        histories.append(pd.read_csv(teacher / "metrics.csv"))
        files.append((teacher / "last.pt").read_bytes())
        compiled.append(json.loads((teacher / "stage.json").read_text())["compiled"])
    assert compiled == [False, True, True]
    assert files[1] == files[2]
    np.testing.assert_allclose(histories[1]["loss"], histories[0]["loss"], rtol=1e-4)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_workflow_asks_for_it_where_the_configuration_does(
    tmp_path: Path, snakemake: Snakemake, wanted: bool
) -> None:
    fabricate.write_scenes(tmp_path / "my scenes")
    config = fabricate.tiny()
    config["runtime"] = {**config["runtime"], "train": {**config["runtime"].get("train", {}), "compile": wanted}}
    fabricate.write_config(tmp_path, config)
    commands = re.findall(r"^Shell command: (stpp train .*)$", snakemake(tmp_path, "--dry-run").stdout, re.MULTILINE)
    assert commands
    assert all((" --compile " in command) == wanted and "  " not in command for command in commands)


@pytest.mark.manual
def test_a_missing_compiler_is_said(teacher: Path, tmp_path: Path) -> None:
    done = trained(teacher, "--compile", CXX=str(tmp_path / "none"), TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert "could not compile the network" in done.stderr
    assert "set runtime.train.compile to false, or install a C++ compiler" in done.stderr
    assert "Traceback" not in done.stderr
