"""Masks that are written for annotation tools, and read again."""

import json
from pathlib import Path

import annotated
import fabricate
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stpp.commands.cli import main
from stpp.common.registry import IMPORTERS, constant, modules
from stpp.data.images import read_mask
from stpp.store.masks import write_palette_png

MAPS = ("geojson", "geotiff")
"""Formats of images that lie on a map; `test_maps.py` has them."""
WRITABLE = [name for name, module in modules(IMPORTERS).items() if constant(module, "WRITES") and name not in MAPS]
WITH_POLYGONS = [name for name in WRITABLE if name not in ("voc", "cvat-masks")]
CLASSES = ("background", "tree & <bush>", "house, red", "Straße")
ENCODING = {"classes": len(CLASSES), "ignore_value": 255}


def blobs(seed: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask with large parts, parts of single pixels, and ignored pixels."""
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.integers(0, 4, (5, 6)), np.ones((8, 8))).astype(np.uint8)[: size[0], : size[1]]
    mask[rng.random(mask.shape) < 0.02] = 3
    mask[:2, :5] = 255
    return mask


MASKS = {
    "images/a": blobs(0, (40, 48)),
    "images/deep/b": blobs(1, (31, 45)),
    "images/empty": np.zeros((9, 12), np.uint8),
    "images/ignored": np.full((4, 5), 255, np.uint8),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A mask store, and the images that its ids name, below the folder `data`."""
    for id, mask in MASKS.items():
        annotated.image(tmp_path / f"data/{id}.png", mask.shape)
    return fabricate.write_store(tmp_path / "masks.h5", MASKS, CLASSES)


def exported(source: Path, format: str, *more: str) -> Path:
    out = source.parent / f"out-{format}"
    assert main(["export-labels", str(source), "--format", format, "--out", str(out), *more]) == 0
    return out


def imported(out: Path, format: str, images: Path) -> dict[str, NDArray[np.uint8]]:
    """The masks that the import of an export gives, by id."""
    back = out.with_name(f"{out.name}-again")
    words = ["import", format, str(out), "--classes", str(out / "classes.txt"), "--images", str(images)]
    assert main([*words, "--out", str(back)]) == 0
    masks = back / "masks"
    found = {path.relative_to(masks).with_suffix("").as_posix(): path for path in masks.rglob("*.png")}
    assert (back / "classes.txt").read_text() == (out / "classes.txt").read_text()
    return {id: read_mask(path, ENCODING) for id, path in found.items()}


@pytest.mark.parametrize("format", WRITABLE)
def test_what_is_written_is_read_again_as_it_was(format: str, store: Path, tmp_path: Path) -> None:
    again = imported(exported(store, format, "--images", str(tmp_path / "data")), format, tmp_path / "data")
    assert again.keys() == MASKS.keys()
    assert all((again[id] == mask).all() for id, mask in MASKS.items())


@pytest.mark.parametrize("format", WITH_POLYGONS)
def test_polygons_are_read_again_as_they_were_within_their_tolerance(format: str, store: Path, tmp_path: Path) -> None:
    words = ["--images", str(tmp_path / "data"), "--polygons"]
    again = imported(exported(store, format, *words, "0"), format, tmp_path / "data")
    assert all((again[id] == mask).all() for id, mask in MASKS.items())
    for path in (tmp_path / f"out-{format}", tmp_path / f"out-{format}-again"):
        path.rename(path.with_suffix(".exact"))
    again = imported(exported(store, format, *words, "1"), format, tmp_path / "data")
    assert again.keys() == MASKS.keys()
    for id, mask in MASKS.items():
        same = [np.roll(mask, (down, right), (0, 1)) == mask for down in (-2, 0, 2) for right in (-2, 0, 2)]
        assert (again[id] == mask)[np.all(same, axis=0)].mean() > 0.99
        assert (again[id] == mask).mean() > 0.9


def test_a_first_class_that_is_no_background_is_drawn_as_well(tmp_path: Path) -> None:
    mask = annotated.mask()
    annotated.image(tmp_path / "a.jpg")
    store = fabricate.write_store(tmp_path / "masks.h5", {"a": mask}, ("sky", "tree", "house", "road"))
    for format in WITH_POLYGONS:
        out = exported(store, format, "--images", str(tmp_path), "--polygons", "0")
        assert (imported(out, format, tmp_path)["a"] == mask).all()


def test_what_segment_wrote_is_written(tmp_path: Path) -> None:
    mask = annotated.mask()
    (tmp_path / "segmented/masks").mkdir(parents=True)
    write_palette_png(mask, [[1, 2, 3]] * 4, tmp_path / "segmented/masks/a.png")
    (tmp_path / "segmented/classes.txt").write_text("background #000000\ntree #00ff00\nhouse #ff0000\n")
    annotated.image(tmp_path / "photos/a.jpg")
    out = exported(tmp_path / "segmented", "coco", "--images", str(tmp_path / "photos"))
    assert (out / "classes.txt").read_text() == "background #000000\ntree #00ff00\nhouse #ff0000\n"
    assert (imported(out, "coco", tmp_path / "photos")["a"] == mask).all()


def test_a_run_gives_all_its_labels_with_the_names_of_the_images(finished: Path, tmp_path: Path) -> None:
    run = finished / "my results/runs/tiny/experiments/st++/seed0"
    out = tmp_path / "out"
    assert main(["export-labels", str(run), "--format", "cvat-masks", "--out", str(out)]) == 0
    for phase in ("labels1", "labels2"):
        assert main(["masks", str(run / phase / "masks.h5"), "--out", str(tmp_path / "pngs")]) == 0
    pngs = sorted((tmp_path / "pngs").rglob("*.png"))
    assert len(pngs) == 6
    for path in pngs:
        name = path.relative_to(tmp_path / "pngs")
        with Image.open(path) as one, Image.open(out / "SegmentationClass" / name) as other:
            assert (np.asarray(one) == np.asarray(other)).all()
    assert main(["export-labels", str(run), "--format", "coco", "--out", str(out / "coco")]) == 0
    listed = json.loads((out / "coco/annotations.json").read_text())["images"]
    assert {image["file_name"] for image in listed} == {f"images/unlabeled{number}.png" for number in range(6)}


def test_names_that_nobody_knows_are_said(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(store, "cvat")
    assert "the images are named .jpg" in capsys.readouterr().out
    exported(store, "coco", "--images", str(tmp_path / "data"))
    assert "named .jpg" not in capsys.readouterr().out


def test_names_may_start_from_the_folder_of_the_images(store: Path, tmp_path: Path) -> None:
    out = exported(store, "coco", "--images", str(tmp_path / "data/images"))
    again = imported(out, "coco", tmp_path / "data/images")
    assert again.keys() == {id.removeprefix("images/") for id in MASKS}


def test_what_cannot_be_written_is_refused(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        ([str(store), "--format", "voc", "--polygons", "1"], "this format holds masks, no polygons"),
        ([str(store), "--format", "coco", "--polygons", "-1"], "--polygons -1.0 is asked for"),
        ([str(store), "--format", "coco", "--images", str(tmp_path / "x")], "there is no folder"),
        ([str(store), "--format", "coco", "--images", str(tmp_path / "data/images/deep")], "4 images missing below it"),
        ([str(tmp_path / "data"), "--format", "coco"], "there are no masks in"),
        ([str(tmp_path), "--format", "coco", "--overwrite"], ""),
    ):
        code = main(["export-labels", *words, "--out", str(tmp_path / "out")])
        assert code == (1 if said else 0)
        assert said in capsys.readouterr().err
    named = fabricate.write_store(tmp_path / "other.h5", {"a": annotated.mask()}, ("a:b", "c", "d"))
    assert main(["export-labels", str(named), "--format", "voc", "--out", str(tmp_path / "voc")]) == 1
    assert "cannot hold the name a:b" in capsys.readouterr().err
    outside = fabricate.write_store(tmp_path / "outside.h5", {"../a": annotated.mask()})
    assert main(["export-labels", str(outside), "--format", "voc", "--out", str(tmp_path / "voc")]) == 1
    assert "leads out of" in capsys.readouterr().err
    assert not (tmp_path / "voc").exists()
