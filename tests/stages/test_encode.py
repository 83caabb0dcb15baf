"""What a frozen encoder makes of images, kept: computed once, with the same result, and refused where it cannot be."""

import contextlib
import itertools
import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Snakemake
from trained import SMALL, picture

from stpp.commands.cli import main
from stpp.commands.mapsize import bytes_of_maps
from stpp.commands.workflow import prepare
from stpp.common.errors import StppError
from stpp.data.augmentation import sample_rng
from stpp.data.dataset import TrainingSet
from stpp.data.reading import image_of
from stpp.data.views import view_pixels
from stpp.engine import features
from stpp.engine.features import image_features
from stpp.engine.inference import predict_scores
from stpp.methods import methods
from stpp.models import build
from stpp.models.folding import for_prediction
from stpp.models.network import Maps, SegmentationNetwork
from stpp.plan.frozen import maps_read
from stpp.settings.configfile import load, read
from stpp.settings.training import Network
from stpp.stages import encode
from stpp.store.maps import MapStore, StoredImage
from stpp.store.masks import MaskStore

STOPPED = 128 + signal.SIGTERM
CPU = torch.device("cpu")
FROZEN: dict[str, Any] = {"epochs": 3, "batch_size": 4, "crop": 24, "base_size": 32, "tune": "none"}
STORED: dict[str, Any] = {
    "network": fabricate.TINY["network"] | {"weights": "encoder.pth"},
    "features": {"views": 3},
    "training": {"teacher": FROZEN | {"learning_rate": 0.05}, "student": FROZEN | {"learning_rate": 0.05}},
}


VIT: dict[str, Any] = {"backbone": "timm/test_vit", "architecture": "linear", "weights": "vit.pth"}
CNN: dict[str, Any] = {"backbone": "timm/test_efficientnet", "architecture": "linear", "weights": "cnn.pth"}


def write_weights(folder: Path, network: Mapping[str, Any]) -> None:
    """The weights that a network begins with, in `folder`, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    torch.save(build(network, 2).backbone.state_dict(), folder / network["weights"])


def planned(folder: Path, **changes: Any) -> Path:
    write_weights(folder, changes.get("network", STORED["network"]))
    return fabricate.planned(folder, **{**STORED, **changes})


def run(folder: Path, pattern: str, *options: str) -> Path:
    """Run the stages that match, in the order of the plan; returns the last one."""
    with contextlib.chdir(folder):
        for stage in prepare(read(Path("config.yaml")), print).stages:
            path = Path("my results/stages") / stage
            if path.match(pattern):
                assert main([path.parent.name, str(path), *options]) == 0
                last = path
    return folder / last


@pytest.fixture(scope="module", params=[STORED["network"], VIT, CNN], ids=["tiny", "vit", "cnn"])
def encoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planned workflow whose maps are there, and its networks and labels."""
    place, experiments = tmp_path_factory.mktemp("encoded") / "run", {"st": {"method": "st"}}
    folder = planned(place, network=request.param, experiments=experiments)
    for pattern in ("encode/*", "train/teacher*", "predict/labels-teacher*", "train/student*"):
        run(folder, pattern)
    return folder


@pytest.fixture
def again(encoded: Path, tmp_path: Path) -> Path:
    """A copy of it, to be written into."""
    return shutil.copytree(encoded, tmp_path / "again", symlinks=True)


# --- the same as without ----------------------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["plain", "rounded"])
def online(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """Trainings and predictions encode the same views anew, and read no maps; the value is the tolerance of losses.

    Their maps are float32, or rounded as those of the store are.
    """
    yield from without_store(monkeypatch, request.param)


@pytest.fixture
def online_rounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """The same, with rounded maps."""
    yield from without_store(monkeypatch, True)


def without_store(monkeypatch: pytest.MonkeyPatch, round_maps: bool) -> Iterator[float]:
    """What `online` does."""
    stored = TrainingSet.__getitem__

    def pixels(self: TrainingSet, key: tuple[int, int]) -> tuple[Any, ...]:
        row, draw = self.samples[key[1]].row, sample_rng(self.seed, self.role, *key, "view")
        sample = self.samples[key[1]]
        settings = self.augmentation["unlabeled" if sample.stores or sample.bare else "labeled"]
        images = view_pixels(image_of(row), settings, row.id, int(draw.integers(3)), **self.size, seen=self.views)
        masks = stored(self, key)[1::2]
        return tuple(part for pair in zip(map(torch.from_numpy, images), masks) for part in pair)

    def rounded(self: SegmentationNetwork, images: torch.Tensor) -> Maps:
        return original(self, images).each(lambda values: values.half().float())

    original = SegmentationNetwork.encoded
    with monkeypatch.context() as patch:
        patch.setattr(TrainingSet, "__getitem__", pixels)
        for stage in ("train", "predict"):
            patch.setattr(f"stpp.stages.{stage}.pictures_of", lambda job, bands, tta=None: image_of)
        if round_maps:
            patch.setattr(SegmentationNetwork, "encoded", rounded)
        yield 1e-5 if round_maps else 5e-3


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_training_is_that_without_the_store(role: str, encoded: Path, again: Path, online: float) -> None:
    """Losses are compared; a batch norm over pooled features that hardly differ makes their rounding larger."""
    (stored,) = encoded.glob(f"my results/stages/train/{role}*")
    computed = run(again, f"train/{role}*")
    found, expected = (pd.read_csv(stage / "metrics.csv") for stage in (stored, computed))
    assert (found["loss"] - expected["loss"]).abs().max() < online
    assert (found["val_miou"] - expected["val_miou"]).abs().max() < 0.05
    states = [torch.load(stage / "last.pt")["state_dict"] for stage in (stored, computed)]
    for name, tensor in states[0].items():
        if name.startswith("backbone"):
            assert torch.equal(tensor, states[1][name]), name
    assert (stored / "last.pt").stat().st_mtime_ns < (computed / "last.pt").stat().st_mtime_ns  # it was computed anew


def test_labels_are_those_without_the_store(encoded: Path, again: Path, online: float) -> None:
    (stored,) = encoded.glob("my results/stages/predict/labels-teacher*")
    with MaskStore(stored / "masks.h5") as expected, MaskStore(run(again, "predict/*") / "masks.h5") as found:
        assert found.ids == expected.ids and len(found) == 6
        assert min((mask == expected[id]).mean() for id, mask in found) > 0.99


@pytest.mark.parametrize("network", [STORED["network"], VIT, CNN], ids=["tiny", "vit", "cnn"])
def test_in_bfloat16_a_training_is_that_without_the_store_to_another_tolerance(
    network: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has maps by folded batch norms in bfloat16, a training computes them in mixed precision."""
    training = {role: {**own, "precision": "bf16"} for role, own in STORED["training"].items()}
    experiments = {"suponly": {"method": "suponly"}}
    folder = planned(tmp_path / "stored", network=network, experiments=experiments, training=training)
    run(folder, "encode/labeled*")
    run(folder, "encode/val*")
    stored = pd.read_csv(run(folder, "train/*") / "metrics.csv")
    again = shutil.copytree(folder, tmp_path / "again", symlinks=True)
    for _ in without_store(monkeypatch, False):
        computed = pd.read_csv(run(again, "train/*") / "metrics.csv")
    assert 0 < (stored["loss"] - computed["loss"]).abs().max() < 0.05


OF_MAPS = {each.name: each for each in methods() if each.online and each.online.of_maps}
MIXED = [name for name, each in OF_MAPS.items() if each.settings and "cutmix" in each.settings.model_fields]


CASES = [
    *((name, False, STORED["network"]) for name in OF_MAPS),
    *((name, True, STORED["network"]) for name in MIXED),
    ("unimatch_v2", False, VIT | {"architecture": "dpt"}),  # the frozen variant of its authors
]


@pytest.mark.parametrize(("name", "mixed", "network"), CASES)
def test_unlabeled_images_in_every_step_are_those_without_the_store(
    name: str, mixed: bool, network: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With boxes that end between the pixels of coarse maps, a mixed image is another one than its mixed maps."""
    method = {"threshold": 0.4, "warmup_epochs": 0} if name not in ("classmix",) else {}
    fields = OF_MAPS[name].settings.model_fields  # type: ignore[union-attr]
    own = {key: value for key, value in {**method, "cutmix": float(mixed)}.items() if key in fields}
    experiment: dict[str, Any] = {"experiments": {"e": {"method": name}}, "methods": {name: own}}
    folder = planned(tmp_path / "stored", network=network, **experiment, labeling={"scales": [1.0]})
    run(folder, "encode/*")
    (seen,) = {
        tuple(MapStore(path).views) for path in folder.glob("my results/stages/encode/unlabeled-views-*/maps.h5")
    }
    assert len(seen) == 3 * len(method_views(name)) and seen[0] == "0 weak"
    stored = pd.read_csv(run(folder, "train/*") / "metrics.csv")
    again = shutil.copytree(folder, tmp_path / "again", symlinks=True)
    tolerance = request.getfixturevalue("online_rounded")
    computed = pd.read_csv(run(again, "train/*") / "metrics.csv")
    mixes = {"cutmix_seg", "cps_cutmix", "classmix", "augseg"}
    losses = [name for name in stored if name.startswith("loss")]
    apart = (stored[losses] - computed[losses]).abs().to_numpy().max()
    assert apart < (0.3 if mixed or name in mixes else 20 * tolerance), apart


def method_views(name: str) -> tuple[str, ...]:
    (found,) = (each for each in methods() if each.name == name)
    assert found.online is not None
    return found.online.views(found.settings() if found.settings else None)


@pytest.mark.parametrize("architecture", ["deeplabv3plus", "linear", "pspnet"])
@pytest.mark.parametrize("tta", [None, {"scales": [0.5, 1.0, 1.5], "flip": True}], ids=["plain", "tta"])
def test_scores_from_maps_are_those_of_the_image(architecture: str, tta: dict[str, Any] | None) -> None:
    torch.manual_seed(1)
    spec = {**SMALL, "architecture": architecture, "rates": [1, 2, 3] if architecture == "deeplabv3plus" else None}
    net = for_prediction(build(spec, 3), "fp32")
    maps = maps_read(Network(architecture=architecture, backbone="tiny", weights="none"))
    assert maps == ([0, 1] if architecture == "deeplabv3plus" else [1])
    settings = {"maps": maps, "precision": "fp32", "long_side": 64, "scales": [0.5, 1.0, 1.5], "flip": True}
    images = [np.asarray(picture(60, 90, seed)) for seed in range(2)]
    prediction = {"precision": "fp32", "long_side": 64, "tile": None, "overlap": None}
    shown = [encode.reduced(image, 64)[None] for image in images]
    seen = encode.encoded(net, shown, settings, CPU)
    stored = [StoredImage((60, 90), dict(zip(encode.view_names(settings), views))) for views in seen]
    found = predict_scores(net, stored, CPU, prediction, tta)
    expected = predict_scores(net, images, CPU, prediction, tta)
    assert found.shape == expected.shape == (2, 3, 60, 90)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))
    assert not torch.equal(found, expected)


def test_features_from_maps_are_those_of_the_image() -> None:
    torch.manual_seed(1)
    net = for_prediction(build({**SMALL, "architecture": "linear", "rates": None}, 3), "fp32")
    settings = {"maps": [1], "precision": "fp32", "long_side": None, "scales": [1.0], "flip": False}
    image = np.asarray(picture(60, 90))
    (views,) = encode.encoded(net, [image[None]], settings, CPU)
    stored = StoredImage((60, 90), dict(zip(encode.view_names(settings), views)))
    prediction = {"precision": "fp32", "long_side": None, "tile": None, "overlap": None}
    expected = image_features(net, image, CPU, prediction)
    np.testing.assert_allclose(image_features(net, stored, CPU, prediction), expected, atol=1e-3)


def test_maps_are_for_pictures_only_where_all_networks_see_the_same(tmp_path: Path) -> None:
    def shown(name: str, **experiment: Any) -> list[str]:
        experiments = {"st": {"method": "st"}, "other": {"method": "suponly"} | experiment}
        folder = planned(tmp_path / name, experiments=experiments)
        (recipe,) = folder.glob("my results/stages/report/*/recipe.json")
        return [
            Path(path).parent.name.rpartition("-tiny-")[0]
            for path in json.loads(recipe.read_text())["inputs"].get("maps", [])
        ]

    assert sorted(shown("same")) == ["test-whole", "unlabeled-whole", "val-whole"]
    assert shown("none", features={"views": None}) == []
    assert shown("stride", network={"output_stride": 16}) == []


def test_linear_heads_on_several_maps_read_so_many() -> None:
    timm: dict[str, Any] = {"backbone": "timm/test_efficientnet", "weights": "none", "output_stride": 32}
    assert maps_read(Network(architecture="linear", linear_maps=3, **timm)) == [1, 2, 3]
    assert maps_read(Network(architecture="dpt", **timm)) == [0, 1, 2, 3]
    assert maps_read(Network(architecture="deeplabv3plus", **timm)) == [0, 3]


# --- stopped, shared by several jobs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [1, 2, 6])
def test_a_stage_stopped_anywhere_ends_in_the_same_bytes(
    stop_at: int, encoded: Path, again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stage,) = again.glob("my results/stages/encode/unlabeled-views-*")
    expected = (stage / "maps.h5").read_bytes()
    for name in ("maps.h5", "stage.json"):
        (stage / name).unlink()
    calls, original = itertools.count(1), encode.encoded

    def stopping(*given: Any) -> Any:
        if next(calls) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*given)

    monkeypatch.chdir(again)
    with monkeypatch.context() as patch:
        patch.setattr(encode, "encoded", stopping)
        assert main(["encode", str(stage)]) == STOPPED
    assert not (stage / "maps.h5").exists() and len(list(stage.glob("unfinished/*/*.h5"))) == 1
    assert main(["encode", str(stage)]) == 0
    assert (stage / "maps.h5").read_bytes() == expected


@pytest.mark.parametrize(
    ("pattern", "artifact", "shards"),
    [
        ("encode/unlabeled-whole-*", "maps.h5", 2),
        ("encode/unlabeled-whole-*", "maps.h5", 7),
        ("predict/labels-teacher-*", "masks.h5", 2),  # which reads these maps
    ],
)
def test_shards_are_joined_into_the_same_bytes(
    pattern: str, artifact: str, shards: int, again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stage,) = again.glob(f"my results/stages/{pattern}")
    expected = (stage / artifact).read_bytes()
    for name in (artifact, "stage.json"):
        (stage / name).unlink()
    monkeypatch.chdir(again)
    kind = stage.parent.name
    for shard in range(shards):
        assert main([kind, str(stage), "--shard", str(shard), "--shards", str(shards)]) == 0
    assert main([kind, str(stage), "--join", "--shards", str(shards)]) == 0
    assert (stage / artifact).read_bytes() == expected
    record = json.loads((stage / "stage.json").read_text())
    assert (record["shards"], record["images"]) == (shards, 6)


def test_a_damaged_store_is_found_by_what_reads_it_and_by_verify(
    again: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (stage,) = again.glob("my results/stages/encode/labeled-views-*")
    content = bytearray((stage / "maps.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (stage / "maps.h5").write_bytes(content)
    monkeypatch.chdir(again)
    (teacher,) = Path("my results/stages/train").glob("teacher*")
    assert main(["train", str(teacher)]) == 1
    assert "maps.h5 is damaged: its SHA-256 is not the one in" in capsys.readouterr().err
    main(["verify", "my results"])
    assert "maps.h5 is damaged" in capsys.readouterr().out


# --- the plan ---------------------------------------------------------------------------------------------------------


def encodings(**changes: Any) -> set[str]:
    """The stages of a plan that encode."""
    plan = fabricate.plan_of(fabricate.tiny(**{**STORED, **changes}))
    return {folder for folder, stage in plan.stages.items() if stage.kind == "encode"}


def test_seeds_methods_and_decoders_share_what_is_encoded() -> None:
    every = encodings()
    names = ("labeled-views", "unlabeled-views", "unlabeled-whole", "val-whole", "test-whole")
    assert {folder.rpartition("-")[0] for folder in every} == {f"encode/{name}-tiny" for name in names}
    assert encodings(seeds=[0, 1, 2]) == every
    assert encodings(experiments={"suponly": {"method": "suponly"}}) < every
    assert encodings(experiments={"p": {"method": "pixel"}, "d": {"method": "dmt"}}) > every  # dmt augments weakly
    assert encodings(network=STORED["network"] | {"head_channels": 16, "dropout": 0.0}) == every
    longer = {"teacher": FROZEN | {"epochs": 9}, "student": FROZEN | {"learning_rate": 1.0}}
    assert encodings(training=longer) == every
    assert encodings(features={"views": None}) == set()


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"features": {"views": 4}}, {"labeled-views", "unlabeled-views"}),
        ({"network": STORED["network"] | {"output_stride": 16}}, None),
        ({"network": STORED["network"] | {"architecture": "linear", "rates": None}}, None),  # it reads fewer maps
        ({"labeling": {"scales": [0.75]}}, {"unlabeled-whole"}),
        ({"prediction": {"long_side": 30}}, {"unlabeled-whole", "val-whole", "test-whole"}),
        ({"augmentation": {"student": {"unlabeled": {"blur": None}}}}, {"unlabeled-views"}),
    ],
)
def test_what_decides_the_maps_moves_them(changes: dict[str, Any], names: set[str] | None) -> None:
    moved = {folder.removeprefix("encode/").rpartition("-tiny-")[0] for folder in encodings() - encodings(**changes)}
    assert moved == (names or {folder[7:].rpartition("-tiny-")[0] for folder in encodings()})


def test_full_supervision_reads_the_true_images_in_the_views_of_labeled_ones() -> None:
    plan = fabricate.plan_of(fabricate.tiny(**STORED, experiments={"s": {"method": "supervised"}}))
    (training,) = (stage for stage in plan.stages.values() if stage.kind == "train")
    assert [path.split("/")[1].rpartition("-tiny-")[0] for path in training.inputs["labeled_maps"]] == [
        "labeled-views",
        "truth-views",
    ]


def test_the_disk_use_is_told_before(encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(encoded)
    plan = prepare(read(Path("config.yaml")), print)
    for folder, stage in plan.stages.items():
        if stage.kind == "encode":
            with MapStore(Path("my results/stages") / folder / "maps.h5") as store:
                shapes = store._contents.shapes
            used = 2 * shapes.prod(axis=3).sum()
            assert bytes_of_maps(stage, plan, Path("my results")) == pytest.approx(used, rel=0.15), folder


def test_plan_says_the_disk_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = planned(tmp_path / "run")
    with contextlib.chdir(folder):
        assert main(["plan", "config.yaml"]) == 0
    assert "The feature maps, from 5 stages, will take about " in capsys.readouterr().out


# --- what is refused --------------------------------------------------------------------------------------------------

TUNED = {"teacher": FROZEN, "student": FROZEN | {"tune": "all"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": TUNED}, "experiments.e: features.views keeps what a frozen encoder makes of images, but train"),
        ({"network": STORED["network"] | {"weights": "none"}}, "features.views needs an encoder with weights"),
        ({"experiments": {"e": {"method": "s4l"}}}, "no method whose steps look at pixels or change them, such as s4l"),
        (
            {"training": {"teacher": FROZEN, "student": FROZEN | {"online": "dcc"}}},
            "no method whose steps look at pixels or change them, such as dcc",
        ),
        ({"prediction": {"tile": 64, "overlap": 8}}, "features.views keeps maps of whole images; set prediction.tile"),
        (
            {"augmentation": {"student": {"labeled": {"rare_crop": 0.5}}}},
            "without augmentation.student.labeled.rare_crop; set that to 0",
        ),
    ],
)
def test_what_does_not_go_with_stored_views_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StppError, match=message):
        load(fabricate.tiny(**{**STORED, "experiments": {"e": {"method": "st"}}, **changes}))


def test_an_experiment_can_do_without() -> None:
    own = {"method": "s4l", "features": {"views": None}}
    assert load(fabricate.tiny(**STORED, experiments={"st": {"method": "st"}, "s4l": own})).features.views == 3


def test_values_that_are_not_finite_are_refused_with_the_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    write_weights(folder, STORED["network"])
    state = torch.load(folder / "encoder.pth")
    name = [name for name in state if name.endswith("weight") and state[name].ndim == 4][-1]
    state[name] *= 1e30
    torch.save(state, folder / "broken.pth")
    fabricate.planned(folder, **STORED | {"network": STORED["network"] | {"weights": "broken.pth"}})
    monkeypatch.chdir(folder)
    (stage,) = Path("my results/stages/encode").glob("val-whole-*")
    assert main(["encode", str(stage)]) == 1
    assert "the encoder gives values for image 'images/val0' (view 1) that are not finite" in capsys.readouterr().err


# --- all of it --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [STORED["network"], VIT | {"architecture": "dpt"}], ids=["tiny", "vit"])
def test_all_of_stpp_from_stored_maps_and_a_second_seed_and_decoder_reuse_them(
    network: dict[str, Any], tmp_path: Path, snakemake: Snakemake, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_weights(tmp_path, network)
    fabricate.write_scenes(tmp_path / "my scenes")
    experiments = {"suponly": {"method": "suponly"}, "st++": {"method": "st++"}}
    raw = fabricate.tiny(**STORED | {"network": network}, experiments=experiments)
    fabricate.write_config(tmp_path, raw)
    snakemake(tmp_path)
    assert len(list(tmp_path.glob("my results/stages/encode/*/maps.h5"))) == 5
    linked = {path.name for path in (tmp_path / "my results/runs/tiny/experiments/st++/seed0").iterdir()}
    assert len([name for name in linked if name.startswith("maps")]) == 5
    (report,) = tmp_path.glob("my results/stages/report/*")
    before = (report / "report.html").stat().st_size
    for name in ("report.html", "stage.json"):
        (report / name).unlink()
    labeled, original = itertools.count(), features.network_input
    with monkeypatch.context() as patch, contextlib.chdir(tmp_path):
        # Of the pixels of an image, networks are shown those of the labeled ones, of which no whole maps are kept.
        patch.setattr("stpp.engine.inference.network_input", None)
        patch.setattr(features, "network_input", lambda *given: (next(labeled), original(*given))[1])
        assert main(["report", str(report)]) == 0
    assert next(labeled) == 4
    assert (report / "report.html").stat().st_size == pytest.approx(before, rel=0.01)
    fabricate.write_config(tmp_path, raw | {"seeds": [0, 1], "network": raw["network"] | {"decoder_channels": 12}})
    said = snakemake(tmp_path, "--dry-run").stdout
    assert said.count("Shell command: stpp train") == 6  # the teacher and both students of two seeds
    assert "stpp encode" not in said
