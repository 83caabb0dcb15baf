"""The command line, as a stranger uses it."""

import math
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import fabricate
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from stpp.commands.cli import main, parser
from stpp.store.masks import MaskStore


def commands() -> list[str]:
    """All sub-commands."""
    (action,) = [action for action in parser()._actions if hasattr(action, "choices") and action.choices]
    return list(action.choices)


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("command", ["", *commands()])
def test_help_fits_a_screen_and_gives_an_example(
    command: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    text, _, examples = capsys.readouterr().out.partition("\nexample: ")
    assert sum(math.ceil(max(len(line), 1) / width) for line in f"{text}\n{examples}".splitlines()) <= 40
    first, *others = examples.splitlines()
    assert first.startswith(f"stpp {command}")
    for example in [first, *others]:
        watched = re.fullmatch(r"watch '(.*) \| tail'", example.strip())
        parser().parse_args(shlex.split(watched[1] if watched else example)[1:])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["index", "none.yaml"], "cannot read the configuration none.yaml"),
        (["train", "no/such/stage"], "no stage in no/such/stage"),
        (["masks", "none.h5", "--out", "x"], "none.h5"),
        (["plan", "none.yaml"], "cannot read the configuration none.yaml"),
        (["status", "none.yaml"], "cannot read the configuration none.yaml"),
        (["diff", "results", "none"], "results is not an experiment"),
        (["gc", "none.yaml", "--remove"], "cannot read the configuration none.yaml"),
    ],
)
def test_a_mistake_is_one_message_without_a_traceback(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("stpp: ")
    assert expected in error
    assert list(tmp_path.iterdir()) == []


def test_a_stage_refuses_another_command_and_another_code(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (score,) = finished.glob("my results/stages/score/*")
    assert main(["train", str(score)]) == 1
    assert "holds a stage for `stpp score`" in capsys.readouterr().err
    copy = tmp_path / "stages/score/s"
    shutil.copytree(score, copy)
    recipe = copy / "recipe.json"
    recipe.write_text(recipe.read_text().replace('"code": "v', '"code": "w'))
    assert main(["score", str(copy)]) == 1
    assert "the code of `stpp score` changed" in capsys.readouterr().err


def test_the_printed_command_does_the_same_stage_by_hand(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    (table,) = (tmp_path / "run").glob("my results/stages/score/*/scores.csv")
    before = table.read_bytes()
    table.unlink()
    stpp = Path(sys.executable).parent / "stpp"
    subprocess.run([stpp, "score", table.parent], check=True, cwd=tmp_path / "run")
    assert table.read_bytes() == before


def test_who_reads_a_part_of_the_output_sees_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stpp", "config", "reference"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


def test_plan_lists_the_stages_and_says_which_are_done(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    monkeypatch.chdir(tmp_path / "run")
    assert main(["plan", "--recipes", "config.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    lines = lines[-40:]  # above them is what a look at the files says, which are others in a copy
    assert all(line.startswith("done") for line in lines)
    fabricate.write_config(tmp_path / "run", fabricate.tiny(selection={"share": 0.34}))
    assert main(["plan", "--recipes", "config.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("to do") for line in lines) == 3 + 4 + 16 + 3 + 3


def test_masks_become_palette_pngs_that_say_the_same(finished: Path, tmp_path: Path) -> None:
    (path,) = finished.glob("my results/stages/predict/labels-teacher-seed*/masks.h5")
    assert main(["masks", str(path), "--out", str(tmp_path)]) == 0
    with MaskStore(path) as store:
        for id, mask in store:
            picture = Image.open(tmp_path / f"{id}.png")
            assert picture.mode == "P"
            assert np.array_equal(np.asarray(picture), mask)
