"""Terminals, users, signals and folders that are unlike those of a workstation."""

import errno
import getpass
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT

from stpp.commands.cli import main
from stpp.common.errors import StppError
from stpp.plan.rules import check_working_directory, name_user, use_this_code
from stpp.runtime import job
from stpp.runtime.launch import _torchrun, trained_by_team
from stpp.runtime.progress import SIGNALS, Progress, answered

# --- what the machine lacks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "the main memory is too small"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "the main memory is too small"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "the main memory is too small"),
        (RuntimeError("can't start new thread"), "this user may start no more threads or processes"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "this user may start no more threads"),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_8_9>"), "no space is left in /dev/shm"),
    ],
)
def test_what_the_machine_lacks_is_one_message(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: object) -> None:
        raise error

    monkeypatch.setattr("stpp.commands.cli._config", fail)
    assert main(["config", "schema"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("stpp: ")
    assert message in said


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("stpp.commands.cli._config", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["config", "schema"])


# --- terminals --------------------------------------------------------------------------------------------------------


def test_what_a_terminal_cannot_show_becomes_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, encoding="ascii"))
    monkeypatch.setattr("stpp.commands.cli._config", lambda options: print("größe"))
    assert main(["config", "schema"]) == 0
    assert shown.getvalue() == b"gr\\xf6\\xdfe\n"


def test_output_that_was_closed_before_the_start_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert main(["config", "schema"]) == 0


# --- signals ----------------------------------------------------------------------------------------------------------


def test_nohup_keeps_a_closing_terminal_from_stopping_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Progress(tmp_path / "work", "id", 5) as progress:
            os.kill(os.getpid(), signal.SIGHUP)
        assert progress.signal == 0
        assert signal.SIGHUP not in answered()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert signal.SIGHUP in answered()
    finally:
        signal.signal(signal.SIGHUP, before)  # ignored where the tests run under nohup


# --- modules of the working directory ---------------------------------------------------------------------------------


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with files that no command may take for modules."""
    for name in ("argparse", "tqdm", "torch", "yaml"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('took {name} of the working directory')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def test_python_m_takes_no_module_from_the_working_directory(trap: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "stpp", "config", "schema"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_processes_of_a_team_take_none_either(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def noted(processes: int, command: list[str]) -> int:
        commands.append(command)
        return 0

    monkeypatch.setattr("stpp.runtime.launch._torchrun", noted)
    planned: Any = SimpleNamespace(settings={"training": {"batch_size": 4}, "role": "teacher"})
    assert trained_by_team(planned, job.Runtime(device="cpu", gpus=2), ["config", "schema"]) == 0
    done = subprocess.run(commands[0], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.setenv("PYTHONPATH", "")  # by the path of this process
    handlers = [signal.getsignal(number) for number in SIGNALS]
    assert _torchrun(1, commands[0]) == 0
    assert [signal.getsignal(number) for number in SIGNALS] == handlers, "torchrun's are gone"


def test_no_job_of_the_workflow_takes_one_but_other_workflows_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PATH", "PYTHONPATH", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, "")
    use_this_code(tmp_path, alone=False)
    assert os.environ["PYTHONSAFEPATH"] == ""
    use_this_code(tmp_path, alone=True)
    assert os.environ["PYTHONSAFEPATH"] == "1"


def test_a_member_with_a_bug_ends_although_a_thread_of_its_does_not(tmp_path: Path) -> None:
    script = (
        "import threading, time, stpp.commands.cli\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "def fail(): raise ValueError('a bug')\n"
        "stpp.commands.cli.main = fail\n"
        "import stpp.commands.team_process\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: a bug\n")


# --- users and folders ------------------------------------------------------------------------------------------------


def test_a_user_without_a_name_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setenv("USER", "")
    name_user()
    assert getpass.getuser() == f"uid{os.getuid()}"
    monkeypatch.setenv("USER", "someone")
    name_user()
    assert getpass.getuser() == "someone"


def test_a_working_directory_that_cannot_be_written_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_working_directory()
    monkeypatch.setattr("os.access", lambda path, mode: str(path) == ".snakemake")
    with pytest.raises(StppError, match="cannot be written, but Snakemake keeps its notes in it"):
        check_working_directory()
    Path(".snakemake").mkdir()
    check_working_directory()


# --- the commit of the code -------------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    """Output of git in a folder, as a user of its own."""
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "init.defaultBranch=main"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.check_output(["git", "-C", folder, *who, *words], text=True, env=environment).strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of the code in `checkout`, with one commit."""
    package = tmp_path / "checkout" / "stpp"
    package.mkdir(parents=True)
    (package / "runtime").mkdir()
    (package / "runtime/job.py").write_text("")
    git(package.parent, "init", "--quiet")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "--quiet", "--message", "one")
    monkeypatch.setattr(job, "PACKAGE", package, raising=False)
    monkeypatch.setattr(job, "__file__", str(package / "runtime/job.py"))
    return package.parent


def test_the_commit_is_that_of_the_code_whatever_git_is_told(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet", "other")
    git(tmp_path / "other", "commit", "--quiet", "--allow-empty", "--message", "two")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    assert job._commit() == git(repository, "rev-parse", "HEAD")


@pytest.mark.parametrize("place", [".venv/lib/site-packages/stpp", "vendored/stpp", "libraries"])
def test_code_in_a_repository_of_something_else_has_no_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    package = repository / place
    package.mkdir(parents=True)
    (package / "runtime").mkdir()
    (package / "runtime/job.py").write_text("")
    monkeypatch.setattr(job, "PACKAGE", package, raising=False)
    monkeypatch.setattr(job, "__file__", str(package / "runtime/job.py"))
    assert job._commit() is None
    if place == "vendored/stpp":
        git(repository, "add", ".")
        git(repository, "commit", "--quiet", "--message", "two")
        assert job._commit() is None
