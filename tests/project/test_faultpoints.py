"""Some of the points of faultpoints.py, at commands that cost little; and that the harness finds what is wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import syscalls
from conftest import ROOT

pytestmark = pytest.mark.skipif(not syscalls.works_here(), reason="processes are traced on Linux on x86-64 alone")

BROKEN = """
import contextlib, json, sys
import faultpoints, stpp.common.files, stpp.models.weights, stpp.commands.output

{breaks}
sys.exit(max(faultpoints.main(words) for words in json.loads(sys.argv[1])))
"""
UNSYNCED = "stpp.common.files.sync = lambda path: None"
IN_PLACE = """
@contextlib.contextmanager
def writing(self, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    yield file

stpp.commands.output.Outputs.writing = writing
"""
IMPATIENT = "faultpoints.workflow.remove_leftovers = lambda *given, **named: None"


def harness(*runs: list[str], breaks: str = "") -> subprocess.CompletedProcess[str]:
    """Runs of the harness after each other, each with its arguments, in one process; the highest exit code is its."""
    command = [sys.executable, "-c", BROKEN.format(breaks=breaks), json.dumps(runs)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/support'}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.manual  # `make durability` tries others, of all commands
def test_a_sample_of_points() -> None:
    done = harness(*(["--points", "12", "--only", command] for command in ("index:", "weights:")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^12 of \d+ points tried in .*: 0 are wrong$", done.stdout, re.MULTILINE)) == 2


@pytest.mark.parametrize(
    ("breaks", "only", "found"),
    [
        (UNSYNCED, "weights: power", "other bytes"),
        pytest.param(IN_PLACE, "weights: half", "other bytes", marks=pytest.mark.manual),
        pytest.param(IMPATIENT, "weights: kill after", "left over", marks=pytest.mark.manual),
    ],
    ids=["not synced", "written in place", "left lying"],
)
def test_the_harness_finds_a_broken_writer(breaks: str, only: str, found: str) -> None:
    done = harness(["--points", "all", "--only", only], breaks=breaks)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"WRONG: {only}" in done.stdout
    assert found in done.stdout


OPERATIONS = """
import pathlib, subprocess, sys
import syscalls

folder = pathlib.Path(sys.argv[1])

def work():
    (folder / "a").mkdir()
    subprocess.run(["sh", "-c", f"echo x > '{folder}/a/b'; mv '{folder}/a/b' '{folder}/c'"], check=True)
    (folder / "c").unlink()
    return 3

trace = syscalls.run(work, folder)
print(trace.code, *(kind for kind, _ in trace.operations))
"""


def test_operations_are_seen_at_the_kernel(tmp_path: Path) -> None:
    """Also those of a process that is started, and what C's own buffers write when a file is closed."""
    command = [sys.executable, "-c", OPERATIONS, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/support")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.stdout == "3 mkdir open write rename remove\n", done.stderr


def test_a_process_with_other_children_does_not_trace(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        with pytest.raises(RuntimeError, match="other children"):
            syscalls.run(lambda: 0, tmp_path)
        other.kill()
