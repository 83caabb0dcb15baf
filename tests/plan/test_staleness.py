"""Stages that were made from other bytes than are there now: who is stale, who says so, and what mends it."""

import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import fabricate
import pytest
import torch

from stpp.commands.cli import main
from stpp.commands.forecast import forecast
from stpp.commands.status import states
from stpp.common.files import sha256
from stpp.plan.graph import Plan
from stpp.plan.staleness import Staleness, as_text, record_in, stale

ST = fabricate.tiny(experiments={"st": {"method": "st"}})


@pytest.fixture
def plan() -> Plan:
    return fabricate.plan_of(ST)


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan) -> Path:
    """Finished stages that nothing computed."""
    monkeypatch.chdir(tmp_path)
    return fabricate.pretend(ST, plan) / "stages"


def folder_of(plan: Plan, start: str) -> str:
    (folder,) = [folder for folder in plan.stages if folder.startswith(start)]
    return folder


def edit(stages: Path, folder: str, **changes: Any) -> None:
    path = stages / folder / "stage.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rebuild(stages: Path, folder: str) -> None:
    """Other bytes of all artifacts."""
    sums = json.loads((stages / folder / "stage.json").read_text())["sha256"]
    edit(stages, folder, sha256=dict.fromkeys(sums, "f" * 64))


def found(stages: Path, plan: Plan) -> dict[str, str]:
    return stale(plan.stages, lambda folder: record_in(stages, folder))


def test_nothing_is_stale_where_all_was_read_as_it_is(stages: Path, plan: Plan) -> None:
    assert found(stages, plan) == {}
    edit(stages, folder_of(plan, "train/teacher"), seconds=99.0, started="2027-01-01")
    assert found(stages, plan) == {}, "made anew with the same bytes"


def test_all_that_rests_on_other_bytes_is_stale(stages: Path, plan: Plan) -> None:
    labels, student = folder_of(plan, "predict/labels"), folder_of(plan, "train/student")
    rebuild(stages, labels)
    reasons = found(stages, plan)
    assert reasons[student] == f"{labels}/masks.h5 was made anew with other bytes after this read it"
    assert reasons[folder_of(plan, "evaluate/student-val")] == f"{student}, which it read, is stale"
    assert {folder_of(plan, "table/"), folder_of(plan, "report/")} <= set(reasons)
    untouched = {
        folder for folder in plan.stages if folder.startswith(("train/teacher", "evaluate/teacher", "predict"))
    }
    assert not untouched & set(reasons)


def test_records_of_earlier_versions_and_unfinished_stages_are_not_stale(stages: Path, plan: Plan) -> None:
    labels, student = folder_of(plan, "predict/labels"), folder_of(plan, "train/student")
    edit(stages, student, read=None)
    rebuild(stages, labels)
    assert student not in found(stages, plan)
    (stages / labels / "stage.json").unlink()
    assert found(stages, plan) == {}


def test_stages_that_claim_to_have_read_each_other_end_the_search() -> None:
    records = {f"a/{n}": {"sha256": {"x": "0"}, "read": {f"a/{1 - n}/x": "0", "b/0/x": "0"}} for n in (0, 1)}
    records["b/0"] = {"sha256": {"x": "1"}, "read": {}}
    staleness = Staleness(records.get)
    assert staleness.reason("a/0")
    assert staleness.chain("a/0")[-1] == "a/0"


def test_plan_and_status_say_it_with_the_command(
    stages: Path, plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuild(stages, folder_of(plan, "predict/labels"))
    student = folder_of(plan, "train/student")
    outdated = set(found(stages, plan))
    assert set(forecast(plan, stages).stale) == outdated
    assert {state.folder for state in states(plan, stages.parent, "") if state.state == "stale"} == outdated
    monkeypatch.setattr("stpp.commands.workflow.prepare", lambda config, log: plan)
    fabricate.write_config(Path(), ST)
    for command in ("plan", "status"):
        assert main([command, "config.yaml"]) == 0
        output = capsys.readouterr().out
        assert re.search(rf"^stale +{student} +predict/\S+ was made anew", output, re.MULTILINE), command
        (remedy,) = re.findall(r"^    (rm .*)$", output, re.MULTILINE)
        subprocess.run(remedy, shell=True, check=True)
        assert found(stages, plan) == {}
        assert not (stages / student / "stage.json").exists()
        assert main([command, "config.yaml"]) == 0
        assert "stale" not in capsys.readouterr().out
        shutil.rmtree(stages)
        fabricate.pretend(ST, plan)
        rebuild(stages, folder_of(plan, "predict/labels"))


def test_the_text_of_nothing_is_empty(stages: Path) -> None:
    assert as_text(stages, {}) == ""


# --- stages that run --------------------------------------------------------------------------------------------------


def other_bytes(checkpoint: Path) -> None:
    """Another network in a checkpoint, as if other numbers of threads had trained it."""
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"] = {key: value + 0.01 if value.is_floating_point() else value
                             for key, value in content["state_dict"].items()}  # fmt: skip
    torch.save(content, checkpoint)
    record = json.loads((checkpoint.parent / "stage.json").read_text())
    record["sha256"][checkpoint.name] = sha256(checkpoint)
    (checkpoint.parent / "stage.json").write_text(json.dumps(record))


@pytest.fixture
def copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, as the working directory."""
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


def test_each_record_says_what_its_stage_read(finished: Path) -> None:
    stages = finished / "my results/stages"
    for path in stages.glob("*/*/stage.json"):
        record = json.loads(path.read_text())
        inputs = {
            name for names in record["inputs"].values() for name in ([names] if isinstance(names, str) else names)
        }
        assert set(record["read"]) <= inputs, path
        assert set(record["read"]) == inputs or record["stage"] == "chart", path  # not each kind of chart reads all
        for name, digest in record["read"].items():
            if not name.endswith("/stage.json"):
                assert digest == sha256(stages / name)
        assert set(record["manifests"]) == set(record["data"])


def test_a_stage_that_reads_a_stale_artifact_refuses_to_start(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other_bytes(fabricate.only(copy, "train/teacher*") / "last.pt")
    labels, student = fabricate.only(copy, "predict/labels-teacher-seed0*"), fabricate.only(copy, "train/student-val*")
    before = (student / "last.pt").read_bytes()
    arguments = ["--gpus", "0", "--device", "cpu"]
    assert main(["train", str(student), *arguments]) == 1
    error = capsys.readouterr().err
    assert f"{labels} is stale" in error
    assert (student / "last.pt").read_bytes() == before
    (command,) = re.findall(r"after `(rm .*?)`", error)
    subprocess.run(command, shell=True, check=True)
    assert not (labels / "stage.json").exists()
    assert main(["predict", str(labels), *arguments]) == 0
    assert main(["train", str(student), *arguments]) == 0


def test_the_start_of_the_workflow_warns(copy: Path, snakemake: Any) -> None:
    other_bytes(fabricate.only(copy, "train/teacher*") / "last.pt")
    output = snakemake(copy, "--dry-run")
    text = output.stdout + output.stderr
    assert "stale    predict/labels-teacher-seed0" in text
    assert re.search(r"^    rm .*predict/labels-teacher-seed0\S*/stage\.json", text, re.MULTILINE)


def test_work_begun_on_other_bytes_is_not_gone_on_with(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = fabricate.only(copy, "predict/labels-teacher-seed0*")
    (labels / "stage.json").unlink()
    unfinished = labels / "unfinished/0-of-1"
    unfinished.mkdir(parents=True)
    identity = json.loads((labels / "recipe.json").read_text())["identity"]
    (unfinished / "identity").write_text(f"{identity} {'0' * 64}")
    shutil.copy(labels / "masks.h5", unfinished / "0.h5")
    assert main(["predict", str(labels), "--gpus", "0", "--device", "cpu"]) == 0
    assert "beginning anew" in capsys.readouterr().err


def test_parts_of_other_bytes_are_not_joined(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.chdir(copy):
        labels = fabricate.only(copy, "predict/labels-teacher-seed0*")
        before = (labels / "masks.h5").read_bytes()
        (labels / "stage.json").unlink()
        arguments = ["predict", str(labels), "--gpus", "0", "--device", "cpu", "--shards", "2"]
        assert main([*arguments, "--shard", "0"]) == 0
        assert main([*arguments, "--shard", "1"]) == 0
        other_bytes(fabricate.only(copy, "train/teacher*") / "last.pt")
        assert main([*arguments[:2], "--join", "--shards", "2"]) == 1
        assert "other bytes" in capsys.readouterr().err
        assert (labels / "masks.h5").read_bytes() == before
