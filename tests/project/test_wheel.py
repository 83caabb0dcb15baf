"""The wheel: what it holds, and `stpp new` and `stpp run` from it, in a folder without a clone."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import tiny_data
from conftest import ROOT

SOURCES = ("stpp", "rules", "profiles", "envs", "config", "Snakefile", "config.yaml", "pyproject.toml")
PACKED = ["Snakefile", "config.yaml", "envs/environment.yaml", "envs/environment.post-deploy.sh"]
PACKED += ["config/config.yaml", "config/cpu.yaml"]
PACKED += ["profiles/default/config.yaml", "profiles/slurm/config.yaml"]
PACKED += [str(path.relative_to(ROOT)) for path in (ROOT / "rules").glob("*.smk")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this clone, built in a copy of it, links as they are."""
    folder = tmp_path_factory.mktemp("source")
    for name in (*SOURCES, "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", ".", folder=folder)
    (built,) = folder.glob("dist/stpp-*.whl")
    return built


def pip(*words: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_the_workflow_and_nothing_twice(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        workflow = {name.removeprefix("stpp/workflow/") for name in names if name.startswith("stpp/workflow/")}
        assert workflow == set(PACKED)
        for name in PACKED:
            assert archive.read(f"stpp/workflow/{name}") == (ROOT / name).read_bytes()
        modules = {str(path.relative_to(ROOT)) for path in (ROOT / "stpp").rglob("*.py")}
        assert {name for name in names if name.endswith(".py")} == modules
        assert {"stpp/plan/stages.lock", "stpp/plan/unsaid.json"} <= set(names)
    assert len(names) == len(set(names))


def test_the_workflow_stands_in_the_package_as_links() -> None:
    inside = [path for path in (ROOT / "stpp/workflow").rglob("*") if not path.is_dir() or path.is_symlink()]
    assert inside and all(path.is_symlink() and path.resolve().is_relative_to(ROOT) for path in inside)


def test_a_user_of_the_wheel_writes_a_configuration_and_runs_it(wheel: Path, tmp_path: Path) -> None:
    pip("install", "--no-deps", "--target", "site", str(wheel), folder=tmp_path)
    here = tmp_path / "anywhere"
    for number in range(6):
        tiny_data.save(here / f"photos/images/{number}.jpg", tiny_data.photo(number, (40, 60)))
        if number < 4:
            tiny_data.save(here / f"photos/masks/{number}.png", tiny_data.labels(number, (40, 60)))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}

    def stpp(*words: str) -> str:
        command = [sys.executable, "-P", "-m", "stpp", *words]
        done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert stpp("--version") == f"stpp {version('stpp')}\n"
    assert stpp("new", "photos").endswith("stpp run my.yaml\n")
    text = (here / "my.yaml").read_text()
    text = text.replace("weights: torchvision", "weights: none").replace("iterations: 240", "iterations: 20")
    (here / "my.yaml").write_text(text)
    lines = [line.partition("  ")[2] or line for line in stpp("run", "my.yaml", "teacher").splitlines()]
    # With equal lengths, the teacher of ST++ is that of `suponly-iterations`.
    assert {line.partition(" in ")[0] for line in lines[:-1] if not line.startswith("warning: ")} == {
        f"train teacher of {of} seed0 {what}"
        for of in ("suponly-iterations", "suponly-compute")
        for what in ("begins", "done")
    }
    assert lines[-1].startswith("photos: the teachers are trained, after ")
    assert list(here.glob("results/stages/train/teacher-*/last.pt"))
    said = (here / "results/logs/photos.log").read_text()
    assert str(tmp_path / "site/stpp/workflow/profiles/default") in said
    assert str(ROOT / "Snakefile") not in said and str(ROOT / "profiles") not in said
