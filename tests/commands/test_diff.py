"""`stpp diff`: settings, metrics and pseudo-labels of two experiments."""

import json
import math
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest

from stpp.commands.cli import main
from stpp.commands.diff import as_text, compare, metric_name, side_of, spread
from stpp.plan.graph import Stage
from stpp.store.inventory import changed_settings

RAW = fabricate.tiny(
    seeds=[0, 1],
    experiments={
        "suponly": {"method": "suponly"},
        "st": {"method": "st"},
        "longer": {"method": "st", "training": {"student": {"epochs": 5}}, "labeling": {"flip": False}},
        "st++": {"method": "st++"},
        "k2": {"method": "st++", "selection": {"checkpoints": 2}, "labeling": {"teacher": "best"}},
    },
)
MIOU = {("st", 0): 0.50, ("st", 1): 0.60, ("longer", 0): 0.55, ("longer", 1): 0.62}
MASK = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
OTHER = np.array([[0, 1, 1, 1], [0, 0, 1, 255]], np.uint8)


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the experiments of RAW with made-up numbers; seed 1 of st++ is not finished."""
    monkeypatch.chdir(tmp_path)
    plan = fabricate.plan_of(RAW)
    roles = {
        part.folder: (run.experiment, run.seed, name)
        for run in reversed(plan.runs)
        for name, part in run.stages.items()
    }

    def content(stage: Stage) -> dict[str, bytes]:
        experiment, seed, role = roles.get(stage.folder, ("", 0, ""))
        if stage.kind == "evaluate":
            miou = MIOU.get((experiment, seed), 0.3) if role == "student-test" else 0.25
            metrics: dict[str, Any] = {"miou": miou, "images": 2, "iou": {"left": miou, "right": None}}
            metrics["groups"] = {"reliable": {"miou": 0.4}, "unreliable": {"miou": 0.2}}
            return {"metrics.json": json.dumps(metrics).encode(), "images.csv": b"id,miou\na,0.5\nb,0.7\n"}
        if stage.kind == "score":
            return {"scores.csv": b"id,classes,score\na,2,1\nb,2,2\n"}
        if stage.kind == "predict":
            masks = {"a": MASK, "b": MASK} if experiment == "st" else {"b": OTHER, "c": MASK}
            return {"masks.h5": fabricate.write_store(tmp_path / "store.h5", masks).read_bytes()}
        if stage.kind == "train":
            return {"metrics.csv": b"epoch,val_miou\n1,0.5\n2,0.25\n"}
        return verdict_of(stage, "x")

    unfinished = {folder for folder, (experiment, seed, role) in roles.items() if (experiment, seed) == ("st++", 1)}
    unfinished = {folder for folder in unfinished if "phase2" in folder}
    return fabricate.pretend(RAW, plan, set(plan.stages) - unfinished, content) / "runs/tiny/experiments"


def verdict_of(stage: Stage, model: str) -> dict[str, bytes]:
    """What a verdict says in favour of this model."""
    told = {"sentences": [f"model.pt is {model}.", "No more."]}
    return {"verdict.json": json.dumps(told).encode()} if stage.kind == "verdict" else {}


def found(experiments: Path, a: str, b: str) -> dict[str, Any]:
    result = compare(side_of(experiments / a), side_of(experiments / b))
    json.dumps(result, allow_nan=False)
    return result


def test_settings_have_the_names_of_the_configuration(experiments: Path) -> None:
    assert found(experiments, "st", "longer")["settings"] == [
        {"name": "labeling.flip", "a": True, "b": False},
        {"name": "training.student.epochs", "a": 2, "b": 5},
    ]
    assert found(experiments, "st++", "k2")["settings"] == [
        {"name": "selection.checkpoints", "a": 3, "b": 2},
        {"name": "labeling.teacher", "a": "last", "b": "best"},
    ]


def test_another_method_has_settings_that_the_first_one_lacks(experiments: Path) -> None:
    assert found(experiments, "st", "st++")["settings"] == [
        {"name": "method", "a": "st", "b": "st++"},
        {"name": "selection.score", "b": "mean"},
        {"name": "selection by", "b": "score"},
        {"name": "selection.share", "b": 0.5},
        {"name": "labeling.student", "b": "last"},
    ]


def test_runs_that_are_not_finished_are_left_out(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = found(experiments, "st", "st++")
    assert (result["a"]["runs"], result["b"]["runs"]) == (["seed0", "seed1"], ["seed0"])
    assert result["b"]["unfinished"] == {"seed1": ["student"]}
    assert result["metrics"][0]["difference"]["n"] == 1
    assert main(["diff", str(experiments / "st"), str(experiments / "st++")]) == 0
    assert "\nseed1 of B is left out: student still to do.\n" in capsys.readouterr().out


def test_metrics_are_paired_by_run_with_their_spread(experiments: Path) -> None:
    result = found(experiments, "st", "longer")
    assert result["metrics"][0]["name"] == "miou"
    entry = {each["name"]: each for each in result["metrics"]}["miou"]
    assert entry["a"] == {"mean": pytest.approx(0.55), "sd": pytest.approx(statistics.stdev([0.5, 0.6])), "n": 2}
    assert entry["difference"]["mean"] == pytest.approx(0.035)
    assert entry["difference"]["sd"] == pytest.approx(statistics.stdev([0.05, 0.02]))
    half = 12.7062 * statistics.stdev([0.05, 0.02]) / math.sqrt(2)  # t of one degree of freedom, from a table
    ends = (entry["difference"]["low"], entry["difference"]["high"])
    assert ends == pytest.approx((0.035 - half, 0.035 + half), rel=1e-4)
    row = next(line for line in as_text(result).splitlines() if line.startswith("result"))
    assert row.endswith(f"[{100 * ends[0]:+.2f}, {100 * ends[1]:+.2f}]")
    (by_class,) = result["iou"]
    assert (by_class["name"], by_class["difference"]["n"]) == ("left", 2)


def test_each_partition_has_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = RAW | {"experiments": {name: RAW["experiments"][name] for name in ("st", "longer")}}
    raw |= {"partitions": [{"partition": {"seed": 1}}, {"partition": {"seed": 2}}]}
    raw["data"] = RAW["data"] | {"unlabeled": None, "partition": {"count": 4}}
    numbers = {"metrics.json": b'{"miou": 0.5, "images": 2, "iou": {}}', "images.csv": b"id,miou\n"}
    numbers |= {"metrics.csv": b"epoch,val_miou\n1,0.5\n"}
    numbers |= {"verdict.json": b'{"sentences": ["x"]}'}
    numbers |= {"masks.h5": fabricate.write_store(tmp_path / "store.h5", {"a": MASK}).read_bytes()}
    experiments = (
        fabricate.pretend(raw, fabricate.plan_of(raw), content=lambda stage: numbers) / "runs/tiny/experiments"
    )

    result = found(experiments, "st", "longer")
    names = ["seed0-partition1", "seed1-partition1", "seed0-partition2", "seed1-partition2"]
    assert result["a"]["runs"] == result["b"]["runs"] == names
    assert {each["difference"]["n"] for each in result["metrics"]} == {2}, "partitions, whose runs are not independent"
    assert result["labels"]["masks"] == {"both": 4, "a": 0, "b": 0}
    assert found(experiments, "st/seed1-partition2", "longer")["a"]["runs"] == ["seed1-partition2"]


def test_the_models_of_two_results_are_named_where_they_differ(experiments: Path) -> None:
    raw = RAW | {"name": "other"}
    plan = fabricate.plan_of(raw)
    results = fabricate.pretend(raw, plan, {plan.verdict}, lambda stage: verdict_of(stage, "y"))
    result = compare(side_of(experiments / "st"), side_of(results / "runs/other/experiments/st"))
    assert (result["a"]["model"], result["b"]["model"]) == ("model.pt is x.", "model.pt is y.")
    assert "The models of both results\n\nA: model.pt is x.\nB: model.pt is y.\n" in as_text(result)
    assert "The models of both results" not in as_text(found(experiments, "st", "longer"))


def test_classes_that_one_side_alone_has_are_named(experiments: Path) -> None:
    result = found(experiments, "st", "longer")
    assert "are not means over the same classes" not in as_text(result)
    result["iou"].append({"name": "right", "a": {"mean": 0.0, "sd": None, "n": 1}, "b": None, "difference": None})
    expected = "The mIoU of A and of B are not means over the same classes: one of them lacks right."
    assert expected in as_text(result)


def test_what_one_side_alone_has_gets_no_difference() -> None:
    (a, b, c) = spread(
        {"x": {"a": 0.1, "b": 0.2, "c": None}, "y": {"a": 0.3}},
        {"x": {"b": 0.5}, "z": {"a": 0.1, "c": 1.0}},
        {"x": (0, 0), "y": (0, 1), "z": (0, 2)},
    )
    assert (a["name"], a["difference"], a["b"]["n"]) == ("a", None, 1)
    assert b["difference"] == {"mean": pytest.approx(0.3), "sd": None, "n": 1, "low": None, "high": None}
    assert (c["a"], c["difference"]) == (None, None)


def test_pseudo_labels_are_compared_pixel_by_pixel(experiments: Path) -> None:
    labels = found(experiments, "st", "longer")["labels"]
    assert labels["masks"] == {"both": 2, "a": 2, "b": 2}  # of either seed: b in both, a here, c there
    assert labels["different"] == {"mean": 2 / 8, "sd": 0.0, "n": 2}
    assert [each["name"] for each in labels["classes"]] == ["background", "left", "right", "ignored"]
    assert labels["classes"][1] == {"name": "left", "a": 4 / 8, "b": 4 / 8, "iou": 3 / 5}


def test_an_experiment_is_the_same_as_itself(experiments: Path) -> None:
    result = found(experiments, "st/seed0", "st/seed0")
    assert result["settings"] == result["data"] == result["code"] == []
    assert result["labels"]["different"]["mean"] == 0
    assert all(each["difference"]["mean"] == 0 for each in result["metrics"])


def test_data_and_code_that_differ_are_named(experiments: Path) -> None:
    raw = RAW | {"name": "later", "experiments": {"suponly": {"method": "suponly"}}}
    numbers = {"metrics.json": b'{"miou": 0.5, "images": 2, "iou": {}}', "images.csv": b"id,miou\n"}
    numbers["metrics.csv"] = b"epoch,val_miou\n1,0.5\n"
    numbers["verdict.json"] = b'{"sentences": ["x"]}'
    fabricate.pretend(raw, fabricate.plan_of(raw, {"labeled": "f" * 64}, "0123456789ab"), content=lambda stage: numbers)
    result = compare(side_of(experiments / "suponly"), side_of(Path("my results/runs/later/experiments/suponly")))
    assert result["data"] == ["labeled"]
    kinds = ["train", "evaluate"]
    assert result["code"] == [{"stage": kind, "a": "v1", "b": "0123456789ab"} for kind in kinds]
    assert result["labels"] is None
    text = as_text(result)
    assert "code of stpp train                 version 1  edited (012345)\n" in text
    assert "the labeled images or their masks  these      others\n" in text
    assert text.endswith("Not compared: one side has none, the classes differ, or no run and no image is in both.\n")


TEXT = """\
   experiment                               runs
A  my results/runs/tiny/experiments/st      seed0 seed1
B  my results/runs/tiny/experiments/longer  seed0 seed1

What differs

                         A     B
labeling.flip            true  false
training.student.epochs  2     5

mIoU in % (mean ± standard deviation over the runs; B - A is over pairs of runs: seed0, seed1)

                                  A             B         B - A     95 % interval
result                 55.00 ± 7.07  58.50 ± 4.95  +3.50 ± 2.12  [-15.56, +22.56]
teacher on val         25.00 ± 0.00  25.00 ± 0.00  +0.00 ± 0.00    [+0.00, +0.00]
teacher on test        25.00 ± 0.00  25.00 ± 0.00  +0.00 ± 0.00    [+0.00, +0.00]
final student on val   25.00 ± 0.00  25.00 ± 0.00  +0.00 ± 0.00    [+0.00, +0.00]
final student on test  55.00 ± 7.07  58.50 ± 4.95  +3.50 ± 2.12  [-15.56, +22.56]
last epoch on val      25.00 ± 0.00  25.00 ± 0.00  +0.00 ± 0.00    [+0.00, +0.00]
best epoch on val      50.00 ± 0.00  50.00 ± 0.00  +0.00 ± 0.00    [+0.00, +0.00]
pseudo-labels          25.00 ± 0.00  25.00 ± 0.00  +0.00 ± 0.00    [+0.00, +0.00]

IoU of the result by class in %

                 A             B         B - A     95 % interval
left  55.00 ± 7.07  58.50 ± 4.95  +3.50 ± 2.12  [-15.56, +22.56]

Pseudo-labels that the final students learned from

25.00 ± 0.00 % of the pixels of 2 masks have different labels in A and B.
Not compared: 2 more in A alone, 2 more in B alone.

class       % of pixels in A   in B  IoU of A with B
background             50.00  37.50            75.00
left                   50.00  50.00            60.00
right                   0.00   0.00                -
ignored                 0.00  12.50             0.00
"""


def test_the_text(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(experiments / "st"), str(experiments / "longer")]) == 0
    assert capsys.readouterr().out == TEXT


def test_settings_that_the_method_of_one_side_alone_has_are_only_named(experiments: Path) -> None:
    lines = as_text(found(experiments, "suponly", "st")).splitlines()
    start = lines.index("What differs")
    assert lines[start : start + 8] == [
        "What differs",
        "",
        "        A        B",
        "method  suponly  st",
        "",
        "Settings of B alone: "
        "labeling.scales, labeling.flip, labeling.teacher, training.student, augmentation.student.",
        "",
        "mIoU in % (mean ± standard deviation over the runs; B - A is over pairs of runs: seed0, seed1)",
    ]
    assert "Nothing: same settings, data and code." in as_text(found(experiments, "st", "st"))


def test_the_markdown_has_the_same_tables(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(experiments / "st"), str(experiments / "longer"), "--md"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| result | 55.00 ± 7.07 | 58.50 ± 4.95 | +3.50 ± 2.12 | \\[-15.56, +22.56\\] |" in lines
    assert "**What differs**" in lines
    for before, line in pairwise(lines):
        assert before[:1] == line[:1] or "" in (before, line) or "|" not in before[:1] + line[:1], "they run together"
    rows = [line for line in lines if line.startswith("|")]
    text = [line for line in TEXT.splitlines() if "  " in line]
    assert [row.replace("|", " ").replace("\\", "").split() for row in rows if "---" not in row] == [
        line.split() for line in text
    ]


def test_the_json_is_the_comparison(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(experiments / "st"), str(experiments / "longer"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found(experiments, "st", "longer")


def test_one_seed_is_said_to_tell_nothing_of_the_noise(
    experiments: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(experiments / "st/seed0")
    assert main(["diff", ".", "../../longer/seed0/"]) == 0
    out = capsys.readouterr().out
    assert "mIoU in % (one run, so the noise between seeds is not known)" in out
    assert ["result", "50.00", "55.00", "+5.00"] in [line.split() for line in out.splitlines()]
    assert main(["diff", ".", "../seed1"]) == 0
    assert "(one run" in capsys.readouterr().out
    assert main(["diff", "..", "../seed1"]) == 0
    assert "(mean ± standard deviation over the runs; B - A is over pairs of runs: seed1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("miou", "result"),
        ("teacher_val", "teacher on val"),
        ("phase1_test", "student of phase 1 on test"),
        ("student_test", "final student on test"),
        ("labels", "pseudo-labels"),
        ("labels2", "pseudo-labels of phase 2"),
        ("unreliable", "teacher's masks of unreliable images"),
        ("something_else", "something_else"),
    ],
)
def test_columns_of_the_table_are_put_into_words(column: str, words: str) -> None:
    assert metric_name(column) == words


def test_a_section_that_is_off_on_one_side_is_one_difference() -> None:
    on = {"a.blur.p": 0.5, "a.blur.sigma": [1], "a.flip": 0.5}
    assert list(changed_settings(on, {"a.blur": None, "a.flip": 0.5})) == [("a.blur", {"p": 0.5, "sigma": [1]}, None)]
    assert list(changed_settings(on, on | {"a.blur.p": 0.6})) == [("a.blur.p", 0.5, 0.6)]


@pytest.mark.parametrize("wrong", ["nowhere", "my results", "my results/runs/tiny/experiments/st/seed0/student"])
def test_what_is_no_experiment_is_refused(wrong: str, experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(experiments / "st"), wrong]) == 1
    assert capsys.readouterr().err == (
        f"stpp: {wrong} is not an experiment; give a folder results/runs/NAME/experiments/EXPERIMENT, or one of its "
        f"runs, seed0\n"
    )


def test_an_experiment_without_a_finished_run_is_refused(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(experiments / "st"), str(experiments / "st++/seed1")]) == 1
    folder = "my results/runs/tiny/experiments/st++/seed1"
    error = f"stpp: no run in {folder} is finished: student still to do; run the workflow first\n"
    assert capsys.readouterr().err == error


def test_a_damaged_artifact_is_one_message(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (experiments / "st/seed0/student-test/metrics.json").write_text("{}")
    assert main(["diff", str(experiments / "st"), str(experiments / "longer")]) == 1
    assert "is damaged" in capsys.readouterr().err


def test_of_a_real_run_the_numbers_are_those_of_the_table(finished: Path) -> None:
    experiments = finished / "my results/runs/tiny/experiments"
    result = compare(side_of(experiments / "random"), side_of(experiments / "st++"))
    rows = {
        row["experiment"]: row for row in json.loads((finished / "my results/tiny/metrics.json").read_text())["runs"]
    }
    metrics = {each["name"]: each for each in result["metrics"]}
    assert metrics["miou"]["difference"]["mean"] == pytest.approx(rows["st++"]["miou"] - rows["random"]["miou"])
    assert metrics["labels1"]["a"]["mean"] == pytest.approx(rows["random"]["labels1"])
    assert result["labels"]["masks"] == {"both": fabricate.COUNTS["unlabeled"], "a": 0, "b": 0}
