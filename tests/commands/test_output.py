"""What every command writes where a person says: nothing there is replaced unasked, and an input never is."""

import argparse
import atexit
import contextlib
import errno
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import fabricate
import numpy as np
import pytest
import torch
import torchvision
from conftest import Snakemake
from trained import checkpoint, picture

from stpp.commands import export as exporting
from stpp.commands.cli import main, parser
from stpp.commands.estimate import Speeds
from stpp.commands.output import Outputs
from stpp.commands.trial import Trial
from stpp.commands.workflow import prepare
from stpp.common.errors import Problems, StppError
from stpp.plan.code import MODULES
from stpp.settings.configfile import read


@dataclass(frozen=True)
class Call:
    """A command that succeeds in an empty `out`: its words, the files that it writes, and the files that it reads.

    `links` to what it reads are written as well; those that are there already are left alone.
    """

    words: list[str]
    files: list[Path]
    inputs: list[Path]
    links: Sequence[Path] = ()


def segment(folder: Path, out: Path, patch: pytest.MonkeyPatch) -> Call:
    model, image = checkpoint(folder / "model.pt"), folder / "a.png"
    picture(40, 48).save(image)
    words = ["segment", "--model", str(model), "--device", "cpu", "--probabilities", str(image), "--out", str(out)]
    kinds = ("classes.txt", "areas.csv", "masks/a.png", "overlays/a.jpg", "probabilities/a.npz")
    return Call(words, [out / name for name in kinds], [model, image])


def masks(folder: Path, out: Path, patch: pytest.MonkeyPatch) -> Call:
    store = fabricate.write_store(folder / "masks.h5", {name: np.ones((3, 4), np.uint8) for name in ("a", "b/c")})
    return Call(["masks", str(store), "--out", str(out)], [out / "a.png", out / "b/c.png"], [store])


def export(folder: Path, out: Path, patch: pytest.MonkeyPatch) -> Call:
    model, image = checkpoint(folder / "model.pt"), folder / "a.png"
    picture(40, 48).save(image)
    patch.setattr(exporting, "find_spec", lambda name: name)
    patch.setattr(exporting, "_program", lambda graph: None)
    for kind in ("onnx", "torch"):
        patch.setattr(exporting, f"_write_{kind}", lambda program, path: path.write_bytes(b"a graph"))
        patch.setattr(exporting, f"_open_{kind}", lambda path: None)
    patch.setattr(exporting, "_agreement", lambda *_: 1.0)
    files = [out / name for name in ("model.onnx", "model.pt2", "model-card.md")]
    return Call(["export", str(model), "--out", str(out), "--images", str(image)], files, [model, image])


def evaluate(folder: Path, out: Path, patch: pytest.MonkeyPatch) -> Call:
    model = checkpoint(folder / "model.pt")
    fabricate.write_scenes(folder / "scenes", {"val": 1})
    lines, image, mask = (folder / "scenes" / name for name in ("val.txt", "images/val0.png", "masks/val0.png"))
    words = ["evaluate", str(model), "--list", str(lines), "--root", str(folder / "scenes"), "--gpus", "0"]
    files = [out / "metrics.json", out / "images.csv"]
    return Call([*words, "--out", str(out)], files, [model, lines, image, mask])


def demo(folder: Path, out: Path, patch: pytest.MonkeyPatch) -> Call:
    patch.setattr("stpp.data.demo.preview_sheet", lambda path, seed: picture(4, 4, seed).save(path, format="PNG"))
    return Call(["demo", "--preview", str(out / "sheet.png")], [out / "sheet.png"], [])


def import_data(folder: Path, out: Path, patch: pytest.MonkeyPatch) -> Call:
    source = folder / "annotated"
    source.mkdir()
    picture(4, 4).save(source / "a.png")
    shapes = [{"label": "left", "shape_type": "rectangle", "points": [[0, 0], [1, 3]]}]
    content = {"imagePath": "a.png", "imageHeight": 4, "imageWidth": 4, "shapes": shapes}
    (source / "a.json").write_text(json.dumps(content))
    files = [out / name for name in ("images/a.png", "masks/a.png", "classes.txt")]
    return Call(["import", "labelme", str(source), "--out", str(out)], files, [source / "a.png", source / "a.json"])


def export_labels(folder: Path, out: Path, patch: pytest.MonkeyPatch) -> Call:
    store = fabricate.write_store(folder / "masks.h5", {name: np.ones((3, 4), np.uint8) for name in ("a", "b/c")})
    files = [out / name for name in ("a.json", "b/c.json", "classes.txt")]
    return Call(["export-labels", str(store), "--format", "labelme", "--out", str(out)], files, [store])


def weights(folder: Path, out: Path, patch: pytest.MonkeyPatch) -> Call:
    patch.setattr("stpp.models.weights.torchvision_weights", lambda backbone: {"weight": torch.zeros(2)})
    return Call(["weights", "resnet18", str(out / "weights.pth")], [out / "weights.pth"], [])


NEXT = ["next", "config.yaml", "-n", "1", "--device", "cpu", "--out"]


@cache
def scored() -> Path:
    """A folder with a configuration whose stability scores are computed, and in `out` what to label next."""
    folder = Path(tempfile.mkdtemp(prefix="stpp-scored-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    left_out = ("select", "evaluate", "outlook", "verdict", "table", "chart", "report")
    fabricate.planned(folder / "run")
    with contextlib.chdir(folder / "run"):
        for stage in prepare(read(Path("config.yaml")), print).stages:
            kind, name = stage.split("/")
            if kind not in left_out and name.startswith(("teacher", "masks", "k3")):
                assert main([kind, f"my results/stages/{stage}"]) == 0
        assert main([*NEXT, "../out"]) == 0
    return folder


def label_next(folder: Path, out: Path, patch: pytest.MonkeyPatch) -> Call:
    shutil.copytree(scored() / "run", folder, symlinks=True, dirs_exist_ok=True)
    patch.chdir(folder)
    prepare(read(Path("config.yaml")), print)  # remembers the data, which are new here
    known = [path for path in (scored() / "out").rglob("*") if not path.is_dir()]
    links, files = (
        [out / path.relative_to(scored() / "out") for path in known if path.is_symlink() is kind]
        for kind in (True, False)
    )
    return Call([*NEXT, str(out)], files, [folder / "config.yaml"], links)


def new(folder: Path, out: Path, patch: pytest.MonkeyPatch) -> Call:
    fabricate.write_scenes(folder / "photos", {"labeled": 3, "unlabeled": 3})
    for number in range(3):
        (folder / f"photos/masks/unlabeled{number}.png").unlink()
    patch.setattr("stpp.commands.new.fastest", lambda *_: Trial(1, 0.1, Speeds(), 10))
    inputs = [folder / "photos" / name for name in ("images/labeled0.png", "masks/labeled1.png")]
    return Call(["new", str(folder / "photos"), "--out", str(out / "my.yaml")], [out / "my.yaml"], inputs)


@cache
def looked_ahead() -> Path:
    """A folder with a configuration whose outlook is computed."""
    folder = Path(tempfile.mkdtemp(prefix="stpp-outlook-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    left_out = ("verdict", "table", "chart", "report")
    return fabricate.computed(folder / "run", *left_out, outlook=True, experiments={"suponly": {"method": "suponly"}})


def suspects(folder: Path, out: Path, patch: pytest.MonkeyPatch) -> Call:
    shutil.copytree(looked_ahead(), folder, symlinks=True, dirs_exist_ok=True)
    patch.chdir(folder)
    prepare(read(Path("config.yaml")), print)
    files = [out / "suspects.csv", out / "suspects.html"]
    return Call(["suspects", "config.yaml", "--out", str(out)], files, [folder / "config.yaml"])


WRITTEN: dict[tuple[str, str], Callable[[Path, Path, pytest.MonkeyPatch], Call]] = {
    ("segment", "out"): segment,
    ("masks", "out"): masks,
    ("export", "out"): export,
    ("evaluate", "out"): evaluate,
    ("demo", "preview"): demo,
    ("weights", "out"): weights,
    ("import", "out"): import_data,
    ("next", "out"): label_next,
    ("suspects", "out"): suspects,
    ("new", "out"): new,
    ("export-labels", "out"): export_labels,
}
"""The options and arguments that name a place to write."""

READ = {
    *((command, "config") for command in ("index", "plan", "status", "next", "suspects")),
    *((stage, "folder") for stage in MODULES),
    *{
        ("gc", "configs"),
        ("diff", "a"),
        ("diff", "b"),
        ("weights", "backbone"),
        ("masks", "store"),
        ("export", "model"),
    },
    *{("import", "source"), ("import", "classes"), ("new", "folder"), ("new", "images"), ("new", "masks")},
    *{("run", "config"), ("run", "target"), ("run", "slurm")},
    *{("import", "source"), ("import", "classes"), ("import", "images")},
    *{("export-labels", "source"), ("export-labels", "images")},
    *{("config", "file"), ("verify", "results"), ("stamp", "parts")},
    *{("export", "images"), ("segment", "images"), ("segment", "model"), ("evaluate", "list"), ("evaluate", "root")},
}
"""All others that take a text: what is read, and the folders of stages, which the workflow gives."""

CASES = [pytest.param(make, id=command) for (command, _), make in WRITTEN.items()]


@pytest.fixture(params=CASES)
def call(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    folder = tmp_path / "in"
    folder.mkdir()
    made: Call = request.param(folder, tmp_path / "out", monkeypatch)
    return made


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(file: Path) -> Path:
    """Something of the user's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"a user's")
    return file


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: writing fails, as on a disk that is full or breaks."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- all commands -----------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_is_one_message_and_leaves_nothing(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_files(8):
        assert main(call.words) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("stpp: ")
    assert "Traceback" not in said
    assert not [file for file in call.files if os.path.lexists(file) and file.stat().st_size > 8]
    assert not list(call.files[0].parent.glob(".*.tmp"))


@pytest.mark.parametrize("most", [0, 100, 1000, 50_000, 80_500])
def test_weights_that_cannot_be_written_are_one_message(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stpp.models.weights.torchvision_weights", lambda backbone: {"weight": torch.zeros(20_000)})
    with small_files(most):
        assert main(["weights", "resnet18", str(tmp_path / "weights.pth")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_place_that_a_command_takes_is_known_here() -> None:
    (commands,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    taken = {}
    for name, command in commands.choices.items():
        texts = [a for a in command._actions if a.type in (None, str, Path) and not a.choices and a.nargs != 0]
        taken |= {(name, action.dest): {a.dest for a in command._actions} for action in texts}
    assert taken.keys() == READ | WRITTEN.keys()
    writers = {command for command, _ in WRITTEN}
    assert all(("overwrite" in options) == (command in writers) for (command, _), options in taken.items())


def test_it_writes_what_it_says_and_again_on_request(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(call.words) == 0, capsys.readouterr().err
    written = content(tmp_path / "out")
    assert written.keys() == {*call.files, *call.links}
    assert main(call.words) == 1
    assert "there already" in capsys.readouterr().err
    assert content(tmp_path / "out") == written
    assert main([*call.words, "--overwrite"]) == 0, capsys.readouterr().err
    assert content(tmp_path / "out").keys() == written.keys()


def test_what_is_there_is_refused_and_stays(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    for file in call.files:
        put(file)
        before = content(file.parent)
        assert main(call.words) == 1
        assert "is there already; choose another place, or replace what is there with --over" in capsys.readouterr().err
        assert content(file.parent) == before
        file.unlink()


def test_what_is_there_is_replaced_on_request(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    for file in call.files:
        put(file)
    assert main([*call.words, "--overwrite"]) == 0, capsys.readouterr().err
    assert all(file.read_bytes() != b"a user's" for file in call.files)


def test_a_link_is_refused_and_replaced_itself_on_request(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = put(tmp_path / "elsewhere/target")
    for file, there in zip(call.files, [target, tmp_path / "nowhere"] * 2):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(there)
    assert main(call.words) == 1
    assert "there already" in capsys.readouterr().err
    assert main([*call.words, "--overwrite"]) == 0, capsys.readouterr().err
    assert target.read_bytes() == b"a user's"
    assert not any(file.is_symlink() for file in call.files)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("way", ["symbolic link", "hard link", "linked folder"])
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_an_input_is_never_replaced(
    call: Call, way: str, overwrite: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in call.files:
        for source in call.inputs:
            before = content(tmp_path / "in")
            if way == "linked folder":
                (tmp_path / "in/real").mkdir()
                file.parent.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):
                    file.parent.rmdir()
                file.parent.symlink_to(tmp_path / "in/real")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.symlink_to(source) if way == "symbolic link" else file.hardlink_to(source)
            assert main([*call.words, *overwrite]) == 1
            said = capsys.readouterr().err
            assert "would overwrite inputs, directly or through a link" in said or ("already" in said and not overwrite)
            assert file.samefile(source)
            file.unlink()
            if way == "linked folder":
                file.parent.unlink()
                (tmp_path / "in/real").rmdir()
            assert content(tmp_path / "in") == before


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_disk_that_fails_midway_leaves_nothing_half_written(
    call: Call,
    overwrite: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for file in call.files if overwrite else ():
        put(file)
    before = content(tmp_path)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("stpp.common.files.sync", full)
    assert main([*call.words, *overwrite]) == 1
    assert "no space is left on the disk" in capsys.readouterr().err
    assert content(tmp_path) == before


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_place_that_is_no_place_for_files_is_refused(
    call: Call, overwrite: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "out")
    assert main([*call.words, *overwrite]) == 1
    assert f"{tmp_path / 'out'} is not a folder; choose another place" in capsys.readouterr().err
    (tmp_path / "out").unlink()
    call.files[-1].mkdir(parents=True)
    assert main([*call.words, *overwrite]) == 1
    assert f"only files are replaced; choose another place: 1 problem\n  - {call.files[-1]}\n" in (
        capsys.readouterr().err
    )
    assert not content(tmp_path / "out")


def test_the_artifacts_of_a_stage_are_never_replaced(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    put(call.files[-1].parent / "recipe.json")
    put(call.files[-1])
    assert main([*call.words, "--overwrite"]) == 1
    assert "would overwrite artifacts of a stage of the workflow" in capsys.readouterr().err
    assert call.files[-1].read_bytes() == b"a user's"


# --- single ones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_model_and_a_list_in_the_folder_that_is_written_to(
    overwrite: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names that the commands give to their own files are names that a user's may have."""
    exported, evaluated = export(tmp_path, tmp_path, monkeypatch), evaluate(tmp_path, tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("model.pt").rename("model.pt2")
    Path("scenes/val.txt").rename("images.csv")
    before = content(tmp_path)
    assert main(["export", "model.pt2", "--out", ".", *overwrite]) == 1
    assert "1 problem\n  - model.pt2\n" in capsys.readouterr().err
    words = ["evaluate", "model.pt2", "--list", "images.csv", "--root", "scenes", "--out", ".", "--gpus", "0"]
    assert main([*words, *overwrite]) == 1
    assert "1 problem\n  - images.csv\n" in capsys.readouterr().err
    assert content(tmp_path) == before
    assert exported.files and evaluated.files


def test_masks_do_not_replace_the_photographs_of_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = masks(tmp_path, tmp_path / "my-images", pytest.MonkeyPatch())
    (tmp_path / "originals").mkdir()
    photo = put(tmp_path / "originals/c.png")
    (tmp_path / "my-images").mkdir()
    (tmp_path / "my-images/b").symlink_to(tmp_path / "originals")
    assert main(made.words) == 1
    assert "my-images/b/c.png is there already" in capsys.readouterr().err
    assert photo.read_bytes() == b"a user's"
    assert not (tmp_path / "my-images/a.png").exists()


def test_masks_of_long_names_are_written(tmp_path: Path) -> None:
    store = fabricate.write_store(tmp_path / "masks.h5", {"é" * 125: np.ones((3, 4), np.uint8)})
    assert main(["masks", str(store), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / f"{'é' * 125}.png").is_file()


def test_two_files_with_one_place_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(Problems, match=r"a/x and .*b/x"):
        Outputs().claim([tmp_path / "a/x", tmp_path / "b/x"])
    with pytest.raises(Problems, match="a/x, which is a folder of others"):
        Outputs().claim([tmp_path / "a/x", tmp_path / "b/x/y/z"])


def test_what_came_to_be_there_during_the_work_stays(tmp_path: Path) -> None:
    outputs, file = Outputs(), tmp_path / "x"
    outputs.claim([file])

    def work() -> None:
        with outputs.writing(file) as path:
            path.write_text("mine")
            put(file)

    with pytest.raises(StppError, match="is there already"):
        work()
    assert list(content(tmp_path).values()) == [b"a user's"]


@pytest.mark.manual
def test_the_rule_that_fetches_weights_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snakemake: Snakemake
) -> None:
    """Snakemake removes what a job is to make before it starts the job, so the rule needs no --overwrite."""
    (tmp_path / "cache/hub/checkpoints").mkdir(parents=True)
    name = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / "cache/hub/checkpoints" / name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    fabricate.write_scenes(tmp_path / "my scenes")
    network = fabricate.TINY["network"] | {"backbone": "mobilenet_v2", "weights": "torchvision"}
    fabricate.write_config(tmp_path, fabricate.tiny(network=network, experiments={"suponly": {"method": "suponly"}}))
    out = "my results/weights/mobilenet_v2-IMAGENET1K_V1.pth"
    for _ in range(2):
        snakemake(tmp_path, out, "--force")
        assert (tmp_path / out).stat().st_size > 10**6
        (tmp_path / out).write_bytes(b"of an earlier run")


def test_devices_are_no_files_to_replace(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "null"):
        with pytest.raises(Problems, match="only files are replaced"):
            Outputs(overwrite=True).claim([tmp_path / name])
