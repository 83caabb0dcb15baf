"""The results are those on record, byte for byte; and the comparison finds what is changed, missing or too many."""

import json
import subprocess
import sys
from pathlib import Path

import forked
import golden
import pytest
from runs import PROJECT, differences, launch

CSV = "experiment,miou_mean,cpu_hours,gpu_hours\nst,{miou},{hours},0.0\n"


def made(results: Path, identity: str = "1a2b3c4d" * 8, miou: str = "50.25", hours: str = "0.001") -> dict[str, str]:
    """The digests of results that nothing computed, of one run; its stages have this identity."""
    stages = {
        "teacher": {"last.pt": b"weights", "metrics.csv": b"epoch,loss\n1,0.5\n"},
        "masks1": {"masks.h5": f"\x00\x01{identity}\x02".encode()},
        "score": {"scores.csv": b"id,score\na,0.5\n"},
        "select": {"reliable.txt": b"a\n", "unreliable.txt": b"b\n"},
        "teacher-val": {
            "metrics.json": f'{{"read": "masks1-seed0-{identity[:8]}"}}'.encode(),
            "images.csv": b"id,miou\na,0.5\n",
        },
    }
    for role, files in stages.items():
        folder = results / "stages/some" / f"{role}-seed0-{identity[:8]}"
        folder.mkdir(parents=True)
        recipe = json.dumps({"identity": identity}).encode()
        for name, content in {**files, "stage.json": recipe, "recipe.json": recipe}.items():
            (folder / name).write_bytes(content)
        link = results / "runs/x/experiments/st/seed0" / role
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder)
    (results / "x").mkdir(exist_ok=True)
    (results / "x/table.csv").write_text(CSV.format(miou=miou, hours=hours))
    (results / "x/runs.csv").write_text("experiment,miou\nst,0.5\n")
    (results / "x/metrics.json").write_text("{}")
    return golden.digests(results, "x")


def test_results_are_those_on_record(tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By forked processes, see `forked.py`; `golden.py` itself starts the commands as they are."""
    record = ("python", "tests/support/golden.py", "--record", "tests/support/golden.json")
    if other := golden.elsewhere(json.loads(golden.RECORD.read_text())["machine"]):
        pytest.skip(
            f"golden.json is of another machine, where rounding differs ({'; '.join(other)}); "
            f"`{' '.join(record)}` records this one"
        )

    def start(folder: Path, *words: str, environment: dict[str, str], project: Path) -> "subprocess.Popen[bytes]":
        command = [str(programs / "snakemake"), "-s", str(project / "Snakefile"), "--configfile", "config.yaml", *words]
        return launch(folder, command, forked.environment() | environment)

    monkeypatch.setattr(golden, "start", start)
    found = golden.run(PROJECT, tmp_path, golden.brief())
    results = tmp_path / "my results"
    kinds = {"train", "predict", "score", "select", "evaluate", "verdict", "table"}
    assert kinds == {stage.name for stage in (results / "stages").iterdir() if any(stage.glob("*/stage.json"))}
    assert list(differences(golden.read_record(golden.RECORD, golden.brief()), found)) == [], (
        f"other bytes than recorded; if that is meant, `stpp stamp --new-version` and `{' '.join(record)}`"
    )
    table = results / "brief/table.csv"
    assert b"_hours" in table.read_bytes() and b"_hours" not in golden.deciding(table)


def test_a_record_has_all_methods_with_val_and_some_without() -> None:
    recorded = json.loads(golden.RECORD.read_text())["digests"]
    for config in golden.methods() + golden.brief():
        for experiment in config["experiments"]:
            last = "supervised" if experiment == "supervised" else "teacher" if experiment == "suponly" else "student"
            for seed in config["seeds"]:
                run = f"{config['name']} {experiment} seed{seed}"
                assert f"{run} {last}/last.pt" in recorded
                assert (f"{run} {last}/best.pt" in recorded) == ("val" in config["data"])
        assert {f"{config['name']} {file}" for file in golden.TABLE} <= recorded.keys()


FILES = {
    *("teacher/last.pt", "teacher/metrics.csv", "masks1/masks.h5", "score/scores.csv", "select/reliable.txt"),
    *("select/unreliable.txt", "teacher-val/metrics.json", "teacher-val/images.csv"),
}


def test_artifacts_go_by_experiment_seed_role_and_name(tmp_path: Path) -> None:
    assert made(tmp_path).keys() == {f"x st seed0 {file}" for file in FILES} | {f"x {file}" for file in golden.TABLE}


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_changed_byte_is_found(file: str, tmp_path: Path) -> None:
    before = made(tmp_path)
    path = tmp_path / "runs/x/experiments/st/seed0" / file
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert list(differences(before, golden.digests(tmp_path, "x"))) == [f"x st seed0 {file}: other bytes"]


def test_a_missing_and_an_additional_artifact_are_found(tmp_path: Path) -> None:
    before = made(tmp_path)
    run = tmp_path / "runs/x/experiments/st/seed0"
    (run / "teacher/last.pt").rename(run / "teacher/best.pt")
    (tmp_path / "x/runs.csv").unlink()
    assert list(differences(before, golden.digests(tmp_path, "x"))) == [
        "x runs.csv: missing",
        "x st seed0 teacher/best.pt: left over",
        "x st seed0 teacher/last.pt: missing",
    ]


def test_identities_and_times_make_no_difference(tmp_path: Path) -> None:
    before = made(tmp_path / "a")
    assert made(tmp_path / "b", identity="5e6f7a8b" * 8, hours="12.3") == before


def test_numbers_of_the_table_make_a_difference(tmp_path: Path) -> None:
    found = differences(made(tmp_path / "a"), made(tmp_path / "b", miou="50.26"))
    assert list(found) == ["x table.csv: other bytes"]


def test_a_record_of_another_machine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = golden.machine()
    assert golden.elsewhere(here) == []
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"machine": {**here, "flags": "mmx"}, "digests": {}}))
    monkeypatch.setattr(sys, "argv", ["golden.py", "--against", str(record)])
    monkeypatch.setattr(golden, "run", None)
    assert golden.main() == 1
    assert f"flags: mmx, here {here['flags']}" in capsys.readouterr().out


@pytest.mark.parametrize(("change", "code"), [("", 0), ("x", 1)])
def test_the_command_lists_what_differs(
    change: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"brief st++ seed0 teacher/last.pt": "a", "brief table.csv": "b"}
    monkeypatch.setattr(golden, "run", lambda project, folder, configs, cores: found)
    record = tmp_path / "record.json"
    golden.write_record(record, {**found, "brief table.csv": f"b{change}", "methods table.csv": "c"})
    monkeypatch.setattr(sys, "argv", ["golden.py", "--brief", "--against", str(record)])
    assert golden.main() == code
    assert ("DIFFERENT: brief table.csv: other bytes" in capsys.readouterr().out) == bool(change)
