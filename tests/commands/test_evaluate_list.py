"""`stpp evaluate MODEL --list LIST`: any model on any list."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image
from trained import checkpoint

from stpp.commands.cli import main


def test_it_gives_the_numbers_of_the_stage(
    trained: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = trained / "my scenes"
    arguments = ["--list", str(scenes / "test.txt"), "--root", str(scenes), "--out", str(tmp_path), "--device", "cpu"]
    assert main(["evaluate", str(teacher), *arguments]) == 0
    (stage,) = trained.glob("my results/stages/evaluate/*-test-*")
    expected, found = (json.loads((folder / "metrics.json").read_text()) for folder in (stage, tmp_path))
    for key in ("images", "miou", "pixel_accuracy", "iou", "confusion"):
        assert found[key] == expected[key]
    ours, theirs = (pandas.read_csv(folder / "images.csv") for folder in (tmp_path, stage))
    pandas.testing.assert_frame_equal(ours, theirs)
    said = capsys.readouterr().out
    assert said.startswith(f"2 images of {scenes}/test.txt, in %\nmIoU ")
    assert f"{100 * expected['miou']:.2f}" in said


def test_a_list_of_absolute_paths_needs_no_root(
    trained: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = trained / "my scenes"
    names = [line.split() for line in (scenes / "test.txt").read_text().splitlines()]
    lines = [f'"{scenes / image}" "{scenes / mask}"' for image, mask in names]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(teacher), "--list", "list.txt", "--out", "out", "--device", "cpu"]) == 0
    found = json.loads(Path("out/metrics.json").read_text())
    (stage,) = trained.glob("my results/stages/evaluate/*-test-*")
    assert found["confusion"] == json.loads((stage / "metrics.json").read_text())["confusion"]
    ours = pandas.read_csv("out/images.csv")
    assert list(ours["id"]) == [image.rpartition(".")[0] for image, _ in names]


def test_every_problem_of_the_list_is_reported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = checkpoint(tmp_path / "model.pt")
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "images/a.png")
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "masks/a.png")
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / "masks/b.png")
    (tmp_path / "val.txt").write_text("images/a.png masks/a.png\nimages/none.png masks/b.png\n")
    assert main(["evaluate", str(model), "--list", "val.txt", "--root", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "no such file" in error
    assert "not the size of the image" in error
    assert "7" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.pt"], "give its --list"),
        (["model.pt", "--list", "out.txt"], "points outside the data root .; set `--root` to a folder"),
        (["model.pt", "--list", "val.txt", "--root", "no"], "no is not a folder"),
        (["model.pt", "--list", "none.txt"], "There is no list none.txt"),
        (["none.pt", "--list", "val.txt"], "the model none.pt does not exist"),
        ([".", "--list", "val.txt"], "the model . is a folder"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "model.pt")
    (tmp_path / "out.txt").write_text("../a.png ../b.png\n")
    assert main(["evaluate", *arguments]) == 1
    assert message in capsys.readouterr().err
