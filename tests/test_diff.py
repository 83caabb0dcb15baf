"""`stpp diff`: settings, metrics and pseudo-labels of two experiments."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest

from stpp.cli import main
from stpp.diff import compare, side_of, spread
from stpp.inventory import changed_settings
from stpp.masks import MaskWriter
from stpp.metrics import iou
from stpp.plan import Stage

RAW = fabricate.tiny(
    seeds=[0, 1],
    experiments={
        "suponly": {"method": "suponly"},
        "st": {"method": "st"},
        "longer": {"method": "st", "training": {"student": {"epochs": 5}}, "labeling": {"flip": False}},
        "st++": {"method": "st++"},
    },
)
MIOU = {("st", 0): 0.50, ("st", 1): 0.60, ("longer", 0): 0.55, ("longer", 1): 0.62}
MASK = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
OTHER = np.array([[0, 1, 1, 1], [0, 0, 1, 255]], np.uint8)


def store(path: Path, masks: Mapping[str, Any]) -> bytes:
    with MaskWriter(path, classes=fabricate.CLASSES, palette=[[0, 0, 0]] * 3, producer="x") as writer:
        for id, mask in masks.items():
            writer.add(id, mask)
    return path.read_bytes()


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the experiments of RAW with made-up numbers; seed 1 of st++ is not finished."""
    monkeypatch.chdir(tmp_path)
    plan = fabricate.plan_of(RAW)
    roles = {
        folder: (run.experiment, run.seed, role) for run in reversed(plan.runs) for role, folder in run.stages.items()
    }

    def content(stage: Stage) -> dict[str, bytes]:
        experiment, seed, role = roles.get(stage.folder, ("", 0, ""))
        if stage.kind == "evaluate":
            miou = MIOU.get((experiment, seed), 0.3) if role == "student-test" else 0.25
            metrics: dict[str, Any] = {"miou": miou, "images": 2, "iou": {"left": miou, "right": None}}
            metrics["groups"] = {"reliable": {"miou": 0.4}, "unreliable": {"miou": 0.2}}
            return {"metrics.json": json.dumps(metrics).encode(), "images.csv": b"id,miou\na,0.5\nb,0.7\n"}
        if stage.kind == "score":
            return {"scores.csv": b"id,score\na,1\nb,2\n"}
        if stage.kind == "predict":
            masks = {"a": MASK, "b": MASK} if experiment == "st" else {"b": OTHER, "c": MASK}
            return {"masks.h5": store(tmp_path / "store.h5", masks)}
        return {}

    unfinished = {folder for folder, (experiment, seed, role) in roles.items() if (experiment, seed) == ("st++", 1)}
    unfinished = {folder for folder in unfinished if "phase2" in folder}
    return fabricate.pretend(RAW, plan, set(plan.stages) - unfinished, content) / "tiny/experiments"


def found(experiments: Path, a: str, b: str) -> dict[str, Any]:
    result = compare(side_of(experiments / a), side_of(experiments / b))
    json.dumps(result, allow_nan=False)
    return result


def test_settings_have_the_names_of_the_configuration(experiments: Path) -> None:
    settings = found(experiments, "st", "longer")["settings"]
    assert {each["name"]: (each["a"], each["b"]) for each in settings} == {
        "labeling.flip": (True, False),
        "training.student.epochs": (2, 5),
    }


def test_another_method_has_other_stages(experiments: Path) -> None:
    result = found(experiments, "st", "st++")
    names = {each["name"]: (each["a"], each["b"]) for each in result["settings"]}
    assert names["method"] == ("st", "st++")
    assert names["selection.share"] == ("-", 0.5)
    assert not any(name.startswith(("training", "network", "labeling")) for name in names)
    assert "labels" in result["only"]["a"]
    assert {"phase1", "score", "select"} <= set(result["only"]["b"])
    assert result["b"]["seeds"] == [0]
    assert "student" in result["b"]["unfinished"]["1"]


def test_metrics_are_paired_by_seed_with_their_spread(experiments: Path) -> None:
    result = found(experiments, "st", "longer")
    assert result["metrics"][0]["name"] == "miou"
    entry = {each["name"]: each for each in result["metrics"]}["miou"]
    assert entry["a"] == {"mean": pytest.approx(0.55), "sd": pytest.approx(statistics.stdev([0.5, 0.6])), "n": 2}
    assert entry["difference"]["mean"] == pytest.approx(0.035)
    assert entry["difference"]["sd"] == pytest.approx(statistics.stdev([0.05, 0.02]))
    (by_class,) = result["iou"]
    assert (by_class["name"], by_class["difference"]["n"]) == ("left", 2)


def test_what_one_side_alone_has_gets_no_difference() -> None:
    (a, b, c) = spread({0: {"a": 0.1, "b": 0.2, "c": None}, 1: {"a": 0.3}}, {0: {"b": 0.5}, 2: {"a": 0.1, "c": 1.0}})
    assert (a["name"], a["difference"], a["b"]["n"]) == ("a", None, 1)
    assert b["difference"] == {"mean": pytest.approx(0.3), "sd": None, "n": 1}
    assert (c["a"], c["difference"]) == (None, None)


def test_pseudo_labels_are_compared_pixel_by_pixel(experiments: Path) -> None:
    labels = found(experiments, "st", "longer")["labels"]
    assert labels["images"] == {"both": 2, "a": 2, "b": 2, "other_sizes": 0}  # b of either seed; a here, c there
    assert labels["different"] == {"mean": 2 / 8, "sd": 0.0, "n": 2}
    counts = np.zeros((4, 4), np.int64)
    np.add.at(counts, (MASK.ravel(), np.minimum(OTHER, 3).ravel()), 1)
    by_class = {each["name"]: each for each in labels["classes"]}
    assert by_class["left"]["a"] == 4 / 8
    assert by_class["left"]["b"] == 4 / 8
    assert by_class["left"]["iou"] == pytest.approx(iou(counts)[1])
    assert by_class["right"] == {"name": "right", "a": 0, "b": 0, "iou": None}
    assert by_class["ignored"]["b"] == 1 / 8


def test_an_experiment_is_the_same_as_itself(experiments: Path) -> None:
    result = found(experiments, "st/seed0", "st/seed0")
    assert result["settings"] == result["data"] == result["code"] == result["only"]["a"] == []
    assert result["labels"]["different"]["mean"] == 0
    assert all(each["difference"]["mean"] == 0 for each in result["metrics"])


def test_data_and_code_that_differ_are_named(experiments: Path) -> None:
    raw = RAW | {"name": "later", "experiments": {"suponly": {"method": "suponly"}}}
    evaluation = {"metrics.json": b'{"miou": 0.5, "images": 2, "iou": {}}', "images.csv": b"id,miou\n"}
    fabricate.pretend(
        raw, fabricate.plan_of(raw, {"labeled": "f" * 64}, "0123456789ab"), content=lambda stage: evaluation
    )
    result = compare(side_of(experiments / "suponly"), side_of(Path("my results/later/experiments/suponly")))
    assert result["data"] == ["labeled"]
    assert {"stage": "train", "a": "v1", "b": "0123456789ab"} in result["code"]
    assert result["labels"] is None


def test_text_markdown_and_json_say_the_same(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["diff", str(experiments / "st"), str(experiments / "longer")]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert main([*command, "--md"]) == 0
    table = capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found(experiments, "st", "longer")
    row = ["result", "55.00", "7.07", "2", "58.50", "4.95", "2", "+3.50", "2.12", "2"]
    assert row in [line.split() for line in text.splitlines()]
    assert f"| {' | '.join(row)} |" in table
    assert "25.00 % of the pixels have another label (sd 0.00 over 2 seeds)." in text
    assert "training.student.epochs  2     5" in text


def test_a_section_that_is_off_on_one_side_is_one_difference() -> None:
    on = {"a.blur.p": 0.5, "a.blur.sigma": [1], "a.flip": 0.5}
    assert list(changed_settings(on, {"a.blur": None, "a.flip": 0.5})) == [("a.blur", {"p": 0.5, "sigma": [1]}, None)]
    assert list(changed_settings(on, on | {"a.blur.p": 0.6})) == [("a.blur.p", 0.5, 0.6)]


@pytest.mark.parametrize("wrong", ["nowhere", "my results", "my results/tiny/experiments/st/seed0/student"])
def test_what_is_no_experiment_is_refused(wrong: str, experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(experiments / "st"), wrong]) == 1
    assert f"{wrong} is no experiment; give a folder" in capsys.readouterr().err


def test_an_experiment_without_a_finished_run_is_refused(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(experiments / "st"), str(experiments / "st++/seed1")]) == 1
    assert "no run in my results/tiny/experiments/st++/seed1 is finished: " in capsys.readouterr().err


def test_a_damaged_artifact_is_one_message(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (experiments / "st/seed0/student-test/metrics.json").write_text("{}")
    assert main(["diff", str(experiments / "st"), str(experiments / "longer")]) == 1
    assert "is damaged" in capsys.readouterr().err


def test_of_a_real_run_the_numbers_are_those_of_the_table(finished: Path) -> None:
    experiments = finished / "my results/tiny/experiments"
    result = compare(side_of(experiments / "random"), side_of(experiments / "st++"))
    rows = {row["experiment"]: row for row in json.loads((experiments.parent / "metrics.json").read_text())["runs"]}
    metrics = {each["name"]: each for each in result["metrics"]}
    assert metrics["miou"]["difference"]["mean"] == pytest.approx(rows["st++"]["miou"] - rows["random"]["miou"])
    assert metrics["labels1"]["a"]["mean"] == rows["random"]["labels1"]
    assert result["labels"]["images"]["both"] == fabricate.COUNTS["unlabeled"]
