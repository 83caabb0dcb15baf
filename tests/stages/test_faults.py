"""What goes wrong on machines: each fault has its message, nothing half-written stays, and the work goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fabricate
import h5py
import pytest
import torch
from conftest import ROOT

from stpp.commands.cli import main
from stpp.commands.workflow import claim
from stpp.common.files import aside
from stpp.plan.identity import identity_of

Capture = pytest.CaptureFixture[str]


def run(stage: Path, *options: str) -> int:
    return main([stage.parent.name, str(stage), *options])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages of ST++, finished."""
    return fabricate.computed(tmp_path_factory.mktemp("faults") / "finished", "chart")


@pytest.fixture
def copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished stages, as the working directory."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


# --- artifacts that were damaged --------------------------------------------------------------------------------------

# (what is damaged, the stage that reads it)
READ = [
    ("train/teacher*/checkpoint-1.pt", "predict/masks-checkpoint1*"),
    ("train/teacher*/last.pt", "predict/labels-teacher*"),
    ("train/student-phase2*/last.pt", "evaluate/student-val*"),
    ("predict/masks-checkpoint2*/masks.h5", "score/*"),
    ("predict/labels-teacher*/masks.h5", "train/student-phase1*"),
    ("score/*/scores.csv", "select/*"),
    ("select/*/reliable.txt", "predict/labels-teacher*"),
    ("select/*/unreliable.txt", "predict/labels-phase1*"),
    ("evaluate/student-val*/metrics.json", "table/*"),
    ("evaluate/stability-truth*/images.csv", "table/*"),
    ("score/*/scores.csv", "table/*"),
    ("evaluate/student-test*/stage.json", "table/*"),
]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


DAMAGES = [
    (damage, artifact, reader)
    for artifact, reader in READ
    for damage in (flip, truncate, Path.unlink)
    # A flipped bit may leave a text readable, and the checksum of stage.json is nowhere.
    if not (damage is flip and artifact.endswith("stage.json"))
]


@pytest.mark.parametrize(
    ("damage", "artifact", "reader"), DAMAGES, ids=[f"{damage.__name__} {a} for {r}" for damage, a, r in DAMAGES]
)
def test_a_damaged_artifact_is_named_with_the_command_that_rebuilds_it(
    copy: Path, capsys: Capture, damage: Any, artifact: str, reader: str
) -> None:
    path = fabricate.only(copy, artifact)
    stage = fabricate.only(copy, reader)
    before = {file: file.read_bytes() for file in stage.iterdir() if file.is_file()}
    damage(path)
    assert run(stage) == 1
    error = capsys.readouterr().err
    assert str(path) in error
    assert f"`stpp {path.parent.parent.name} {path.parent}`" in error
    assert "Traceback" not in error
    assert {file: file.read_bytes() for file in stage.iterdir() if file.is_file()} == before
    path.unlink(missing_ok=True)
    assert run(path.parent) == 0, "the command of the message rebuilds it"
    assert run(stage) == 0


def test_the_rebuilt_artifact_has_the_same_bytes(copy: Path, finished: Path) -> None:
    for pattern in ("train/student-phase1*", "predict/masks-checkpoint2*", "score/*"):
        stage = fabricate.only(copy, pattern)
        outputs = json.loads((stage / "recipe.json").read_text())["outputs"]
        for name in outputs:
            (stage / name).unlink()
        assert run(stage) == 0
        for name in set(outputs) - {"stage.json"}:
            assert (stage / name).read_bytes() == (finished / stage / name).read_bytes()


# --- disks ------------------------------------------------------------------------------------------------------------


def in_a_small_folder(folder: Path, size: str, script: str) -> str:
    """Output of a shell script in `folder`, whose `my results` is a file system of its own of that size."""
    mount = (
        f"mount -t tmpfs -o size={size} tmpfs small && cp -r 'my results/.' small/ && mount --move small 'my results'"
    )
    lines = f"set -e; cd '{folder}'; mkdir small; {mount}; set +e; {script}"
    for command in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        try:
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                done = subprocess.run([*command, "bash", "-c", lines], capture_output=True, text=True, timeout=300)
                return done.stdout + done.stderr
        except OSError:
            break
    pytest.skip("this system lets nobody mount a small file system")


@pytest.mark.parametrize(
    ("stage", "size"),
    [
        ("train/teacher*", "400k"),
        ("train/teacher*", "700k"),
        ("predict/masks-checkpoint1*", "8k"),
        ("predict/masks-checkpoint1*", "16k"),
        ("score/*", "4k"),
    ],
)
def test_a_full_disk_is_said_leaves_nothing_half_written_and_the_stage_goes_on(
    finished: Path, tmp_path: Path, stage: str, size: str
) -> None:
    folder = tmp_path / "full"
    shutil.copytree(finished, folder, symlinks=True)
    path = fabricate.only(folder, stage)
    kept = "find . -type f ! -name recipe.json ! -path '*unfinished*' -printf 'left: %p\\n'"
    outputs = json.loads((folder / path / "recipe.json").read_text())["outputs"]
    expected = {name: (finished / path / name).read_bytes() for name in outputs if name != "stage.json"}
    for name in outputs:
        (folder / path / name).unlink()
    files = [file for file in (folder / "my results").rglob("*") if file.is_file() and not file.is_symlink()]
    used = sum(-(-file.stat().st_size // 4096) * 4 for file in files)
    total = f"{used + int(size[:-1])}k"
    between = f"(cd '{path}'; {kept}); mount -o remount,size=64m 'my results'"
    code = (
        "import os; from stpp.commands.cli import main\n"
        f"command = [{path.parent.name!r}, {str(path)!r}]\n"
        f"print('code', main(command), flush=True); os.system({between!r})\n"
        "print('code', main(command), flush=True)\n"
    )
    (tmp_path / "twice.py").write_text(code)
    output = in_a_small_folder(folder, total, f"'{sys.executable}' '{tmp_path}/twice.py'; cp -r '{path}' done")
    assert "code 1" in output, output
    assert "no space is left on the disk" in output
    assert "Traceback" not in output
    assert ".tmp" not in output
    left = {line.split("/")[-1] for line in output.splitlines() if line.startswith("left:")}
    for name in left - {"stage.json"}:
        assert name in expected, "whole artifacts may be there already"
    assert "code 0" in output
    assert {name: (folder / "done" / name).read_bytes() for name in expected} == expected


def test_a_read_only_results_folder_is_said_before_anything_runs(tmp_path: Path) -> None:
    folder = fabricate.planned(tmp_path / "read only")
    snakemake = f"snakemake --cores 1 -s '{ROOT}/Snakefile' --configfile config.yaml"
    output = in_a_small_folder(folder, "8m", f"mount -o remount,ro 'my results'; {snakemake}; echo code $?")
    assert "Read-only file system" in output
    assert "choose another place with `results`" in output
    assert "code 1" in output
    assert "Traceback" not in output


# --- images, workers, memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("content", [b"", b"half"], ids=["empty", "truncated"])
def test_an_image_that_breaks_during_training_is_named(
    copy: Path, capsys: Capture, workers: int, content: bytes
) -> None:
    stage = fabricate.only(copy, "train/teacher*")
    image = copy / "my scenes" / "images" / "labeled2.png"
    image.write_bytes(image.read_bytes()[: len(image.read_bytes()) // 2] if content else b"")
    assert run(stage, "--workers", str(workers)) == 1
    error = capsys.readouterr().err.replace("\n", " ")
    assert "labeled2.png" in error
    assert "Traceback" not in error
    assert "DataLoader" not in error


def endless_training(folder: Path) -> Path:
    """A teacher that trains until it is stopped."""
    recipe = json.loads((fabricate.only(folder, "train/teacher*") / "recipe.json").read_text())
    recipe["settings"]["training"]["epochs"] = 100_000
    recipe["identity"] = identity_of(recipe)
    stage = folder / "my results" / "stages" / "train" / "endless"
    stage.mkdir()
    (stage / "recipe.json").write_text(json.dumps(recipe))
    return stage


def test_a_loader_process_that_is_killed_is_an_error_within_a_minute(copy: Path) -> None:
    stage = endless_training(copy)
    command = [sys.executable, "-m", "stpp", "train", str(stage), "--workers", "2"]
    training = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        children = Path(f"/proc/{training.pid}/task/{training.pid}/children")
        deadline = time.monotonic() + 60
        before: set[str] = set()
        # A child that lives for a second loads data; what libraries ask the system at their start ends at once.
        while not (lasting := before & (now := set(children.read_text().split()))) and time.monotonic() < deadline:
            before = now
            time.sleep(1)
        os.kill(int(min(lasting)), signal.SIGKILL)
        started = time.monotonic()
        _, error = training.communicate(timeout=60)
    finally:
        training.kill()
    assert time.monotonic() - started < 60
    assert training.returncode == 1
    assert "a process that loads data died" in error
    assert "lower runtime.train.workers" in error
    assert "Traceback" not in error


def test_signals_to_the_whole_process_group_stop_a_training_with_workers(copy: Path) -> None:
    """Ctrl-C and schedulers reach the loader processes as well."""
    stage = endless_training(copy)
    command = [sys.executable, "-m", "stpp", "train", str(stage), "--workers", "2", "--save-minutes", "0.001"]
    for number in (signal.SIGINT, signal.SIGTERM):
        training = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            state = stage / "unfinished" / "training.pt"
            before = state.stat().st_mtime_ns if state.exists() else 0
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not (state.exists() and state.stat().st_mtime_ns > before):
                time.sleep(0.1)
            os.killpg(training.pid, number)
            _, error = training.communicate(timeout=60)
        finally:
            training.kill()
        assert training.returncode == 128 + number, error
        assert f"stopped by {signal.Signals(number).name} after iteration" in error
        assert "Traceback" not in error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "the GPU's memory is too small"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "the main memory is too small"),
    ],
)
def test_too_little_memory_says_which_setting_to_lower_and_by_how_much(
    copy: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*given: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr("stpp.engine.networks.forward", fail)
    assert run(fabricate.only(copy, "train/student-phase2*")) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "training.student.batch_size from 4 to 2" in said
    assert "training.student.crop from 24 to 16" in said

    monkeypatch.setattr("stpp.stages.predict.predict_masks", fail)
    assert run(fabricate.only(copy, "predict/masks-checkpoint1*")) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "no tile or long side would halve it" in said or "set prediction." in said


# --- doubtful results -------------------------------------------------------------------------------------------------


def test_masks_of_one_class_and_labels_that_lost_a_class_are_warned_of(copy: Path, capsys: Capture) -> None:
    for pattern, label, text in (
        ("predict/labels-teacher*", None, "have no pixel of right"),  # first: other masks make stale what they rest on
        ("predict/masks-checkpoint1*", 1, "the network predicts one and the same class in all 6 images"),
    ):
        stage = fabricate.only(copy, pattern)
        (stage / "masks.h5").unlink()
        with pytest.MonkeyPatch.context() as patch:
            import numpy as np

            def masks(network: Any, images: Any, *rest: Any, label: int | None = label, **confident: Any) -> Any:
                made = [np.full(image.shape[:2], label or 0, np.uint8) for image in images]
                for mask in made:
                    mask[0, 0] = 1
                return [(mask, None) for mask in made]

            patch.setattr("stpp.stages.predict.predict_masks", masks)
            assert run(stage) == 0
        assert text in capsys.readouterr().err
        (warning,) = json.loads((stage / "stage.json").read_text())["warnings"]
        assert text in warning


def test_a_score_that_does_not_vary_is_warned_of(copy: Path, capsys: Capture) -> None:
    first = fabricate.only(copy, "predict/masks-checkpoint1*")
    for k in (2, 3):
        stage = fabricate.only(copy, f"predict/masks-checkpoint{k}*")
        shutil.copyfile(first / "masks.h5", stage / "masks.h5")
        record = json.loads((stage / "stage.json").read_text())
        record["sha256"] = json.loads((first / "stage.json").read_text())["sha256"]
        (stage / "stage.json").write_text(json.dumps(record))
    assert run(fabricate.only(copy, "score/*")) == 0
    assert "all 6 images have the same stability score" in capsys.readouterr().err


def test_the_report_says_every_warning_and_each_decline(finished: Path) -> None:
    stage = fabricate.only(finished, "table/*")
    warnings = json.loads((finished / stage / "metrics.json").read_text())["warnings"]
    others = finished.glob("my results/stages/*/*/stage.json")
    expected = {
        text
        for path in others
        if path.parent.parent.name not in ("table", "chart", "report")
        for text in json.loads(path.read_text())["warnings"]
    }
    assert expected <= set(warnings)
    text = (finished / stage / "table.txt").read_text()
    assert all(f"- {warning}" in text for warning in warnings)


def test_a_val_set_that_chose_the_checkpoint_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suponly = {"suponly": {"method": "suponly"}}
    folder = fabricate.planned(tmp_path / "best", evaluation={"checkpoint": "best"}, experiments=suponly)
    monkeypatch.chdir(folder)
    assert run(fabricate.only(folder, "train/teacher*")) == 0
    for subset, count in (("val", 1), ("test", 0)):
        stage = fabricate.only(folder, f"evaluate/teacher-{subset}*")
        assert run(stage) == 0
        assert len(json.loads((stage / "metrics.json").read_text())["warnings"]) == count


# --- two runs at once -------------------------------------------------------------------------------------------------


def test_a_lock_ends_with_its_process_and_keeps_a_second_run_away(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from stpp.commands.workflow import claim; "
        f"claim(Path({str(tmp_path)!r})); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Exception, match=f"the workflow already runs in .*process {holder.pid} on"):
            claim(tmp_path)
    finally:
        holder.kill()
        holder.wait()
    claim(tmp_path)


def test_two_writers_of_one_artifact_do_not_mix_their_bytes(tmp_path: Path) -> None:
    from stpp.common.files import replacing

    with replacing(tmp_path / "a") as one, replacing(tmp_path / "a") as other:
        assert one != other
        with one.open("wb") as first, other.open("wb") as second:
            for _ in range(10):
                first.write(b"1" * 100)
                second.write(b"2" * 100)
    assert set((tmp_path / "a").read_bytes()) in ({ord("1")}, {ord("2")})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_killed_writers_left_is_removed_when_the_stage_ends(copy: Path) -> None:
    stage = fabricate.only(copy, "select/*")
    code = "import sys; from pathlib import Path; from stpp.common.files import aside; "
    code += "aside(Path(sys.argv[1])).write_text('a')"
    subprocess.run([sys.executable, "-c", code, stage / "reliable.txt"], check=True)
    nameless = stage / ".reliable.txt.tmp"
    nameless.write_text("of nobody")
    os.utime(nameless, (1, 1))
    mine = aside(stage / "reliable.txt")
    mine.write_text("of one who lives")
    assert len(list(stage.glob(".*"))) == 3
    assert run(stage) == 0
    assert list(stage.glob(".*")) == [mine]


def test_what_a_stage_had_no_time_to_remove_goes_when_the_workflow_starts(copy: Path) -> None:
    stage = fabricate.only(copy, "score/*")
    (stage / "unfinished").mkdir()
    (stage / "unfinished" / "0.npy").write_bytes(b"rows")
    assert main(["plan", "--recipes", "config.yaml"]) == 0
    assert not (stage / "unfinished").exists()


def test_hdf5_of_a_finished_store_opens_for_other_programs(finished: Path) -> None:
    import hdf5plugin  # noqa: F401

    with h5py.File(finished / fabricate.only(finished, "predict/masks-checkpoint3*") / "masks.h5") as file:
        assert file["pixels"].shape[0] == int((file["shapes"][:].prod(axis=1)).sum())
