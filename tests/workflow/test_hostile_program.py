"""A configuration that is a program: Snakemake runs it, and nothing of this project does."""

import re
import subprocess
from pathlib import Path

import fabricate
import pytest
from conftest import ROOT, Snakemake

from stpp.commands.cli import main

REFUSAL = "the key '__use_yte__' makes Snakemake run the Python code in this file"


def write_program(path: Path) -> Path:
    """A valid configuration but for a line of code, which leaves a file `exploded` in the working directory."""
    code = '__use_yte__: true\n? \'?__import__("pathlib").Path("exploded").touch() or "seeds"\'\n: [0]\n'
    path.write_text(path.read_text() + code)
    return path


@pytest.mark.parametrize("command", ["config check", "index", "plan", "status", "gc"])
def test_a_command_of_stpp_refuses_it_and_does_not_run_it(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_program(fabricate.write_config(tmp_path, fabricate.tiny()))
    assert main([*command.split(), path.name]) == 1
    assert REFUSAL in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


def test_make_refuses_it_before_snakemake_reads_it(clone: Path) -> None:
    write_program(clone / "experiments/ablations-demo.yaml")
    done = subprocess.run(["make", "ablations"], capture_output=True, text=True, timeout=120)
    assert done.returncode and REFUSAL in done.stderr
    assert not (clone / "exploded").exists()


def test_make_checks_each_configuration_that_it_gives_to_snakemake() -> None:
    text = (ROOT / "Makefile").read_text()
    given = re.findall(r"--configfile (\S+)", text)
    assert len(given) == 5
    assert all(f"\t$(CHECK) {name}\n\t$(SNAKEMAKE) --configfile {name}" in text for name in given)


def test_the_rules_refuse_it_when_snakemake_has_run_it(tmp_path: Path, snakemake: Snakemake) -> None:
    fabricate.write_scenes(tmp_path / "my scenes")
    write_program(fabricate.write_config(tmp_path, fabricate.tiny()))
    done = snakemake(tmp_path, "--dry-run", check=False)
    assert done.returncode == 1 and REFUSAL in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "exploded").exists(), "then docs/config.md need no longer warn of it"
    assert not (tmp_path / "my results").exists()


def test_a_valid_configuration_passes_and_the_other_uses_take_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", str(ROOT / "config.yaml")]) == 0
    assert capsys.readouterr().out == f"{ROOT / 'config.yaml'} is a valid configuration.\n"
    for words in (["check"], ["reference", "config.yaml"], ["schema", "config.yaml"]):
        assert main(["config", *words]) == 1
        assert "write `stpp config check FILE`" in capsys.readouterr().err
