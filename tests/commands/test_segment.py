"""`stpp.load(...).predict(...)` and `stpp segment`: a model on one's own images."""

import csv
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fabricate
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from tiny_data import settings
from trained import checkpoint, picture

import stpp
from stpp.commands.cli import main
from stpp.common.errors import StppError
from stpp.data.classes import CITYSCAPES, classes_of
from stpp.store.colours import class_colours
from stpp.store.masks import voc_palette, write_palette_png


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "model.pt")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images of different sizes, one of them turned by its EXIF block, in two folders."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    picture(40, 60).save(folder / "a.png")
    picture(33, 71, 1).save(folder / "b.webp", lossless=True)
    turned = Image.Exif()
    turned[0x0112] = 6  # the right side is up
    picture(40, 60, 2).save(folder / "more/c.jpg", exif=turned)
    picture(9, 5, 3).convert("L").save(folder / "more/a.png")
    picture(50, 50, 4).save(folder / "more/d.tif")
    (folder / "notes.txt").write_text("no image")
    return folder


def run(model: Path, *arguments: object) -> int:
    return main(["segment", "--model", str(model), "--device", "cpu", *map(str, arguments)])


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- the Python API ---------------------------------------------------------------------------------------------------


def test_import_is_free_of_torch() -> None:
    script = "import sys, stpp; stpp.load; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_path_a_picture_and_an_array_give_one_mask(model: Path, photos: Path) -> None:
    network = stpp.load(model, "cpu")
    image = Image.open(photos / "a.png")
    mask = network.predict(photos / "a.png")
    assert (mask.dtype, mask.shape) == (np.uint8, (40, 60))
    assert set(np.unique(mask)) <= {0, 1, 2}
    assert len(np.unique(mask)) > 1
    assert np.array_equal(mask, network.predict(image))
    assert np.array_equal(mask, network.predict(np.asarray(image)))
    assert list(network.classes) == list(fabricate.CLASSES)


def test_probabilities_are_those_of_the_mask(model: Path, photos: Path) -> None:
    network = stpp.load(model, "cpu")
    found = network.probabilities(photos / "a.png")
    assert (found.dtype, found.shape) == (np.float32, (3, 40, 60))
    assert found.min() >= 0
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(found.argmax(axis=0), network.predict(photos / "a.png"))


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), 3])
def test_another_array_is_refused(model: Path, image: object) -> None:
    with pytest.raises(StppError, match=r"expected RGB pixels, uint8 \(H, W, 3\)"):
        stpp.load(model, "cpu").predict(image)  # type: ignore[arg-type]


def test_a_model_predicts_as_it_was_evaluated(trained: Path, teacher: Path) -> None:
    own = stpp.load(teacher, "cpu")
    assert own.prediction["long_side"] == 48
    assert own.provenance.encoding is not None
    other = stpp.load(teacher, "cpu", long_side=24, tile=32)
    assert (other.prediction["long_side"], other.prediction["tile"], other.prediction["overlap"]) == (24, 32, 8)
    image = trained / "my scenes/images/test0.png"
    assert not np.array_equal(own.probabilities(image), other.probabilities(image))


def test_tiles_are_used_where_they_are_asked_for(model: Path) -> None:
    image = picture(80, 90)
    whole, tiled = (stpp.load(model, "cpu", tile=tile).probabilities(image) for tile in (None, 48))
    assert tiled.shape == whole.shape
    assert not np.array_equal(whole, tiled)


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.pt", "does not exist"), (".", "is a folder"), ("photos/a.png", "is not a model"), ("x.pt", "is neither")],
)
def test_what_is_no_model_is_refused(photos: Path, name: str, message: str) -> None:
    import torch

    torch.save({"weight": torch.zeros(2)}, photos.parent / "x.pt")
    with pytest.raises(StppError, match=message):
        stpp.load(photos.parent / name)


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_folder_is_segmented_with_its_sub_folders(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos.parent / "out"
    assert run(model, photos, "--out", out, "--probabilities") == 0
    assert capsys.readouterr().out == f"5 images in {out}\n"
    names = {"a", "b", "more/a", "more/c", "more/d"}
    assert files(out) == {"classes.txt", "areas.csv"} | {
        f"{kind}/{name}{suffix}"
        for name in names
        for kind, suffix in (("masks", ".png"), ("overlays", ".jpg"), ("probabilities", ".npz"))
    }
    network = stpp.load(model, "cpu")
    for path in photos.rglob("*.*"):
        if path.suffix == ".txt":
            continue
        name = path.relative_to(photos).with_suffix("")
        mask = Image.open(out / "masks" / f"{name}.png")
        assert mask.mode == "P"
        assert np.array_equal(np.asarray(mask), network.predict(path))
        assert Image.open(out / "overlays" / f"{name}.jpg").size == mask.size
        with np.load(out / "probabilities" / f"{name}.npz") as stored:
            assert stored["probabilities"].dtype == np.float16
            assert np.allclose(stored["probabilities"], network.probabilities(path), atol=1e-3)
            assert stored["classes"].tolist() == list(fabricate.CLASSES)
    assert Image.open(out / "masks/more/c.png").size == (40, 60)  # upright


def test_the_overlay_is_half_the_image_and_half_the_colours(model: Path, photos: Path) -> None:
    out = photos.parent / "out"
    assert run(model, photos / "a.png", "--out", out) == 0
    network = stpp.load(model, "cpu")
    image = np.asarray(Image.open(photos / "a.png"), float)
    colours = np.array(network.palette, float)[network.predict(photos / "a.png")]
    found = np.asarray(Image.open(out / "overlays/a.jpg"), float)
    assert np.abs(found - (image + colours) / 2).mean() < 6  # JPEG blurs the borders


def test_the_list_of_classes_is_one_that_a_configuration_reads(model: Path, photos: Path) -> None:
    out = photos.parent / "out"
    assert run(model, photos / "a.png", "--out", out) == 0
    read = classes_of(settings(out, classes=None, classes_file="classes.txt"))
    assert read.names == list(fabricate.CLASSES)
    assert read.palette == stpp.load(model, "cpu").palette


def test_the_colours_are_those_of_the_report(model: Path) -> None:
    network = stpp.load(model, "cpu")
    assert network.palette == class_colours(voc_palette(3))[:3].tolist()
    cityscapes = replace(network, model=replace(network.model, classes=list(CITYSCAPES)))
    assert cityscapes.palette == list(CITYSCAPES.values())


def test_a_model_is_shown_in_one_line(model: Path) -> None:
    shown = repr(stpp.load(model, "cpu", long_side=70))
    assert re.fullmatch(
        r"<stpp model: 3 classes \(background, left, right\), \d+\.\d\d million parameters, "
        r"images resized to a long side of 70 px, on cpu>",
        shown,
    )


def test_a_machine_without_a_driver_for_gpus_says_nothing_of_them(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stpp.runtime.lease.visible_devices", lambda: None)
    monkeypatch.setattr("stpp.runtime.lease.DRIVER", photos / "none")
    assert main(["segment", "--model", str(model), str(photos / "a.png"), "--out", str(photos.parent / "quiet")]) == 0
    said = capsys.readouterr()
    assert "nvidia" not in said.out + said.err


def test_files_and_patterns_name_images(model: Path, photos: Path) -> None:
    out = photos.parent / "out"
    assert run(model, f"{photos}/**/*.png", photos / "b.webp", "--out", out) == 0
    assert {name for name in files(out) if "masks" in name} == {"masks/a.png", "masks/more/a.png", "masks/b.png"}


def test_what_is_there_is_replaced_only_on_request(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos / "out"
    assert run(model, photos, "--out", out) == 0
    before = files(out)
    assert run(model, photos, "--out", out) == 1
    assert "are there already" in capsys.readouterr().err
    assert run(model, photos, "--out", out, "--overwrite") == 0
    assert files(out) == before  # its own masks are no images to segment


def test_inputs_are_never_overwritten(model: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "masks").mkdir()
    (photos / "a.png").rename(photos / "masks/a.png")
    before = (photos / "masks/a.png").read_bytes()
    assert run(model, photos / "masks/a.png", "--out", photos, "--overwrite") == 1
    assert "would overwrite inputs" in capsys.readouterr().err
    assert (photos / "masks/a.png").read_bytes() == before
    assert not (photos / "classes.txt").exists()


def test_two_images_of_one_name_are_refused(model: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(8, 8).save(photos / "a.jpg")
    assert run(model, photos, "--out", photos.parent / "out") == 1
    error = capsys.readouterr().err
    assert f"{photos}/a.jpg and {photos}/a.png would be written to one file, a" in error
    assert run(model, photos / "a.png", photos / "more/a.png", "--out", photos.parent / "out") == 1
    assert "give the folder that holds them all" in capsys.readouterr().err
    assert not (photos.parent / "out").exists()


def test_an_argument_without_images_is_refused(model: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argument in ("none.png", photos / "*.gif", photos / "notes"):
        assert run(model, argument, "--out", photos.parent / "out") == 1
        assert f"{argument}: there is no image" in capsys.readouterr().err


def test_a_broken_image_is_reported_and_the_others_are_done(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.png").write_bytes((photos / "a.png").read_bytes()[:200])
    out = photos.parent / "out"
    assert run(model, photos, "--out", out) == 1
    error = capsys.readouterr().err
    assert "5 of 6 images are in" in error
    assert "broken.png: truncated or damaged file" in error
    assert len([name for name in files(out) if "masks" in name]) == 5


def test_an_image_wider_than_a_jpeg_can_be_is_done(model: Path, photos: Path) -> None:
    out, wide = photos.parent / "out", 65_600
    Image.new("RGB", (wide, 8), "green").save(photos / "wide.png")
    assert run(model, photos, "--out", out, "--tile", "8192") == 0
    assert Image.open(out / "masks/wide.png").size == (wide, 8)
    assert Image.open(out / "overlays/wide.jpg").size == (65_500, 8)
    assert len([name for name in files(out) if "overlays" in name]) == 6


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError("x"), "the main memory is too small"),
        (OSError(28, "No space left on device"), "no space is left on the disk"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_whatever_happens_to_one_image_the_others_are_done(
    model: Path,
    photos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: str,
) -> None:
    def write(mask: np.ndarray, palette: object, path: Path) -> None:
        if mask.shape == (33, 71):
            raise error
        write_palette_png(mask, palette, path)  # type: ignore[arg-type]

    out = photos.parent / "out"
    monkeypatch.setattr("stpp.commands.segment.write_palette_png", write)
    assert run(model, photos, "--out", out) == 1
    said = capsys.readouterr().err
    assert "4 of 5 images are in" in said
    assert f"{photos / 'b.webp'}: {expected}" in said
    assert len([name for name in files(out) if "masks" in name]) == 4


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("could not create a memory object"), RuntimeError("std::bad_alloc")]
)
def test_too_little_memory_names_the_options_of_the_command(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise error

    picture(2000, 2000).save(photos / "large.png")
    monkeypatch.setattr("stpp.commands.segmenter.predict_masks", fail)
    assert run(model, photos / "large.png", "--out", photos.parent / "out") == 1
    said = capsys.readouterr().err
    assert f"{photos / 'large.png'}: the main memory is too small; set --tile (now none" in said


# --- areas, and going on ----------------------------------------------------------------------------------------------


def test_areas_are_the_shares_of_the_pixels(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(model, photos, "--out", out) == 0
    with (out / "areas.csv").open() as file:
        rows = {row.pop("image"): row for row in csv.DictReader(file)}
    assert rows.keys() == {"a", "b", "more/c", "more/a", "more/d"}
    for name, row in rows.items():
        mask = np.asarray(Image.open(out / f"masks/{name}.png"))
        assert list(row) == list(fabricate.CLASSES)
        assert [float(value) for value in row.values()] == [float((mask == c).mean()) for c in range(3)]


def test_a_call_that_stopped_goes_on(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(model, photos, "--out", out) == 0
    areas, whole = (out / "areas.csv").read_bytes(), (out / "masks/more/d.png").read_bytes()
    (out / "areas.csv").unlink()
    (out / "masks/more/d.png").unlink()
    (out / "overlays/b.jpg").unlink()
    kept = (out / "masks/a.png").stat().st_mtime_ns
    assert run(model, photos, "--out", out, "--resume") == 0
    assert (out / "areas.csv").read_bytes() == areas and (out / "masks/more/d.png").read_bytes() == whole
    assert (out / "masks/a.png").stat().st_mtime_ns == kept and (out / "overlays/b.jpg").is_file()


def test_a_call_that_is_interrupted_says_how_to_continue(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    assert run(model, photos / "a.png", "--out", out) == 0
    with monkeypatch.context() as patch:
        patch.setattr("stpp.commands.segment._segment", interrupted)
        assert run(model, photos, "--out", out, "--resume") == 128 + signal.SIGINT
    assert "stopped; the same command with --resume continues" in capsys.readouterr().err
    assert run(model, photos, "--out", out) == 1
    assert "or replace what is there with --overwrite, or continue with --resume" in capsys.readouterr().err


def test_masks_of_other_classes_are_not_gone_on_with(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, photos / "a.png", "--out", tmp_path / "out") == 0
    (tmp_path / "out/classes.txt").write_text("others\n")
    assert run(model, photos, "--out", tmp_path / "out", "--resume") == 1
    assert "has other classes than the model" in capsys.readouterr().err
