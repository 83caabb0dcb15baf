"""The commands of docs/use.md, run as they stand there."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT
from trained import picture

from stpp.cli import main

TEXT = (ROOT / "docs/use.md").read_text()
COMMANDS = re.findall(r"^    stpp (.*)$", TEXT, re.MULTILINE)
PYTHON = re.search(r"^(    import stpp\n(?:    .*\n)+)", TEXT, re.MULTILINE)


@pytest.fixture
def here(trained: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has what the text speaks of."""
    student = tmp_path / "results/demo/experiments/st++/seed0/student"
    student.parent.mkdir(parents=True)
    student.symlink_to(teacher.parent.resolve())
    (tmp_path / "photos/coast").mkdir(parents=True)
    picture(64, 48).save(tmp_path / "photos/beach.jpg")
    picture(48, 64, 1).save(tmp_path / "photos/coast/rocks.jpg")
    (tmp_path / "my-images").symlink_to(trained / "my scenes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_command_is_there_and_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [command.split()[0] for command in COMMANDS] == ["segment", "segment", "evaluate", "export"]
    for command in COMMANDS:
        if command.startswith("export"):
            pytest.importorskip("onnxruntime")
        assert main(shlex.split(command)) == 0, capsys.readouterr().err
    written = {str(path.relative_to(here)) for path in here.glob("*ed*/**/*") if path.is_file()}
    assert {
        "segmented/masks/beach.png",
        "segmented/masks/coast/rocks.png",
        "segmented/overlays/beach.jpg",
        "segmented/classes.txt",
        "segmented-jpg/probabilities/coast/rocks.npz",
        "evaluated/metrics.json",
        "evaluated/images.csv",
        "exported/model.onnx",
        "exported/model.pt2",
        "exported/model-card.md",
    } <= written


def test_the_lines_of_python_run(here: Path) -> None:
    assert PYTHON is not None
    found: dict[str, object] = {}
    exec("\n".join(line.strip() for line in PYTHON[1].splitlines()), found)
    assert found["mask"].shape == found["likely"].shape == (64, 48)  # type: ignore[attr-defined]
