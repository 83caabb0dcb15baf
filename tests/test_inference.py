"""From image to mask, and checkpoints."""

import itertools
import pickle
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stpp.checkpoint import MEAN, STD, load_checkpoint, save_checkpoint
from stpp.errors import StppError
from stpp.inference import BATCH_PIXELS, batches, network_input, pick_device, predict_mask, predict_masks, tile_starts
from stpp.models import build
from stpp.models.folding import for_prediction

CPU = torch.device("cpu")
WHOLE: dict[str, Any] = {"precision": "fp32", "long_side": None, "tile": None, "overlap": None}
SPEC = {
    "architecture": "deeplabv3plus",
    "output_stride": 8,
    "dropout": 1.0,
    **{key: fabricate.TINY["network"][key] for key in fabricate.TINY["network"] if key != "weights"},
}


class Pointwise(torch.nn.Module):
    """Logits of a pixel from that pixel alone: channel c votes for class c."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 3


def network() -> Any:
    """A small network with fixed random weights, in evaluation mode, that sees all three classes in a picture."""
    torch.manual_seed(0)
    net = build(SPEC, 3).eval()
    with torch.no_grad():
        logits = net(network_input(torch.from_numpy(picture(64, 64).copy())[None], CPU))
        net.classifier.score.weight *= 1 / logits.std()
        net.classifier.score.bias.copy_(-(logits.mean((0, 2, 3)) - net.classifier.score.bias) / logits.std())
    return net


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random image."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def test_the_input_is_normalised_as_imagenet() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    found = network_input(torch.from_numpy(image), CPU)
    expected = (image / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_a_mask_is_the_argmax_of_the_logits_at_the_images_size() -> None:
    net, image = network(), picture(33, 41)
    x = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / (
        torch.tensor(STD).view(1, 3, 1, 1)
    )
    with torch.no_grad():
        expected = net(x).argmax(1)[0].numpy()
    mask = predict_mask(net, image, CPU, WHOLE)
    assert set(np.unique(mask)) == {0, 1, 2}
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, expected)


def test_test_time_augmentation_sums_the_softmax_maps_of_scales_and_flips() -> None:
    net, image = network(), picture(40, 32)
    scales = [0.5, 0.75, 1.0, 1.5, 2.0]
    x = network_input(torch.from_numpy(image.copy())[None], CPU)
    total = np.zeros((3, 40, 32))
    with torch.no_grad():
        for scale in scales:
            size = (int(40 * scale), int(32 * scale))
            y = F.interpolate(x, size, mode="bilinear", align_corners=True)
            for back in (lambda m: m, lambda m: torch.flip(m, [3])):
                p = back(torch.exp(torch.log_softmax(net(back(y)), 1)))
                total += F.interpolate(p, (40, 32), mode="bilinear", align_corners=True)[0].double().numpy()
    ordered = np.sort(total, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-4  # elsewhere rounding decides
    mask = predict_mask(net, image, CPU, WHOLE, {"scales": scales, "flip": True})
    assert clear.mean() > 0.9
    assert np.array_equal(mask[clear], total.argmax(0)[clear])
    assert not np.array_equal(mask, predict_mask(net, image, CPU, WHOLE))


@pytest.mark.parametrize("tta", [None, {"scales": [0.75, 1.0], "flip": True}])
@pytest.mark.parametrize("how", [{}, {"long_side": 24}, {"tile": 32, "overlap": 8}])
def test_several_images_have_the_masks_that_each_has_alone(tta: dict[str, Any] | None, how: dict[str, Any]) -> None:
    net, sizes = network(), [(40, 32), (33, 41), (40, 32), (32, 40), (40, 32)]
    images = [picture(*size, seed=number) for number, size in enumerate(sizes)]
    together = predict_masks(net, images, CPU, WHOLE | how, tta, confident=True)
    for image, (mask, confidence) in zip(images, together, strict=True):
        ((alone, sure),) = predict_masks(net, [image], CPU, WHOLE | how, tta, confident=True)
        assert mask.shape == image.shape[:2] and mask.dtype == np.uint8 and len(np.unique(mask)) > 1
        assert confidence is not None and sure is not None
        np.testing.assert_allclose(confidence, sure, atol=1e-5)
        assert (mask == alone).mean() > 0.999  # where two classes are equal, rounding decides
    assert [mask.tobytes() for mask, none in predict_masks(net, images, CPU, WHOLE | how, tta) if none is None] == [
        mask.tobytes() for mask, _ in together
    ]


@given(st.lists(st.sampled_from([(480, 360), (360, 480), (1024, 2048), (3000, 4000)]), max_size=40))
def test_images_of_one_size_go_together_up_to_a_number_of_pixels(shapes: list[tuple[int, int]]) -> None:
    found = list(batches(shapes))
    assert sorted(number for batch in found for number in batch) == list(range(len(shapes)))
    for batch in found:
        ((height, width),) = {shapes[number] for number in batch}
        assert batch == sorted(batch)
        assert len(batch) == 1 or len(batch) * height * width <= BATCH_PIXELS


def test_a_flip_alone_makes_the_mask_mirror_symmetric() -> None:
    net, image = network(), picture(32, 32)
    tta = {"scales": [1.0], "flip": True}
    mask = predict_mask(net, image, CPU, WHOLE, tta)
    mirrored = predict_mask(net, image[:, ::-1], CPU, WHOLE, tta)
    assert (mask == mirrored[:, ::-1]).mean() > 0.999


@given(length=st.integers(1, 300), tile=st.integers(2, 64), part=st.floats(0, 0.9))
def test_tiles_cover_every_pixel_and_overlap_enough(length: int, tile: int, part: float) -> None:
    overlap = int(part * tile)
    starts = tile_starts(length, tile, overlap)
    covered = {pixel for start in starts for pixel in range(start, min(start + tile, length))}
    assert covered == set(range(length))
    assert all(0 < later - earlier <= tile - overlap for earlier, later in itertools.pairwise(starts))
    assert starts[-1] == max(0, length - tile)


@settings(max_examples=20)
@given(height=st.integers(5, 90), width=st.integers(5, 90), tile=st.integers(32, 48), overlap=st.integers(0, 16))
def test_tiles_give_the_whole_images_mask_where_context_does_not_matter(
    height: int, width: int, tile: int, overlap: int
) -> None:
    image = picture(height, width, seed=height)
    tiled = predict_mask(Pointwise(), image, CPU, WHOLE | {"tile": tile, "overlap": overlap})  # type: ignore[arg-type]
    whole = predict_mask(Pointwise(), image, CPU, WHOLE)  # type: ignore[arg-type]
    assert np.array_equal(tiled, whole)


def test_a_long_side_shrinks_the_image_but_not_the_mask() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[:, 40:, 1] = 255
    seen: list[tuple[int, ...]] = []

    class Spy(Pointwise):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(x.shape))
            return super().forward(x)

    mask = predict_mask(Spy(), image, CPU, WHOLE | {"long_side": 40})  # type: ignore[arg-type]
    assert seen == [(1, 3, 30, 40)]
    assert mask.shape == (60, 80)
    assert (mask[:, 42:] == 1).all()
    assert (mask[:, :38] != 1).all()


def test_bf16_agrees_with_fp32_on_almost_all_pixels() -> None:
    net, image = network(), picture(48, 48)
    fp32, bf16 = (predict_mask(for_prediction(net, p), image, CPU, WHOLE | {"precision": p}) for p in ("fp32", "bf16"))
    assert (fp32 == bf16).mean() > 0.95


def test_a_missing_gpu_is_said() -> None:
    assert pick_device("cpu") == CPU
    if torch.cuda.is_available():
        assert pick_device("cuda").type == pick_device("auto").type == "cuda"
    else:
        assert pick_device("auto") == CPU
        with pytest.raises(StppError, match=r"runtime\.device is cuda"):
            pick_device("cuda")


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_holds_all_that_is_needed_to_use_it(tmp_path: Path) -> None:
    net = network()
    save_checkpoint(tmp_path / "a.pt", net.state_dict(), {"network": SPEC, "classes": ["x", "y", "z"]}, 7)
    model = load_checkpoint(tmp_path / "a.pt", CPU)
    assert model.classes == ["x", "y", "z"]
    assert list(model.mean) == list(MEAN)
    assert not model.network.training
    image = picture(40, 40)
    assert np.array_equal(predict_mask(model.network, image, CPU, WHOLE), predict_mask(net, image, CPU, WHOLE))


def test_a_checkpoints_bytes_depend_on_its_values_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    paths = [tmp_path / "a.pt", tmp_path / "elsewhere" / "another name.pt"]
    for path, memory in zip(paths, (torch.contiguous_format, torch.channels_last)):
        state = network().to(memory_format=memory).state_dict()
        save_checkpoint(path, state, {"network": SPEC, "classes": ["x", "y", "z"]}, 7)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_is_no_checkpoint_is_refused_and_never_executed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "exploded",)

    good = tmp_path / "good.pt"
    save_checkpoint(good, network().state_dict(), {"network": SPEC, "classes": ["x", "y", "z"]}, 7)
    bad = {
        "missing": None,
        "empty": b"",
        "text": b"hello",
        "truncated": good.read_bytes()[:-100],
        "pickle": pickle.dumps(Bomb()),
    }
    for name, content in bad.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(StppError, match=name):
            load_checkpoint(tmp_path / name, CPU)
    torch.save({"weights": torch.ones(3)}, tmp_path / "other")
    with pytest.raises(StppError, match="no checkpoint of stpp"):
        load_checkpoint(tmp_path / "other", CPU)
    assert not (tmp_path / "exploded").exists()
