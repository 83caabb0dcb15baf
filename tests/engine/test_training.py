"""The parts of the training loop, each against an independent computation."""

import itertools
import math
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stpp.data.dataset import EpochBatches, Sample, TrainingSet, samples_of
from stpp.data.manifest import Row
from stpp.engine.distributed import Team
from stpp.engine.history import collapsed, write_history
from stpp.engine.losses import cross_entropy
from stpp.engine.optimisation import learning_rate, make_optimizer, set_learning_rate
from stpp.store.masks import MaskStore, MaskWriter

ALONE = Team(torch.device("cpu"))
PASCAL = {
    "learning_rate": 0.001,
    "batch_size": 16,
    "poly_power": 0.9,
    "warmup_iterations": 0,
    "schedule": "poly",
    "optimizer": "sgd",
    "layer_decay": 1.0,
    "head_multiplier": 10.0,
    "momentum": 0.9,
    "weight_decay": 1e-4,
}


def row(name: str, subset: str = "labeled") -> Row:
    """A manifest row without files."""
    return Row(name, subset, f"{name}.png", f"{name}-mask.png", 4, 4, 1)


def store_of(path: Path, names: list[str]) -> Path:
    """A mask store with one small mask for each name."""
    with MaskWriter(path, classes=["a", "b"], palette=[[0, 0, 0], [9, 9, 9]], producer="test") as writer:
        for i, name in enumerate(names):
            writer.add(name, np.full((4, 4), i % 2, np.uint8))
    return path


# --- learning rate ----------------------------------------------------------------------------------------------------


def test_the_rate_falls_by_the_poly_schedule_to_almost_nothing() -> None:
    rates = [learning_rate(PASCAL, iteration, 1000) for iteration in range(1000)]
    assert rates[0] == 0.001
    assert rates[500] == pytest.approx(0.001 * math.exp(0.9 * math.log(0.5)), rel=1e-12)
    assert rates[999] == pytest.approx(0.001 * math.exp(0.9 * math.log(1e-3)), rel=1e-12)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))


@given(batch=st.integers(1, 256), iteration=st.integers(0, 99))
def test_the_rate_is_linear_in_the_batch(batch: int, iteration: int) -> None:
    scaled = learning_rate(PASCAL | {"batch_size": batch}, iteration, 100)
    assert scaled == pytest.approx(learning_rate(PASCAL, iteration, 100) * batch / 16, rel=1e-12)


def test_warm_up_ramps_linearly_from_above_zero() -> None:
    flat = PASCAL | {"poly_power": 0.0, "warmup_iterations": 4}
    rates = [learning_rate(flat, iteration, 10) for iteration in range(6)]
    assert rates == pytest.approx([0.00025, 0.0005, 0.00075, 0.001, 0.001, 0.001])


def test_the_head_learns_faster_and_both_groups_are_the_papers_sgd() -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ParameterList([torch.ones(1), torch.ones(1)])

        def backbone_parameters(self) -> Any:
            return [self.parts[0]]

        def head_parameters(self) -> Any:
            return [self.parts[1]]

    network = Network()
    optimizer = make_optimizer([network], PASCAL)  # type: ignore[arg-type]
    velocity, expected = [0.0, 0.0], [1.0, 1.0]
    for iteration in range(3):
        set_learning_rate(optimizer, PASCAL, iteration, 10)
        optimizer.zero_grad()
        sum(2 * part for part in network.parts).backward()
        optimizer.step()
        for i, factor in enumerate((1, 10)):  # SGD as in PyTorch's documentation
            velocity[i] = 0.9 * velocity[i] + 2 + 1e-4 * expected[i]
            expected[i] -= factor * 0.001 * (1 - iteration / 10) ** 0.9 * velocity[i]
    assert [part.item() for part in network.parts] == pytest.approx(expected, rel=1e-6)


# --- loss -------------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_over_all_valid_pixels_of_the_mixed_batch() -> None:
    rng = np.random.default_rng(0)
    logits, masks = rng.normal(size=(3, 5, 4, 6)), rng.integers(0, 5, (3, 4, 6))
    masks[0, :3] = 255
    losses = [
        math.log(sum(math.exp(v) for v in logits[n, :, y, x])) - logits[n, masks[n, y, x], y, x]
        for n, y, x in np.argwhere(masks != 255)
    ]
    found = cross_entropy(torch.tensor(logits), torch.tensor(masks.astype(np.uint8)), ALONE)
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-12)


def test_a_batch_without_valid_pixels_is_a_zero_loss_with_zero_gradients() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, 4, 4), 255, dtype=torch.uint8), ALONE)
    loss.backward()
    assert float(loss) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


# --- samples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("labeled", "expected"), [(1, 2), (199, 2), (200, 1), (500, 1)])
def test_the_teachers_list_is_doubled_below_200(labeled: int, expected: int) -> None:
    rows = [row(f"l{i}") for i in range(labeled)]
    assert len(samples_of("teacher", rows, [], [], None)) == expected * labeled


@pytest.mark.parametrize(("labeled", "pseudo", "repeat"), [(3, 10, 4), (5, 10, 2), (4, 3, 1), (3, 9, 3)])
def test_labeled_images_are_over_sampled_to_the_pseudo_labeled(
    labeled: int, pseudo: int, repeat: int, tmp_path: Path
) -> None:
    names = [f"u{i}" for i in range(pseudo)]
    store = store_of(tmp_path / "masks.h5", names)
    unlabeled = [row(name, "unlabeled") for name in names]
    samples = samples_of("student", [row(f"l{i}") for i in range(labeled)], unlabeled, [store], None)
    assert len(samples) == repeat * labeled + pseudo
    assert [sample.row.id for sample in samples if sample.stores] == names
    assert sum(sample.row.id == "l0" for sample in samples) == repeat
    assert len(samples_of("student", [row("l0")], unlabeled, [store], 7)) == 7 + pseudo


def test_images_of_rare_classes_are_listed_more_often() -> None:
    rows = [row(name) for name in "abc"]
    samples = samples_of("teacher", rows, [], [], 2, [1.0, 1.25, 2.2])
    assert [sample.row.id for sample in samples] == list("abcabcbcc")
    assert samples_of("teacher", rows, [], [], 2, [1.0] * 3) == samples_of("teacher", rows, [], [], 2)


def test_phase_two_reads_each_image_from_its_own_store(tmp_path: Path) -> None:
    first, second = store_of(tmp_path / "1.h5", ["a", "c"]), store_of(tmp_path / "2.h5", ["d", "b"])
    rows = [row(name, "unlabeled") for name in "abcde"]
    samples = samples_of("student", [row("l")], rows, [first, second], 1)
    origins = [(sample.row.id, *(store.path.name for store in sample.stores)) for sample in samples if sample.stores]
    assert origins == [("a", "1.h5"), ("b", "2.h5"), ("c", "1.h5"), ("d", "2.h5")]


def test_the_confidence_of_a_label_is_that_of_the_store_that_it_is_from(tmp_path: Path) -> None:
    masks = {"sure": [[1, 255, 255, 0]], "unsure": [[0, 0, 255, 1]], "silent": [[1, 1, 1, 1]]}
    steps = {"sure": [[255, 9, 8, 100]], "unsure": [[1, 2, 3, 4]]}
    stores = []
    for name, mask in masks.items():
        how = {"classes": ["a", "b"], "palette": [[0, 0, 0]] * 2, "producer": name}
        with MaskWriter(tmp_path / name, **how, confidence=name in steps) as writer:
            given = np.array(steps[name]) / 255 if name in steps else None
            writer.add("u", np.array(mask, np.uint8), given)
        stores.append(MaskStore(tmp_path / name))
    true, label = np.zeros((1, 4), np.uint8), np.array([[1, 0, 1, 0]], np.uint8)
    assert TrainingSet.confidence(Sample(row("l")), true).tolist() == [[255] * 4]
    found = TrainingSet.confidence(Sample(row("u"), tuple(stores)), label)
    assert found.dtype == np.uint8
    assert found.tolist() == [[254, 2, 254, 100]]


@given(size=st.integers(2, 60), batch=st.integers(1, 20), epochs=st.integers(1, 4), seed=st.integers(0, 9))
def test_an_epoch_sees_every_image_at_most_once_and_drops_only_the_rest(
    size: int, batch: int, epochs: int, seed: int
) -> None:
    batches = list(EpochBatches(size, batch, epochs, seed, "student"))
    assert len(batches) == epochs * (size // batch)
    for epoch in range(epochs):
        keys = [key for keys in batches for key in keys if key[0] == epoch]
        assert len(keys) == len({index for _, index in keys}) == size // batch * batch
        assert all(0 <= index < size for _, index in keys)
    assert batches == list(EpochBatches(size, batch, epochs, seed, "student"))


def test_every_epoch_has_another_order_and_so_has_every_role() -> None:
    student, teacher = (list(EpochBatches(50, 50, 2, 0, role)) for role in ("student", "teacher"))
    orders = {tuple(index for _, index in batch) for batch in (*student, *teacher)}
    assert len(orders) == 4


def test_a_sample_is_a_function_of_epoch_and_index_and_kind(tmp_path: Path) -> None:
    fabricate.write_scenes(tmp_path, {"labeled": 1, "unlabeled": 1})
    image, mask = (str(tmp_path / folder / "labeled0.png") for folder in ("images", "masks"))
    height, width = np.asarray(fabricate.Image.open(mask)).shape
    store = tmp_path / "masks.h5"
    with MaskWriter(store, classes=["a", "b"], palette=[[0, 0, 0]] * 2, producer="test") as writer:
        writer.add("u", np.ones((height, width), np.uint8))
    samples = samples_of(
        "student",
        [Row("l", "labeled", image, mask, height, width, 0)],
        [Row("u", "unlabeled", image, None, height, width, 0)],
        [store],
        1,
    )
    encoding = {"classes": 3, "ignore_value": 255, "label_map": None, "palette_map": None}
    off = {"scale": None, "flip": 0.0, "jitter": None, "grayscale": None, "blur": None, "cutout": None}
    augmentation = {"labeled": off | {"scale": [0.5, 2.0]}, "unlabeled": off}
    dataset = TrainingSet(samples, encoding, augmentation, crop=40, base_size=40, seed=3, role="student")
    assert all(torch.equal(a, b) for a, b in zip(dataset[(0, 0)], dataset[(0, 0)]))
    assert not torch.equal(dataset[(0, 0)][0], dataset[(1, 0)][0])
    pixels, labels = dataset[(0, 1)]
    assert pixels.shape == (40, 40, 3)
    assert pixels.dtype == labels.dtype == torch.uint8
    assert set(labels.unique().tolist()) == {1, 255}, "the mask of an unlabeled image is its pseudo-label"


def test_metrics_read_back_exactly(tmp_path: Path) -> None:
    import pandas as pd

    history = [{"epoch": 1, "loss": 0.1 + 0.2, "val_miou": None}, {"epoch": 2, "loss": 1 / 3, "val_miou": 2 / 3}]
    write_history(history, tmp_path / "metrics.csv")
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table["loss"].tolist() == [0.1 + 0.2, 1 / 3]
    assert math.isnan(table["val_miou"][0])
    assert table["val_miou"][1] == 2 / 3


@pytest.mark.parametrize(
    ("given", "true", "expected"),
    [
        (0.996, 0.6, True),
        (0.994, 0.6, False),
        (1.0, 1.0, False),
        (0.996, 0.99, False),  # rare classes are rare among true labels, too
        (0.9995, 0.99, True),
        (0.0, 0.0, False),
    ],
)
def test_labels_of_one_class_are_told_from_rare_classes(given: float, true: float, expected: bool) -> None:
    before = {"epoch": 1, "largest_class": 1 - given, "largest_true": true}
    assert collapsed([before, {"epoch": 2, "largest_class": given, "largest_true": true}]) == expected
    assert not collapsed([{"epoch": 1, "loss": 0.5}]), "self-training says nothing of its labels"
