"""Trainings in several processes: they agree with those in one, and stop and go on as one."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fabricate
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from stpp.commands.cli import main
from stpp.engine.distributed import Team
from stpp.runtime.launch import _torchrun

STEPS = 20
CPU = torch.device("cpu")


def plan(folder: Path, **changes: Any) -> Path:
    """A planned teacher with one step an epoch, of 5 images: no number of processes divides that.

    Its rate is low, since each step multiplies what rounding changed: on some processors 20 steps at twice the rate
    bring that above the tolerance.
    """
    training = {"epochs": STEPS, "batch_size": 5, "crop": 24, "base_size": 32, "learning_rate": 0.01}
    roles = {"teacher": training | {"validate_every": 10}, "student": training}
    suponly = {"suponly": {"method": "suponly"}}
    return fabricate.planned(folder, training=roles, experiments=suponly, **changes)


@pytest.fixture(scope="module")
def without_dropout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher without dropout, finished by one process."""
    folder = plan(tmp_path_factory.mktemp("plain"), network=fabricate.TINY["network"] | {"dropout": 0.0})
    with contextlib.chdir(folder):
        assert main(["train", str(fabricate.only(folder, "train/teacher*"))]) == 0
    return folder


def begin(folder: Path, processes: int, *options: str) -> subprocess.Popen[str]:
    """The teacher's training in so many processes; it says everything on stderr."""
    stage = str(fabricate.only(folder, "train/teacher*"))
    command = [sys.executable, "-m", "stpp", "train", stage, "--device", "cpu", "--gpus", str(processes), *options]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def end(training: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and what it said."""
    try:
        _, said = training.communicate(timeout=120)
    finally:
        training.kill()
    assert "Traceback" not in said
    return training.returncode, said


def anew(folder: Path, target: Path) -> Path:
    """A copy of the workflow in which the teacher has not begun."""
    shutil.copytree(folder, target, symlinks=True)
    for path in (target / fabricate.only(target, "train/teacher*")).iterdir():
        if path.name != "recipe.json":
            path.unlink()
    return target


def artifacts(folder: Path) -> dict[str, bytes]:
    """The files of the finished teacher, without the two that say when it ran."""
    stage = folder / fabricate.only(folder, "train/teacher*")
    return {path.name: path.read_bytes() for path in stage.iterdir() if path.name not in ("stage.json", "recipe.json")}


def workers(training: subprocess.Popen[str]) -> list[int]:
    """The processes of the team."""
    return [int(pid) for pid in Path(f"/proc/{training.pid}/task/{training.pid}/children").read_text().split()]


def begin_and_save(folder: Path, processes: int) -> subprocess.Popen[str]:
    """A training that saves after every step, and has done so."""
    state = folder / fabricate.only(folder, "train/teacher*") / "unfinished" / "training.pt"
    before = state.stat().st_mtime_ns if state.exists() else 0
    training = begin(folder, processes, "--save-minutes", "1e-9")
    deadline = time.monotonic() + 100
    while not (state.exists() and state.stat().st_mtime_ns > before):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return training


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.manual)])
def test_the_losses_and_weights_of_several_processes_are_those_of_one(
    without_dropout: Path, tmp_path: Path, processes: int
) -> None:
    folder = anew(without_dropout, tmp_path / "again")
    code, said = end(begin(folder, processes))
    assert code == 0, said
    assert set(artifacts(folder)) == set(artifacts(without_dropout))
    stage = fabricate.only(folder, "train/teacher*")
    assert json.loads((folder / stage / "stage.json").read_text())["processes"] == processes

    found, expected = (pd.read_csv(path / stage / "metrics.csv") for path in (folder, without_dropout))
    assert len(found) == STEPS
    assert (found["iterations"] == expected["iterations"]).all()
    assert (found["loss"] - expected["loss"]).abs().max() < 1e-4
    assert found["learning_rate"].equals(expected["learning_rate"])
    assert (found["val_miou"] - expected["val_miou"]).abs().max() < 0.01
    weights = [torch.load(path / stage / "last.pt")["state_dict"] for path in (folder, without_dropout)]
    assert set(weights[0]) == set(weights[1])
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], rtol=1e-3, atol=1e-4), name


@pytest.mark.manual
def test_a_team_that_is_killed_or_stopped_ends_in_the_bytes_of_one_left_alone(tmp_path: Path) -> None:
    undisturbed = plan(tmp_path / "undisturbed")
    code, said = end(begin(undisturbed, 2))
    assert code == 0, said
    folder = anew(undisturbed, tmp_path / "disturbed")

    training = begin_and_save(folder, 2)
    os.kill(workers(training)[1], signal.SIGKILL)
    code, said = end(training)
    assert code == 128 + signal.SIGKILL
    assert said.count("stpp: ") == 1
    assert "a process of this training was killed" in said

    training = begin_and_save(folder, 2)
    for _ in range(3):  # as a scheduler does that signals the job and all its processes
        for pid in (training.pid, *workers(training)):
            os.kill(pid, signal.SIGTERM)
    code, said = end(training)
    assert code == 128 + signal.SIGTERM
    assert said.count("stpp: ") == 1
    assert "stopped by SIGTERM after iteration" in said

    alone = tmp_path / "alone"
    shutil.copytree(folder, alone, symlinks=True)
    code, said = end(begin(folder, 2))
    assert code == 0, said
    assert "continues after iteration" in said
    assert artifacts(folder) == artifacts(undisturbed)

    code, said = end(begin(alone, 1))
    assert code == 0, said
    assert "continues after iteration" in said, "the state of a team serves one process as well"


@pytest.mark.parametrize(
    ("codes", "expected"), [((1, -signal.SIGKILL), 128 + signal.SIGKILL), ((1, -signal.SIGTERM), 1), ((1, 1), 1)]
)
def test_who_was_killed_counts_and_not_who_missed_it(
    monkeypatch: pytest.MonkeyPatch, codes: tuple[int, int], expected: int
) -> None:
    failures = {rank: ProcessFailure(rank, 0, code, "") for rank, code in enumerate(codes)}

    def fails(*given: object) -> None:
        raise ChildFailedError("training", failures)

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", lambda *given: fails)
    assert _torchrun(2, ["training"]) == expected


def test_an_image_that_only_one_process_reads_is_named_once(without_dropout: Path, tmp_path: Path) -> None:
    folder = anew(without_dropout, tmp_path / "broken")
    (folder / "my scenes" / "images" / "labeled2.png").write_bytes(b"broken")
    code, said = end(begin(folder, 2))
    assert code == 1
    assert said.count("labeled2.png") == said.count("stpp: ") == 1


def test_a_batch_smaller_than_the_team_is_refused(
    without_dropout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(without_dropout)
    stage = str(fabricate.only(without_dropout, "train/teacher*"))
    assert main(["train", stage, "--device", "cpu", "--gpus", "6"]) == 1
    assert "a batch of 5 images cannot be spread over 6 processes" in capsys.readouterr().err


def test_where_there_are_no_gpus_one_process_trains(
    without_dropout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = anew(without_dropout, tmp_path / "again")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("stpp.runtime.lease.visible_devices", list)
    assert main(["train", str(fabricate.only(folder, "train/teacher*")), "--gpus", "2"]) == 0
    assert "training in one process" in capsys.readouterr().err
    assert artifacts(folder) == artifacts(without_dropout)


@given(items=st.lists(st.integers(), max_size=40), size=st.integers(1, 9))
def test_shares_are_all_of_the_items_in_order_and_of_like_size(items: list[int], size: int) -> None:
    shares = [Team(CPU, rank, size).share(items) for rank in range(size)]
    assert [item for share in shares for item in share] == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
