"""Data sets of other bands than RGB, from `stpp index` to masks of a user's own images."""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import Affine
from trained import SMALL

import stpp
from stpp.commands.cli import main
from stpp.commands.workflow import prepare, write
from stpp.common.bands import Bands
from stpp.data import dataset, images
from stpp.data.dataset import Sample, TrainingSet
from stpp.data.images import read_image
from stpp.data.manifest import Row
from stpp.data.readers import ImageError
from stpp.models import build
from stpp.models.network import OF_IMAGENET
from stpp.settings.configfile import read
from stpp.store.checkpoint import load_checkpoint, save_checkpoint

TRANSFORM = Affine(0.5, 0, 500000.25, 0, -0.5, 5300000.75)
SUBSETS = {"labeled": 4, "unlabeled": 3, "val": 2}


def raster(path: Path, values: np.ndarray, **options: Any) -> None:
    """A GeoTIFF file of values (H, W, bands), by GDAL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = values.shape
    how = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": str(values.dtype)}
    with rasterio.open(path, "w", crs="EPSG:32632", transform=TRANSFORM, **how, **options) as file:
        file.write(values.transpose(2, 0, 1))


def scene(seed: int, bands: int, dtype: str = "uint16") -> tuple[np.ndarray, np.ndarray]:
    """Values and mask of two halves, which differ in the last band alone."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(30, 44, 2))
    mask = np.ones((height, width, 1), np.uint8)
    mask[:, width // 2 :] = 2
    mask[:4] = 0
    values = rng.normal(1000, 100, (height, width, bands))
    values[..., -1] += 800.0 * mask[..., 0]
    return values.clip(0, 4000).astype(dtype), mask


def data_set(root: Path, bands: int, **options: Any) -> None:
    """Images as GeoTIFF, compressed, and masks as GeoTIFF, with the authors' lists."""
    for number, subset in enumerate(name for name, count in SUBSETS.items() for _ in range(count)):
        values, mask = scene(number, bands, **options)
        raster(root / f"images/{subset}{number}.tif", values, compress="lzw", tiled=True, blockxsize=16, blockysize=16)
        raster(root / f"masks/{subset}{number}.tif", mask)
        with (root / f"{subset}.txt").open("a") as file:
            file.write(f"images/{subset}{number}.tif masks/{subset}{number}.tif\n")


def configuration(folder: Path, **data: Any) -> Path:
    lists = {subset: f"{subset}.txt" for subset in SUBSETS}
    tiny = fabricate.tiny(experiments={"st": {"method": "st"}})
    tiny["data"] = {"layout": "lists", "root": "my scenes", "classes": list(fabricate.CLASSES), **lists, **data}
    return fabricate.write_config(folder, tiny)


def computed(folder: Path, **data: Any) -> Path:
    """All stages, computed in this process; returns the folder of the run."""
    configuration(folder, **data)
    with contextlib.chdir(folder):
        config = read(Path("config.yaml"))
        plan = prepare(config, print)
        write(config, plan)
        for stage in plan.stages:
            assert main([stage.partition("/")[0], f"my results/stages/{stage}"]) == 0
    return folder / "my results/runs/tiny/experiments/st/seed0"


FOUR: dict[str, Any] = {"bands": [3, 2, 1, 4], "percentiles": [1, 99], "rgb": [3, 2, 1]}
ONE: dict[str, Any] = {"bands": 1, "scale": [0, 3000]}


@pytest.mark.parametrize(("count", "data"), [(4, FOUR), (1, ONE)], ids=["four", "one"])
def test_images_of_any_bands_go_from_the_index_to_masks_on_the_map(
    count: int, data: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_set(tmp_path / "my scenes", count)
    run = computed(tmp_path, **data)
    assert "bands of the images: " in capsys.readouterr().out
    model = stpp.load(run / "student/last.pt", "cpu")
    assert model.bands is not None and len(model.bands.numbers) == count
    assert model.network.backbone.bands == len(model.model.network.normalisation.mean) == count
    if count == 4:
        labeled = [scene(number, 4)[0].reshape(-1, 4) for number in range(4)]
        expected = np.percentile(np.concatenate(labeled)[:, [2, 1, 0, 3]], [1, 99], axis=0).T
        assert model.bands.scale == pytest.approx(expected)
        assert model.bands.rgb == (0, 1, 2) and model.model.network.normalisation.mean[:3] == OF_IMAGENET.mean
    else:
        assert model.bands == Bands((1,), 1, scale=((0.0, 3000.0),))
    photos = tmp_path / "my scenes/images"
    with contextlib.chdir(tmp_path):
        segmented = tmp_path / "segmented"
        words = ["segment", "--model", str(run / "student/last.pt"), "--device", "cpu", str(photos)]
        assert main([*words, "--out", str(segmented)]) == 0
        for path in sorted(photos.iterdir()):
            with rasterio.open(path) as image, rasterio.open(segmented / "masks" / path.name) as mask:
                assert (mask.crs, mask.transform) == (image.crs, image.transform)
                assert (mask.read(1) == model.predict(path)).all()
                numbers = model.bands.numbers
                assert (model.predict(image.read(list(numbers)).transpose(1, 2, 0)) == mask.read(1)).all()
            assert (segmented / f"overlays/{path.stem}.jpg").is_file()
        labels = ["export-labels", str(run), "--images", str(photos.parent)]
        assert main([*labels, "--format", "geotiff", "--out", str(tmp_path / "labels")]) == 0
    (path, *_) = sorted((tmp_path / "labels/images").glob("*.tif"))
    with rasterio.open(path) as file:
        assert (file.crs, file.transform) == ("EPSG:32632", TRANSFORM)


def test_other_labeled_images_or_another_range_are_another_training(tmp_path: Path) -> None:
    data_set(tmp_path / "my scenes", 4)

    def teacher(**data: Any) -> str:
        configuration(tmp_path, **data)
        with contextlib.chdir(tmp_path):
            return next(iter(prepare(read(Path("config.yaml")), print).stages))

    settings = [
        {"bands": 4, "percentiles": [1, 99]},
        {"bands": 4, "percentiles": [2, 98]},
        {"bands": 4, "scale": [0, 3000]},
        {"bands": [1, 2, 3, 4], "scale": [0, 3000]},
        {"bands": [4, 2, 3, 1], "scale": [0, 3000]},
        {"bands": 4, "scale": [0, 3000], "rgb": [1, 2, 3]},
    ]
    folders = [teacher(**each) for each in settings]
    assert len({*folders}) == len(folders)
    assert teacher(**settings[0]) == folders[0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "a TIFF file of 4 bands of 16 bits"),
        ({"bands": 3, "scale": [0, 1]}, "not the 3 bands of data.bands"),
        ({"bands": [1, 5], "scale": [0, 1]}, "no band 5, which data.bands asks for"),
        ({"bands": 4}, "values of 16 bits without a scale"),
    ],
)
def test_what_does_not_fit_is_one_problem_at_the_index(
    data: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_set(tmp_path / "my scenes", 4)
    configuration(tmp_path, **data)
    with contextlib.chdir(tmp_path):
        assert main(["index", "config.yaml"]) == 1
    message = capsys.readouterr().err
    assert f"4 labeled images: {said}" in message and f"3 unlabeled images: {said}" in message
    assert "Traceback" not in message and message.count(said) == len(SUBSETS)


def test_files_of_other_bands_among_them_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_set(tmp_path / "my scenes", 4)
    raster(tmp_path / "my scenes/images/unlabeled5.tif", scene(5, 3)[0])
    configuration(tmp_path, bands=[1, 3], scale=[0, 3000])
    with contextlib.chdir(tmp_path):
        assert main(["index", "config.yaml"]) == 0
    said = "different numbers of bands: 4 in 8 images, my scenes/images/labeled0.tif, my scenes/images/labeled1.tif "
    assert said in (out := capsys.readouterr().out) and "; 3 in 1 image, my scenes/images/unlabeled5.tif." in out


def test_values_that_are_no_numbers_are_found_at_the_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_set(tmp_path / "my scenes", 2, dtype="float32")
    for name in ("labeled1", "unlabeled5"):
        values, _ = scene(1, 2, "float32")
        values[3, 4, 0] = np.nan
        raster(tmp_path / f"my scenes/images/{name}.tif", values)
    configuration(tmp_path, bands=2, percentiles=[2, 98])
    with contextlib.chdir(tmp_path):
        assert main(["index", "config.yaml"]) == 1
        message = capsys.readouterr().err
        assert "1 labeled image: values that are no finite numbers (NaN): my scenes/images/labeled1.tif (" in message
        assert "1 of " in message and "unlabeled5" not in message
        assert main(["index", "config.yaml", "--verify"]) == 1
        assert "unlabeled5.tif (" in capsys.readouterr().err


def test_a_model_knows_its_bands_wherever_it_is_used(tmp_path: Path) -> None:
    bands = Bands((2, 1), scale=((0.0, 3000.0), (-5.0, 5.0)))
    model = checkpoint(tmp_path / "a.pt", bands)
    assert load_checkpoint(model, torch.device("cpu")).bands == bands
    raster(tmp_path / "x.tif", scene(0, 2)[0])
    assert (stpp.load(model).pixels(tmp_path / "x.tif") == read_image(tmp_path / "x.tif", None, bands)).all()
    content = torch.load(model, weights_only=True)
    content["bands"]["scale"] = [[1, 0], [0, 1]]
    torch.save(content, tmp_path / "b.pt")
    with pytest.raises(Exception, match="its scale is"):
        load_checkpoint(tmp_path / "b.pt", torch.device("cpu"))


def checkpoint(path: Path, bands: Bands | None) -> Path:
    """A small network of random weights for images of these bands, or of RGB."""
    torch.manual_seed(1)
    network = build(SMALL, 3, bands).eval()
    for name, value in network.state_dict().items():
        if "classifier" in name and name.endswith("weight") and value.ndim == 4:
            value *= 8  # far from ties between the classes
    settings = {"network": SMALL, "classes": ["a", "b", "c"], **({"bands": bands.plain()} if bands else {})}
    save_checkpoint(path, network.state_dict(), settings, 1, network.normalisation)
    return path


@pytest.mark.parametrize("bands", [Bands((3, 1), scale=((500.0, 2500.0),) * 2), None])
def test_a_large_image_is_read_a_row_of_tiles_at_a_time(
    bands: Bands | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = checkpoint(tmp_path / "a.pt", bands)
    values = np.random.default_rng(0).normal(1500, 400, (300, 210, 3)).clip(0).astype(np.uint16)
    if bands is None:
        values = (values // 12).clip(0, 255).astype(np.uint8)
    how = {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64}
    raster(tmp_path / "x.tif", values, **how, **({} if bands else {"photometric": "rgb"}))
    words = ["segment", "--model", str(model), "--device", "cpu", "--tile", "64", str(tmp_path / "x.tif")]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    asked = []
    window = images.raster.window

    def noted(path: Path, rows: slice, columns: slice) -> np.ndarray:
        asked.append(rows.stop - rows.start)
        return window(path, rows, columns)

    monkeypatch.setattr(images, "LARGE", 1)
    monkeypatch.setattr(images.raster, "window", noted)
    assert main([*words, "--out", str(tmp_path / "parts"), "--probabilities"]) == 0
    assert asked and max(asked) <= 64
    for name in ("masks/x.tif", "overlays/x.jpg", "areas.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses to open files of more than twice as many
    (tmp_path / "parts/areas.csv").unlink()
    assert main([*words, "--out", str(tmp_path / "parts"), "--probabilities", "--resume"]) == 0
    assert (tmp_path / "whole/areas.csv").read_bytes() == (tmp_path / "parts/areas.csv").read_bytes()


def test_a_large_image_with_a_long_side_is_read_by_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(1500, 400, (90, 70, 3)).clip(0).astype(np.uint16)
    raster(tmp_path / "x.tif", values, tiled=True, blockxsize=16, blockysize=16)
    model = stpp.load(checkpoint(tmp_path / "a.pt", Bands((3, 1), scale=((500.0, 2500.0),) * 2)), "cpu", long_side=60)
    expected = model.predict(tmp_path / "x.tif")
    monkeypatch.setattr(images, "LARGE", 1)
    monkeypatch.setattr(images, "MOST_ROWS", 32)
    monkeypatch.setattr(images, "stored_bands", None)
    assert np.array_equal(model.predict(tmp_path / "x.tif"), expected)


def test_crops_of_a_large_image_read_their_windows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(1500, 400, (190, 230, 3)).clip(0).astype(np.uint16)
    raster(tmp_path / "x.tif", values, tiled=True, blockxsize=16, blockysize=16)
    path = tmp_path / "x.tif"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    row = Row("x", "unlabeled", str(path), None, 190, 230, path.stat().st_size, digest)
    settings = {"unlabeled": {"scale": [0.5, 2.0], "flip": 0.5}}
    how: dict[str, Any] = {"crop": 24, "base_size": 230, "seed": 0, "role": "student"}
    how["bands"] = Bands((3, 1), scale=((500.0, 2500.0),) * 2)

    def crops() -> list[tuple[bytes, bytes]]:
        data = TrainingSet([Sample(row, bare=True)], {}, settings, **how)
        return [tuple(part.numpy().tobytes() for part in data[epoch, 0]) for epoch in range(6)]

    expected, asked = crops(), []
    window = images.raster.window

    def noted(path: Path, rows: slice, columns: slice) -> np.ndarray:
        found = window(path, rows, columns)
        asked.append(found[..., 0].size)
        return found

    monkeypatch.setattr(images, "LARGE", 1)
    monkeypatch.setattr(images.raster, "window", noted)
    assert crops() == expected
    assert len(asked) == 6 and max(asked) < 190 * 230 / 4
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ImageError, match="not the same file as when the workflow was planned"):
        crops()


def test_the_mask_of_a_large_image_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(1500, 400, (190, 230, 3)).clip(0).astype(np.uint16)
    raster(tmp_path / "x.tif", values, tiled=True, blockxsize=16, blockysize=16)
    labels = np.random.default_rng(1).integers(3, size=(190, 230), dtype=np.uint8)
    Image.fromarray(labels).save(tmp_path / "x.png")
    row = Row("x", "labeled", str(tmp_path / "x.tif"), str(tmp_path / "x.png"), 190, 230, 0, "")
    encoding = {"classes": 3, "ignore_value": 255, "label_map": None, "palette_map": None}
    how: dict[str, Any] = {"crop": 24, "base_size": 230, "seed": 0, "role": "teacher"}
    how["bands"] = Bands((3, 1), scale=((500.0, 2500.0),) * 2)

    def crops(cache: int) -> list[tuple[bytes, bytes]]:
        data = TrainingSet([Sample(row)], encoding, {"labeled": {"scale": [0.5, 2.0]}}, **how, cache=cache)
        return [tuple(part.numpy().tobytes() for part in data[epoch, 0]) for epoch in range(6)]

    expected, decoded = crops(0), []
    monkeypatch.setattr(images, "LARGE", 1)
    real = dataset.mask_of
    monkeypatch.setattr(dataset, "mask_of", lambda *given: decoded.append(given) or real(*given))
    assert crops(0) == expected and len(decoded) == 6
    assert crops(labels.size) == expected and len(decoded) == 7


def test_exported_graphs_take_the_values_of_files(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    bands = Bands((2, 1, 4, 3), scale=((500.0, 2500.0), (0.0, 3000.0), (-100.0, 4000.0), (0.0, 1.0)), rgb=(2, 1, 0))
    model = checkpoint(tmp_path / "a.pt", bands)
    raster(tmp_path / "x.tif", scene(3, 4)[0].repeat(2, axis=0).repeat(2, axis=1))
    out = tmp_path / "exported"
    assert main(["export", str(model), "--out", str(out), "--images", str(tmp_path / "x.tif")]) == 0
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    with rasterio.open(tmp_path / "x.tif") as file:
        values = file.read([2, 1, 4, 3]).transpose(1, 2, 0).astype(np.float32)
    masks, _ = session.run(None, {"rgb": values[None]})
    assert (masks[0] == stpp.load(model, "cpu").predict(tmp_path / "x.tif")).mean() > 0.9999
    assert "2 (500 to 2500), 1 (0 to 3000), 4 (-100 to 4000), 3 (0 to 1)" in (out / "model-card.md").read_text()
