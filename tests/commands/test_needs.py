"""What a run needs: crops, disk and memory, told before anything is computed."""

from pathlib import Path
from typing import Any

import fabricate
import pytest

from stpp.commands.cli import main
from stpp.commands.estimate import MASK_BYTES, Speeds, space_of
from stpp.commands.forecast import forecast
from stpp.commands.needs import MANY_CROPS, crops_warning, foreseen, needs, warn_of_crops
from stpp.commands.trial import Trial
from stpp.commands.workflow import prepare
from stpp.common.errors import StppError
from stpp.plan.graph import Plan
from stpp.settings.configfile import load


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fabricate.write_scenes(tmp_path / "my scenes")


def plan_of(**student: Any) -> Plan:
    raw = fabricate.tiny(experiments={"st": {"method": "st"}})
    raw["training"]["student"] |= student
    return prepare(load(raw), lambda line: None)


def many(plan: Plan, unlabeled: int) -> Plan:
    """The plan, as if there were so many unlabeled images."""
    (stage,) = [stage for stage in plan.stages.values() if stage.role == "student"]
    plan.images[stage.data["unlabeled"]] = unlabeled  # type: ignore[index]
    return plan


def test_a_student_of_100000_images_is_warned_of() -> None:
    plan = many(plan_of(epochs=60, batch_size=8), 100_000)
    (line,) = crops_warning(plan, plan.stages)
    # As many crops of labeled images as of unlabeled ones, 60 times; the teacher has 4 images twice, 3 times.
    assert f"take {60 * 200_000 + 24:,} crops" in line and "student 12,000,000" in line
    assert f"{MANY_CROPS:,}" in line and "iterations" in line


def test_short_trainings_are_not() -> None:
    plan = many(plan_of(iterations=40_000, batch_size=16, epochs=1), 100_000)
    assert MANY_CROPS > 40_000 * 16
    assert crops_warning(plan, plan.stages) == []
    plan = plan_of(iterations=MANY_CROPS // 4 + 1, batch_size=4, epochs=1)
    assert len(crops_warning(plan, plan.stages)) == 1


def test_trainings_that_are_done_are_not(tmp_path: Path) -> None:
    plan = many(plan_of(epochs=60), 100_000)
    said: list[str] = []
    warn_of_crops(plan, Path("my results/stages"), said.append)
    assert len(said) == 1
    raw = fabricate.tiny(experiments={"st": {"method": "st"}})
    fabricate.pretend(raw, plan)
    warn_of_crops(plan, Path("my results/stages"), said.append)
    assert len(said) == 1


def test_run_and_plan_say_it_first(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    raw = fabricate.tiny(experiments={"suponly": {"method": "suponly"}})
    raw["training"]["teacher"] |= {"iterations": MANY_CROPS}
    fabricate.write_config(Path(), raw)
    monkeypatch.setattr("stpp.commands.run.follow", lambda *_: 3)
    assert main(["run", "config.yaml"]) == 3
    assert f"take {4 * MANY_CROPS:,} crops" in capsys.readouterr().err
    assert main(["plan", "config.yaml"]) == 0
    assert f"take {4 * MANY_CROPS:,} crops" in capsys.readouterr().out


def test_space_is_that_of_networks_and_masks() -> None:
    plan = plan_of()
    for stage in plan.stages.values():
        pixels = plan.pixels.get(stage.data.get("unlabeled", ""), 0)
        networks = {"train": len([name for name in stage.outputs if name.endswith(".pt")]), "verdict": 1}
        expected = 4 * 1000 * networks.get(stage.kind, 0) + (MASK_BYTES * pixels if stage.kind == "predict" else 0)
        assert space_of(stage, plan, 1000) == pytest.approx(expected), stage.folder
    assert max(plan.pixels.values()) > 6 * 24 * 24


def test_where_a_stage_of_the_role_is_there_its_size_and_memory_are_told() -> None:
    raw = fabricate.tiny(experiments={"suponly": {"method": "suponly"}})
    fabricate.pretend(raw, prepare(load(raw), lambda line: None), peak_memory_mb=1234)
    raw["training"]["teacher"]["epochs"] = 5
    plan = prepare(load(raw), lambda line: None)
    stages = Path("my results/stages")
    said = needs(plan, forecast(plan, stages).tasks, stages, load(raw).runtime.model_dump(), None)
    assert said[0].startswith("Disk: about ") and said[1].startswith("Memory: about 1.2 GB for a training; ")


def test_memory_of_the_gpu_is_told_apart_from_main_memory() -> None:
    raw = fabricate.tiny(experiments={"suponly": {"method": "suponly"}})
    plan, runtime, stages = prepare(load(raw), lambda line: None), load(raw).runtime.model_dump(), Path("stages")

    def memory(trial: Trial) -> list[str]:
        return [line for line in needs(plan, forecast(plan, stages).tasks, stages, runtime, trial) if "emory" in line]

    on_gpu = "Memory: about 5.0 GB of GPU memory for a training."
    main = "Memory: about {} for a training; runtime.train.memory asks for 500.0 MB."
    assert memory(Trial(1, 0.1, Speeds(), 10, gpu_memory=5 * 10**9)) == [on_gpu]
    assert memory(Trial(1, 0.1, Speeds(), 10, memory=2 * 10**9)) == [main.format("2.0 GB")]
    # Another training ran here, in less main memory than this one takes of the GPU.
    fabricate.pretend(raw, plan, peak_memory_mb=1234)
    raw["training"]["teacher"]["epochs"] = 5
    plan, stages = prepare(load(raw), lambda line: None), Path("my results/stages")
    assert memory(Trial(1, 0.1, Speeds(), 10, gpu_memory=5 * 10**9)) == [main.format("1.2 GB"), on_gpu]


def test_no_trial_where_it_would_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, runtime = plan_of(), load(fabricate.TINY).runtime.model_dump()

    def fails(*_: Any) -> tuple[Trial, str]:
        raise StppError("the main memory is too small; lower something")

    monkeypatch.setattr("stpp.commands.needs._tried", fails)
    found, said = foreseen(plan, Path("stages"), runtime)
    assert said[0] == "The network could not be timed: the main memory is too small; lower something."
    assert all(task.seconds is None for task in found.tasks)


def test_a_trial_times_trainings_and_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, runtime = plan_of(), load(fabricate.TINY).runtime.model_dump()
    found, said = foreseen(plan, Path("stages"), runtime)
    assert all(task.seconds is not None and not task.measured for task in found.tasks)
    assert "a step was timed, on the CPU with 1 thread" in said[0]
    student = next(folder for folder in plan.stages if folder.startswith("train/student"))
    part, _ = foreseen(plan, Path("stages"), runtime, [student])
    assert [task.folder for task in part.tasks] == [student]
