"""Every command that a page of the documentation shows is run, as it stands there, in a folder that looks like a clone
of the project, whose data and networks are tiny. Here: stpp and small things, after the demo; see test_doc_workflows.py
for Snakemake, make and what installs or serves, and cluster.py for what needs a cluster."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import cloned
import fabricate
import numpy as np
import pytest
import test_doc_workflows as workflows
from conftest import ROOT
from pages import ALL, OF_CONTAINERS, ON_A_CLUSTER, commands, of, program_of

from stpp.commands.cli import main

NAMED = [command for command in of("stpp") if re.fullmatch(r"\S+ [a-z-]+( --[a-z-]+)*", command)]
"""What names a command of stpp, perhaps with options, rather than saying all of it."""
ELSEWHERE = {*workflows.RUN, *workflows.NOT_RUN}
IN_A_SHELL = [command for command in of("sh", "source", "python", "ls", "head", "cp") if command not in ELSEWHERE]
WRITTEN = {
    "segmented": ["masks/beach.png", "masks/coast/rocks.png", "overlays/beach.jpg", "classes.txt"],
    "segmented-jpg": ["probabilities/coast/rocks.npz"],
    "evaluated": ["metrics.json", "images.csv"],
    "exported": ["model.onnx", "model.pt2", "model-card.md"],
    "pngs": ["images/unlabeled*.png"],
    "next-demo": ["next.html", "next.csv", "images/unlabeled*.png", "masks/images/unlabeled*.png"],
    "my-images": ["images/hill.png", "masks/hill.png", "classes.txt"],
    "mask-images": ["images/hill.png", "masks/hill.png", "classes.txt"],
    "corrected-coco": ["annotations.json", "classes.txt"],
    "to-correct": ["annotations.xml", "classes.txt"],
}
"""By a folder that some command writes: patterns of the files that are in it then."""


@pytest.fixture
def after_the_demo(clone: Path, finished: Path) -> Path:
    """A clone whose demo has run."""
    cloned.add_results(clone, finished)
    return clone


def test_each_command_is_run() -> None:
    here = {*of("stpp"), *IN_A_SHELL}
    elsewhere = {*ELSEWHERE, *workflows.BY_THE_CHECKS, *ON_A_CLUSTER, *OF_CONTAINERS}
    assert not [command for command in ALL if command not in here | elsewhere]
    assert not [command for command in elsewhere if command not in ALL], "no page has these"


def test_what_is_a_command(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`make` or `stpp`\n`plan x`; `stpp\nplan x` and `watch 'stpp y | tail'`\n\n"
        "    make a      # b\n    made c\n    say: `pip d`\n\n```\n$ ls e\n```\n"
    )
    assert list(commands(page)) == ["make a", "ls e", "stpp plan x", "stpp y | tail", "pip d"]


@pytest.mark.parametrize("command", NAMED)
def test_a_named_command_of_stpp_has_these_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *options = command.split()[1:]
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert not [option for option in options if option not in said]


@pytest.mark.manual
@pytest.mark.parametrize("command", [command for command in of("stpp") if command not in (*NAMED, *ON_A_CLUSTER)])
def test_a_command_of_stpp_runs(
    command: str, after_the_demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)[1:]
    if words[0] == "new":
        Path("my.yaml").unlink()
    if words == ["next", "my.yaml"]:
        shutil.copy("config.yaml", "my.yaml")  # whose stages are there
    if words[0] == "export":
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr("stpp.models.weights.published_weights", lambda backbone: {})  # instead of fetching them
    shutil.copy(ROOT / "stpp/plan/stages.lock", after_the_demo / "lock")
    monkeypatch.setattr("stpp.plan.code.LOCK", after_the_demo / "lock")
    code = main(words)
    assert code == 0, capsys.readouterr().err
    if "--out" in words:
        out = words[words.index("--out") + 1]
        assert not [pattern for pattern in WRITTEN[out] if not any((after_the_demo / out).glob(pattern))]


@pytest.mark.manual
@pytest.mark.parametrize("command", IN_A_SHELL)
def test_a_command_runs_in_a_shell(command: str, after_the_demo: Path) -> None:
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout or program_of(command) in ("cp", "source", "python")


def test_the_lines_of_the_documentation_read_the_artifacts(after_the_demo: Path) -> None:
    import h5py
    import hdf5plugin  # noqa: F401
    import pandas
    import torch

    lines = re.findall(r"^    ((?:pandas|h5py|torch)\..*)$", (ROOT / "docs/results.md").read_text(), re.MULTILINE)
    rows, ids, classes = (eval(line, {"pandas": pandas, "h5py": h5py, "torch": torch}) for line in lines)
    assert len(rows) == 5
    assert ids[0].startswith("images/unlabeled")
    assert classes == list(fabricate.CLASSES)


def test_the_lines_of_python_use_a_model(after_the_demo: Path) -> None:
    (code,) = re.findall(r"^    import stpp\n(?:    .*\n)+", (ROOT / "docs/use.md").read_text(), re.MULTILINE)
    found: dict[str, np.ndarray] = {}
    exec("\n".join(line.strip() for line in code.splitlines()), found)  # type: ignore[arg-type]
    assert found["mask"].shape == found["likely"].shape == (64, 48)
