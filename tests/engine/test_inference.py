"""From image to mask, and checkpoints."""

import itertools
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from trained import SPEC

from stpp.common.errors import StppError
from stpp.engine.inference import (
    BATCH_PIXELS,
    batches,
    network_input,
    pick_device,
    predict_mask,
    predict_masks,
    predict_scores,
    tile_starts,
)
from stpp.models import build
from stpp.models.folding import for_prediction
from stpp.models.network import OF_IMAGENET
from stpp.runtime.faults import COMMAND, prediction_advice, prediction_memory
from stpp.store.checkpoint import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")
WHOLE: dict[str, Any] = {"precision": "fp32", "long_side": None, "tile": None, "overlap": None}


class Pointwise(torch.nn.Module):
    """Logits of a pixel from that pixel alone: channel c votes for class c."""

    normalisation = OF_IMAGENET

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 3


def network() -> Any:
    """A small network with fixed random weights, in evaluation mode, that sees all three classes in a picture."""
    torch.manual_seed(0)
    net = build(SPEC, 3).eval()
    with torch.no_grad():
        logits = net(network_input(torch.from_numpy(picture(64, 64).copy())[None], CPU, OF_IMAGENET))
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
    found = network_input(torch.from_numpy(image), CPU, OF_IMAGENET)
    expected = (image / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_a_mask_is_the_argmax_of_the_logits_at_the_images_size() -> None:
    net, image = network(), picture(33, 41)
    x = (
        torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255 - torch.tensor(OF_IMAGENET.mean).view(1, 3, 1, 1)
    ) / (torch.tensor(OF_IMAGENET.std).view(1, 3, 1, 1))
    with torch.no_grad():
        expected = net(x).argmax(1)[0].numpy()
    mask = predict_mask(net, image, CPU, WHOLE)
    assert set(np.unique(mask)) == {0, 1, 2}
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, expected)


def test_test_time_augmentation_sums_the_softmax_maps_of_scales_and_flips() -> None:
    net, image = network(), picture(40, 32)
    scales = [0.5, 0.75, 1.0, 1.5, 2.0]
    x = network_input(torch.from_numpy(image.copy())[None], CPU, OF_IMAGENET)
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
    save_checkpoint(tmp_path / "a.pt", net.state_dict(), {"network": SPEC, "classes": ["x", "y", "z"]}, 7, OF_IMAGENET)
    model = load_checkpoint(tmp_path / "a.pt", CPU)
    assert model.classes == ["x", "y", "z"]
    assert model.network.normalisation == OF_IMAGENET
    assert not model.network.training
    image = picture(40, 40)
    assert np.array_equal(predict_mask(model.network, image, CPU, WHOLE), predict_mask(net, image, CPU, WHOLE))


def test_a_checkpoints_bytes_depend_on_its_values_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    paths = [tmp_path / "a.pt", tmp_path / "elsewhere" / "another name.pt"]
    for path, memory in zip(paths, (torch.contiguous_format, torch.channels_last)):
        state = network().to(memory_format=memory).state_dict()
        save_checkpoint(path, state, {"network": SPEC, "classes": ["x", "y", "z"]}, 7, OF_IMAGENET)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_is_no_checkpoint_is_refused_and_never_executed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "exploded",)

    good = tmp_path / "good.pt"
    save_checkpoint(good, network().state_dict(), {"network": SPEC, "classes": ["x", "y", "z"]}, 7, OF_IMAGENET)
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


# --- memory -----------------------------------------------------------------------------------------------------------


def averaged(net: Any, x: torch.Tensor, tile: int, overlap: int) -> torch.Tensor:
    """The mean over overlapping tiles, in one tensor for the whole image."""
    height, width = x.shape[-2:]
    if max(height, width) <= tile:
        return net(x)
    total, count = torch.zeros(()), torch.zeros(1, 1, height, width)
    for top, left in itertools.product(tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)):
        window = (..., slice(top, top + tile), slice(left, left + tile))
        logits = net(x[window])
        total = logits.new_zeros(len(x), logits.shape[1], height, width) if total.ndim == 0 else total
        total[window] += logits
        count[window] += 1
    return total / count


@pytest.mark.parametrize("size", [(70, 90), (131, 77), (150, 40)])
@pytest.mark.parametrize(("tile", "overlap"), [(32, 8), (48, 0), (64, 40), (33, 17)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bands_of_tiles_have_the_bits_of_the_whole(
    size: tuple[int, int], tile: int, overlap: int, precision: str
) -> None:
    ready = for_prediction(network(), precision)
    how = {"precision": precision, "long_side": None, "tile": tile, "overlap": overlap}
    images = [picture(*size, seed=seed) for seed in range(2)]
    with torch.inference_mode():
        x = network_input(torch.from_numpy(np.stack(images)), CPU, OF_IMAGENET).to(next(ready.parameters()).dtype)
        whole = averaged(ready, x, tile, overlap)
        softmax = whole.softmax(dim=1)
    assert torch.equal(predict_scores(ready, images, CPU, how), whole)
    found = predict_masks(ready, images, CPU, how, confident=True)
    assert np.stack([mask for mask, _ in found]).tobytes() == whole.argmax(dim=1).to(torch.uint8).numpy().tobytes()
    assert np.stack([sure for _, sure in found]).tobytes() == softmax.amax(dim=1).clamp(0, 1).numpy().tobytes()


class Rowwise:
    """A picture of which some rows are asked for at a time."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape = pixels, pixels.shape
        self.asked: list[tuple[int, int]] = []

    def lines(self, first: int, last: int) -> np.ndarray:
        self.asked.append((first, last))
        return np.ascontiguousarray(self.pixels[first:last])


@pytest.mark.parametrize(("height", "width"), [(100, 70), (20, 90), (20, 20)])
def test_an_image_that_comes_row_by_row_has_the_same_mask(height: int, width: int) -> None:
    how = WHOLE | {"tile": 32, "overlap": 8}
    net, pixels = network(), picture(height, width)
    rowwise = Rowwise(pixels)
    ((mask, _),) = predict_masks(net, [rowwise], CPU, how)
    assert np.array_equal(mask, predict_mask(net, pixels, CPU, how))
    assert all(last - first <= 32 for first, last in rowwise.asked) or height < 32


def test_an_image_in_tiles_becomes_numbers_by_rows() -> None:
    net, pixels = for_prediction(network(), "fp32"), picture(400, 40)
    with Largest() as largest:
        predict_mask(net, pixels, CPU, WHOLE | {"tile": 40, "overlap": 8})
    assert largest.values < 400 * 40 * 3


@pytest.mark.parametrize("tile", [32, 48])
@pytest.mark.parametrize("long_side", [None, 60])
def test_tiles_augmented_have_the_bits_of_the_whole(tile: int, long_side: int | None) -> None:
    ready, image, scales = for_prediction(network(), "fp32"), picture(70, 90), [0.5, 1.0, 1.5]
    how = {"precision": "fp32", "long_side": long_side, "tile": tile, "overlap": 8}
    with torch.inference_mode():
        shrunk = (
            image if long_side is None else np.array(Image.fromarray(image).resize((60, 47), Image.Resampling.BILINEAR))
        )
        x = network_input(torch.from_numpy(shrunk.copy())[None], CPU, OF_IMAGENET)
        total = torch.zeros(())
        for scale in scales:
            y = resized(x, int(x.shape[2] * scale), int(x.shape[3] * scale))
            both = torch.zeros(())
            for back in (lambda m: m, lambda m: m.flip(3)):
                given = back(y).contiguous(memory_format=torch.channels_last)
                both = both + back(averaged(ready, given, tile, 8).softmax(dim=1))
            total = total + resized(both, *x.shape[2:])
        total = resized(total, 70, 90)
    assert torch.equal(predict_scores(ready, [image], CPU, how, {"scales": scales, "flip": True}), total)


def resized(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    same = x.shape[-2:] == (height, width)
    return x if same else F.interpolate(x, (height, width), mode="bilinear", align_corners=True)


class Largest(TorchDispatchMode):
    """The number of values of the largest tensor that an operator returns."""

    values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.values = max(self.values, tensor.numel())
        return result


@pytest.mark.parametrize(
    ("long_side", "tta"),
    [
        (60, None),
        (60, {"scales": [0.5, 1.0], "flip": True}),
        (None, {"scales": [0.5, 1.0, 1.5], "flip": False}),
        (None, {"scales": [0.75], "flip": False}),
    ],
)
def test_what_grows_beyond_the_memory_grows_in_bands(
    long_side: int | None, tta: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    ready, (height, width) = for_prediction(build(SPEC, 20).eval(), "fp32"), (203, 157)
    how = {"precision": "fp32", "long_side": long_side, "tile": 32, "overlap": 8}
    whole = predict_scores(ready, [picture(height, width)], CPU, how, tta)
    monkeypatch.setattr("stpp.engine.scoremaps.MOST_SCORES", 0)
    monkeypatch.setattr("stpp.engine.scoremaps.AT_ONCE", 7 * whole.shape[1] * width)
    with Largest() as largest:
        predict_masks(ready, [picture(height, width)], CPU, how, tta, confident=True)
    assert largest.values <= whole.numel() / 2
    bands = predict_scores(ready, [picture(height, width)], CPU, how, tta)
    assert torch.allclose(bands, whole, rtol=1e-5, atol=1e-5)
    assert (bands.argmax(dim=1) == whole.argmax(dim=1)).float().mean() > 0.9999


@pytest.mark.parametrize("confident", [False, True])
def test_tiles_bound_the_memory(confident: bool) -> None:
    """A band of tiles is held, not the scores of the whole image."""
    torch.manual_seed(0)
    classes, tile, (height, width) = 40, 32, (400, 64)
    ready = for_prediction(build(SPEC, classes).eval(), "fp32")
    how = {"precision": "fp32", "long_side": None, "tile": tile, "overlap": 8}
    with Largest() as largest:
        predict_masks(ready, [picture(height, width)], CPU, how, confident=confident)
    assert largest.values <= max(classes * (tile + 16) * width, 3 * height * width)
    with Largest() as largest:
        predict_masks(ready, [picture(height, width)], CPU, how | {"tile": None})
    assert largest.values >= classes * height * width


def test_advice_follows_what_takes_the_memory() -> None:
    big = {"precision": "fp32", "long_side": None, "tile": 4096, "overlap": 64}
    assert re.search(r"set --tile from 4096 to \d+:", prediction_advice(6000, 6000, 21, big, named=COMMAND))
    untiled = prediction_advice(1024, 2048, 21, big | {"tile": None})
    assert re.search(r"set prediction\.tile \(now none, for an image of 2048 x 1024 pixels\) to \d+:", untiled)
    augmented = prediction_advice(6000, 6000, 21, big | {"tile": 512}, {"scales": [0.5, 2.0], "flip": True})
    assert "set prediction.long_side (now none" in augmented  # the sums of all scales are held, whatever the tile
    assert "tile or long side would" in prediction_advice(6000, 6000, 21, big | {"tile": 32}, named=COMMAND)
    shrunk = prediction_advice(6000, 6000, 21, big | {"tile": 512, "long_side": 240}, named=COMMAND)
    assert shrunk.startswith("no tile or long side would halve it: cut the image of 6000 x 6000 pixels into smaller")


@given(
    height=st.integers(1, 20_000),
    width=st.integers(1, 20_000),
    tile=st.none() | st.integers(65, 20_000),
    long_side=st.none() | st.integers(8, 20_000),
    classes=st.integers(2, 255),
    scales=st.none() | st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=1),
)
def test_what_is_advised_is_allowed_and_halves_the_memory(
    height: int, width: int, tile: int | None, long_side: int | None, classes: int, scales: list[float] | None
) -> None:
    how: dict[str, Any] = {"precision": "fp32", "long_side": long_side, "tile": tile, "overlap": 64}
    tta = None if scales is None else {"scales": scales, "flip": True}
    said = prediction_advice(height, width, classes, how, tta)
    if found := re.search(r"set prediction\.(tile|long_side) .* to (\d+): that takes about half", said):
        lower = how | {found[1]: int(found[2])}
        assert int(found[2]) > 64 if found[1] == "tile" else int(found[2]) >= 8
        before, after = (prediction_memory(height, width, classes, settings, tta) for settings in (how, lower))
        assert after <= before / 2
    else:
        assert said.startswith("no tile or long side would halve it")
