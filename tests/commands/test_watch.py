"""What `stpp run` sees: events, how far stages are, and how long the run still takes."""

import contextlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import fabricate
import pytest

from stpp.commands.estimate import READING, START, work_of
from stpp.commands.run import failure
from stpp.commands.watch import Event, Watch, titles_of
from stpp.plan.graph import Plan
from stpp.plan.targets import TARGETS, needed, wanted

ST = fabricate.tiny(experiments={"st": {"method": "st"}})
LINES = 76


@pytest.fixture
def plan() -> Plan:
    """Ten images in each subset."""
    plan = fabricate.plan_of(ST)
    fingerprints = {digest for stage in plan.stages.values() for digest in stage.data.values()}
    return Plan(**{**vars(plan), "images": dict.fromkeys(fingerprints, 10)})


@pytest.fixture
def results(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of which nothing is done."""
    monkeypatch.chdir(tmp_path)
    return fabricate.pretend(ST, plan, [])


def folder_of(plan: Plan, start: str) -> str:
    (folder,) = [folder for folder in plan.stages if folder.startswith(start)]
    return folder


def watching(plan: Plan, results: Path, done: tuple[str, ...] = ()) -> Watch:
    """A run that began just now and makes all that is not `done`, on one core."""
    takes = dict.fromkeys(plan.stages, 1)
    return Watch(plan, results, [f for f in plan.stages if f not in done], done, time.time() - 5, takes, 1, {})


def test_the_forecast_is_said_as_soon_as_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = ST | {"outlook": True}
    plan = fabricate.plan_of(raw)
    results = fabricate.pretend(raw, plan, [])
    watch = watching(plan, results)
    watch.look()
    forecast = json.dumps({"sentences": ["It will pay.", "For this reason."]}).encode()
    fabricate.pretend(raw, plan, {plan.outlook}, lambda stage: {"outlook.json": forecast})
    (said,) = [event for event in watch.look() if event.kind == "said"]
    assert said == Event(plan.outlook, "said", "It will pay.")


def tell(results: Path, folder: str, **changes: Any) -> None:
    """A `progress.json` as a stage writes it."""
    now = time.time()
    content = {"running": True, "host": platform.node(), "process": os.getpid(), "since": now - 30, "time": now}
    path = results / "stages" / folder / "unfinished/progress.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | {"first": 0, "done": 300, "total": 400} | changes))


def log(results: Path, folder: str, text: str) -> Path:
    path = results / "logs" / f"{folder}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def finish(plan: Plan, results: Path, *folders: str, **facts: Any) -> None:
    with contextlib.chdir(results.absolute().parent):
        fabricate.pretend(ST, plan, folders, **facts)


def test_a_stage_begins_and_is_done_and_warns(plan: Plan, results: Path) -> None:
    watch, teacher = watching(plan, results), folder_of(plan, "train/teacher")
    assert watch.look() == []
    tell(results, teacher)
    assert watch.look() == [Event(teacher, "begins", "begins")]
    assert watch.look() == []
    finish(plan, results, teacher, warnings=["the teacher is weak"], seconds=75.0)
    events = watch.look()
    assert events == [
        Event(teacher, "done", "done in 1 min 15 s"),
        Event(teacher, "warning", "warning: the teacher is weak"),
    ]
    assert watch.look() == []


def test_a_stage_fails_with_its_words_and_its_log(plan: Plan, results: Path) -> None:
    watch, teacher = watching(plan, results), folder_of(plan, "train/teacher")
    path = log(results, teacher, "as usual\nstpp: a and b: 2 problems\n  - a\n  - b\n")
    assert watch.look() == [Event(teacher, "failed", "failed: a and b: 2 problems")]
    assert watch.failed == {teacher: "a and b: 2 problems\n  - a\n  - b"}
    assert watch.log_of(teacher) == path
    assert "1 failed" in watch.summary()
    finish(plan, results, teacher)  # it was tried again
    assert [event.kind for event in watch.look()] == ["done"]
    assert watch.failed == {}


def test_what_an_earlier_run_said_is_no_failure(plan: Plan, results: Path) -> None:
    path = log(results, folder_of(plan, "train/teacher"), "stpp: of yesterday\n")
    os.utime(path, (1, 1))
    assert watching(plan, results).look() == []


def test_a_stage_that_was_stopped_did_not_fail(plan: Plan, results: Path) -> None:
    watch, teacher = watching(plan, results), folder_of(plan, "train/teacher")
    log(results, teacher, "stpp: stopped by SIGINT after iteration 3 of 6; all is saved, run the workflow again\n")
    assert watch.look() == [Event(teacher, "stopped", "stopped by SIGINT after iteration 3 of 6")]
    assert not watch.failed
    assert watch.stopped == {teacher: "stopped by SIGINT after iteration 3 of 6"}
    finish(plan, results, teacher)  # it was started again
    assert [event.kind for event in watch.look()] == ["done"]
    assert not watch.stopped


def test_a_run_whose_stage_somebody_stopped_says_so(plan: Plan, results: Path) -> None:
    watch, teacher = watching(plan, results), folder_of(plan, "train/teacher")
    path = log(
        results, teacher, "stpp: stopped by SIGTERM after iteration 3 of 6; all is saved, run the workflow again\n"
    )
    watch.look()
    message = str(failure(watch, results, log(results, "tiny", "WorkflowError:\nAt least one job did not complete.\n")))
    assert message.splitlines()[1:3] == [
        "  train teacher: stopped by SIGTERM after iteration 3 of 6",
        f"    log: {path}",
    ]


def test_what_snakemake_says_is_shown_without_the_noise_of_libraries(plan: Plan, results: Path) -> None:
    noise = 'nanobind: leaked 2 types!\n - leaked type "triton.context"\n - ... skipped remainder\n'
    path = log(
        results, "tiny", f"Building DAG\nWorkflowError:\nNo space left.\n{noise}See https://nanobind.x/refleaks\n"
    )
    message = str(failure(watching(plan, results), results, path))
    assert message == f"WorkflowError:\nNo space left.\n(the full output of Snakemake is in {path})"


def test_a_line_says_how_far_a_stage_is(plan: Plan, results: Path) -> None:
    watch, teacher = watching(plan, results), folder_of(plan, "train/teacher")
    tell(results, teacher, epochs=8, epoch=6, loss=0.5, val_miou=0.251)
    watch.look()
    # 300 of 400 images in 30 s, in batches of 4.
    whole = "  train teacher: 75 of 100 iterations, 10 images/s, 10 s left, loss 0.500, val mIoU 25.1 %"
    assert watch.running(200) == [whole]
    (line,) = watch.running(LINES)
    assert line == whole[: whole.index(", val")] and len(line) <= LINES


def test_the_rest_is_told_by_the_speed_of_what_runs(plan: Plan, results: Path) -> None:
    watch, teacher = watching(plan, results), folder_of(plan, "train/teacher")
    watch.look()
    assert watch.left() is None
    assert watch.summary().endswith("0 running, 11 waiting")
    tell(results, teacher)
    watch.look()
    left = watch.left()
    # By hand: three quarters of the teacher's work took 30 s; all networks are as fast, and one job runs at a time.
    work = {folder: work_of(stage, plan) for folder, stage in plan.stages.items()}
    speed = 30 / (0.75 * (work[teacher].trained + work[teacher].predicted))
    expected = 10.0
    for folder, stage in plan.stages.items():
        if folder != teacher:
            network = stage.kind in ("train", "predict", "evaluate", "report")
            pixels = work[folder].trained + work[folder].predicted
            read = READING.get(stage.kind, 0) * work[folder].masks
            expected += START + pixels * speed if network else START / 2 + read
    assert left == pytest.approx(expected)
    assert "; about " in watch.summary()


def test_a_stage_that_only_has_to_write_its_files_takes_no_more_time(plan: Plan, results: Path) -> None:
    watch, teacher = watching(plan, results), folder_of(plan, "train/teacher")

    def rest(done: int) -> float:
        tell(results, teacher, done=done)
        watch.look()
        left = watch.left()
        assert left is not None
        return left

    assert rest(400) < rest(399)


def test_what_waits_for_a_failed_stage_takes_no_time(plan: Plan, results: Path) -> None:
    watch, teacher = watching(plan, results), folder_of(plan, "train/teacher")
    log(results, teacher, "stpp: no\n")
    watch.look()
    assert watch.left() == 0


def test_stages_of_several_runs_are_told_apart() -> None:
    titles = titles_of(fabricate.plan_of(fabricate.TINY))
    assert len(set(titles.values())) == len(titles)
    by_start = {folder.partition("-val")[0]: title for folder, title in titles.items() if folder.startswith("train")}
    assert by_start["train/teacher-k3"] == "train teacher"
    assert {title for title in titles.values() if "phase1" in title and title.startswith("train")} == {
        "train student-phase1 of random seed0",
        "train student-phase1 of st++ seed0",
    }


# --- targets ----------------------------------------------------------------------------------------------------------


def test_a_target_needs_what_leads_to_it_and_is_not_there() -> None:
    plan = fabricate.plan_of(fabricate.TINY)
    teacher, score = folder_of(plan, "train/teacher"), folder_of(plan, "score/")
    masks = [folder for folder in plan.stages if folder.startswith("predict/masks")]
    assert wanted(plan, TARGETS["teacher"]) == [teacher]
    assert wanted(plan, TARGETS["scores"]) == [score]
    everything = list(plan.stages)
    assert needed(plan, [score], everything) == [teacher, *masks, score]
    assert needed(plan, [score], [*masks[1:], score]) == [*masks[1:], score]
    assert needed(plan, [score], [teacher]) == []  # nobody misses the teacher
    kinds = {folder.partition("/")[0] for folder in wanted(plan, TARGETS["evaluation"])}
    assert kinds == {"evaluate"}
    only = wanted(plan, TARGETS["st"])
    assert not [folder for folder in only if "phase1" in folder] and len(only) > 5
