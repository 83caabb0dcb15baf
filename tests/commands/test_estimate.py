"""How long stages take: their work against a count by hand, and the time of all of them against a schedule by hand."""

from pathlib import Path
from typing import Any

import fabricate
import pytest

from stpp.commands.estimate import START, Speeds, Work, wall_time, work_of
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
        ("score", 0, 0),
        ("table", 0, 0),
    ],
)
def test_work_is_what_networks_compute(plan: Plan, beginning: str, trained: float, predicted: float) -> None:
    assert work(plan, beginning) == Work(trained, predicted)


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
