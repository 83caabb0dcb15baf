"""Every method whose training sees unlabeled images in each step: killed, or spread over processes, it is the same."""

import contextlib
import itertools
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import fabricate
import pandas as pd
import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, companions, moment

from stpp.commands.cli import main
from stpp.methods import Average, Trained, methods

ONLINE = [method.name for method in methods() if method.online]
WITH_COMPANIONS = [
    method.name for method in methods() if method.online and method.online.companions((method.settings or dict)())
]
LIKE_OTHERS = {"fixmatch", "cutmix_seg", "cps_cutmix"}
"""What these do with the images of several processes, `unimatch` and `cps` do as well."""
WITHOUT_LABELS = {"mean_teacher", "s4l", "advsemiseg", "gct", "dcc", "ecs"}
"""What these learn from unlabeled images is no label, or, of `ecs`, one that a second network corrects."""
SHORT = {"classmix", "cct", "gct", "ecs", "u2pl"}
"""Rounding has grown beyond 1e-4 in these after 20 steps."""
STOPPED = 128 + signal.SIGTERM


def planned(folder: Path, name: str, **changes: Any) -> tuple[Path, Path]:
    """The folder of a workflow, and its only training, which has three steps an epoch."""
    (method,) = (method for method in methods() if method.name == name)
    fields = method.settings.model_fields if method.settings else {}
    # No network is surer after a few steps, and none has five epochs. What is off by default is on.
    asked = {
        "threshold": 0.5,
        "least": 0.4,
        "warmup_epochs": 1,
        "contrastive": 1.0,
        "lowest_rank": 1,
        "memory": 40,
        "width": 8,
    }
    soon = {key: value for key, value in asked.items() if key in fields}
    if soon:
        changes["methods"] = {method.target: soon | changes.get("methods", {}).get(method.target, {})}
    folder = fabricate.planned(folder, experiments={"e": {"method": name}}, **changes)
    return folder, fabricate.only(folder, "train/*")


def train(folder: Path, stage: Path, *options: str) -> int:
    with contextlib.chdir(folder):
        return main(["train", str(stage), *options])


def artifacts(stage: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in stage.iterdir() if path.suffix in (".pt", ".csv")}


@pytest.fixture(scope="module", params=ONLINE)
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """The name of a method, the folder and the stage of its finished training."""
    folder, stage = planned(tmp_path_factory.mktemp("online"), request.param)
    assert train(folder, stage) == 0
    return request.param, folder, stage


def test_a_training_says_each_of_its_losses(undisturbed: tuple[str, Path, Path]) -> None:
    _, folder, stage = undisturbed
    history = pd.read_csv(folder / stage / "metrics.csv")
    losses = [column for column in history if column.startswith("loss_")]
    assert "loss_supervised" in losses and len(losses) > 1
    assert history[losses].sum(axis=1).to_numpy() == pytest.approx(history["loss"].to_numpy(), rel=1e-5)
    assert list(history["iterations"]) == [3, 6]


def test_tensorboard_has_a_curve_of_all_that_steps_say(undisturbed: tuple[str, Path, Path]) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    _, folder, stage = undisturbed
    known = {"epoch", "iterations", "loss", "learning_rate", "val_miou"}
    more = set(pd.read_csv(folder / stage / "metrics.csv")) - known
    files = list((folder / "my results/logs/tensorboard" / stage.name).iterdir())
    events = [event for file in files for event in loader.EventFileLoader(str(file)).Load()]
    tags = {value.tag for event in events for value in event.summary.value}
    assert tags == {"loss", "learning rate", "val mIoU", *(column.replace("_", " ", 1) for column in more)}


@pytest.mark.parametrize("name", sorted({*ONLINE} - WITHOUT_LABELS))
def test_what_labels_say_of_unlabeled_images_is_noted(name: str) -> None:
    """The labels are 0 at two of the three pixels that are no padding, before any image is mixed."""
    (method,) = (method for method in methods() if method.name == name)
    assert method.online is not None and method.settings is not None
    kinds = {"student": (TEACHER, STUDENT), "teacher": (TEACHER,), "first": (STUDENT,), "second": (TEACHER,)}
    nets: dict[str, Any] = dict(companions(method.online, method.settings()))
    nets |= {network: Constant(*kinds[network]) for network in method.online.networks}
    at = moment(iteration=8)  # after a warm-up
    seen = batch(mask=1, images=2, valid=[[False, True], [True, True]], times=8)
    method.online.step(seen, nets, method.settings(), at)
    assert float(at.notes["largest_class"]) == pytest.approx(2 / 3)
    assert float(at.notes["largest_true"]) == 1
    assert not any(note.requires_grad for note in at.notes.values())


@pytest.mark.parametrize("frequent", [False, True])
def test_a_training_whose_labels_are_all_of_one_class_warns(
    frequent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stpp.engine import labelers

    def labels(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given = torch.zeros_like(logits[:, 0], dtype=torch.int64)
        given[:, ::2] = 0 if frequent else 1
        return given, torch.ones_like(logits[:, 0])

    monkeypatch.setattr(labelers, "hard_labels", labels)
    folder, stage = planned(tmp_path, "fixmatch")
    assert train(folder, stage) == 0
    said = json.loads((folder / stage / "stage.json").read_text())["warnings"]
    assert any("one and the same class" in warning for warning in said) == frequent
    assert list(pd.read_csv(folder / stage / "metrics.csv")["largest_class"] == 1) == [frequent, frequent]


@pytest.mark.parametrize("unit", [1, 5])
def test_a_training_stopped_anywhere_ends_in_the_same_bytes(
    undisturbed: tuple[str, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: int
) -> None:
    from stpp.stages import train as training

    _, before, stage = undisturbed
    folder = tmp_path / "again"
    shutil.copytree(before, folder, symlinks=True)
    for path in (folder / stage).iterdir():
        if path.name != "recipe.json":
            path.unlink()
    steps, original = itertools.count(1), training.on_device

    def stopping(*given: Any) -> Any:
        if next(steps) == unit:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(training, "on_device", stopping)
        assert train(folder, stage) == STOPPED
    assert train(folder, stage) == 0
    assert next(steps) == unit + 1
    assert artifacts(folder / stage) == artifacts(before / stage)


@pytest.mark.parametrize("undisturbed", WITH_COMPANIONS, indirect=True)
def test_companions_learn_with_bf16_what_they_learn_otherwise(
    undisturbed: tuple[str, Path, Path], tmp_path: Path
) -> None:
    name, before, done = undisturbed
    training = {role: settings | {"precision": "bf16"} for role, settings in fabricate.TINY["training"].items()}
    folder, stage = planned(tmp_path, name, training=training)
    assert train(folder, stage) == 0
    expected, found = (pd.read_csv(path / "metrics.csv")["loss"].to_numpy() for path in (before / done, folder / stage))
    assert found == pytest.approx(expected, rel=0.15) and (found != expected).all()


@pytest.mark.parametrize("name", ["classmix", "cps", "cps_cutmix"])
def test_without_its_loss_of_unlabeled_images_a_method_is_suponly(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights bit for bit, where labeled images pass through the network alone, which is the result.

    The statistics of batch norm are not: those have seen unlabeled images.
    """
    (method,) = (method for method in methods() if method.name == name)
    online, settings = method.online, method.settings
    assert online is not None and settings is not None

    def suponly(batch: Any, nets: Any, settings: Any, at: Any) -> Any:
        return {"supervised": sum(at.supervised(net(batch.images), batch.masks) for net in nets.values())}

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        folder = fabricate.planned(
            folder,
            experiments={"e": {"method": name, "methods": {method.target: {"weight": 0.0}}}},
            network=fabricate.TINY["network"] | {"dropout": 0.0},
        )
        stage = fabricate.only(folder, "train/*")
        assert train(folder, stage) == 0
        state = torch.load(folder / stage / "last.pt", weights_only=True)["state_dict"]
        return {key: value for key, value in state.items() if "running" not in key and "num_batches" not in key}

    found = weights(tmp_path / "without")
    step = replace(online, step=suponly, after_step=lambda nets, settings, at: None)
    monkeypatch.setattr("stpp.stages.train.step_of", lambda _: (step, settings()))
    expected = weights(tmp_path / "suponly")
    assert found.keys() == expected.keys() and all(torch.equal(value, expected[key]) for key, value in found.items())


def test_losses_of_unlabeled_images_can_begin_later(tmp_path: Path) -> None:
    student = fabricate.TINY["training"]["student"] | {"unlabeled_from": 0.5}
    changes = {"training": fabricate.TINY["training"] | {"student": student}}
    folder, stage = planned(tmp_path, "classmix", **changes)
    assert train(folder, stage) == 0
    history = pd.read_csv(folder / stage / "metrics.csv")
    assert history["loss_consistency"].iloc[0] == 0 < history["loss_consistency"].iloc[1]
    assert history["loss"].iloc[0] == history["loss_supervised"].iloc[0]


def test_loader_processes_change_nothing(tmp_path: Path) -> None:
    """Of the method that draws the most for an image."""
    found = []
    for workers in ("0", "2"):
        folder, stage = planned(tmp_path / workers, "unimatch")
        assert train(folder, stage, "--workers", workers) == 0
        found.append(artifacts(folder / stage))
    assert found[0] == found[1]


@pytest.mark.manual
@pytest.mark.parametrize("name", sorted({*ONLINE} - LIKE_OTHERS))
def test_two_processes_agree_with_one(name: str, tmp_path: Path) -> None:
    """Over 20 steps, to 1e-4; without dropout, whose draws differ between processes.

    Some over 8: a pixel whose classes are nearly equal may get another hard label by rounding, and there the labels say
    what is seen (ClassMix, CCT), or who teaches whom (GCT, ECS), and Adam makes much of a small gradient.
    """
    student = {
        "epochs": 8 if name in SHORT else 20,
        "batch_size": 8,
        "crop": 24,
        "base_size": 32,
        "learning_rate": 0.001,
    }
    changes: dict[str, Any] = {
        "training": {"teacher": student, "student": student | {"validate_every": 4}},
        "network": fabricate.TINY["network"] | {"dropout": 0.0},
    }
    if name in ("s4gan", "u2pl"):
        changes["methods"] = {name: {"dropout": 0.0}}
    found = []
    for processes in ("1", "2"):
        folder, stage = planned(tmp_path / processes, name, **changes)
        assert train(folder, stage, "--device", "cpu", "--gpus", processes) == 0
        found.append(torch.load(folder / stage / "last.pt", weights_only=True)["state_dict"])
    apart = {key: float((value - found[1][key]).abs().max()) for key, value in found[0].items()}
    assert max(apart.values()) < 1e-4, apart


def test_more_processes_than_images_of_one_kind_are_refused(
    undisturbed: tuple[str, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder, stage = undisturbed
    assert train(folder, stage, "--device", "cpu", "--gpus", "3") == 1
    assert "a batch of 4 images cannot be spread over 3 processes" in capsys.readouterr().err


@pytest.mark.parametrize("name", ONLINE)
def test_the_networks_of_a_method_are_named(name: str) -> None:
    (method,) = (method for method in methods() if method.name == name)
    assert method.online is not None
    networks = method.online.networks
    assert method.online.result in networks
    assert any(isinstance(kind, Trained) for kind in networks.values())
    assert all(isinstance(networks[kind.of], Trained) for kind in networks.values() if isinstance(kind, Average))
