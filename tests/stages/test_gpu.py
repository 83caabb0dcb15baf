"""Stages on a GPU: each kind, every method, the same bytes again, stopped, and several at once."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabricate
import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pandas as pd
import pytest
import torch

from stpp.commands.cli import main
from stpp.methods import methods
from stpp.models import build
from stpp.runtime import lease

pytestmark = pytest.mark.cuda
GPU = {"train": {"gpu": 1, "memory": 500}, "predict": {"gpu": 1, "memory": 500}}
ONLINE = [method.name for method in methods() if method.online]
PRECISIONS = ("fp32", "bf16")
STOPPED = 128 + signal.SIGTERM


def give_back() -> None:
    """Free the GPUs that stages in this process have leased, which they would hold until it ends."""
    while lease._held:
        os.close(lease._held.pop())
    os.environ.pop(lease.VISIBLE, None)


@pytest.fixture(autouse=True)
def free() -> Iterator[None]:
    """No test keeps a GPU from the next one; what the environment said of GPUs is as before."""
    before = os.environ.get(lease.VISIBLE)
    yield
    give_back()
    if before is not None:
        os.environ[lease.VISIBLE] = before


def planned(folder: Path, name: str, *, dropout: bool = True, **training: Any) -> tuple[Path, Path]:
    """A workflow and its last training; both roles are trained in this way."""
    usual = fabricate.TINY["training"]["teacher"] | training
    changes: dict[str, Any] = {"training": {"teacher": usual, "student": usual}, "runtime": GPU}
    if not dropout:
        changes["network"] = fabricate.TINY["network"] | {"dropout": 0.0}
    (method,) = (method for method in methods() if method.name == name)
    if method.settings is not None and "threshold" in method.settings.model_fields:
        changes["methods"] = {method.target: {"threshold": 0.4}}
    folder = fabricate.planned(folder, experiments={"e": {"method": name}}, **changes)
    return folder, fabricate.only(folder, "train/*")


def train(folder: Path, stage: Path, *options: str) -> int:
    with contextlib.chdir(folder):
        return main(["train", str(stage), "--device", "cuda", *options])


def artifacts(stage: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in stage.iterdir() if path.suffix in (".pt", ".csv")}


def anew(finished: Path, stage: Path, folder: Path) -> Path:
    shutil.copytree(finished, folder, symlinks=True)
    for path in (folder / stage).iterdir():
        if path.name != "recipe.json":
            path.unlink()
    return folder


VIT = {"backbone": "timm/test_vit", "architecture": "linear", "weights": "vit.pth"}
TIMM = {"backbone": "timm/test_efficientnet", "weights": "none", "output_stride": 16, "separable": True}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "st++": ({}, {}, "predict"),
    "pixel": ({}, {}, "pixels"),
    "dmt": ({}, {}, "train"),
    "st++ on a ViT": ({"network": VIT | {"weights": "none"}}, {"optimizer": "adamw"}, "select"),
    "st++ on a CNN of timm": ({"network": TIMM}, {}, "select"),
    "st++ on stored maps": ({"network": VIT, "features": {"views": 2}}, {"tune": "none"}, "encode"),
    "suponly with an outlook": ({"outlook": True}, {}, "outlook"),
    "suponly of the right length": ({"length": "auto"}, {}, "length"),
}
"""By what it is: settings, those of both trainings, and the kind of stage that it is about."""


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", KINDS)
def test_each_kind_of_stage_runs(case: str, precision: str, tmp_path: Path) -> None:
    """And on the GPU, as the records of those with networks say."""
    changes, own, kind = KINDS[case]
    training = fabricate.TINY["training"]["teacher"] | {"precision": precision} | own
    length = {"length": changes["length"]} if "length" in changes else {}
    torch.manual_seed(3)
    (tmp_path / "run").mkdir()
    torch.save(build(VIT | {"weights": "none"}, 2).backbone.state_dict(), tmp_path / "run/vit.pth")
    folder = fabricate.computed(
        tmp_path / "run",
        "chart",
        experiments={"e": {"method": case.split()[0]}},
        training={"teacher": training, "student": training, **length},
        prediction={"precision": precision},
        runtime=GPU,
        **{name: value for name, value in changes.items() if name != "length"},
    )
    records = {path.parent: json.loads(path.read_text()) for path in folder.glob("my results/stages/*/*/stage.json")}
    assert {"train", "evaluate", "report", kind} <= {stage.parent.name for stage in records}
    devices = {stage.parent.name: record["device"] for stage, record in records.items() if "device" in record}
    assert {"train", "evaluate"} <= devices.keys()
    assert all(device.startswith("cuda") for device in devices.values()), devices


@pytest.mark.parametrize("name", ONLINE)
def test_each_method_learns_what_it_learns_on_a_processor(name: str, tmp_path: Path) -> None:
    """The losses of the first epoch agree, which begins with the same network; dropout would draw other numbers."""
    losses = []
    for device in ("cuda", "cpu"):
        folder, stage = planned(tmp_path / device, name, dropout=False)
        with contextlib.chdir(folder):
            gpus = str(int(device == "cuda"))
            assert main(["train", str(stage), "--device", device, "--gpus", gpus]) == 0
        losses.append(pd.read_csv(folder / stage / "metrics.csv")["loss"].iloc[0])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["suponly", "unimatch", "classmix"])
def test_the_same_training_gives_the_same_bytes(name: str, precision: str, tmp_path: Path) -> None:
    folder, stage = planned(tmp_path / "first", name, precision=precision)
    again = anew(folder, stage, tmp_path / "again")
    assert train(folder, stage) == train(again, stage, "--workers", "2") == 0
    assert artifacts(folder / stage) == artifacts(again / stage)


def test_a_compiled_network_learns_what_it_learns_otherwise(tmp_path: Path) -> None:
    folder, stage = planned(tmp_path / "first", "suponly", dropout=False)
    again = anew(folder, stage, tmp_path / "again")
    assert train(folder, stage) == train(again, stage, "--compile") == 0
    assert json.loads((again / stage / "stage.json").read_text())["compiled"]
    losses = [pd.read_csv(path / stage / "metrics.csv")["loss"] for path in (folder, again)]
    assert losses[0].to_numpy() == pytest.approx(losses[1].to_numpy(), rel=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_stopped_training_goes_on_to_the_same_result(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stpp.stages import train as training

    folder, stage = planned(tmp_path / "first", "suponly", optimizer=optimizer)
    again = anew(folder, stage, tmp_path / "again")
    assert train(folder, stage) == 0
    steps, original = itertools.count(1), training.on_device

    def stopping(*given: Any) -> Any:
        if next(steps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(training, "on_device", stopping)
        assert train(again, stage) == STOPPED
    assert train(again, stage) == 0
    assert artifacts(folder / stage) == artifacts(again / stage)


@pytest.mark.parametrize(
    ("pattern", "work"),
    [
        ("predict/labels-teacher-*", "stpp.stages.predict.predict_masks"),
        ("encode/unlabeled-views-*", "stpp.stages.encode.encoded"),
    ],
    ids=["prediction", "encoding"],
)
def test_stopped_work_on_images_goes_on_to_the_same_result(
    pattern: str, work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a few values: which images meet in a batch changes the last bits."""
    torch.save(build(VIT | {"weights": "none"}, 2).backbone.state_dict(), tmp_path / "vit.pth")
    training = fabricate.TINY["training"]["teacher"] | {"tune": "none"}
    changes = {"network": VIT | {"weights": str(tmp_path / "vit.pth")}, "features": {"views": 2}, "runtime": GPU}
    roles = {"teacher": training, "student": training}
    folder = fabricate.computed(
        tmp_path / "run", "chart", experiments={"st": {"method": "st"}}, training=roles, **changes
    )
    give_back()
    stage = fabricate.only(folder, pattern)
    (artifact,) = (folder / stage).glob("*.h5")
    before, original = contents(artifact), getattr(sys.modules[work.rpartition(".")[0]], work.rpartition(".")[2])
    for path in (artifact, artifact.with_name("stage.json")):
        path.unlink()
    calls = itertools.count(1)

    def stopping(*given: Any, **named: Any) -> Any:
        if next(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*given, **named)

    command = [stage.parent.name, str(stage), "--device", "cuda"]
    with monkeypatch.context() as patch, contextlib.chdir(folder):
        patch.setattr(work, stopping)
        assert main(command) == STOPPED
    assert not artifact.exists() and list(artifact.parent.glob("unfinished/*/*.h5"))
    with contextlib.chdir(folder):
        assert main(command) == 0
    after = contents(artifact)
    assert after.keys() == before.keys()
    assert all(np.isclose(after[name], values, rtol=0.01, atol=0.01).mean() > 0.99 for name, values in before.items())


def contents(path: Path) -> dict[str, Any]:
    """The numbers in an HDF5 file, by name."""
    found: dict[str, Any] = {}

    def visit(name: str, each: Any) -> None:
        if isinstance(each, h5py.Dataset) and each.dtype.kind in "iuf":
            found[name] = each[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def test_processes_take_turns_by_a_lease(tmp_path: Path) -> None:
    """Two trainings that start at once on all GPUs of the machine: both end, and the second one says that it waits."""
    import torch

    count = torch.cuda.device_count()
    started = []
    for number in range(count + 1):
        folder, stage = planned(tmp_path / str(number), "suponly", epochs=40)
        command = [sys.executable, "-m", "stpp", "train", str(stage), "--device", "cuda"]
        started.append(subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0] * (count + 1), said
    if shutil.which("nvidia-smi"):
        assert any("waiting for 1 of" in each for each in said)


def test_more_processes_than_gpus_are_refused_by_the_lease(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if not shutil.which("nvidia-smi"):
        pytest.skip("no nvidia-smi, which lists GPUs")
    folder, stage = planned(tmp_path, "suponly")
    assert train(folder, stage, "--gpus", str(torch.cuda.device_count() + 1)) == 1
    assert "GPUs are asked for, but this job sees" in capsys.readouterr().err


def test_parts_of_a_prediction_on_one_gpu_by_a_lease_join_to_the_masks_of_one_job(tmp_path: Path) -> None:
    """To a few pixels: which images meet in a batch changes the last bits."""
    from stpp.store.masks import MaskStore

    folder = fabricate.planned(tmp_path / "run", runtime=GPU)
    (teacher,) = folder.glob("my results/stages/train/teacher*")
    (stage, *_) = sorted(path.relative_to(folder) for path in folder.glob("my results/stages/predict/masks-*"))
    assert train(folder, teacher.relative_to(folder)) == 0
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole, symlinks=True)
    with contextlib.chdir(whole):
        assert main(["predict", str(stage), "--device", "cuda"]) == 0
    give_back()
    command = [sys.executable, "-m", "stpp", "predict", str(stage), "--device", "cuda", "--shards", "2", "--shard"]
    parts = [subprocess.Popen([*command, str(number)], cwd=folder) for number in range(2)]
    assert [part.wait(timeout=300) for part in parts] == [0, 0]
    with contextlib.chdir(folder):
        assert main(["predict", str(stage), "--shards", "2", "--join"]) == 0
    stores = [MaskStore(where / stage / "masks.h5") for where in (folder, whole)]
    equal = [(stores[0][image] == stores[1][image]).mean() for image in stores[0].ids]
    assert min(equal) > 0.99
