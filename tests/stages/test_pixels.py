"""Reliable pixels: which are kept, by agreement and by confidence, against a computation pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stpp.errors import StppError
from stpp.stages.pixels import agreeing, confident, keep_reliable
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
