"""Networks on encoders of timm go through the stages as the others do: a ViT and a CNN, tuned in every way."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from trained import picture

import stpp
from stpp.commands.cli import main
from stpp.commands.fitting import check_networks
from stpp.commands.workflow import prepare
from stpp.common.description import described
from stpp.common.errors import StppError
from stpp.methods import methods
from stpp.models import build
from stpp.settings.configfile import load
from stpp.stages.train import EMA
from stpp.store.checkpoint import load_checkpoint, save_checkpoint

STOPPED = 128 + signal.SIGTERM
VIT = {"backbone": "timm/test_vit", "architecture": "dpt", "weights": "none", "head_channels": 8, "dropout": 0.0}
CNN = {
    **VIT,
    "backbone": "timm/test_efficientnet",
    "architecture": "deeplabv3plus",
    "output_stride": 16,
    "separable": True,
}
PLAIN = {"epochs": 4, "batch_size": 8, "crop": 32, "base_size": 32, "learning_rate": 0.01, "validate_every": 2}
MODERN = {
    **PLAIN,
    "optimizer": "adamw",
    "schedule": "cosine",
    "warmup_iterations": 1,
    "gradient_clip": 1.0,
    "layer_decay": 0.8,
    "ema": 0.9,
    "tune": 2,
}
FROZEN = {**PLAIN, "tune": "none"}


def planned(
    folder: Path, network: dict[str, Any], training: dict[str, Any], method: str = "suponly"
) -> tuple[Path, Path]:
    """A workflow and its last training; each of both roles is trained in this way."""
    changes: dict[str, Any] = {
        "network": network,
        "training": {"teacher": training, "student": training},
        "experiments": {"e": {"method": method}},
    }
    if method != "suponly":
        changes["methods"] = {method: {"threshold": 0.4}}
    folder = fabricate.planned(folder, **changes)
    return folder, fabricate.only(folder, "train/*")


def train(folder: Path, stage: Path, *options: str) -> int:
    with contextlib.chdir(folder):
        return main(["train", str(stage), *options])


def artifacts(stage: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in stage.iterdir() if path.suffix in (".pt", ".csv")}


CASES = {
    "vit": (VIT, MODERN, "suponly"),
    "cnn": (CNN, MODERN, "unimatch"),
    "frozen": (CNN | {"architecture": "linear", "linear_maps": 4}, FROZEN, "fixmatch"),
}
SGD = {"cnn-sgd": (CNN, MODERN | {"optimizer": "sgd"}, "unimatch"), "frozen-sgd": CASES["frozen"]}


@pytest.fixture(scope="module", params=CASES)
def finished_training(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, stage = planned(tmp_path_factory.mktemp(request.param), *(CASES | SGD)[request.param])
    assert train(folder, stage) == 0
    return folder, stage


def anew(finished: Path, stage: Path, folder: Path) -> Path:
    shutil.copytree(finished, folder, symlinks=True)
    for path in (folder / stage).iterdir():
        if path.name != "recipe.json":
            path.unlink()
    return folder


@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_a_training_stopped_anywhere_ends_in_the_same_bytes(
    stop_at: int, finished_training: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stpp.stages import train as training

    before, stage = finished_training
    folder = anew(before, stage, tmp_path / "again")
    steps, original = itertools.count(1), training.on_device

    def stopping(*given: Any) -> Any:
        if next(steps) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(training, "on_device", stopping)
        assert train(folder, stage) == STOPPED
    assert train(folder, stage) == 0
    assert artifacts(folder / stage) == artifacts(before / stage)


# AdamW divides a gradient by its own size, so what is rounding alone, before a batch norm, becomes a whole step.
@pytest.mark.parametrize(
    ("finished_training", "apart"),
    [("vit", 1e-3), ("cnn-sgd", 1e-6), ("frozen-sgd", 1e-6)],
    indirect=["finished_training"],
)
def test_two_processes_end_in_what_one_ends_in(
    finished_training: tuple[Path, Path], apart: float, tmp_path: Path
) -> None:
    before, stage = finished_training
    folder = anew(before, stage, tmp_path / "again")
    command = [sys.executable, "-m", "stpp", "train", str(stage), "--device", "cpu", "--gpus", "2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found, expected = (pd.read_csv(path / stage / "metrics.csv") for path in (folder, before))
    assert (found["loss"] - expected["loss"]).abs().max() < 1e-3
    states = [torch.load(path / stage / "last.pt")["state_dict"] for path in (folder, before)]
    for name, tensor in states[0].items():
        assert torch.allclose(tensor, states[1][name], rtol=10 * apart, atol=apart), name


def test_what_is_frozen_is_as_it_was_made(finished_training: tuple[Path, Path]) -> None:
    folder, stage = finished_training
    settings = json.loads((folder / stage / "recipe.json").read_text())["settings"]
    net = build(settings["network"], 3)
    from stpp.data.augmentation import sample_rng
    from stpp.engine.initial import initial_network

    torch.manual_seed(int(sample_rng(settings["seed"], settings["role"], 0, 0, "init").integers(2**63)))
    net, _ = initial_network(settings, None)
    net.freeze(settings["training"]["tune"])
    frozen = {f"backbone.{name}" for name, each in net.backbone.named_parameters() if not each.requires_grad}
    first, last = net.state_dict(), torch.load(folder / stage / "last.pt")["state_dict"]
    same = {name for name in first if torch.equal(first[name], last[name])}
    assert frozen and frozen <= same
    assert not {name for name in same - frozen if name.endswith("weight")} or settings["training"]["tune"] == "none"


def test_the_average_is_what_is_validated_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the plain mean of the states after each step, of as many steps as the average is one."""
    from stpp.engine.networks import Net

    states: list[dict[str, torch.Tensor]] = []
    original = Net.follow

    def noting(self: Net, other: Net, decay: float, *, buffers: bool = False) -> None:
        states.append({name: value.clone() for name, value in other.module.state_dict().items()})
        original(self, other, decay, buffers=buffers)

    folder, stage = planned(tmp_path, CNN, PLAIN | {"ema": 0.9})
    with monkeypatch.context() as patch:
        patch.setattr(Net, "follow", noting)
        assert train(folder, stage) == 0
    last = torch.load(folder / stage / "last.pt")["state_dict"]
    assert len(states) == 4 and EMA not in last  # the share is below 0.9 for so long
    for name, found in last.items():
        expected = torch.stack([state[name].double() for state in states]).mean(dim=0)
        if found.is_floating_point():
            torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(found, states[-1][name])


@pytest.mark.parametrize("network", [VIT, CNN], ids=["vit", "cnn"])
def test_all_of_stpp_runs(network: dict[str, Any], tmp_path: Path) -> None:
    """Every kind of stage that runs a network, those that look ahead and that find the length included."""
    folder = fabricate.computed(
        tmp_path / "run",
        "chart",
        network=network,
        training={**dict.fromkeys(("teacher", "student"), PLAIN | {"batch_size": 4}), "length": "auto"},
        outlook=True,
    )
    assert {"length", "outlook", "report"} <= {path.name for path in (folder / "my results/stages").iterdir()}
    evaluations = list(folder.glob("my results/stages/evaluate/student*/metrics.json"))
    assert evaluations and all(0 <= json.loads(path.read_text())["miou"] <= 1 for path in evaluations)


@pytest.mark.parametrize("network", [VIT, CNN], ids=["vit", "cnn"])
def test_every_method_trains_every_encoder(network: dict[str, Any], tmp_path: Path) -> None:
    names = [method.name for method in methods()]
    data = {key: value for key, value in fabricate.TINY["data"].items() if key not in ("val", "test")}
    thresholds = {
        method.name: {"threshold": 0.0}
        for method in methods()
        if method.settings and hasattr(method.settings(), "threshold")
    }
    folder = fabricate.computed(
        tmp_path / "run",
        *("evaluate", "verdict", "table", "chart", "report"),
        network=network,
        training=dict.fromkeys(("teacher", "student"), PLAIN | {"epochs": 3, "batch_size": 4}),
        data=data,
        methods=thresholds,
        experiments={name: {"method": name} for name in names},
    )
    for name in names:
        run = folder / "my results/runs/tiny/experiments" / name / "seed0"
        trained = next(run / part for part in ("supervised", "student", "teacher") if (run / part).exists())
        assert (pd.read_csv(trained / "metrics.csv")["loss"] > 0).all(), name
        settings = json.loads((trained / "recipe.json").read_text())["settings"]
        first = build(settings["network"], 3).state_dict()
        last = torch.load(trained / "last.pt", weights_only=True)["state_dict"]
        assert first.keys() == last.keys() and all(value.isfinite().all() for value in last.values()), name


@pytest.mark.parametrize("network", [VIT, CNN], ids=["vit", "cnn"])
def test_an_exported_network_gives_the_masks_of_the_model(network: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = build(network, 3).eval()
    for name, value in net.state_dict().items():
        if name == "classifier.score.weight":
            value *= 8  # far from ties between the classes
    known = {"network": network, "classes": fabricate.CLASSES}
    save_checkpoint(tmp_path / "model.pt", net.state_dict(), known, 1, net.normalisation)
    assert main(["export", str(tmp_path / "model.pt"), "--out", str(tmp_path / "out")]) == 0
    least = 3 * net.backbone.multiple_of
    assert f"width from {least} px" in " ".join((tmp_path / "out/model-card.md").read_text().split())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx", options)
    segmenter = stpp.load(tmp_path / "model.pt", "cpu")
    for height, width in [(least, least), (160, 160), (101, 143)]:
        image = np.array(picture(height, width))
        masks, probabilities = session.run(None, {"rgb": image[None]})
        assert np.abs(probabilities[0] - segmenter.probabilities(image)).max() < 1e-3
        assert (masks[0] == segmenter.predict(image)).mean() > 0.999


def test_fields_that_came_later_are_in_a_checkpoint_where_they_are_not_at_their_defaults(tmp_path: Path) -> None:
    for network, said in [({"separable": True}, {"separable": True}), ({"separable": False, "linear_maps": 1}, {})]:
        spec = {"backbone": "tiny", **network}
        net = build(spec, 3)
        save_checkpoint(
            tmp_path / "a.pt", net.state_dict(), {"network": spec, "classes": ["x", "y", "z"]}, 1, net.normalisation
        )
        assert torch.load(tmp_path / "a.pt")["network"] == {"backbone": "tiny", **said}
        again = load_checkpoint(tmp_path / "a.pt", torch.device("cpu")).network.state_dict()
        assert all(torch.equal(value, again[name]) for name, value in net.state_dict().items())


def test_the_examples_of_the_page_are_valid() -> None:
    blocks = re.findall(r"(?:^    .*\n)+", (ROOT / "docs/encoders.md").read_text(), re.MULTILINE)
    examples = [yaml.safe_load(textwrap.dedent(block)) for block in blocks if "network:" in block]
    assert len(examples) == 2
    for example in examples:
        load(fabricate.tiny(**example))
        described({**example["network"], "weights": "none"})
        with torch.device("meta"):
            build(example["network"], 3)


# --- what is checked before a run -------------------------------------------------------------------------------------


def test_a_network_that_cannot_be_is_refused_before_the_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fabricate.write_scenes(tmp_path / "my scenes")

    def config(**network: Any) -> Any:
        return load(fabricate.tiny(network={"weights": "none", "architecture": "linear", **network}))

    wrong = config(backbone="timm/test_vitt")
    with pytest.raises(StppError, match="has no encoder test_vitt; did you mean test_vit"):
        check_networks(wrong, prepare(wrong, print))
    training = {"training": {"teacher": PLAIN, "student": PLAIN | {"tune": 9}}}
    for changes, message in [
        ({"network": VIT | {"architecture": "deeplabv3plus"}}, "deeplabv3plus needs a finer feature map"),
        ({"network": VIT, **training}, "tune is 9, but the encoder has 6 blocks behind its stem"),
        (training, "tune is 9, but the encoder has 4 blocks behind its stem"),
    ]:
        path = fabricate.write_config(tmp_path, fabricate.tiny(**changes))
        assert main(["config", "check", str(path)]) == 1
        assert message in capsys.readouterr().err
    wrong = load(fabricate.tiny(**training | {"experiments": {"u": {"method": "unimatch"}}}))
    with pytest.raises(StppError, match="tune is 9, but the encoder has 4 blocks"):
        check_networks(wrong, prepare(wrong, print))

    right = config(backbone="timm/test_vit")
    check_networks(right, prepare(right, print))
    monkeypatch.setattr("stpp.commands.fitting.subprocess", None)
    check_networks(right, prepare(right, print))  # remembered


def test_planning_and_training_of_other_encoders_do_not_import_timm(tmp_path: Path) -> None:
    fabricate.write_scenes(tmp_path / "my scenes")
    fabricate.write_config(tmp_path, fabricate.tiny(network=VIT))
    script = """
import sys
from pathlib import Path
from stpp.commands.workflow import prepare
from stpp.settings.configfile import read
plan = prepare(read(Path("config.yaml")), print)
assert any("train/teacher-k3-val-dpt-timm-test_vit-seed0-" in folder for folder in plan.stages), list(plan.stages)
assert not {"timm", "torch"} & sys.modules.keys()
from stpp.models import build
build({"backbone": "tiny", "architecture": "linear"}, 2)
assert "timm" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
