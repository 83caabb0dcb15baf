"""What is read is what was planned: images, masks and manifests that changed since then are refused."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest
from PIL import Image

from stpp.commands.cli import main
from stpp.commands.workflow import prepare
from stpp.common.errors import StppError
from stpp.common.files import sha256
from stpp.data.manifest import Row, read_manifest, write_manifest
from stpp.data.readers import ImageError
from stpp.data.reading import image_of, mask_of
from stpp.plan.identity import identity_of
from stpp.runtime.job import Job
from stpp.settings.configfile import read
from stpp.stages.evaluate import evaluate_stores
from stpp.store.masks import MaskStore

Capture = pytest.CaptureFixture[str]
PLAIN = {"classes": 3, "ignore_value": 255, "label_map": None, "palette_map": None}


def row_of(root: Path, subset: str, name: str) -> Row:
    """The row that the index makes of an image with a mask."""
    image, mask = (root / folder / f"{name}.png" for folder in ("images", "masks"))
    height, width = np.asarray(Image.open(mask)).shape
    sums = (sha256(image), sha256(mask)) if subset in ("labeled", "val", "test") else ("", "")
    sizes = image.stat().st_size, mask.stat().st_size
    return Row(name, subset, str(image), str(mask), height, width, sizes[0], sums[0], sizes[1], sums[1])


def repaint(path: Path) -> None:
    """Another picture of the same size in pixels and bytes, with the same time of change."""
    times, length = path.stat(), path.stat().st_size
    pixels = np.array(Image.open(path))
    pixels.flat[:] = pixels.flat[0]
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    path.write_bytes(content + bytes(length - len(content)))  # readers stop at the end of the picture
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fabricate.write_scenes(tmp_path / "scenes", {"labeled": 1, "unlabeled": 1})
    return tmp_path / "scenes"


def test_what_was_planned_is_read(root: Path) -> None:
    for row in (row_of(root, "labeled", "labeled0"), row_of(root, "truth", "unlabeled0")):
        assert np.array_equal(np.asarray(image_of(row)), np.asarray(Image.open(row.image)))
        assert np.array_equal(mask_of(row, PLAIN), np.asarray(Image.open(row.true_mask)))


@pytest.mark.parametrize("subset", ["labeled", "val", "test"])
def test_other_bytes_of_a_labeled_val_or_test_file_are_refused(root: Path, subset: str) -> None:
    row = row_of(root, subset, "labeled0")
    repaint(Path(row.image))
    repaint(Path(row.true_mask))
    for read_again, path in ((lambda: image_of(row), row.image), (lambda: mask_of(row, PLAIN), row.true_mask)):
        with pytest.raises(ImageError, match="run the workflow again") as caught:
            read_again()
        assert path in str(caught.value)


def test_another_size_of_an_unlabeled_file_is_refused(root: Path) -> None:
    row = row_of(root, "truth", "unlabeled0")
    for path in (row.image, row.true_mask):
        with Path(path).open("ab") as file:
            file.write(b"\0")
    for read_again in (lambda: image_of(row), lambda: mask_of(row, PLAIN)):
        with pytest.raises(ImageError, match="not the same file as when the workflow was planned"):
            read_again()


def test_a_file_that_is_gone_is_named(root: Path) -> None:
    for subset in ("labeled", "truth"):
        row = row_of(root, subset, "labeled0")._replace(image="gone.png")
        with pytest.raises(ImageError, match=r"gone\.png: no such file"):
            image_of(row)


# --- stages -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, as the working directory."""
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


READERS = [
    ("train/teacher*", "images/labeled1.png", ["--workers", "0"]),
    ("train/teacher*", "masks/labeled1.png", ["--workers", "2"]),
    ("train/teacher*", "masks/val1.png", []),
    ("evaluate/teacher-val*", "images/val0.png", []),
    ("evaluate/teacher-test*", "masks/test0.png", []),
    ("report/*", "masks/test1.png", []),
]


@pytest.mark.parametrize(("pattern", "file", "more"), READERS)
def test_a_stage_refuses_a_file_that_changed_after_the_plan(
    copy: Path, capsys: Capture, pattern: str, file: str, more: list[str]
) -> None:
    stage = fabricate.only(copy, pattern)
    kind = stage.parent.name
    outputs = {path: path.read_bytes() for path in stage.iterdir() if path.is_file()}
    repaint(copy / "my scenes" / file)
    assert main([kind, str(stage), "--gpus", "0", "--device", "cpu", *more]) == 1
    error = capsys.readouterr().err
    assert f"my scenes/{file}: not the same file as when the workflow was planned" in error.replace("\n", " ")
    assert "Traceback" not in error
    assert {path: path.read_bytes() for path in outputs} == outputs


def test_true_masks_of_another_size_are_not_counted_as_those_of_the_plan(copy: Path) -> None:
    stage = Job(fabricate.only(copy, "evaluate/labels-truth*"), "evaluate")
    stores, rows = [MaskStore(path) for path in stage.inputs("masks")], stage.rows("truth")
    with Path(rows[0].true_mask).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ImageError, match="not the same file"):
        evaluate_stores(stores, rows, stage.settings["encoding"])


# --- manifests --------------------------------------------------------------------------------------------------------


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(fabricate.planned(tmp_path / "planned"))
    return tmp_path / "planned"


def test_a_look_at_another_configuration_leaves_the_planned_images_alone(planned: Path) -> None:
    shutil.copytree("my scenes", "other scenes")
    stage = Job(fabricate.only(planned, "predict/masks-checkpoint1*"), "predict")
    before = stage.rows("unlabeled")
    other = fabricate.tiny(experiments={"st++": {"method": "st++"}})
    other["data"] = {**other["data"], "root": "other scenes"}
    plan = prepare(read(fabricate.write_config(planned, other)), print)
    assert plan.stages[f"predict/{stage.folder.name}"].manifests != stage.recipe["manifests"], (
        "the other paths are read"
    )
    again = Job(stage.folder, "predict").rows("unlabeled")
    assert again == before
    assert all(row.image.startswith("my scenes/") for row in again)


def test_data_that_move_keep_all_identities(planned: Path) -> None:
    before = set(prepare(read(Path("config.yaml")), print).stages)
    Path("my scenes").rename("moved")
    other = fabricate.tiny(experiments={"st++": {"method": "st++"}})
    other["data"] = {**other["data"], "root": "moved"}
    plan = prepare(read(fabricate.write_config(planned, other)), print)
    kinds = ("train", "predict", "score", "select", "evaluate")
    assert {folder for folder in plan.stages if folder.startswith(kinds)} == {
        folder for folder in before if folder.startswith(kinds)
    }


def edited(folder: Path, **changes: Any) -> Job:
    """The stage in `folder` after its recipe was changed outside of its identity."""
    recipe: Mapping[str, Any] = json.loads((folder / "recipe.json").read_text()) | changes
    assert recipe["identity"] == identity_of(recipe)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return Job(folder, folder.parent.name)


def test_a_manifest_of_another_list_is_refused_by_the_whole_fingerprint(planned: Path) -> None:
    stage = Job(fabricate.only(planned, "predict/masks-checkpoint1*"), "predict")
    rows = stage.rows("unlabeled")
    write_manifest(Path("draft.csv"), rows[:-1])
    digest = sha256(Path("draft.csv"))
    Path("draft.csv").rename(f"my results/data/unlabeled-{digest[:16]}.csv")
    with pytest.raises(StppError, match=r"does not list the unlabeled images that .* was planned for"):
        edited(stage.folder, manifests={"unlabeled": digest}).rows("unlabeled")


def test_a_manifest_that_was_overwritten_is_refused(planned: Path) -> None:
    stage = Job(fabricate.only(planned, "train/teacher*"), "train")
    (path,) = Path("my results/data").glob("labeled-*.csv")
    rows = read_manifest(path)
    write_manifest(path, [row._replace(image=row.image.replace("my scenes", "elsewhere")) for row in rows])
    with pytest.raises(StppError, match="its content is not what was planned"):
        stage.rows("labeled")


def test_a_recipe_of_an_earlier_version_says_what_to_do(planned: Path) -> None:
    folder = fabricate.only(planned, "train/teacher*")
    recipe = json.loads((folder / "recipe.json").read_text())
    del recipe["manifests"]
    (folder / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(StppError, match="run the workflow again, which writes it anew"):
        Job(folder, "train").rows("labeled")
