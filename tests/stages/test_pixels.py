"""Reliable pixels: which are kept, by agreement and by confidence, against a computation pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stpp.common.errors import StppError
from stpp.stages.pixels import agreeing, aligned, confident, keep_reliable
from stpp.store.masks import MaskStore, MaskWriter, first_labels

CLASSES = ["a", "b", "c"]

Seed = st.integers(0, 2**32 - 1)


def mask(rng: np.random.Generator, size: tuple[int, int] = (3, 4)) -> np.ndarray:
    """Random classes and ignored pixels."""
    return rng.choice(np.array([0, 1, 2, 255], np.uint8), size)


def write(path: Path, masks: dict[str, np.ndarray], confidence: dict[str, np.ndarray] | None = None) -> MaskStore:
    """A store with these masks."""
    how = {"classes": CLASSES, "palette": [[0, 0, 0]] * 3, "producer": "test"}
    with MaskWriter(path, **how, confidence=confidence is not None) as writer:
        for image, values in masks.items():
            writer.add(image, values, confidence[image] if confidence else None)
    return MaskStore(path)


@settings(max_examples=30)
@given(Seed, st.integers(2, 5))
def test_agreement_is_one_class_in_all_masks(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("stores")
    stores = [write(folder / f"{k}.h5", {"x": mask(rng), "y": mask(rng, (1, 5))}) for k in range(count)]
    reliable = agreeing(stores)
    for image in ("x", "y"):
        found = reliable(image)
        for place in np.ndindex(found.shape):
            values = {int(store[image][place]) for store in stores}
            assert found[place] == (len(values) == 1 and values != {255})


@settings(max_examples=30)
@given(Seed, st.integers(0, 255))
def test_confidence_is_compared_in_the_steps_in_which_it_is_kept(
    tmp_path_factory: pytest.TempPathFactory, seed: int, step: int
) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("stores")
    steps = rng.integers(0, 256, (4, 5))
    steps[0, 0], steps[0, 1] = step, max(0, step - 1)
    store = write(folder / "c.h5", {"x": np.zeros((4, 5), np.uint8)}, {"x": steps / 255})
    assert np.array_equal(confident(store, step / 255)("x"), steps >= step)
    # 0.9 lies between two steps: 229 of 255 are less, 230 are more
    assert np.array_equal(confident(store, 0.9)("x"), steps >= 230)


@settings(max_examples=30)
@given(Seed)
def test_what_is_not_reliable_is_ignored_and_the_rest_is_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("stores")
    labels = write(folder / "l.h5", {"x": mask(rng), "y": mask(rng, (2, 2))})
    chosen = {"x": rng.random((3, 4)) < 0.5, "y": rng.random((2, 2)) < 0.5}
    expected = {
        image: [value if keep else 255 for value, keep in zip(labels[image].flat, chosen[image].flat)]
        for image in chosen
    }
    left = sum(value != 255 for values in expected.values() for value in values)
    if not left:
        with pytest.raises(StppError, match="nothing to train the first phase on"):
            keep_reliable(labels, lambda image: chosen[image].copy(), "p", folder / "out.h5")
        return
    assert keep_reliable(labels, lambda image: chosen[image].copy(), "p", folder / "out.h5") == left
    out = MaskStore(folder / "out.h5")
    assert (out.ids, out.classes, out.palette, out.producer) == (labels.ids, labels.classes, labels.palette, "p")
    for image, values in expected.items():
        assert out[image].reshape(-1).tolist() == values


@given(Seed, st.integers(1, 4))
def test_a_pixel_has_the_first_label_that_there_is(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [mask(rng) for _ in range(count)]
    before = [one.copy() for one in masks]
    found = first_labels(masks)
    assert found.dtype == np.uint8
    for place in np.ndindex(found.shape):
        assert found[place] == next((one[place] for one in masks if one[place] != 255), 255)
    assert all(np.array_equal(one, other) for one, other in zip(masks, before))


@settings(max_examples=30)
@given(Seed, st.floats(0.05, 1), st.integers(1, 256))
def test_aligned_pixels_are_the_surest_and_as_frequent_as_in_the_labeled_images(
    tmp_path_factory: pytest.TempPathFactory, seed: int, share: float, distinct: int
) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("stores")
    masks = {name: mask(rng, (9, 9)) for name in "xyz"}
    steps = {name: rng.integers(0, distinct, (9, 9)) for name in masks}
    store = write(folder / "l.h5", masks, {name: values / 255 for name, values in steps.items()})
    frequency = rng.dirichlet([1, 1, 1])
    reliable = aligned(store, frequency, share, seed)
    chosen = {name: reliable(name) for name in masks}
    assert all(np.array_equal(chosen[name], reliable(name)) for name in masks)
    known = sum(int((one != 255).sum()) for one in masks.values())
    for c in range(3):
        pixels = [(steps[name][p], bool(chosen[name][p])) for name in masks for p in zip(*np.nonzero(masks[name] == c))]
        wanted = min(len(pixels), round(share * known * frequency[c]))
        ordered = sorted((step for step, _ in pixels), reverse=True)
        last = ordered[wanted - 1] if wanted else 256
        assert all(kept for step, kept in pixels if step > last)
        assert not any(kept for step, kept in pixels if step < last)
        # Those that are as sure as the last one are drawn, each with the same probability.
        tied, left = ordered.count(last), wanted - sum(step > last for step in ordered)
        found = sum(kept for step, kept in pixels if step == last)
        spread = 4 * np.sqrt(tied * 0.25) + 1
        assert (found == left) if left in (0, tied) else abs(found - left) < spread


def test_the_drawn_pixels_depend_on_the_seed(tmp_path: Path) -> None:
    store = write(tmp_path / "l.h5", {"x": np.zeros((20, 20), np.uint8)}, {"x": np.ones((20, 20))})
    first, second = (aligned(store, np.array([1.0, 0, 0]), 0.5, seed)("x") for seed in (0, 1))
    assert 140 < first.sum() < 260 and 140 < second.sum() < 260
    assert (first != second).any()


def test_masks_of_another_size_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = write(tmp_path / "l.h5", {"x": mask(rng)})
    others = [write(tmp_path / f"{k}.h5", {"x": mask(rng, (4, 3))}) for k in range(2)]
    with pytest.raises(StppError, match="'x' differ in size"):
        keep_reliable(labels, agreeing(others), "p", tmp_path / "out.h5")
    with pytest.raises(StppError, match="'x' differ in size"):
        agreeing([labels, *others])("x")


def test_labels_without_confidence_are_refused(tmp_path: Path) -> None:
    labels = write(tmp_path / "l.h5", {"x": mask(np.random.default_rng(0))})
    with pytest.raises(StppError, match="predict them again with confidence"):
        keep_reliable(labels, confident(labels, 0.5), "p", tmp_path / "out.h5")
