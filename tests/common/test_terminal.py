"""What reaches a terminal: no name, class or log may control it, and no terminal may break a command."""

import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from conftest import ROOT
from tqdm import tqdm

from stpp.commands.cli import main
from stpp.common.errors import StppError
from stpp.common.terminal import CONTROL, escaped, prepare_streams
from stpp.plan.rules import refusing, say
from stpp.settings.reference import reference, schema

HOSTILE = "a\x1b[31m\x9b2J\x07\x7f\rb\u202ec\u2028d"
SHOWN = r"a\x1b[31m\x9b2J\x07\x7f\rb\u202ec\u2028d"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, SHOWN),
        ("two\tcolumns\nand lines", "two\tcolumns\nand lines"),
        ("é e\u0301 東京 می\u200cخواهم ½ → ±", "é e\u0301 東京 می\u200cخواهم ½ → ±"),
        ("\ufeffx\u200by\U000e0041", r"\ufeffx\u200by\U000e0041"),
    ],
)
def test_controls_become_visible_and_all_else_stays(text: str, shown: str) -> None:
    assert escaped(text) == shown
    assert escaped(shown) == shown


def test_every_control_and_every_control_of_direction_is_one() -> None:
    letters = [chr(code) for code in range(0x110000)]
    kept = {c for c in letters if unicodedata.category(c) in ("Cc", "Zl", "Zp") and not CONTROL.match(c)}
    assert kept == {"\t", "\n"}
    directions = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert all(CONTROL.match(c) for c in letters if unicodedata.bidirectional(c) in directions)


@pytest.mark.parametrize(
    "words",
    [
        ["index", HOSTILE],
        ["train", HOSTILE],
        ["masks", HOSTILE, "--out", "x"],
        ["segment", HOSTILE, "--model", HOSTILE, "--out", "x"],
        ["evaluate", HOSTILE, "--list", HOSTILE],
        ["plan", HOSTILE],
        ["status", HOSTILE],
        ["diff", HOSTILE, HOSTILE],
        ["gc", HOSTILE],
    ],
)
def test_a_message_shows_the_controls_of_a_name(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert SHOWN in error
    assert not CONTROL.search(error)


def test_a_wrong_option_is_shown_so_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", HOSTILE])
    assert not CONTROL.search(capsys.readouterr().err)


def test_stdout_is_escaped_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("stpp.plan.code.stamp", lambda stage, same: f"\r{HOSTILE}")
    assert main(["stamp", "train", "--same-result"]) == 0
    assert capsys.readouterr().out == f"train: version \\r{SHOWN}\n"
    print("\rx")
    assert capsys.readouterr().out == "\\rx\n"


def test_what_other_programs_read_is_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    out = capsys.readouterr().out
    assert out == schema()
    assert json.loads(out)
    assert main(["config", "reference"]) == 0
    assert capsys.readouterr().out == reference()
    prepare_streams()
    print(json.dumps({HOSTILE: HOSTILE}, indent=1))
    assert json.loads(capsys.readouterr().out) == {HOSTILE: HOSTILE}


def test_bars_are_drawn_over_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(written := io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stderr", stream)
    prepare_streams()
    for _ in tqdm(range(3), desc="predict", mininterval=0, ncols=80):
        pass
    stream.flush()
    text = written.getvalue().decode()
    assert text.startswith("\rpredict: ")
    assert text.count("\rpredict: ") >= 4
    assert not CONTROL.search(text.replace("\r", ""))


def test_streams_are_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    prepare_streams()
    first = sys.stderr
    prepare_streams()
    assert sys.stderr is first


def test_a_terminal_in_ascii_shows_escapes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": str(ROOT)}
    name = "é東\u202e".encode() + b"\xff.png"
    command = [sys.executable, "-m", "stpp", "demo", "--preview", name]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path)
    assert (done.stdout, done.returncode) == (rb"\xe9\u6771\u202e\udcff.png" + b"\n", 0), done.stderr


def test_the_rules_print_through_us(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    assert capsys.readouterr().err == f"{SHOWN}\n"
    with pytest.raises(SystemExit), refusing():
        raise StppError(HOSTILE)
    assert capsys.readouterr().err == f"stpp: {SHOWN}\n"
    with pytest.raises(SystemExit), refusing():
        raise FileNotFoundError(2, "No such file", HOSTILE)
    assert f"No such file: {SHOWN}" in capsys.readouterr().err
    assert not [path for path in (ROOT / "rules").iterdir() if re.search(r"\bprint\(", path.read_text())]
