"""`stpp run`: the workflow with what it shows, Ctrl-C, and failures; each run is one of Snakemake's own."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fabricate
import pytest
from conftest import ROOT

from stpp.commands.cli import main
from stpp.commands.launcher import WORKFLOW, command
from stpp.commands.workflow import at_work
from stpp.common.errors import StppError
from stpp.common.terminal import Board, prepare_streams

MARK = "STPP_TEST_OF_RUN"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fabricate.write_scenes(tmp_path / "my scenes")
    fabricate.write_config(tmp_path, fabricate.tiny(experiments={"suponly": {"method": "suponly"}}))
    return tmp_path


@pytest.fixture
def endless(folder: Path) -> Path:
    """The same, with a training that takes hours."""
    config = fabricate.tiny(experiments={"suponly": {"method": "suponly"}})
    config["training"]["teacher"]["epochs"] = 100_000
    fabricate.write_config(folder, config)
    return folder


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", MARK: str(folder), "TERM": "xterm"}


def started(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """`stpp run` in `folder`, without a terminal, in a group of its own; its processes know MARK."""
    # Under `nohup`, this process ignores SIGHUP, and so would its children.
    call = ["env", "--default-signal=HUP", sys.executable, "-m", "stpp", "run", "config.yaml", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(call, cwd=folder, env=environment(folder), process_group=0, **pipes)  # type: ignore[call-overload]


def processes(folder: Path) -> Iterator[str]:
    """The processes that `started` has left in that folder."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={folder}\0" in (path / "environ").read_text():
                yield (path / "cmdline").read_text()
        except OSError:
            pass


@pytest.mark.manual  # in short, test_wheel.py does the same
def test_it_prints_a_line_for_each_event(folder: Path) -> None:
    run = started(folder, "teacher", "--", "--verbose")
    out, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    assert "labeled: 4 images" in errors
    begins, done, last = [line.partition("  ")[2] or line for line in out.splitlines()]
    assert begins == "train teacher begins"
    assert done.startswith("train teacher done in ")
    assert last.startswith("tiny: the teachers are trained, after ")
    assert "\x1b" not in out and "snakemake" not in (out + errors).lower()
    log = (folder / "my results/logs/tiny.log").read_text()
    assert "Shell command: stpp train" in log
    assert not list(processes(folder))


def is_stopped(folder: Path) -> None:
    """Nothing is left of a run, but for what the next one goes on with."""
    assert not list(processes(folder))
    assert at_work(folder / "my results") is None
    assert not list(folder.glob(".snakemake/locks/*"))
    (state,) = folder.glob("my results/stages/train/*/unfinished/training.pt")
    assert state.stat().st_size > 1000


def test_ctrl_c_on_a_terminal_stops_all_of_it_and_nothing_is_in_the_way_of_the_next_run(endless: Path) -> None:
    process, terminal = pty.fork()
    if not process:
        os.chdir(endless)
        os.execve(sys.executable, ["python", "-m", "stpp", "run", "config.yaml", "teacher"], environment(endless))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    said, pressed, end = "", False, time.monotonic() + 120
    with suppress(OSError):  # the end of a terminal
        while select.select([terminal], [], [], end - time.monotonic())[0] and (found := os.read(terminal, 65536)):
            said += found.decode()
            if not pressed and re.search(r"train teacher: \d+ of \d+ iterations, [\d.]+ images/s", said):
                pressed = True
                os.write(terminal, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 128 + signal.SIGINT, said
    os.close(terminal)
    lines = re.sub(r"\x1b\[\d*[AJ]", "", said).split("\r\n")
    drawn = [line for line in lines if " of 1 stage done" in line or line.startswith("  ")]
    assert "0 of 1 stage done, 1 running, 0 waiting" in said and max(map(len, drawn)) < 80
    assert lines[-2] == "tiny: stopped; run it again to go on."
    assert re.search(r"train teacher stopped by SIGINT after iteration \d+ of ", said)
    assert "Traceback" not in said and "snakemake" not in said.lower()
    is_stopped(endless)


@pytest.mark.manual
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_command_alone_stops_all_of_it(number: int, endless: Path) -> None:
    run = started(endless, "teacher")
    end = time.monotonic() + 120
    while not list(endless.glob("my results/stages/train/*/unfinished/progress.json")):
        assert time.monotonic() < end and run.poll() is None, run.communicate()
        time.sleep(0.1)
    assert at_work(endless / "my results")
    os.kill(run.pid, number)
    out, errors = run.communicate(timeout=120)
    assert run.returncode == 128 + number
    assert out.splitlines()[-1] == "tiny: stopped; run it again to go on."
    assert "train teacher stopped by SIGINT after iteration " in out
    assert "Traceback" not in errors and "stpp: " not in errors
    is_stopped(endless)


@pytest.mark.manual
def test_a_stage_that_fails_is_named_with_its_message_and_its_log(folder: Path) -> None:
    config = fabricate.tiny(experiments={"suponly": {"method": "suponly"}})
    config["training"]["teacher"]["learning_rate"] = 1e30
    fabricate.write_config(folder, config)
    run = started(folder)
    out, errors = run.communicate(timeout=300)
    assert run.returncode == 1
    assert "train teacher failed: the loss is " in out
    message = errors[errors.index("stpp: ") :]
    assert message.startswith("stpp: 1 job of the workflow failed:\n  train teacher: the loss is nan in epoch ")
    (log,) = folder.glob("my results/logs/train/*.log")
    assert f"    log: {log.relative_to(folder)}\n" in message
    assert "Traceback" not in out + errors


@pytest.mark.manual
def test_what_is_there_already_is_said(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    run = started(tmp_path / "run")
    out, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    assert out.splitlines()[0].startswith("tiny: all stages are done, after ")
    assert out.splitlines()[-1] == "Look at my results/tiny/report.html"


# --- before it starts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["teachers"], "there is no target 'teachers'; give one of all, teacher, scores"),
        (["--", "--config", "seeds=[1]"], "--config behind `--` would change what was checked"),
        (["--", "--snakefile=x"], "--snakefile=x behind `--` would change what was checked"),
        (["--slurm", "ours"], "ours is not a profile, because it has no config.yaml"),
    ],
)
def test_what_cannot_be_run_is_one_message(
    words: list[str],
    expected: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert main(["run", "config.yaml", *words]) == 1
    assert expected in capsys.readouterr().err


def test_a_wrong_file_is_refused_before_anything(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    fabricate.write_config(folder, fabricate.tiny(seed=0))
    assert main(["run", "config.yaml"]) == 1
    assert not (folder / "my results").exists()


def test_a_dry_run_says_what_would_run_and_with_what(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["run", "config.yaml", "teacher", "--dry"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("tiny: 1 of 1 stage would run")
    assert re.search(r"^train +\d+ +1 +0 +500 MB +240 min$", said, re.MULTILINE)
    assert "evaluate" not in said
    assert not (folder / "my results").exists()


def test_the_workflow_is_that_of_the_clone() -> None:
    assert WORKFLOW == ROOT


def test_options_of_snakemake_come_last_but_for_the_configuration(tmp_path: Path) -> None:
    words = command(Path("my.yaml"), "all", None, None, ["--quiet", "all"])
    assert words[-4:] == ["--quiet", "all", "--configfile", "my.yaml"]
    assert words[words.index("--cores") + 1] == "all"
    assert str(ROOT / "profiles/default") in words
    words = command(Path("my.yaml"), "all", None, ROOT / "profiles/slurm", [])
    assert "--cores" not in words and str(ROOT / "profiles/slurm") in words
    with pytest.raises(StppError, match="would change what was checked"):
        command(Path("my.yaml"), "all", 2, None, ["-d", "elsewhere"])


# --- the terminal -----------------------------------------------------------------------------------------------------


def test_a_board_draws_over_its_last_lines_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_streams()
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm")
    board = Board()
    assert not board.is_live  # it is no terminal
    board.show(["stays"], ["changes"])
    assert capsys.readouterr().out == "stays\n"
    board.is_live = True
    board.show(["a\x1b[2J"], ["one", "x" * 30])
    assert capsys.readouterr().out == f"a\\x1b[2J\none\n{'x' * 19}\n"
    board.show([], ["one", "x" * 40])
    assert capsys.readouterr().out == ""
    board.show(["b"], [])
    assert capsys.readouterr().out == "\x1b[2A\x1b[Jb\n"
