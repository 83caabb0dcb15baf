"""Single stages, run as commands on small data, where they must say no."""

import re
from pathlib import Path
from typing import Any

import fabricate
import pandas as pd
import pytest
import torch

from stpp.commands.cli import main
from stpp.store.masks import MaskStore
from stpp.store.scores import read_score_table


def teacher(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Path:
    """The planned teacher of a configuration on new data, in the folder's working directory."""
    monkeypatch.chdir(folder)
    fabricate.write_scenes(folder / "my scenes")
    fabricate.write_config(folder, fabricate.tiny(experiments={"suponly": {"method": "suponly"}}, **changes))
    assert main(["plan", "--recipes", "config.yaml"]) == 0
    (stage,) = folder.glob("my results/stages/train/*")
    return stage


def test_a_loss_that_is_not_finite_stops_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training = fabricate.tiny()["training"]
    training["teacher"]["learning_rate"] = 1e30
    stage = teacher(tmp_path, monkeypatch, training=training)
    assert main(["train", str(stage)]) == 1
    error = capsys.readouterr().err
    assert "lower training.teacher.learning_rate" in error
    assert re.search(r"the loss is (nan|inf) in epoch \d, in the batch of the images \S+, \S+", error)
    assert {path.name for path in stage.iterdir()} == {"recipe.json", "unfinished"}


def test_weights_are_loaded_by_name_and_a_mismatch_lists_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = teacher(tmp_path, monkeypatch)
    assert main(["train", str(first)]) == 0
    state = torch.load(first / "last.pt", weights_only=True)["state_dict"]
    torch.save(state, tmp_path / "good.pth")
    torch.save({**state, "classifier.score.bias": torch.zeros(5)}, tmp_path / "bad.pth")

    for name, code in (("good.pth", 0), ("bad.pth", 1)):
        network = fabricate.tiny()["network"] | {"weights": name}
        config = fabricate.tiny(experiments={"suponly": {"method": "suponly"}}, network=network)
        fabricate.write_config(tmp_path, config)
        before = set(tmp_path.glob("my results/stages/train/*"))
        assert main(["plan", "--recipes", "config.yaml"]) == 0
        (stage,) = set(tmp_path.glob("my results/stages/train/*")) - before
        assert main(["train", str(stage)]) == code
    assert "classifier.score.bias: (5,) -> (3,)" in capsys.readouterr().err


def test_weights_that_changed_after_the_plan_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({}, tmp_path / "weights.pth")
    stage = teacher(tmp_path, monkeypatch, network=fabricate.tiny()["network"] | {"weights": "weights.pth"})
    torch.save({"another": torch.zeros(1)}, tmp_path / "weights.pth")
    assert main(["train", str(stage)]) == 1
    assert "weights.pth changed since the workflow was started; run it again" in capsys.readouterr().err


def test_a_missing_gpu_is_said_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = teacher(tmp_path, monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["train", str(stage), "--device", "cuda"]) == 1
    assert "PyTorch sees no GPU here" in capsys.readouterr().err


def test_the_loss_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = fabricate.tiny()["training"]
    training["teacher"]["epochs"] = 20
    stage = teacher(tmp_path, monkeypatch, training=training)
    assert main(["train", str(stage)]) == 0
    losses = pd.read_csv(stage / "metrics.csv")["loss"]
    assert losses.iloc[-3:].mean() < 0.7 * losses.iloc[:3].mean()


def test_a_selection_reads_masks_and_labeled_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By soft agreement, masks of one class last, and balanced over the classes."""
    monkeypatch.chdir(fabricate.planned(tmp_path / "run", selection={"stability": "soft", "constant": "last"}))
    for pattern in ("train/teacher*", *(f"predict/masks-checkpoint{k}-confidence*" for k in (1, 2, 3)), "score/*"):
        stage = fabricate.only(Path(), pattern)
        assert main([stage.parent.name, str(stage)]) == 0
    table = read_score_table(fabricate.only(Path(), "score/*") / "scores.csv")
    store = MaskStore(fabricate.only(Path(), "predict/masks-checkpoint3*") / "masks.h5")
    assert (table["score"] <= 1).all() and table["classes"].tolist() == [len(set(mask.flat)) for _, mask in store]
    assert (table["score"] < table["score"].max()).any()
    select = fabricate.only(Path(), "select/*")
    assert main(["select", str(select)]) == 0
    # No labeled image is of one class.
    best = table.assign(empty=table["classes"] == 1).sort_values(["empty", "rank"])["id"].tolist()[:3]
    assert sorted((select / "reliable.txt").read_text().split()) == sorted(best)


def test_a_training_may_make_up_for_rare_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that there is for it at once; the parts are tested where they are."""
    loss = {"class_weights": "median_frequency", "pseudo_labeled": 0.5, "soft": True, "focal": 1.0, "dice": 0.5}
    roles = fabricate.tiny()["training"]
    roles["teacher"] |= {"loss": {"class_weights": {"left": 2.0}}, "ohem": {"kept": 10}}
    roles["student"] |= {"loss": loss, "rare_images": 1.0, "epochs": 1}
    augmentation = {"student": {"labeled": {"rare_crop": 0.5}, "unlabeled": {"rare_crop": 0.5}}}
    pixels = {"experiments": {"pixel": {"method": "pixel"}}, "selection": {"pixels": "aligned", "share": 0.75}}
    folder = fabricate.planned(tmp_path / "run", training=roles, augmentation=augmentation, **pixels)
    monkeypatch.chdir(folder)
    patterns = (
        "train/teacher*",
        "predict/labels-teacher*",
        "pixels/*",
        "train/student-phase1*",
        "predict/labels-phase1*",
    )
    for pattern in (*patterns, "train/student-phase2*"):
        stage = fabricate.only(folder, pattern)
        assert main([stage.parent.name, str(stage)]) == 0
    before, kept = (MaskStore(fabricate.only(folder, pattern) / "masks.h5") for pattern in patterns[1:3])
    assert kept.has_confidence and 0.6 < sum(kept.class_pixels) / sum(before.class_pixels) < 0.8
    losses = pd.read_csv(fabricate.only(folder, "train/student-phase2*") / "metrics.csv")["loss"]
    assert losses.between(0, 10).all()
