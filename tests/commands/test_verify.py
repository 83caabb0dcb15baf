"""`stpp verify`: every kind of fault is found, and its command and the workflow bring the same bytes back."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabricate
import pytest

from stpp.commands.cli import main
from stpp.commands.verify import Fault, Faults, as_text, verify
from stpp.commands.workflow import prepare
from stpp.common.files import sha256
from stpp.data.manifest import manifest_digest, manifest_path, read_manifest, write_manifest
from stpp.plan.graph import Stage
from stpp.plan.staleness import checksum_in
from stpp.settings.configfile import read

SUPONLY = fabricate.tiny(experiments={"suponly": {"method": "suponly"}})
RESULTS = Path("my results")


def compute() -> None:
    """What the workflow does, with artifacts that nothing computed: each stage that lacks one is made anew."""
    plan = prepare(read(fabricate.write_config(Path(), SUPONLY)), lambda line: None)
    stages = RESULTS / "stages"
    lacking = [
        folder
        for folder, stage in plan.stages.items()
        if not all((stages / folder / name).exists() for name in stage.outputs)
    ]
    records = {
        path.parent.relative_to(stages).as_posix(): json.loads(path.read_text())
        for path in stages.glob("*/*/stage.json")
    }

    def read_by(stage: Stage) -> dict[str, str]:
        paths = [path for given in stage.inputs.values() for path in ([given] if isinstance(given, str) else given)]
        return {path: checksum_in(records[path.rpartition("/")[0]], path.rpartition("/")[2]) for path in paths}

    for folder in lacking:
        fabricate.pretend(SUPONLY, plan, [folder])
        path = stages / folder / "stage.json"
        records[folder] = json.loads(path.read_text()) | {"read": read_by(plan.stages[folder])}
        path.write_text(json.dumps(records[folder]))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of real data in which every stage is finished, though nothing computed them."""
    monkeypatch.chdir(tmp_path)
    fabricate.write_scenes(Path("my scenes"))
    compute()
    return RESULTS


def only(pattern: str) -> Path:
    return fabricate.only(Path.cwd(), pattern)


def artifacts() -> dict[Path, str]:
    return {
        path: sha256(path) for path in RESULTS.glob("stages/*/*/*") if path.name not in ("stage.json", "recipe.json")
    }


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def earlier() -> dict[str, str]:
    """What a stage says that it read before the training was done again and gave other bytes."""
    return {f"{only('train/*').relative_to(RESULTS / 'stages')}/stage.json": "0" * 64}


def shorter_manifest() -> str:
    """The digest of a manifest of one val image less."""
    (path,) = RESULTS.glob("data/val-*.csv")
    rows = read_manifest(path)[:-1]
    write_manifest(manifest_path(RESULTS, "val", manifest_digest(rows)), rows)
    return manifest_digest(rows)


def unreadable_manifest() -> None:
    (path,) = RESULTS.glob("data/val-*.csv")
    flip(path)


FAULTS: dict[str, tuple[Callable[[], object], str]] = {
    "a damaged artifact": (lambda: flip(only("train/*") / "last.pt"), "last.pt is damaged"),
    "a missing artifact": (lambda: (only("evaluate/*-val-*") / "images.csv").unlink(), "images.csv does not exist"),
    "a damaged record": (lambda: (only("table/*") / "stage.json").write_text("{"), "stage.json is damaged"),
    "an empty record": (lambda: (only("table/*") / "stage.json").write_text("{}"), "stage.json is damaged"),
    "a record of another stage": (
        lambda: shutil.copy(only("table/*") / "stage.json", only("train/*") / "stage.json"),
        "stage.json is damaged, or is not that of its folder",
    ),
    "a damaged recipe": (lambda: (only("train/*") / "recipe.json").write_text("?"), "cannot be read as a recipe"),
    "an edited recipe": (lambda: edit(only("train/*") / "recipe.json", settings={}), "changed after it was written"),
    "a folder of another name": (
        lambda: shutil.copytree(only("train/*"), RESULTS / "stages/train/copy-seed0-00000000"),
        "copy-seed0-00000000 has the recipe of another stage, `stpp train`",
    ),
    "an artifact of other bytes": (lambda: edit(only("table/*") / "stage.json", read=earlier()), "table/.* is stale: "),
    "a damaged manifest": (unreadable_manifest, r"val-[0-9a-f]{16}\.csv is damaged"),
    "another manifest in a record": (
        lambda: edit(only("evaluate/*-val-*") / "stage.json", manifests={"val": shorter_manifest()}),
        "but the fingerprint of the val images differs",
    ),
    "what a writer left": (lambda: (only("train/*") / ".last.pt.0.tmp").write_text("half"), "writer that was killed"),
    "what a writer of manifests left": (lambda: (RESULTS / "data/.x.csv.0.tmp").write_text("half"), "that was killed"),
    "unfinished work": (lambda: (only("train/*") / "unfinished").mkdir(), "unfinished was left by a stage"),
    "a link to nothing": (lambda: (RESULTS / "runs/tiny/old.svg").symlink_to("../gone/x"), "old.svg points to nothing"),
}


def commands(found: Faults) -> list[str]:
    return list(dict.fromkeys(fault.command for fault in found.faults))


def test_sound_results_have_no_fault(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = verify(results)
    assert found == Faults(stages=len(list(results.glob("stages/*/*"))))
    assert main(["verify", str(results)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{results}: {found.stages} finished stages, 0 faults.\n"
    assert "verify: 100%" in captured.err


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_its_command_and_the_workflow_mend_it(
    name: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = artifacts()
    damage, message = FAULTS[name]
    damage()
    assert main(["verify", str(results)]) == 1
    output = capsys.readouterr().out
    assert re.search(message, output)
    assert "Traceback" not in output
    for _ in range(2):  # what is made anew with the earlier bytes makes its readers stale
        for command in commands(verify(results)):
            subprocess.run(command, shell=True, check=True)
        compute()
    assert verify(results).faults == []
    assert artifacts() == before


@pytest.mark.parametrize("file", ["images/labeled1.png", "masks/val0.png", "images/test1.png", "images/unlabeled0.png"])
def test_data_that_changed_are_a_fault_until_the_stages_of_the_earlier_ones_are_gone(
    file: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (Path("my scenes") / file).open("ab") as stream:
        stream.write(b"\0")
    found = verify(results)
    assert [fault.what for fault in found.faults] == [f"my scenes/{file} {NOT_THE_FILE}"]
    if "unlabeled" in file:  # which the workflow does not look at again of itself
        subprocess.run(commands(found)[0], shell=True, check=True)
        compute()
        found = verify(results)
    assert all(fault.workflow_first for fault in found.faults)
    compute()
    for command in commands(found):
        subprocess.run(command, shell=True, check=True)
    assert verify(results).faults == []


NOT_THE_FILE = "is not the file that stages were made from; put that file back, or continue with this one"


def test_data_and_manifests_that_are_gone_are_notes(results: Path) -> None:
    shutil.rmtree("my scenes")
    found = verify(results)
    assert found.faults == []
    assert re.search(r"\d+ files of the data are gone", found.notes[0])
    for path in results.glob("data/test-*.csv"):
        path.unlink()
    found = verify(results)
    assert found.faults == []
    assert any("no longer there" in note and "test-" in note for note in found.notes)


def test_stages_of_an_earlier_version_are_a_note(results: Path) -> None:
    path = only("evaluate/*-val-*") / "stage.json"
    record = json.loads(path.read_text())
    del record["read"], record["manifests"]
    path.write_text(json.dumps(record))
    found = verify(results)
    assert found.faults == []
    assert found.notes == ["1 stage of an earlier version did not record what they read"]


def test_what_a_running_workflow_has_not_finished_is_no_fault(results: Path) -> None:
    (only("train/*") / ".last.pt.0.tmp").write_text("half")
    assert len(verify(results).faults) == 1
    found = verify(results, "process 1 on here")
    assert found.faults == []
    assert "a workflow is running (process 1 on here)" in found.notes[0]


def test_unfinished_stages_and_their_links_are_no_fault(results: Path) -> None:
    for path in results.glob("stages/table/*/*"):
        if path.name != "recipe.json":
            path.unlink()
    assert verify(results).faults == []


def test_what_are_no_results_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 1
    assert f"no results in {tmp_path}" in capsys.readouterr().err


def test_the_text() -> None:
    found = Faults(
        2, [Fault("a is damaged", "rm a"), Fault("b is another file", "stpp gc c --remove", True)], ["c is gone"]
    )
    assert as_text(Path("results"), found) == (
        "a is damaged; before the workflow: rm a\n"
        "b is another file; after the workflow: stpp gc c --remove\n"
        "note: c is gone\n"
        "results: 2 finished stages, 2 faults; type the command of each fault, and run the workflow before or after "
        "it, as stated.\n"
    )
