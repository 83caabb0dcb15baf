"""How long stages take: their work against a count by hand, and the time of all of them against a schedule by hand."""

from pathlib import Path
from typing import Any

import fabricate
import pytest

from stpp.commands.estimate import READING, START, Speeds, Work, pixels_of_report, wall_time, work_of
from stpp.commands.workflow import prepare
from stpp.plan.graph import Plan, Stage
from stpp.settings.configfile import load


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of the tiny configuration: 4 labeled, 6 unlabeled, 2 val, 2 test images."""
    monkeypatch.chdir(tmp_path)
    fabricate.write_scenes(tmp_path / "my scenes")
    return prepare(load(fabricate.TINY), lambda line: None)


def work(plan: Plan, beginning: str) -> Work:
    (folder,) = [folder for folder in plan.stages if folder.startswith(beginning)]
    return work_of(plan.stages[folder], plan)


CROP, SIDE, BATCH = 24**2, 32**2, 4


@pytest.mark.parametrize(
    ("beginning", "trained", "predicted"),
    [
        # 4 images twice are 2 batches, 3 epochs of them; a pass counts three times. 2 val images an epoch.
        ("train/teacher", 2 * 3 * BATCH * CROP * 3, 3 * 2 * SIDE),
        # 6 pseudo-labeled images, 4 labeled ones twice: 3 batches, 2 epochs.
        ("train/student-val", 3 * 2 * BATCH * CROP * 3, 2 * 2 * SIDE),
        ("predict/masks-checkpoint1", 0, 6 * SIDE),
        # Two scales, one of which has a quarter of the pixels; both mirrored.
        ("predict/labels-teacher-seed0", 0, 6 * SIDE * 1.25 * 2),
        ("evaluate/teacher-val", 0, 2 * SIDE),
        ("evaluate/labels-truth", 0, 0),
        # By the network handed over: 6 unlabeled images, the same to label next, and 4 of val and test, which each of
        # 3 checkpoints predicts, too. 6 candidates, 4 labeled images and those of val and test are encoded.
        ("report", 0, (6 + 6 + 4 * (1 + 3) + 6 + 4 + 4) * SIDE),
        ("table", 0, 0),
    ],
)
def test_work_is_what_networks_compute(plan: Plan, beginning: str, trained: float, predicted: float) -> None:
    assert work(plan, beginning) == Work(trained, predicted)


def test_work_without_a_network_is_the_stored_masks(plan: Plan) -> None:
    assert work(plan, "score") == Work(masks=6)
    raw = fabricate.tiny(labeling={"kept": "aligned"}, experiments={"st++": {"method": "st++"}})
    plan = prepare(load(raw), lambda line: None)
    kept = {stage.role: work_of(stage, plan).masks for stage in plan.stages.values() if stage.kind == "pixels"}
    assert kept == {"teacher-reliable-aligned": 3, "phase1-unreliable-aligned": 3}


def test_a_report_shows_no_more_than_its_settings_say(plan: Plan) -> None:
    stage = plan.stages[plan.report]
    settings = {**stage.settings, "prediction": {"long_side": 1024}}
    many = {"labeled": 5000, "unlabeled": 100_000, "val": 500, "test": 1500}
    # 10 MB hold 181 images of 55 kB, of which a quarter are unlabeled. 8 images to label next have 10 candidates each.
    passes, encoded = 45 + (181 - 45) * 4 + 8, 80 + 5000 + 2000
    assert pixels_of_report(settings, stage.inputs, many, plan) == passes * 1024**2 + encoded * 512**2
    settings["report"] = {"size": 1000.0, "judged": 300, "unlabeled": 7, "next": 0}
    inputs = {name: paths for name, paths in stage.inputs.items() if name != "teacher"}
    assert pixels_of_report(settings, inputs, many, plan) == (7 + 300 * 4) * 1024**2
    assert pixels_of_report(settings, inputs, {}, plan) == 0


def test_speeds_are_learned() -> None:
    speeds = Speeds()
    assert speeds.seconds("train", Work(trained=100.0)) is None
    speeds.add("train", Work(trained=100.0), 20.0)
    assert speeds.seconds("train", Work(trained=50.0)) == START + 10
    assert speeds.seconds("predict", Work(predicted=50.0)) == START + 10
    speeds.add("predict", Work(predicted=100.0), 5.0)
    assert speeds.seconds("predict", Work(predicted=50.0)) == START + 2.5
    assert speeds.seconds("evaluate", Work(predicted=50.0)) == START + 2.5
    short = speeds.seconds("table", Work())
    speeds.add("table", Work(), 7.0)
    assert short is not None and speeds.seconds("table", Work()) == short + 7


def test_a_report_takes_as_long_as_predictions_of_its_images() -> None:
    speeds = Speeds()
    speeds.add("report", Work(predicted=1.0), 1000.0)
    assert speeds.seconds("report", Work(predicted=50.0)) is None
    speeds.add("predict", Work(predicted=100.0), 5.0)
    assert speeds.seconds("report", Work(predicted=50.0)) == START + 2.5
    speeds.add("encode", Work(predicted=100.0), 20.0)
    assert speeds.seconds("report", Work(predicted=50.0)) == START + 10
    assert speeds.seconds("evaluate", Work(predicted=50.0)) == START + 2.5


@pytest.mark.parametrize("kind", ["score", "pixels"])
def test_stored_masks_take_time(kind: str) -> None:
    speeds = Speeds()
    found = speeds.seconds(kind, Work(masks=100_000))
    assert found is not None and found == pytest.approx(START / 2 + 100_000 * READING[kind])
    assert found > 60
    speeds.add(kind, Work(masks=50), 10.0)
    assert speeds.seconds(kind, Work(masks=100)) == START / 2 + 20


def chain(**reads: list[str]) -> Plan:
    stages: dict[str, Any] = {
        name: Stage("score", name, {}, {}, {"of": [f"{other}/x" for other in others]}, (), "")
        for name, others in reads.items()
    }
    return Plan("p", stages, [], "", "", "", {})


@pytest.mark.parametrize(
    ("cores", "expected"),
    {
        None: 10 + 30 + 2,  # a, then c, then d
        1: 10 + 20 + 30 + 2,
        2: 10 + 30 + 2,
    }.items(),
)
def test_the_time_of_all_is_that_of_a_schedule(cores: int | None, expected: float) -> None:
    plan = chain(a=[], b=["a"], c=["a"], d=["b", "c"])
    seconds = {"a": 10.0, "b": 20.0, "c": 30.0, "d": 2.0}
    assert wall_time(seconds, plan, dict.fromkeys(seconds, 1), cores) == expected


def test_a_job_that_takes_all_cores_waits_for_them() -> None:
    plan = chain(a=[], b=[], c=[])
    seconds, takes = {"a": 10.0, "b": 20.0, "c": 5.0}, {"a": 1, "b": 8, "c": 1}
    # a and c begin at once, and b when both have ended.
    assert wall_time(seconds, plan, takes, 2) == 30
    assert wall_time({"b": 20.0}, plan, takes, 2) == 20
    assert wall_time({}, plan, takes, 2) == 0
