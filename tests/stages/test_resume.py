"""Stages that are stopped at any point and started again end in the bytes of those that were left alone."""

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabricate
import pytest

from stpp.commands.cli import main
from stpp.runtime.progress import Progress, SavedParts, Stopped

STOPPED = 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planned workflow of which the teacher, its masks and their scores are finished."""
    folder = fabricate.planned(tmp_path_factory.mktemp("undisturbed"))
    with contextlib.chdir(folder):
        run(fabricate.only(folder, "train/teacher*"))
        for checkpoint in (1, 2, 3):
            run(fabricate.only(folder, f"predict/masks-checkpoint{checkpoint}*"))
        run(fabricate.only(folder, "score/*"))
    return folder


@pytest.fixture
def again(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same workflow beside it, where nothing has run yet but what a test copies."""
    folder = tmp_path / "again"
    shutil.copytree(undisturbed, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def run(stage: Path, *options: str) -> None:
    assert main([stage.parent.name, str(stage), *options]) == 0


def artifacts(stage: Path) -> dict[str, bytes]:
    """The files of a stage, without the two that say when it ran."""
    return {path.name: path.read_bytes() for path in stage.iterdir() if path.name not in ("stage.json", "recipe.json")}


def empty(stage: Path) -> None:
    """Leave nothing but the recipe, as before the stage ran."""
    for path in stage.iterdir():
        if path.name != "recipe.json":
            path.unlink()


def stop_when(monkeypatch: pytest.MonkeyPatch, target: str, count: int) -> None:
    """Send this process SIGTERM in the call number `count` of the function `target`."""
    module, _, name = target.rpartition(".")
    original: Callable[..., Any] = getattr(__import__(module, fromlist=[name]), name)
    calls = iter(range(1, 10_000))

    def counted(*given: Any, **named: Any) -> Any:
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*given, **named)

    monkeypatch.setattr(target, counted)


# (stage, the function that is called once a unit of work, its units)
WORK = {
    "train": ("train/teacher*", "stpp.stages.train.on_device", 6),
    "predict": ("predict/masks-checkpoint1*", "stpp.stages.predict.predict_masks", 6),
    "score": ("score/*", "stpp.stages.score.compare_masks", 6),
}


@pytest.mark.parametrize("kind", WORK)
@pytest.mark.parametrize("unit", range(1, 7))
def test_a_stage_stopped_anywhere_ends_in_the_same_bytes(
    undisturbed: Path, again: Path, monkeypatch: pytest.MonkeyPatch, kind: str, unit: int
) -> None:
    pattern, target, _ = WORK[kind]
    stage = fabricate.only(again, pattern)
    empty(stage)
    with monkeypatch.context() as patch:
        stop_when(patch, target, unit)
        assert main([kind, str(stage)]) == STOPPED
    left = {path.name for path in stage.iterdir()}
    assert left == {"recipe.json", "unfinished"}, "no artifact is there before all is done"
    done = iter(range(10_000))
    with monkeypatch.context() as patch:
        module, _, name = target.rpartition(".")
        original = getattr(__import__(module, fromlist=[name]), name)
        patch.setattr(target, lambda *given, **named: (next(done), original(*given, **named))[1])
        run(stage)
    assert next(done) == 6 - unit, "exactly the work that was left is done"
    assert artifacts(stage) == artifacts(undisturbed / stage)


@pytest.mark.parametrize("kind", WORK)
def test_the_time_before_a_stop_counts(again: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    pattern, target, _ = WORK[kind]
    stage = fabricate.only(again, pattern)
    empty(stage)
    with monkeypatch.context() as patch:
        stop_when(patch, target, 3)
        assert main([kind, str(stage)]) == STOPPED
    (path,) = stage.rglob("progress.json")
    told = json.loads(path.read_text())
    assert told["spent"]["seconds"] > 0 and told["spent"]["cpu_seconds"] > 0
    path.write_text(json.dumps(told | {"spent": {"seconds": 5000.0, "cpu_seconds": 4000.0}}))
    with monkeypatch.context() as patch:
        stop_when(patch, target, 2)
        assert main([kind, str(stage)]) == STOPPED
    run(stage)
    record = json.loads((stage / "stage.json").read_text())
    assert 5000 < record["seconds"] < 9000 and 4000 < record["cpu_seconds"] < 8000


def test_the_time_of_shards_counts_and_their_device_is_known(again: Path) -> None:
    stage = fabricate.only(again, WORK["predict"][0])
    empty(stage)
    for shard in ("0", "1"):
        assert main(["predict", str(stage), "--shard", shard, "--shards", "2"]) == 0
    for path in (paths := list(stage.rglob("progress.json"))):
        told = json.loads(path.read_text())
        path.write_text(json.dumps(told | {"spent": {"seconds": 5000.0, "cpu_seconds": 4000.0}}))
    assert len(paths) == 2
    assert main(["predict", str(stage), "--join", "--shards", "2"]) == 0
    record = json.loads((stage / "stage.json").read_text())
    assert 10000 < record["seconds"] < 11000 and 8000 < record["cpu_seconds"] < 10000
    assert record["device"] == "cpu"


def test_work_is_saved_whenever_the_interval_has_passed(
    undisturbed: Path, again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that is killed without notice goes on where it saved last."""
    for kind, (pattern, target, units) in WORK.items():
        stage = fabricate.only(again, pattern)
        empty(stage)

        class Killed(BaseException):
            pass

        module, _, name = target.rpartition(".")
        original = getattr(__import__(module, fromlist=[name]), name)
        calls = iter(range(1, 10_000))

        def dying(*given: Any, original: Any = original, calls: Any = calls, last: int = units, **named: Any) -> Any:
            if next(calls) == last:
                raise Killed
            return original(*given, **named)

        with monkeypatch.context() as patch:
            patch.setattr(target, dying)
            with pytest.raises(Killed):
                main([kind, str(stage), "--save-minutes", "1e-9"])
        done = iter(range(10_000))
        with monkeypatch.context() as patch:
            patch.setattr(
                target, lambda *given, original=original, done=done, **named: (next(done), original(*given, **named))[1]
            )
            run(stage)
        assert next(done) == 1, f"{kind}: only the unit that was lost is done again"
        assert artifacts(stage) == artifacts(undisturbed / stage)
        assert not (stage / "unfinished").exists()


def test_work_of_another_stage_or_other_code_is_refused_with_the_reason(
    undisturbed: Path, again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = fabricate.only(again, "score/*")
    empty(stage)
    (stage / "unfinished").mkdir()
    (stage / "unfinished" / "identity").write_text("another")
    (stage / "unfinished" / "0.npy").write_bytes(b"not for this stage")
    run(stage)
    assert "work of another stage, other code or other inputs, another: beginning anew" in capsys.readouterr().err
    assert artifacts(stage) == artifacts(undisturbed / stage)


def test_a_damaged_state_is_refused_with_the_way_out(again: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = fabricate.only(again, "train/teacher*")
    identity = json.loads((stage / "recipe.json").read_text())["identity"]
    empty(stage)
    (stage / "unfinished").mkdir()
    (stage / "unfinished" / "identity").write_text(identity)
    (stage / "unfinished" / "training.pt").write_bytes(b"PK damaged")
    assert main(["train", str(stage)]) == 1
    assert f"remove {stage / 'unfinished'} to begin anew" in capsys.readouterr().err


def test_only_a_person_who_asks_again_ends_the_process_at_once(tmp_path: Path) -> None:
    """Schedulers and torchrun may each send SIGTERM, while the work is being saved."""
    with pytest.raises(SystemExit) as exit, Progress(tmp_path / "work", "id", 5) as progress:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert progress.signal == signal.SIGTERM
        assert progress.due
        os.kill(os.getpid(), signal.SIGINT)
    assert exit.value.code == 128 + signal.SIGINT


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGXCPU"])
def test_each_signal_that_ends_jobs_is_answered_and_its_old_handler_comes_back(tmp_path: Path, name: str) -> None:
    number = signal.Signals[name]
    outside = signal.signal(number, signal.default_int_handler)  # SIGHUP is ignored where the tests run under nohup
    try:
        with pytest.raises(Stopped) as stopped, Progress(tmp_path / "work", "id", 5) as progress:
            assert not progress.due
            os.kill(os.getpid(), number)
            progress.saved("here")
        assert stopped.value.signal == number
        assert signal.getsignal(number) == signal.default_int_handler
    finally:
        signal.signal(number, outside)


def test_time_to_save_is_measured_by_a_clock_that_does_not_jump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"monotonic": 1000.0}
    monkeypatch.setattr("time.monotonic", lambda: now["monotonic"])
    with Progress(tmp_path / "work", "id", 5) as progress:
        monkeypatch.setattr("time.time", lambda: 10.0**12)
        assert not progress.due
        now["monotonic"] += 301
        assert progress.due
        progress.saved("here")
        assert not progress.due


def test_overlapping_parts_of_two_writers_make_one_chain(tmp_path: Path) -> None:
    parts = SavedParts(tmp_path, "txt", lambda path: len(path.read_text()))
    for first, text in ((0, "abc"), (2, "cdef"), (3, "de"), (5, "f"), (9, "x")):
        with parts.writing(first) as path:
            path.write_text(text)
    chain, done = parts.done()
    assert [path.name for path in chain] == ["0.txt", "3.txt", "5.txt"]
    assert done == 6


def test_an_empty_list_has_one_part(tmp_path: Path) -> None:
    parts = SavedParts(tmp_path, "txt", lambda path: len(path.read_text()))
    with parts.writing(0) as path:
        path.write_text("")
    assert parts.done() == ([tmp_path / "0.txt"], 0)
