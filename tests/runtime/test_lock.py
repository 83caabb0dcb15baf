"""Marks of processes at work: whom they keep away, until when, and that no lock of the file system is needed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fabricate
import pytest

from stpp.commands import workflow
from stpp.commands.cli import main
from stpp.common.errors import StppError
from stpp.common.files import aside, remove_leftovers
from stpp.common.owner import SILENT, known_dead, lives, signed
from stpp.runtime import lock
from stpp.runtime.lock import Holder, InUse, hold, hold_when_free, holders

HOLD = """
import sys, time
from pathlib import Path
from stpp.runtime.lock import hold
mark = hold(Path(sys.argv[1]), sys.argv[2])
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def process(*arguments: object, **how: object) -> Iterator[subprocess.Popen[str]]:
    """A process of Python that has said its first word; it is killed at the end."""
    command = [sys.executable, "-c", *map(str, arguments)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how)  # type: ignore[call-overload]
    try:
        assert started.stdout.readline()
        yield started
    finally:
        started.kill()
        started.communicate()


def names(stages: Path) -> list[str]:
    return sorted(path.name for path in (stages / ".locks").iterdir())


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("train/a", "train/a", True),
        ("train/a", "train/ab", False),
        ("predict/a", "predict/a/parts/0-of-2.h5", True),
        ("predict/a/parts/1-of-2.h5", "predict/a/parts/0-of-2.h5", False),
        ("", "train/a", True),
        ("", "/my results", True),
        ("/my results", "train/a", False),
        ("/my results", "/other results", False),
    ],
)
def test_folders_meet_where_one_is_in_the_other(tmp_path: Path, one: str, other: str, meet: bool) -> None:
    for first, second in ((one, other), (other, one)):
        with hold(tmp_path, first):
            if meet:
                with pytest.raises(InUse, match=f"process {os.getpid()} on"):
                    hold(tmp_path, second)
            else:
                hold(tmp_path, second).release()
    assert names(tmp_path) == []


def test_a_mark_says_whose_it_is(tmp_path: Path) -> None:
    assert holders(tmp_path) == []
    assert not (tmp_path / ".locks").exists()
    before = time.time()
    with hold(tmp_path, "train/a"):
        (holder,) = holders(tmp_path)
        assert (holder.path, holder.process) == ("train/a", os.getpid())
        assert before - 1 < holder.since < time.time() + 1
        assert holders(tmp_path, "train/b") == []
    assert holders(tmp_path) == []


@pytest.mark.parametrize("reaped", [True, False])
def test_the_mark_of_a_killed_process_holds_nothing_and_is_removed_by_the_next(tmp_path: Path, reaped: bool) -> None:
    with process(HOLD, tmp_path, "train/a") as other:
        with pytest.raises(InUse, match=f"train/a is in use .process {other.pid} on"):
            hold(tmp_path, "train/a")
        other.send_signal(signal.SIGKILL)
        if reaped:
            other.wait()
        else:  # it stays a zombie
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert len(names(tmp_path)) == 1
        assert holders(tmp_path) == []
        with hold(tmp_path, "train/a"):
            assert len(names(tmp_path)) == 1


def elsewhere(stages: Path, path: str, silent: float) -> Path:
    """The mark of a process of another machine."""
    number, start, machine, rest = signed().split("-")
    mark = stages / ".locks" / f"{number}-{start}-{machine[::-1].translate(str.maketrans('0123', '4567'))}-{rest}"
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(json.dumps({"path": path, "process": 7, "host": "node2", "since": 1.0}))
    os.utime(mark, (time.time() - silent,) * 2)
    return mark


def test_a_process_of_another_machine_lives_by_its_signs_of_life(tmp_path: Path) -> None:
    mark = elsewhere(tmp_path, "train/a", SILENT - 20)
    with pytest.raises(InUse, match="process 7 on node2"):
        hold(tmp_path, "train/a")
    os.utime(mark, (time.time() - SILENT - 20,) * 2)
    hold(tmp_path, "train/a").release()
    assert mark.exists()  # it may only have slept
    os.utime(mark)
    assert [str(holder) for holder in holders(tmp_path)] == ["process 7 on node2"]
    os.utime(mark, (time.time() - 2 * 86400,) * 2)
    hold(tmp_path, "train/a").release()
    assert not mark.exists()


def test_a_process_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)
    with hold(tmp_path, ""):
        mark = tmp_path / ".locks" / names(tmp_path)[0]
        os.utime(mark, (1, 1))
        deadline = time.monotonic() + 20
        while mark.stat().st_mtime < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_mark_that_is_no_text_yet_is_in_everybodys_way(tmp_path: Path) -> None:
    mark = elsewhere(tmp_path, "train/b", 0)
    for text in ("", "[1]", "{", json.dumps({"path": "train/a", "process": 1, "host": "a\x1b[2J", "since": 1})):
        mark.write_text(text)
        with pytest.raises(InUse, match="an unknown host"):
            hold(tmp_path, "train/a")
    os.utime(mark, (1, 1))
    hold(tmp_path, "train/a").release()


def test_a_forked_process_leaves_the_mark_alone(tmp_path: Path) -> None:
    with hold(tmp_path, "") as mark:
        child = os.fork()
        if not child:
            mark.release()
            os._exit(0)
        os.waitpid(child, 0)
        assert len(names(tmp_path)) == 1


def test_links_are_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    results = tmp_path / "results"
    results.mkdir()
    (results / ".lock").symlink_to(victim)
    workflow.claim(results).release()
    assert victim.read_text() == "precious"
    shutil.rmtree(results / "stages" / ".locks")
    (results / "stages" / ".locks").symlink_to(tmp_path)
    with pytest.raises(StppError, match=r"\.locks is a link or a file, .* remove it"):
        workflow.claim(results)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "victim"]


def test_results_in_a_folder_whose_name_is_no_text_keep_no_job_away(tmp_path: Path) -> None:
    results = tmp_path / os.fsdecode(b"r\xff\n")
    with workflow.claim(results):
        assert workflow.at_work(results) is not None
        hold(results / "stages", "train/a").release()


def test_a_process_number_that_is_used_again_is_another_process() -> None:
    name = signed()
    number, start, *rest = name.split("-")
    assert lives(name, 10**6) and not known_dead(name)
    for other in ("-".join([number, str(int(start) + 1), *rest]), "-".join(["9999999999", start, *rest])):
        assert not lives(other, 0) and known_dead(other)
    assert lives("nameless", 1) and not lives("nameless", SILENT + 1) and not known_dead("nameless")


def test_only_what_dead_writers_left_is_removed(tmp_path: Path) -> None:
    mine = aside(tmp_path / "masks.h5")
    mine.write_text("half")
    code = (
        "import sys; from pathlib import Path; from stpp.common.files import aside; "
        "aside(Path(sys.argv[1])).write_text('a'); "
        "aside(Path(sys.argv[2])).mkdir()"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "masks.h5", tmp_path / "scenes"], check=True)
    assert len(list(tmp_path.iterdir())) == 3
    remove_leftovers(tmp_path, "masks.*")
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


# --- file systems without locks ---------------------------------------------------------------------------------------


def test_where_the_file_system_has_no_locks_a_second_run_is_kept_away_as_well(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import errno, fcntl\n"
        "def lacking(file, operation):\n    raise OSError(errno.ENOLCK, 'No locks available')\n"
        "fcntl.flock = fcntl.lockf = lacking\n"
    )
    results = tmp_path / "results"
    code = "import sys, time; from pathlib import Path; from stpp.commands.workflow import claim\n"
    code += "claim(Path(sys.argv[1]))\n"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with process(f"{code}print('held', flush=True); time.sleep(60)", results, env=environment) as other:
        second = subprocess.run([sys.executable, "-c", code, results], env=environment, capture_output=True, text=True)
        assert second.returncode == 1
        assert f"the workflow already runs in {results} (process {other.pid} on" in second.stderr
    subprocess.run([sys.executable, "-c", code, results], env=environment, check=True)


# --- many at once -----------------------------------------------------------------------------------------------------

COUNT = """
import sys
from pathlib import Path
from stpp.runtime.lock import InUse, hold_when_free
stages = Path(sys.argv[1])
print("up", flush=True)
for _ in range(20):
    mark, _ = hold_when_free(stages, "train/a")
    with mark:
        inside = stages / "inside"
        inside.mkdir()
        number = stages / "number"
        number.write_text(str(int(number.read_text()) + 1))
        inside.rmdir()
"""


def test_never_two_at_once(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path)]
    crowd = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    for each in crowd:
        each.communicate(timeout=120)
        assert each.returncode == 0
    assert (tmp_path / "number").read_text() == "60"
    assert names(tmp_path) == []


def test_who_waits_says_for_whom_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = HOLD.replace("sleep(60)", "sleep(1.5)")
    with process(code, tmp_path, "train/a") as other:
        mark, waited = hold_when_free(tmp_path, "train/a")
        mark.release()
        assert waited
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(f"waiting for process {other.pid} on ")
        assert lines[0].endswith(f", which has {tmp_path}/train/a")
    mark, waited = hold_when_free(tmp_path, "train/a")
    mark.release()
    assert not waited


ROUNDS = """
import sys
from stpp.commands.cli import main
import stpp.stages.score
for line in sys.stdin:
    print(main(["score", sys.argv[1]]), flush=True)
"""


def test_two_jobs_of_one_stage_do_not_disturb_each_other(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "copy", symlinks=True))
    stage = fabricate.only(Path.cwd(), "score/*")
    expected = (stage / "scores.csv").read_bytes()
    pair = [
        subprocess.Popen([sys.executable, "-c", ROUNDS, str(stage)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for _ in range(20):
        for name in ("scores.csv", "stage.json"):  # as Snakemake does before a job
            (stage / name).unlink()
        for each in pair:
            assert each.stdin is not None
            each.stdin.write(b"go\n")
            each.stdin.flush()
        assert [each.stdout.readline() for each in pair if each.stdout is not None] == [b"0\n", b"0\n"]
        assert (stage / "scores.csv").read_bytes() == expected
        assert sorted(path.name for path in stage.iterdir()) == ["recipe.json", "scores.csv", "stage.json"]
    for each in pair:
        each.communicate()


def test_a_job_that_waited_finds_the_work_done_or_does_it(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "copy", symlinks=True))
    stage = fabricate.only(Path.cwd(), "score/*")
    expected = (stage / "scores.csv").read_bytes()
    folder = str(stage.relative_to(stage.parents[1]))
    for whole in (True, False):
        if not whole:
            (stage / "scores.csv").unlink()
        with process(HOLD.replace("sleep(60)", "sleep(1.5)"), stage.parents[1], folder):
            assert main(["score", str(stage)]) == 0
        assert ("another process has just made" in capsys.readouterr().err) == whole
        assert (stage / "scores.csv").read_bytes() == expected


def test_a_stage_behind_a_link_is_one_stage(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "copy", symlinks=True))
    stage = fabricate.only(Path.cwd(), "score/*")
    (tmp_path / "other").mkdir()
    shutil.copytree(stage.parents[2] / "data", tmp_path / "other/data")
    (tmp_path / "other/stages").symlink_to(stage.parents[1].resolve())
    made: list[list[Holder]] = []
    monkeypatch.setattr("stpp.stages.score.run", lambda stage, runtime: made.append(holders(stage.folder.parents[1])))
    for stages in (stage.parents[1], tmp_path / "other/stages"):
        assert main(["score", str(stages / "score" / stage.name)]) == 0
    assert [holder.path for seen in made for holder in seen] == [f"score/{stage.name}"] * 2
