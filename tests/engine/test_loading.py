"""Loader processes: what their errors become, and that none is there when the training has ended."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabricate
import pytest
from torch.utils.data import DataLoader, Dataset

from stpp.commands.cli import main
from stpp.common.errors import StppError
from stpp.engine.loading import Loading, begin_loading
from stpp.runtime.faults import explained

TOO_SMALL = "unable to write to file </torch_1_2_3>: No space left on device (28)"


class Broken(Dataset[int]):
    """Items 0 to 7, of which the last one is an error or takes for ever."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index == 7 and self.error:
            raise self.error
        if index == 7:
            time.sleep(1000)
        return index


def loader(dataset: Dataset[int]) -> DataLoader[Any]:
    return DataLoader(
        dataset, num_workers=2, worker_init_fn=begin_loading, multiprocessing_context="fork", prefetch_factor=1
    )


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """No loader process is there before and after a test."""
    assert multiprocessing.active_children() == []
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planned teacher."""
    return fabricate.planned(tmp_path_factory.mktemp("loading") / "planned")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError("no memory"), "the main memory is too small; lower training.teacher.batch_size from 4 to 2"),
        (RuntimeError(TOO_SMALL), "/dev/shm; set runtime.train.workers: 0"),
        (RuntimeError("can't start new thread"), "no more threads or processes"),
        (PermissionError(errno.EACCES, "Permission denied", "a/file"), "stpp: Permission denied: a/file; make it"),
    ],
)
def test_what_a_loader_process_lacks_is_one_message_and_all_of_them_end(
    planned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    def fail(*given: object) -> None:
        raise error

    monkeypatch.chdir(planned)
    monkeypatch.setattr("stpp.data.dataset.TrainingSet.__getitem__", fail)
    assert main(["train", str(fabricate.only(planned, "train/teacher*")), "--workers", "2"]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "died" not in said
    assert "Traceback" not in said
    assert multiprocessing.active_children() == []


def test_the_advice_for_too_little_shared_memory_names_all_ways_out() -> None:
    killed = "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that"
    missed = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    missed.__cause__ = RuntimeError(killed)
    for error in (RuntimeError(killed), missed, RuntimeError(TOO_SMALL)):
        with pytest.raises(StppError) as said, explained("less"):
            raise error
        for way in ("/dev/shm", "workers: 0", "--shm-size", "--ipc=host"):
            assert way in str(said.value)


def test_a_queue_that_finds_no_shared_memory_is_no_full_disk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)
    monkeypatch.setattr("multiprocessing.queues.Queue.__init__", fail)
    with pytest.raises(StppError, match="/dev/shm"), Loading() as loading:
        list(loading.batches(loader(Broken())))
    assert capsys.readouterr().err == ""


def test_a_bug_in_a_loader_process_keeps_its_cause_and_its_traceback() -> None:
    said = r"(?s)Traceback.*raise self\.error.*ValueError: a bug"
    with pytest.raises(ValueError, match=said), explained("less"), Loading() as loading:
        list(loading.batches(loader(Broken(ValueError("a bug")))))


def test_a_training_with_a_bug_ends_at_once_with_its_workers(planned: Path) -> None:
    script = (
        "import sys, stpp.data.dataset as data\n"
        "def fail(*given): raise RuntimeError('a bug')\n"
        "data.TrainingSet.__getitem__ = fail\n"
        "from stpp.commands.cli import main\n"
        "sys.exit(main())\n"
    )
    stage = str(fabricate.only(planned, "train/teacher*"))
    command = [sys.executable, "-c", script, "train", stage, "--workers", "2"]
    training = subprocess.Popen(command, cwd=planned, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _, said = training.communicate(timeout=90)
    finally:
        training.kill()
    assert training.returncode == 1
    assert said.endswith("RuntimeError: a bug\n\n")
    assert "died" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(training.pid, 0)


def test_a_loader_process_that_does_not_answer_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stpp.engine.loading.PATIENCE", 0.5)
    with pytest.raises(KeyError), Loading() as loading:
        for batch in loading.batches(loader(Broken())):
            if int(batch) == 6:  # the other process has begun with the last one
                started = time.monotonic()
                raise KeyError
    assert time.monotonic() - started < 4
    time.sleep(0.1)  # PyTorch's handler would say here that a process died


def test_loader_processes_end_with_a_training_that_is_killed() -> None:
    script = (
        "import os, signal, test_loading as t\n"
        "with t.Loading() as loading:\n"
        "    for batch in loading.batches(t.loader(t.Broken())):\n"
        "        if int(batch) == 6:\n"
        "            print(*[p.pid for p in t.multiprocessing.active_children()], flush=True)\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    here = Path(__file__).parent
    found = os.pathsep.join(map(str, [here, here.parent / "support", *sys.path]))
    environment = {**os.environ, "PYTHONPATH": found}
    done = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    pids = done.stdout.split()
    assert len(pids) == 2
    deadline = time.monotonic() + 3
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid: str) -> bool:
    """Whether a process runs; one that nobody has asked for its exit code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("error", [ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), EOFError()])
def test_a_process_that_dies_while_it_hands_over_a_batch_is_named(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Cut:
        """An iterator over batches whose only process is killed in the midst of one."""

        def __init__(self) -> None:
            self._workers = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))]
            self._workers[0].start()

        def __iter__(self) -> Iterator[Any]:
            os.kill(self._workers[0].pid or 0, signal.SIGKILL)
            raise error

        def _shutdown_workers(self) -> None:
            pass

    monkeypatch.setattr("stpp.engine.loading.begun", lambda loader: Cut())
    said = pytest.raises(StppError, match=r"a process that loads data died .*Killed.*lower runtime.train.workers")
    with said, explained(""), Loading() as loading:
        list(loading.batches(loader(Broken())))
