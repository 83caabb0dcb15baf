"""`stpp export`: graphs that other programs run, and the model card."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from trained import checkpoint, picture

import stpp
from stpp.commands import export as exporting
from stpp.commands.cli import main
from stpp.commands.export_card import model_card
from stpp.common.files import sha256
from stpp.models.exportable import LEAST_SIDE, MaxPooling, Pooling

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module", params=["deeplabv3plus", pytest.param("pspnet", marks=pytest.mark.manual)])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model of each architecture, and its export."""
    folder = tmp_path_factory.mktemp(request.param)
    model = checkpoint(folder / "model.pt", request.param)
    assert main(["export", str(model), "--out", str(folder / "exported")]) == 0
    return folder


def opened(path: Path) -> Any:
    """A session of one thread: several wait for each other by spinning, which takes minutes on a busy machine."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def test_twenty_images_of_different_sizes_have_the_models_masks(exported: Path) -> None:
    network = stpp.load(exported / "model.pt", "cpu")
    session = opened(exported / "exported/model.onnx")
    graph = torch.export.load(str(exported / "exported/model.pt2")).module()
    rng = np.random.default_rng(0)
    same, pixels = 0, 0
    classes: set[int] = set()
    for seed in range(20):
        height, width = (int(side) for side in rng.integers(LEAST_SIDE, 100, 2))
        image = np.array(picture(height, width, seed))
        expected = network.predict(image)
        masks, probabilities = session.run(None, {"rgb": image[None]})
        assert (masks.dtype, masks.shape) == (np.uint8, (1, height, width))
        assert (probabilities.dtype, probabilities.shape) == (np.float32, (1, 3, height, width))
        assert np.abs(probabilities[0] - network.probabilities(image)).max() < 1e-3
        assert (graph(torch.from_numpy(image)[None])[0].numpy()[0] == expected).mean() >= 0.9999
        same, pixels, classes = (
            same + (masks[0] == expected).sum(),
            pixels + expected.size,
            classes | set(expected.flat),
        )
    assert same / pixels >= 0.9999
    assert len(classes) > 1


def test_a_batch_gives_what_its_images_give(exported: Path) -> None:
    session = opened(exported / "exported/model.onnx")
    batch = np.stack([np.asarray(picture(50, 70, seed)) for seed in range(3)])
    together = session.run(["probabilities"], {"rgb": batch})[0]
    for image, expected in zip(batch, together):
        assert np.allclose(session.run(["probabilities"], {"rgb": image[None]})[0][0], expected, atol=1e-4)


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(6, 6), (7, 13), (4, 5), (1, 60)])
def test_pooling_by_matrices_is_adaptive_pooling(bins: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(Pooling(bins)(x), torch.nn.AdaptiveAvgPool2d(bins)(x), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (6, 6), (7, 13), (4, 5), (1, 60)])
def test_max_pooling_of_stride_1_thinned_is_that_of_stride_2(size: tuple[int, int]) -> None:
    x, pooling = torch.randn(2, 3, *size), torch.nn.MaxPool2d(3, stride=2, padding=1)
    assert torch.equal(MaxPooling(pooling)(x), pooling(x))


def test_a_graph_that_disagrees_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = checkpoint(tmp_path / "model.pt")
    network = stpp.load(model, "cpu")

    def wrong(path: Path) -> exporting.Runner:
        masks = lambda batch: np.stack([network.predict(image) for image in batch])  # noqa: E731
        return lambda batch: np.where(np.arange(batch.shape[2]) == 0, 255, masks(batch)).astype(np.uint8)

    monkeypatch.setattr(exporting, "_program", lambda graph: None)
    monkeypatch.setattr(exporting, "_write_onnx", lambda program, path: path.write_bytes(b"a graph"))
    monkeypatch.setattr(exporting, "_open_onnx", wrong)
    assert main(["export", str(model), "--out", str(tmp_path / "out")]) == 1
    assert re.search(r"model.onnx gives 99\.\d+ % .* expected 99.99 %; it is not written", capsys.readouterr().err)
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name.startswith("onnxr") else name)
    assert main(["export", "model.pt", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == (
        "stpp: export needs onnxruntime: install the extra, `pip install 'stpp[export]'`\n"
    )


def test_the_images_to_check_with_must_be_large_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(20, 99).save(tmp_path / "small.png")
    model = checkpoint(tmp_path / "model.pt")
    assert main(["export", str(model), "--out", str(tmp_path / "o"), "--images", str(tmp_path / "small.png")]) == 1
    assert f"has 99 x 20 px; expected {LEAST_SIDE} at least" in capsys.readouterr().err


def test_the_card_tells_what_is_known_of_a_trained_model(teacher: Path) -> None:
    network = stpp.load(teacher, "cpu")
    card = model_card(network, teacher, {"model.onnx": "0123abcd"}, {"model.onnx": 0.99995})
    (evaluation,) = network.provenance.evaluations
    assert "test (2 images)" in card
    assert f"| mean | {100 * evaluation.metrics['miou']:.2f} |" in card
    assert "| model.onnx | 99.9950 % | 0123abcd |" in card
    assert sha256(teacher) in card
    training = network.provenance.training
    assert training is not None
    assert all(fingerprint in card for fingerprint in training["data"].values())
    assert training["started"] in card
    assert "at a long side of 48 px" in card


def test_the_lines_of_the_card_run(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported / "exported")
    rotated(picture(40, 64), "photo.jpg")
    card = Path("model-card.md").read_text()
    assert "Not evaluated, or not known here." in card
    found = run_lines(card)
    onnx = np.array(found["mask"])
    assert onnx.shape == (64, 40)
    assert (np.asarray(found["masks"])[0] == onnx).mean() > 0.999
    assert (stpp.load("../model.pt", "cpu").predict("photo.jpg") == onnx).mean() > 0.999


def rotated(image: Image.Image, path: str) -> None:
    """Save an image as a camera does that was held upright: its EXIF orientation says how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, quality=95, exif=exif)


def run_lines(card: str) -> dict[str, object]:
    """What the lines of code in a model card define."""
    found: dict[str, object] = {}
    exec("\n".join(re.findall(r"^    (.*)$", card, re.MULTILINE)), found)
    return found


def test_the_lines_of_the_card_resize_as_the_network_expects(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported / "exported")
    network = stpp.load("../model.pt", "cpu", long_side=70)
    rotated(picture(100, 140), "photo.jpg")
    found = run_lines(model_card(network, Path("../model.pt"), {}, {}))
    assert np.asarray(found["small"]).shape == (70, 50, 3)
    mask = np.asarray(found["mask"])
    assert mask.shape == (140, 100)
    # `predict` enlarges scores, the card's lines masks: only the borders differ.
    assert (network.predict("photo.jpg") == mask).mean() > 0.9


def test_the_extra_has_what_is_needed() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [re.split(r"\W", requirement)[0] for requirement in extras["export"]] == list(exporting.PACKAGES)


def test_the_card_shows_names_as_they_are(tmp_path: Path) -> None:
    names = ["a|b", "<script>alert(1)</script>", "`rm` # c"]
    path = checkpoint(tmp_path / "x_|_<b>.pt")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "classes": names}, path)
    card = model_card(stpp.load(path, "cpu"), path, {}, {})
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    assert len([row for row in rows if len(re.findall(r"(?<!\\)\|", row)) == 4]) == len(rows)
    assert r"| 0 | a\|b | #202024 |" in rows
    assert not re.search(r"(?<!\\)<", card)
    assert r"| 2 | \`rm\` # c | #56b4e9 |" in rows
