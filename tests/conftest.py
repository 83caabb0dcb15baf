"""Fixtures: Snakemake as a user runs it, and one finished run that many tests look at."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cloned
import fabricate
import forked
import pytest
from hypothesis import settings
from trained import train

ROOT = Path(__file__).parent.parent

settings.register_profile("busy", deadline=None)  # how long an example takes says more of the machine than of the code
settings.load_profile("busy")

# `stpp`, `snakemake` and `python` are those of the environment that runs the tests, activated or not.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make browser` gives."""
    parser.addoption("--report", type=Path, help="the page that the browser opens; default: that of a tiny run")
    parser.addoption("--screenshots", type=Path, help="the folder for pictures of the page; default: none are kept")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU here")


Snakemake = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    """A folder with `stpp` and `snakemake` that start at once; a process has its own."""
    with forked.commands() as folder:
        yield folder


@pytest.fixture(scope="session")
def snakemake(programs: Path) -> Snakemake:
    """Runs `snakemake` in a folder with its `config.yaml`, on the project's Snakefile or a copy of the project's.

    It and its jobs are forked processes, see `forked.py`, unless a `program` is given.
    """

    def run(
        folder: Path,
        *arguments: str,
        project: Path = ROOT,
        check: bool = True,
        cores: tuple[str, ...] = ("--cores", "2"),
        program: str = "",
    ) -> subprocess.CompletedProcess[str]:
        command = [
            program or str(programs / "snakemake"),
            *("--snakefile", str(project / "Snakefile"), "--configfile", "config.yaml", *cores),
            *arguments,
        ]
        environment = forked.environment()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str, snakemake: Snakemake) -> Path:
    """A folder in which the tiny configuration has run to its end; do not write into it.

    Processes that share the tests share it: the first one makes it.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "finished"
    with folder.with_name("finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            fabricate.write_scenes(folder / "my scenes")
            fabricate.write_config(folder, fabricate.TINY)
            snakemake(folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tiny teacher was trained and evaluated on test; do not write into it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(folder)
    return folder


@pytest.fixture(scope="session")
def teacher(trained: Path) -> Path:
    """The last checkpoint of that teacher."""
    (path,) = trained.glob("my results/stages/train/*/last.pt")
    return path


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small clone of the project without results, as the working directory and to be imported."""
    folder = cloned.write(tmp_path / "clone")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder
