"""`stpp status`: the state of every stage, from state files and logs; and what running stages say of themselves."""

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fabricate
import pytest
from hostile import quick

from stpp.commands import workflow
from stpp.commands.cli import main
from stpp.commands.status import State, as_text, last_lines, states
from stpp.plan.graph import Plan
from stpp.runtime.lock import Holder
from stpp.runtime.progress import Progress, ProgressFile, Stopped, followed, progress_of

ST = fabricate.tiny(experiments={"st": {"method": "st"}})


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of which the teacher alone is done."""
    monkeypatch.chdir(tmp_path)
    return fabricate.pretend(ST, plan(), [folder_of("train/teacher")])


def plan() -> Plan:
    return fabricate.plan_of(ST)


def folder_of(start: str) -> str:
    """The one planned stage whose folder begins so."""
    (folder,) = [folder for folder in plan().stages if folder.startswith(start)]
    return folder


def state_of(results: Path, start: str, at_work: Holder | None = None) -> State:
    (state,) = [state for state in states(plan(), results, at_work) if state.folder == folder_of(start)]
    return state


def tell(results: Path, start: str, part: str = "", **changes: Any) -> None:
    """A `progress.json` as a stage writes it."""
    content = {"running": True, "host": platform.node(), "process": os.getpid(), "since": time.time() - 30}
    content |= {"time": time.time(), "first": 0, "done": 300, "total": 400, **changes}
    path = results / "stages" / folder_of(start) / "unfinished" / part / "progress.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def log(results: Path, start: str, text: str) -> None:
    path = results / "logs" / f"{folder_of(start)}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_stages_are_done_ready_or_waiting(results: Path) -> None:
    assert (state_of(results, "train/teacher").state, state_of(results, "train/teacher").detail) == ("done", "in 10 s")
    assert state_of(results, "predict/labels").state == "ready"
    student = state_of(results, "train/student")
    assert (student.state, student.detail) == ("waiting", f"for {folder_of('predict/labels')}")
    assert re.search(r"for evaluate/\S+ and \d+ more", state_of(results, "table/").detail)


def test_a_training_says_epoch_loss_val_miou_and_the_time_left(results: Path) -> None:
    tell(results, "train/student", epoch=3, epochs=4, loss=0.51234, losses={}, val_miou=0.4321)
    state = state_of(results, "train/student")
    assert state.state == "running"
    assert re.search(r"3 of 4 epochs, loss 0.5123, val mIoU 43.21 %, about (10|9\.\d) s left$", state.detail)
    assert f"on {platform.node()}, for 30 s" in state.detail


def test_a_training_says_each_of_its_losses(results: Path) -> None:
    losses = {"supervised": 0.3, "consistency": 0.21234, "broken": None}
    tell(results, "train/student", epoch=3, epochs=4, loss=0.51234, losses=losses, val_miou=None)
    assert "loss 0.5123 (supervised 0.3000, consistency 0.2123)," in state_of(results, "train/student").detail
    tell(results, "train/student", epoch=3, epochs=4, loss=0.51234, losses=["no mapping"], val_miou=None)
    assert "loss 0.5123," in state_of(results, "train/student").detail


def test_of_what_is_done_but_not_written_no_time_is_left(results: Path) -> None:
    tell(results, "predict/labels", done=400)
    assert state_of(results, "predict/labels").detail == f"on {platform.node()}, for 30 s, 400 of 400 images"


def test_before_the_first_epoch_ends_there_is_no_loss(results: Path) -> None:
    tell(results, "train/student", first=300, epoch=0, epochs=4, loss=None, val_miou=None)
    assert state_of(results, "train/student").detail.endswith("0 of 4 epochs")


def test_a_prediction_says_how_many_images_are_done_in_all_its_parts(results: Path) -> None:
    tell(results, "predict/labels", "0-of-2")
    tell(results, "predict/labels", "1-of-2", done=100, process=os.getppid())
    detail = state_of(results, "predict/labels").detail
    assert "400 of 800 images, 2 jobs running" in detail
    assert "about 1 min 30 s left" in detail


def test_a_job_on_another_machine_is_gone_after_ten_minutes_of_silence(results: Path) -> None:
    tell(results, "predict/labels", host="elsewhere", time=time.time() - 120)
    assert state_of(results, "predict/labels").state == "running"
    assert "no progress for 2 min 0 s" in state_of(results, "predict/labels").detail
    tell(results, "predict/labels", host="elsewhere", time=time.time() - 700)
    assert state_of(results, "predict/labels").state == "failed"


def test_a_killed_job_has_failed_though_it_says_nothing(results: Path) -> None:
    tell(results, "predict/labels", process=dead_process())
    state = state_of(results, "predict/labels")
    assert state.state == "failed"
    assert "ended without a message at 75 %" in state.detail


def test_a_failed_stage_shows_the_last_lines_of_its_log(results: Path) -> None:
    tell(results, "predict/labels", running=False)
    bar = "\r".join(f"labels: {k}%" for k in range(5))
    log(results, "predict/labels", f"one\ntwo\n{bar}\nstpp: too little memory\n")
    state = state_of(results, "predict/labels")
    assert state.state == "failed"
    assert list(state.log) == ["two", "labels: 4%", "stpp: too little memory"]


def test_a_traceback_is_a_failure_and_a_stopped_stage_none(results: Path) -> None:
    log(results, "predict/labels", "Traceback (most recent call last):\n  File x\nKeyError: 'a'\n")
    assert state_of(results, "predict/labels").state == "failed"
    log(
        results,
        "predict/labels",
        "stpp: stopped by SIGTERM after 3 of 9 images; all is saved, run the workflow again\n",
    )
    state = state_of(results, "predict/labels")
    assert (state.state, state.detail) == ("stopped", "stopped by SIGTERM after 3 of 9 images")


def test_a_log_of_this_run_without_an_error_means_that_the_job_has_begun(results: Path) -> None:
    log(results, "predict/labels", "")
    assert state_of(results, "predict/labels").state == "ready"
    state = state_of(results, "predict/labels", Holder("", 1, "here", since=1))
    assert (state.state, state.detail) == ("running", "starting")


def test_what_an_earlier_run_said_counts_no_more_once_another_one_is_at_work(results: Path) -> None:
    log(results, "predict/labels", "stpp: too little memory\n")
    os.utime(results / "logs" / f"{folder_of('predict/labels')}.log", (1, 1))
    assert state_of(results, "predict/labels").state == "failed"
    assert state_of(results, "predict/labels", Holder("", 1, "here", since=2)).state == "ready"


def test_what_is_no_progress_is_passed_over(results: Path) -> None:
    tell(results, "predict/labels", done="many")
    assert state_of(results, "predict/labels").state == "ready"
    tell(results, "predict/labels", running=False, total=0)
    assert state_of(results, "predict/labels").state == "ready"


def test_what_matters_stands_last() -> None:
    found = [
        State("train/a", "failed", "see logs/train/a.log", ["Killed", "stpp: too little memory"]),
        State("train/b-longer", "running", "on here, for 30 s"),
        State("score/c", "waiting", "for train/b-longer and 2 more"),
        State("score/d", "done", "in 3.0 s"),
        State("score/e", "ready"),
    ]
    assert (
        as_text("tiny", found, "")
        == """\
done     score/d         in 3.0 s
waiting  score/c         for train/b-longer and 2 more
ready    score/e
failed   train/a         see logs/train/a.log
         | Killed
         | stpp: too little memory
running  train/b-longer  on here, for 30 s

tiny: 5 stages: 1 done, 1 waiting, 1 ready, 1 failed, 1 running; no workflow is running.
"""
    )
    assert (
        as_text("tiny", found[-1:], "process 7 on here")
        == """\
ready  score/e

tiny: 1 stage: 1 ready; a workflow is running (process 7 on here).
"""
    )


def test_of_a_long_log_the_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x\n" * 50_000 + "last \xe4\n".encode("latin-1"))
    assert last_lines(tmp_path / "log")[-1] == "last �"


# --- what running stages tell -----------------------------------------------------------------------------------------


def told(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "progress.json").read_text())
    return content


def test_progress_is_written_at_most_once_a_second_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("stpp.runtime.progress.time.monotonic", lambda: now)
    teller = ProgressFile(tmp_path)
    teller.tell(5, 20, epoch=1)
    teller.tell(6, 20, epoch=2)
    assert (told(tmp_path)["done"], told(tmp_path)["epoch"]) == (5, 1)
    now += 1
    teller.tell(7, 20)
    assert (told(tmp_path)["first"], told(tmp_path)["done"], told(tmp_path)["epoch"]) == (5, 7, 2)
    teller.end(well=True)
    assert (told(tmp_path)["running"], told(tmp_path)["done"]) == (True, 20)
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_a_stage_that_stops_or_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(Stopped), Progress(tmp_path / "a", "x", 5) as progress:
        progress.tell(1, 2)
        progress.saved("here", signal.SIGTERM)
    assert not told(tmp_path / "a")["running"]

    def work() -> None:
        for item in followed([1, 2, 3], tmp_path / "b"):
            item // 0

    with contextlib.suppress(ZeroDivisionError):
        work()
    assert not told(tmp_path / "b")["running"]


def test_a_disk_without_room_for_it_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert list(followed([1, 2], tmp_path / "file")) == [1, 2]


def test_one_process_of_a_team_tells(tmp_path: Path) -> None:
    with Progress(tmp_path, "x", 5, keeps=False) as progress:
        progress.tell(1, 2)
    assert list(tmp_path.iterdir()) == []


# --- the whole --------------------------------------------------------------------------------------------------------


def test_a_training_can_be_followed_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fabricate.planned(tmp_path / "run", experiments={"suponly": {"method": "suponly"}})
    monkeypatch.chdir(folder)
    stage = fabricate.only(folder, "train/*")
    seen = []
    original = ProgressFile.tell

    def look(self: ProgressFile, done: int, total: int, **facts: Any) -> None:
        original(self, done, total, **facts)
        self._written = -1e9  # every time, not once a second
        seen.append(json.loads((stage / "unfinished/progress.json").read_text()))
        if len(seen) == 5:
            capsys.readouterr()
            assert main(["status", "config.yaml"]) == 0

    monkeypatch.setattr(ProgressFile, "tell", look)
    assert main(["train", str(stage)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("running"))
    assert "2 of 3 epochs, loss " in line and "val mIoU" in line and "left" in line
    assert [content["done"] for content in seen] == [0, 4, 8, 12, 16, 20]
    assert [content["epoch"] for content in seen] == [0, 0, 1, 1, 2, 2]
    assert not (stage / "unfinished").exists()
    capsys.readouterr()
    assert main(["status", "config.yaml"]) == 0
    assert "6 stages: 1 done, 3 waiting, 2 ready" in capsys.readouterr().out


def test_a_workflow_at_work_is_seen_and_not_disturbed(tmp_path: Path) -> None:
    assert workflow.at_work(tmp_path) is None
    script = "import sys; from pathlib import Path; from stpp.commands.workflow import claim\n"
    script += "claim(Path(sys.argv[1])); print(1)"
    command = [sys.executable, "-c", f"{script}; sys.stdout.flush(); sys.stdin.read()", str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline()
    assert str(workflow.at_work(tmp_path)) == f"process {process.pid} on {platform.node()}"
    process.communicate(b"")
    assert workflow.at_work(tmp_path) is None


# --- what others may have written -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"process": 10**30},
        {"process": -1},
        {"process": 0},
        {"process": 1e400},
        {"process": "7"},
        {"process": True},
        {"host": ["x"]},
        {"done": "300"},
        {"done": 1e300},
        {"done": float("nan")},
        {"total": 10**400},
        {"since": float("-inf")},
        {"time": True},
        {"epochs": 3},
        {"epochs": 3, "epoch": "\x1b[31m"},
        {"spent": [1, 2]},
        {"spent": {"seconds": "long"}},
    ],
)
def test_a_damaged_progress_is_passed_over(
    changes: dict[str, Any], results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(results, "predict/labels", **changes)
    state = state_of(results, "predict/labels")
    assert state.state == "ready"
    assert progress_of(results / "stages" / folder_of("predict/labels")) == []


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"[]", b"1", b"null", b" " * 10**6 + b"{}"])
def test_a_progress_that_is_none_is_passed_over(content: bytes, results: Path) -> None:
    tell(results, "predict/labels")
    (path,) = results.rglob("progress.json")
    path.write_bytes(content)
    assert state_of(results, "predict/labels").state == "ready"


def test_a_pipe_in_place_of_a_progress_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "progress.json")
    with quick():
        assert progress_of(tmp_path) == []


def test_logs_and_hosts_cannot_control_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fabricate.planned(tmp_path / "run", experiments={"suponly": {"method": "suponly"}})
    monkeypatch.chdir(folder)
    stage = fabricate.only(folder, "train/*")
    progress = {"running": True, "host": "a\x1b]0;x\x07", "process": 1, "since": time.time(), "time": time.time()}
    (stage / "unfinished").mkdir()
    (stage / "unfinished/progress.json").write_text(json.dumps({**progress, "first": 0, "done": 1, "total": 2}))
    capsys.readouterr()
    assert main(["status", "config.yaml"]) == 0
    said = capsys.readouterr().out
    assert r"on a\x1b]0;x\x07, for" in said
    assert "\x1b" not in said
    (stage / "unfinished/progress.json").unlink()
    (folder / "my results/logs/train").mkdir(parents=True)
    (folder / "my results/logs/train" / f"{stage.name}.log").write_text("\x1b[2J\nstpp: \u202etoo little memory\n")
    assert main(["status", "config.yaml"]) == 0
    said = capsys.readouterr().out
    assert r"| \x1b[2J" in said
    assert r"| stpp: \u202etoo little memory" in said
