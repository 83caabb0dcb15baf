"""`stpp new`: a configuration that fits the images and the machine."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tiny_data
import yaml
from conftest import ROOT
from rasterio.transform import Affine

from stpp.commands.cli import main
from stpp.commands.edited import edited
from stpp.commands.estimate import START, Speeds, Work
from stpp.commands.machine import Machine
from stpp.commands.new import FEATURES, FIXED, LENGTHS, chosen, name_of, written
from stpp.commands.survey import Survey, survey
from stpp.commands.trial import Trial, tried
from stpp.common.errors import StppError
from stpp.models import build
from stpp.settings.configfile import load
from stpp.settings.training import Network, Training

SMALL = Machine(cores=2, memory=8 * 10**9, disk=10**11)
LARGE = Machine(32, 10**12, 10**12, 10**11, "H100", 80 * 10**9, True)
CPU, GPU = (yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in ("cpu", "config"))


def photos(root: Path, masks: dict[str, Any], images: int = 8, size: tuple[int, int] = (40, 60)) -> Path:
    """Images a0, a1, ... of `size`, (H, W), and masks (arrays) by their file names, in `root`."""
    for number in range(images):
        tiny_data.save(root / f"images/a{number}.jpg", tiny_data.photo(number, size))
    for name, mask in masks.items():
        tiny_data.save(root / f"masks/{name}", mask)
    return root


def mask(*values: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """Vertical stripes of these values, uint8 (H, W)."""
    return np.repeat(np.array(values, np.uint8), -(-size[1] // len(values)))[: size[1]][None].repeat(size[0], axis=0)


def looked(root: Path) -> Survey:
    return survey(root / "images", root / "masks", root)


# --- what the folders hold --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "classes", "encoding"),
    [
        ([(0, 1), (0, 1)], ["background", "object"], {}),
        ([(0, 1, 2), (0, 2)], ["background", "value 1", "value 2"], {}),
        ([(0, 1, 255), (0, 2)], ["background", "value 1", "value 2"], {}),
        ([(0, 1, 3), (0, 3)], ["background", "value 1", "value 2", "value 3"], {}),  # class 2 may be rare
        ([(0, 255), (0, 255)], ["background", "object"], {"label_map": {0: 0, 255: 1}}),
        ([(1, 2), (1, 2, 3)], ["value 1", "value 2", "value 3"], {"first_label": 1}),
        ([(0, 80), (0, 160)], ["background", "value 80", "value 160"], {"label_map": {0: 0, 80: 1, 160: 2}}),
        ([(0, 1, 2, 3, 4), (0, 1, 2)], ["background", "object"], {"label_map": {0: 0, "1-65535": 1}}),
        ([(0, 0), (0, 0)], ["background", "object"], {}),
    ],
)
def test_the_values_of_the_masks_give_the_classes(
    values: list[tuple[int, ...]], classes: list[str], encoding: dict[str, Any], tmp_path: Path
) -> None:
    found = looked(photos(tmp_path, {f"a{number}.png": mask(*each) for number, each in enumerate(values)}))
    assert found.data["classes"] == classes
    assert {
        key: found.data[key] for key in ("label_map", "first_label", "palette_map") if key in found.data
    } == encoding
    assert (found.images, found.labeled, found.long_side) == (8, 2, 60)


def test_colours_are_classes_black_the_first(tmp_path: Path) -> None:
    colours = np.zeros((40, 60, 3), np.uint8)
    colours[:, :35] = (0, 128, 255)
    found = looked(photos(tmp_path, {"a0.png": colours, "a1.png": colours}))
    assert found.data["palette_map"] == {"#000000": 0, "#0080ff": 1}
    assert found.data["colors"] == ["#000000", "#0080ff"]
    assert found.data["classes"] == ["background", "#0080ff"]


def test_a_file_of_classes_names_them(tmp_path: Path) -> None:
    root = photos(tmp_path, {"a0.png": mask(0, 1, 2), "a1.png": mask(0, 1)})
    (root / "classes.txt").write_text("sky\nroad\ntree\n")
    found = looked(root)
    assert found.data["classes"] == ["sky", "road", "tree"]
    assert str(root / "classes.txt") in found.remarks[0]


def test_colours_in_the_file_of_classes_are_kept(tmp_path: Path) -> None:
    root = photos(tmp_path, {"a0.png": mask(0, 1, 2), "a1.png": mask(0, 1)})
    (root / "classes.txt").write_text("sky #0080ff\nroad #101010\ntree #00ff00\n")
    found = looked(root)
    assert found.data["classes"] == ["sky", "road", "tree"]
    assert found.data["colors"] == ["#0080ff", "#101010", "#00ff00"] and "palette_map" not in found.data


def test_a_label_map_says_which_colour_is_which_class(tmp_path: Path) -> None:
    colours = np.zeros((40, 60, 3), np.uint8)
    colours[:, 10:], colours[:, 50:], colours[:, 58:] = (255, 0, 0), (0, 0, 255), (255, 255, 255)
    root = photos(tmp_path, {"a0.png": colours, "a1.png": colours})
    text = "# label:color_rgb:parts:actions\n__ignore__:255,255,255::\n{}background:0,0,0::\nhood:255,0,0::\n"
    (root / "labelmap.txt").write_text(text.format("wheel:0,0,255::\n"))  # the rarest colour comes first
    found = looked(root)
    assert found.data["classes"] == ["wheel", "background", "hood"]
    assert found.data["palette_map"] == {"#ffffff": "ignore", "#0000ff": 0, "#000000": 1, "#ff0000": 2}
    assert found.data["colors"] == ["#0000ff", "#000000", "#ff0000"]
    (root / "labelmap.txt").write_text(text.format(""))
    assert looked(root).data["classes"] == ["background", "hood"]  # that a colour has no class, the index says


def test_masks_of_other_names_are_found(tmp_path: Path) -> None:
    found = looked(photos(tmp_path, {f"a{number}_mask.png": mask(0, 1) for number in range(3)}))
    assert (found.labeled, found.data["mask_name"]) == (3, "{stem}_mask")


def test_images_and_masks_may_share_a_folder(tmp_path: Path) -> None:
    photos(tmp_path, {f"a{number}_mask.png": mask(0, 1) for number in range(3)})
    for path in (tmp_path / "masks").iterdir():
        path.rename(tmp_path / "images" / path.name)
    found = survey(tmp_path / "images", tmp_path / "images", None)
    assert (found.images, found.labeled, found.data["mask_name"]) == (8, 3, "{stem}_mask")
    assert found.data["images"] == found.data["masks"] == "images"


def test_folders_that_lie_apart_have_the_nearest_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "x", {"a0.png": mask(0, 1)})
    (tmp_path / "x/masks").rename(tmp_path / "drawn")
    monkeypatch.chdir(tmp_path)
    found = survey(Path("x/images"), Path("drawn"), None)
    assert [found.data[key] for key in ("root", "images", "masks")] == [".", "x/images", "drawn"]
    assert found.labeled == 1


def test_what_is_no_pair_of_folders_is_said(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(StppError, match=r"no folder .*images; .*holds photos/"):
        looked(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(StppError, match="there is no image below"):
        looked(tmp_path)


# --- what fits --------------------------------------------------------------------------------------------------------


def of(images: int, labeled: int, long_side: int = 1000, name: str = "photos") -> Survey:
    data = {"root": name, "images": "images", "masks": "masks", "classes": ["a", "b"]}
    names = {"image_name": "{stem}", "mask_name": "{stem}"}
    return Survey({**data, **names}, ["A remark."], [], images, labeled, long_side)


def test_a_processor_has_small_networks_and_few_iterations() -> None:
    found = chosen(of(30, 10), SMALL, CPU["training"]["teacher"])
    assert (found.base, found.crop, found.batch, found.precision) == (240, 160, 8, "fp32")
    assert (found.teacher, found.student) == (LENGTHS["cpu"][0], LENGTHS["cpu"][0])
    # 80 labeled images 100 times in batches of 8; 900 unlabeled ones 10 times, as a half of the batches.
    found = chosen(of(1000, 100), SMALL, CPU["training"]["teacher"])
    assert (found.teacher, found.student) == (1000, 2000)


def test_small_images_are_not_enlarged() -> None:
    found = chosen(of(30, 10, 128), SMALL, CPU["training"]["teacher"])
    assert (found.base, found.crop) == (128, 80)
    assert yaml.safe_load(written(of(30, 10, 128), SMALL, 1, ""))["prediction"] == {"precision": "fp32"}


@pytest.mark.parametrize(("memory", "batch"), [(80e9, 16), (9e9, 16), (6e9, 8), (4e9, 4), (1e9, 2)])
def test_a_batch_fits_into_the_gpu(memory: float, batch: int) -> None:
    machine = Machine(8, 10**11, 10**11, 10**10, "GPU", int(memory), True)
    found = chosen(of(3000, 1000), machine, GPU["training"]["teacher"])
    assert found.batch == batch
    assert batch == 2 or FIXED + batch * found.crop**2 * FEATURES["bf16"] <= 0.8 * memory


@pytest.mark.parametrize(
    ("cores", "shared", "bf16", "workers"), [(32, 10**11, True, 16), (8, 10**11, False, 7), (8, 10**8, True, 0)]
)
def test_a_gpu_is_fed_by_the_cores_that_there_are(cores: int, shared: int, bf16: bool, workers: int) -> None:
    machine = Machine(cores, 10**11, 10**11, shared, "GPU", 80 * 10**9, bf16)
    text = written(of(3000, 1000), machine, 1, "")
    config = load(yaml.safe_load(text))
    assert config.runtime.train.workers == workers and config.runtime.predict.workers == 4
    assert {config.training.teacher.precision, config.training.student.precision, config.prediction.precision} == {
        "bf16" if bf16 else "fp32"
    }
    assert text.count("precision:") == 2 and "Ampere" not in text


@pytest.mark.parametrize(
    "name", ["config/config", "experiments/camvid", "experiments/pascal", "experiments/cityscapes"]
)
def test_what_is_meant_for_a_gpu_feeds_one(name: str) -> None:
    runtime = load(yaml.safe_load((ROOT / f"{name}.yaml").read_text())).runtime
    assert runtime.train.gpu == runtime.predict.gpu == 1 and runtime.train.workers >= 8


def test_few_labeled_images_make_small_batches() -> None:
    assert chosen(of(300, 10), LARGE, GPU["training"]["teacher"]).batch == 8
    for labeled, batch in ((4, 4), (3, 2), (2, 2), (1, 2)):
        assert chosen(of(300, labeled), LARGE, GPU["training"]["teacher"]).batch == batch


@pytest.mark.parametrize("machine", [SMALL, LARGE], ids=["processor", "GPU"])
@pytest.mark.parametrize("labeled", [1, 10, 3000])
def test_what_is_written_is_a_configuration(machine: Machine, labeled: int) -> None:
    text = written(of(4000, labeled), machine, 3, "It takes a minute.")
    assert "# It takes a minute.\n" in text
    assert "# A remark.\n" in text
    config = load(yaml.safe_load(text))
    own = chosen(of(4000, labeled), machine, (GPU if machine.gpu else CPU)["training"]["teacher"])
    assert (config.training.teacher.iterations, config.training.student.iterations) == (own.teacher, own.student)
    assert config.training.student.precision == config.prediction.precision == own.precision
    assert config.prediction.long_side == own.base
    assert config.runtime.train.threads == config.runtime.predict.threads == 3
    assert config.runtime.train.gpu == config.runtime.predict.gpu == bool(machine.gpu)
    assert (config.data.val_split is None) == (labeled < 5)
    assert config.runtime.train.workers == own.workers
    # The rest is as in the configuration that the README speaks of.
    start = load(GPU if machine.gpu else CPU)
    assert config.network == start.network
    assert config.experiments == start.experiments


def test_names_of_folders_become_names_of_results() -> None:
    assert name_of("/a/Fotos 2026 (neu)") == "Fotos-2026-neu"
    assert name_of("/a/data") == "my-data"
    assert name_of("/a/日本") == "my-images"


def test_entries_are_replaced_and_comments_stay() -> None:
    text = "a: 1  # one\n# two\nb:\n  c: {d: 4}\n  e:\n    - 5\n    # six\n\nf: &x\n  g: 7\nh:\n  <<: *x\n"
    made = edited(text, {("a",): "a: 2", ("b", "c"): "c: 3\nz: 4", ("b", "e"): "e: []", ("f", "g"): "k: 8"})
    assert yaml.safe_load(made) == {"a": 2, "b": {"c": 3, "z": 4, "e": []}, "f": {"k": 8}, "h": {"k": 8}}
    assert "# two\n" in made
    assert "# six\n" in edited(text, {("b",): "b: 3"})
    with pytest.raises(KeyError):
        edited(text, {("b", "x"): "x: 1"})


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_writes_a_file_that_runs_and_says_how_long(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    speeds = Speeds()
    speeds.add("train", Work(trained=1e6), 1.0)
    monkeypatch.setattr("stpp.commands.new.fastest", lambda *_: Trial(2, 0.1, speeds, 10**6))
    photos(here / "photos", {f"a{number}.png": mask(0, 1) for number in range(5)})
    assert main(["new", "photos"]) == 0
    said = capsys.readouterr().out
    assert "8 images, of which 5 are labeled" in said
    assert "classes:   background, object" in said
    assert said.endswith("then: stpp run my.yaml\n")
    (line,) = [line for line in said.splitlines() if "on this machine, by a trial of the network" in line]
    assert line.strip() in Path("my.yaml").read_text()
    assert max(map(len, said.splitlines())) < 120
    assert main(["config", "check", "my.yaml"]) == 0
    assert yaml.safe_load(Path("my.yaml").read_text())["runtime"]["train"]["threads"] == 2
    before = Path("my.yaml").read_bytes()
    assert main(["new", "photos"]) == 1
    assert "my.yaml is there already" in capsys.readouterr().err
    assert Path("my.yaml").read_bytes() == before
    assert sorted(path.name for path in here.iterdir()) == ["my.yaml", "photos"]


@pytest.mark.parametrize("share, precision", [(0.5, "bf16"), (0.95, "fp32")])
def test_a_processor_computes_in_bf16_where_that_is_faster(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], share: float, precision: str
) -> None:
    def trial(settings: Mapping[str, Any], threads: int, gpu: bool) -> Trial:
        assert not gpu
        used = settings["training"]["precision"]
        step = (share if used == "bf16" else 1.0) / threads
        speeds = Speeds()
        speeds.add("train", Work(trained=1e6), step)
        return Trial(threads, step, speeds, 10**6, precision=used)

    monkeypatch.setattr("stpp.commands.trial.tried", trial)
    photos(here / "photos", {f"a{number}.png": mask(0, 1) for number in range(5)})
    assert main(["new", "photos"]) == 0
    raw = yaml.safe_load(Path("my.yaml").read_text())
    assert raw["training"]["teacher"]["precision"] == raw["prediction"]["precision"] == precision
    said = capsys.readouterr().out
    # That of the student, though the controls have a longer training.
    assert "240 iterations of the teacher, 240 of a student, 4 images a batch, " + precision in said
    assert "# Two trainings on the labels alone" in Path("my.yaml").read_text()


def test_a_trial_times_what_the_plan_counts() -> None:
    training = {**Training().model_dump(), "batch_size": 2, "crop": 32, "base_size": 32}
    network = {**Network(backbone="tiny", weights="none", rates=[1, 2, 3]).model_dump(), "head_channels": 8}
    settings = {"network": network, "classes": ["a", "b"], "training": training, "prediction": None}
    begin = time.perf_counter()
    trial = tried(settings, 1, gpu=False)
    took = time.perf_counter() - begin
    assert trial.parameters == sum(part.numel() for part in build(network, 2).parameters())
    # An iteration has 2 images of 32 x 32 pixels, each of whose passes counts three times.
    ten = trial.speeds.seconds("train", Work(trained=10.0 * 2 * 32 * 32 * 3))
    assert ten is not None and ten - START == pytest.approx(10 * trial.step)
    assert 0 < trial.step < took


def test_data_that_cannot_be_used_are_diagnosed_as_by_index(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos(here / "photos", {f"a{number}.png": mask(0, 1, size=(20, 30)) for number in range(5)})
    assert main(["new", "photos"]) == 1
    said = capsys.readouterr().err
    assert "The data set in photos cannot be used" in said
    assert "photos/masks/a0.png" in said
    assert not Path("my.yaml").exists()


def test_without_folders_it_asks_for_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new"]) == 1
    assert "give the folder that holds images/ and masks/" in capsys.readouterr().err


# --- bands ------------------------------------------------------------------------------------------------------------


def rasters(root: Path, values: np.ndarray, **how: Any) -> Path:
    """GeoTIFF images of these values, uint (H, W, bands), by GDAL, two of them with masks."""
    (root / "images").mkdir(parents=True)
    how |= {"height": values.shape[0], "width": values.shape[1], "count": values.shape[2], "dtype": str(values.dtype)}
    how |= {"driver": "GTiff", "crs": "EPSG:32632", "transform": Affine(10, 0, 0, 0, -10, 0)}
    for number in range(4):
        path = root / f"images/a{number}.tif"
        with rasterio.open(path, "w", **how) as file:
            file.write(np.roll(values, number, axis=0).transpose(2, 0, 1))
    for number in range(2):
        tiny_data.save(root / f"masks/a{number}.png", mask(0, 1))
    return root


VALUES = np.random.default_rng(0).integers(0, 3000, (40, 60, 5)).astype(np.uint16)
BANDS = [
    (VALUES[..., :4], {}, {"bands": 4, "rgb": [1, 2, 3], "percentiles": [1, 99]}),
    (VALUES[..., :4], {"photometric": "RGB"}, {"bands": 4, "rgb": [1, 2, 3], "percentiles": [1, 99]}),
    (VALUES[..., :1], {}, {"bands": 1, "percentiles": [1, 99]}),
    (VALUES, {}, {"bands": 5, "percentiles": [1, 99]}),
    (VALUES.astype(np.float32), {"photometric": "RGB"}, {"bands": 5, "rgb": [1, 2, 3], "percentiles": [1, 99]}),
    ((VALUES[..., :4] // 12).astype(np.uint8), {"photometric": "RGB", "alpha": "NO"}, {"bands": 4, "rgb": [1, 2, 3]}),
    ((VALUES[..., :4] // 12).astype(np.uint8), {"photometric": "RGB", "alpha": "YES"}, {}),
    ((VALUES[..., :3] // 12).astype(np.uint8), {"photometric": "RGB"}, {}),
    ((VALUES[..., :1] // 12).astype(np.uint8), {}, {}),
]


@pytest.mark.parametrize(("values", "how", "expected"), BANDS)
def test_bands_are_found_and_described(
    values: np.ndarray, how: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    found = looked(rasters(tmp_path / "data", values, **how))
    assert {key: found.data[key] for key in ("bands", "rgb", "percentiles", "scale") if key in found.data} == expected
    assert found.long_side == 60
    assert any(f"{values.shape[2]} band" in remark for remark in found.remarks) == bool(expected)


@pytest.mark.parametrize("bands", [4, 1])
def test_what_is_written_for_bands_is_accepted(
    bands: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found, text = looked(rasters(Path("data"), VALUES[..., :bands])), Path("my.yaml")
    text.write_text(written(found, SMALL, 1, "It takes a minute."))
    assert main(["index", "my.yaml"]) == 0
    said = capsys.readouterr().out
    assert f"bands of the images: 1{' (red)' if bands == 4 else ''} from" in said and "unlabeled: 2 images" in said
