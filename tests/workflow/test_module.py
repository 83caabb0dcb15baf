"""The workflow as a module of another one, from another folder, and what deploys it."""

import json
import os
import subprocess
from pathlib import Path

import fabricate
import pytest
import yaml
from conftest import ROOT

MAIN = """
configfile: "config/config.yaml"

module stpp:
    snakefile: {snakefile!r}
    config: config["segmentation"]

use rule * from stpp as stpp_*

rule chosen:
    default_target: True
    input: rules.stpp_selection.input
    output: "chosen.txt"
    shell: "cat {{input:q}} > {{output}}"
"""
HANDLER = """
onstart:
    stpp.onstart()
    print("it starts")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with data, and a configuration with a section for the module."""
    fabricate.write_scenes(tmp_path / "my scenes")
    config = fabricate.tiny(experiments={"random": {"method": "random"}}, seeds=[3])
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump({"segmentation": config, "other": 1}))
    (tmp_path / "Snakefile").write_text(MAIN.format(snakefile=str(ROOT / "workflow/Snakefile")))
    return tmp_path


def snakemake(folder: Path, *arguments: str) -> str:
    """What Snakemake says, started in `folder` with no word of where stpp is."""
    command = ["snakemake", "--cores", "1", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("handler", ["", HANDLER], ids=["no handler", "a handler of its own"])
def test_another_workflow_takes_rules_from_this_one(folder: Path, handler: str) -> None:
    with (folder / "Snakefile").open("a") as file:
        file.write(handler)
    # The command line is the main workflow's: the module has no setting `other`, and would refuse it.
    said = snakemake(folder, "--dry-run", "--config", "other=2")
    assert "stpp_select" in said
    assert not (folder / "my results/stages").exists()
    said = snakemake(folder, "--config", "other=2")
    assert "localrules" not in said
    assert ("it starts" in said) == bool(handler)
    (stage,) = folder.glob("my results/stages/select/random-0.5-seed3-*")
    record = json.loads((stage / "stage.json").read_text())
    assert record["sha256"].keys() == {"reliable.txt", "unreliable.txt"}
    assert (folder / "chosen.txt").read_text().endswith((stage / "unreliable.txt").read_text())


def test_without_a_configuration_the_module_is_the_demo(folder: Path) -> None:
    (folder / "config/config.yaml").write_text(
        "segmentation: {data: {root: scenes, demo: {labeled: 20, unlabeled: 20, val: 2, test: 2}}}"
    )
    said = snakemake(folder, "--dry-run", "stpp_teacher")
    assert "labeled: 20 images" in said


@pytest.mark.parametrize(
    ("taken", "target"),
    {
        "use rule * from stpp": "teacher",
        "use rule * from stpp exclude teacher as stpp_*": "stpp_students",
        "use rule teacher, train_teacher_k3_val from stpp as stpp_*": "stpp_teacher",
        'use rule * from stpp\nuse rule teacher from stpp as mine with:\n    message: "mine"': "mine",
    }.items(),
)
def test_whatever_rules_are_taken_snakemake_does_not_warn_of_local_ones(taken: str, target: str, folder: Path) -> None:
    main = (folder / "Snakefile").read_text().partition("use rule")[0]
    (folder / "Snakefile").write_text(f"{main}{taken}\n")
    said = snakemake(folder, "--dry-run", target)
    assert "localrules" not in said
    assert "train_teacher_k3_val" in said


def test_the_catalog_knows_how_to_run_it() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"] == {"conda": True}
    # The rules of the catalog, and what snakedeploy takes without a warning.
    assert all((ROOT / name).is_file() for name in ("workflow/Snakefile", "config/config.yaml", "config/README.md"))
    text = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in text and "workflow" in text


def test_the_citation_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    paper = citation["preferred-citation"]
    assert paper["title"] == "ST++: Make Self-training Work Better for Semi-supervised Semantic Segmentation"
    assert [author["family-names"] for author in paper["authors"]] == ["Yang", "Zhuo", "Qi", "Shi", "Gao"]
    assert (paper["year"], paper["type"]) == (2022, "conference-paper")
