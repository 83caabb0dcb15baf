"""Every command that a page of the documentation shows is run, as it stands there, in a folder that looks like a clone
of the project after the demo. A command that cannot be run here is in NOT_RUN, with the reason."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import fabricate
import numpy as np
import pytest
import yaml
from conftest import ROOT
from pages import PAGES, commands
from PIL import Image
from trained import picture

from stpp.cli import main, parser

ALL = list(dict.fromkeys(command for page in PAGES for command in commands(page)))

NOT_RUN = {
    "snakemake --report report.zip": "needs the finished run itself; test_report_page.py runs it",
    ".venv/bin/python -m pytest tests/test_plan.py": "runs tests, as this does",
    "pip install '.[slurm]'": "fetches packages, as `make setup` does",
    "pip install 'stpp[export]'": "fetches packages, as `make setup` does",
    "tensorboard --logdir results/logs/tensorboard": "serves until it is stopped; test_events.py reads what it reads",
    "snakedeploy deploy-workflow REPOSITORY my-project --tag TAG": "needs a published repository",
    "sinfo -o '%P %l %m %G %f'": "needs a cluster",
    "squeue --me": "needs a cluster",
    "scancel --name ID": "needs a cluster",
    "kill -9": "needs a process; `make durability` kills with it",
}


def of(*programs: str) -> list[str]:
    """The commands of some programs that are to be run, but for pipes."""
    return [command for command in ALL if program_of(command) in programs and command not in NOT_RUN]


def program_of(command: str) -> str:
    """The program that a command calls; `sh` where it takes a shell to understand it."""
    return "sh" if "|" in command else command.split()[0].removeprefix(".venv/bin/")


NAMED = [command for command in of("stpp") if re.fullmatch(r"\S+ [a-z]+( --[a-z-]+)*", command)]
"""What names a command of stpp, perhaps with options, rather than saying all of it."""
IN_A_SHELL = of("sh", "source", "python", "ls", "head", "cp")
WRITTEN = {
    "segmented": ["masks/beach.png", "masks/coast/rocks.png", "overlays/beach.jpg", "classes.txt"],
    "segmented-jpg": ["probabilities/coast/rocks.npz"],
    "evaluated": ["metrics.json", "images.csv"],
    "exported": ["model.onnx", "model.pt2", "model-card.md"],
    "pngs": ["images/unlabeled*.png"],
}
"""By a folder that some command writes: patterns of the files that are in it then."""


@pytest.fixture
def clone(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of the project whose demo is tiny and has run, with what the pages speak of; the working directory."""
    for name in ("Snakefile", "rules", "profiles", "experiments"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    for name in ("stpp", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests/test_identities.py", tmp_path / "tests")  # which writes a file beside itself
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shutil.copytree(tmp_path / "profiles/slurm", tmp_path / "profiles/ours")

    # Artifacts are never written in place, so that links to them serve as copies; the lock is.
    shutil.copytree(
        finished / "my results",
        tmp_path / "results",
        symlinks=True,
        copy_function=os.link,
        ignore=shutil.ignore_patterns(".lock"),
    )
    (tmp_path / "results/tiny").rename(tmp_path / "results/demo")
    (tmp_path / "results/my-images").symlink_to("demo")
    (tmp_path / "my scenes").symlink_to(finished / "my scenes")
    fabricate.write_config(tmp_path, fabricate.tiny(name="demo", results="results"))
    student = tmp_path / "results/demo/experiments/st++/seed0/student/last.pt"

    shutil.copy(ROOT / "experiments/folder.yaml", tmp_path / "my.yaml")
    own = tmp_path / "my-images"
    fabricate.write_scenes(own)
    classes = len(yaml.safe_load((tmp_path / "my.yaml").read_text())["data"]["classes"])
    for mask in (own / "masks").iterdir():
        labels = np.asarray(Image.open(mask)) % classes
        mask.unlink()
        if not mask.name.startswith("unlabeled"):
            Image.fromarray(labels).save(mask)
    (tmp_path / "photos/coast").mkdir(parents=True)
    picture(64, 48).save(tmp_path / "photos/beach.jpg")
    picture(48, 64, 1).save(tmp_path / "photos/coast/rocks.jpg")
    (tmp_path / "masks.h5").symlink_to(student.parent.parent / "labels1/masks.h5")
    (tmp_path / "MODEL").symlink_to(student)
    (tmp_path / "LIST").write_text("my-images/images/val0.png my-images/masks/val0.png\n")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_each_command_is_run_here_or_named_with_the_reason() -> None:
    run = {*of("stpp", "snakemake", "make"), *IN_A_SHELL}
    assert not [command for command in ALL if command not in run | NOT_RUN.keys()]
    assert not [command for command in NOT_RUN if command not in ALL], "no page has these"


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


@pytest.mark.parametrize("command", [command for command in of("stpp") if command not in NAMED])
def test_a_command_of_stpp_runs(
    command: str, clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)[1:]
    if words[0] == "export":
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr("stpp.models.weights.torchvision_weights", lambda backbone: {})  # instead of fetching them
    shutil.copy(ROOT / "stpp/stages.lock", clone / "lock")
    monkeypatch.setattr("stpp.code.LOCK", clone / "lock")
    code = main(words)
    assert code == 0, capsys.readouterr().err
    if "--out" in words:
        out = words[words.index("--out") + 1]
        assert not [pattern for pattern in WRITTEN[out] if not any((clone / out).glob(pattern))]


@pytest.mark.parametrize("command", IN_A_SHELL)
def test_a_command_runs_in_a_shell(command: str, clone: Path) -> None:
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout or program_of(command) in ("cp", "source", "python")


# --- Snakemake --------------------------------------------------------------------------------------------------------

DRY_RUNS = """
import json, os, sys
from snakemake.cli import main

for words in json.load(sys.stdin):
    process = os.fork()  # after the import, which takes as long as a dry run
    if process == 0:
        main([*words, "--dry-run"])
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code:
        sys.exit(f"snakemake {words} ends with {code}")
"""


def test_the_commands_of_snakemake_plan_something(clone: Path) -> None:
    words = [shlex.split(command)[1:] for command in of("snakemake")]
    done = subprocess.run(
        [sys.executable, "-c", DRY_RUNS], input=json.dumps(words), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_names_all_targets() -> None:
    text, rules = ((ROOT / name).read_text() for name in ("README.md", "rules/targets.smk"))
    (sentence,) = re.findall(r"Targets: `snakemake --cores all (teacher`,.*?)\.\n", text, re.DOTALL)
    assert re.findall(r"(\w+)`", sentence) == re.findall(r"^rule (\w+):", rules, re.MULTILINE)


# --- make -------------------------------------------------------------------------------------------------------------


def simple_commands(script: str) -> Iterable[list[str]]:
    """The words of each command of a script, without redirections."""
    lexer = shlex.shlex(script.replace("\\\n", " ").replace("\n", ";"), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set(lexer.punctuation_chars):
            if words:
                yield words
            words = []
        else:
            words.append(word)


@pytest.mark.parametrize("command", of("make"))
def test_a_target_of_make_expands_to_commands_that_are_there(command: str) -> None:
    from snakemake.cli import get_argument_parser

    words = ["make", "--dry-run", "--always-make", *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)
    for program, *arguments in simple_commands(done.stdout):
        match Path(program).name:
            case "stpp":
                parser().parse_args(arguments)
            case "snakemake":
                get_argument_parser().parse_args(arguments)
            case "python":
                named = [word for word in arguments if re.match(r"(tests|benchmarks|envs)/", word)]
                assert not [name for name in named if not (ROOT / name).exists()]


def test_extras_that_pip_is_asked_for_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = [name for command in ALL if program_of(command) == "pip" for name in re.findall(r"\[(\w+)\]", command)]
    assert asked and set(asked) <= extras.keys()


# --- Python -----------------------------------------------------------------------------------------------------------


def test_the_readmes_lines_read_the_artifacts(clone: Path) -> None:
    import h5py
    import hdf5plugin  # noqa: F401
    import pandas
    import torch

    lines = re.findall(r"^    ((?:pandas|h5py|torch)\..*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    rows, ids, classes = (eval(line, {"pandas": pandas, "h5py": h5py, "torch": torch}) for line in lines)
    assert len(rows) == 5
    assert ids[0].startswith("images/unlabeled")
    assert classes == list(fabricate.CLASSES)


def test_the_lines_of_python_use_a_model(clone: Path) -> None:
    (code,) = re.findall(r"^    import stpp\n(?:    .*\n)+", (ROOT / "docs/use.md").read_text(), re.MULTILINE)
    found: dict[str, np.ndarray] = {}
    exec("\n".join(line.strip() for line in code.splitlines()), found)  # type: ignore[arg-type]
    assert found["mask"].shape == found["likely"].shape == (64, 48)
