"""DMT against values that were computed by hand, and its stages against an own computation."""

import json
from pathlib import Path

import fabricate
import numpy as np
import pytest
import torch
from toy import STUDENT, Constant, batch, moment

from stpp.engine.batch import Batch
from stpp.methods.dmt import Settings, step
from stpp.scoring.selection import class_steps
from stpp.store.checkpoint import load_checkpoint
from stpp.store.masks import MaskStore


def loss(confidence: list[list[float]], labels: list[list[int]] | None = None) -> float:
    """The loss of the toy student on pseudo-labels, those of the toy teacher if not others."""
    toy = batch()
    masks = torch.tensor([labels or [[0, 0], [1, 0]]], dtype=torch.uint8)
    seen = Batch(toy.images, masks, toy.draws, confidence=torch.tensor([confidence]))
    nets = {"student": Constant(STUDENT)}
    return float(step(seen, nets, Settings(), moment())["supervised"])


def test_a_label_weighs_by_whether_the_network_agrees() -> None:
    assert loss([[0.8, 0.6], [0.8, 0.96]]) == pytest.approx(0.016584, abs=1e-6)
    assert loss([[0.8, 0.4], [0.8, 0.96]]) == pytest.approx(0.016246, abs=1e-6), "it is surer of another class in b"


def test_a_true_label_weighs_one_and_an_ignored_pixel_counts_for_nothing() -> None:
    ln2 = float(np.log(2))
    assert loss([[1, 1], [1, 1]]) == pytest.approx(5 * ln2 / 4)
    assert loss([[1, 1], [1, 1]], [[0, 255], [1, 0]]) == pytest.approx(ln2)
    assert loss([[0.5, 0.5], [0.5, 0.5]], [[255, 255], [255, 255]]) == 0


def test_no_gradient_passes_through_the_weights() -> None:
    toy, student = batch(), Constant(STUDENT)
    seen = Batch(toy.images, torch.zeros(1, 2, 2, dtype=torch.uint8), toy.draws, confidence=torch.full((1, 2, 2), 0.9))
    step(seen, {"student": student}, Settings(), moment())["supervised"].backward()
    p = torch.tensor(STUDENT).T.reshape(1, 3, 2, 2)
    onehot = torch.zeros(1, 3, 2, 2).index_fill_(1, torch.tensor(0), 1)
    assert student.logits.grad is not None
    torch.testing.assert_close(student.logits.grad, (p - onehot) * p[:, :1] ** 5 / 4)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.29, 0.5, 0.99, 1.0])
def test_the_surest_share_of_each_class_is_that_of_a_sorted_list(share: float) -> None:
    rng = np.random.default_rng(0)
    steps = [rng.integers(0, 256, size) for size in (0, 1, 7, 100, 1000)]
    counts = np.array([np.bincount(values, minlength=256) for values in steps])
    for values, least in zip(steps, class_steps(counts, share)):
        wanted = int(round(share * 100) * len(values) // 100)
        expected = np.sort(values)[-wanted - 1] if 1 <= wanted < len(values) else 0
        assert least == expected


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seed's folder of a finished experiment with two shares, so of four phases."""
    changes = {"experiments": {"dmt": {"method": "dmt"}}, "methods": {"dmt": {"shares": [0.5, 1.0]}}}
    gathering = ("evaluate", "verdict", "table", "chart", "report")
    folder = fabricate.computed(tmp_path_factory.mktemp("dmt"), *gathering, **changes)
    return folder / "my results/runs/tiny/experiments/dmt/seed0"


def test_the_networks_label_for_each_other_in_turns(place: Path) -> None:
    inputs = {
        name: json.loads((place / name / "recipe.json").read_text())["inputs"]
        for name in ("phase1", "phase2", "phase3", "student")
    }
    folder = {name: f"train/{(place / name).resolve().name}/last.pt" for name in ("teacher", "peer", *inputs)}
    starts = {name: read["start"] for name, read in inputs.items()}
    assert starts == {
        "phase1": folder["peer"],
        "phase2": folder["teacher"],
        "phase3": folder["phase1"],
        "student": folder["phase2"],
    }
    labelers = []
    for number in range(1, 5):
        kept = json.loads((place / f"labels{number}/recipe.json").read_text())["inputs"]["labels"]
        labels = place.parents[4] / "stages" / Path(kept).parent / "recipe.json"
        labelers.append(json.loads(labels.read_text())["inputs"]["checkpoint"])
    assert labelers == [folder[name] for name in ("teacher", "phase1", "phase2", "phase3")]


def test_the_teachers_differ_in_everything_random(place: Path) -> None:
    first, second = (
        load_checkpoint(place / name / "last.pt", torch.device("cpu")).network for name in ("teacher", "peer")
    )
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()) if a.ndim > 1)
    assert not (place / "peer/checkpoint-1.pt").exists(), "nobody scores its checkpoints"


def test_all_pixels_are_kept_in_the_end_with_their_confidence(place: Path) -> None:
    for number, all_of_them in ((1, False), (2, False), (3, True), (4, True)):
        facts = json.loads((place / f"labels{number}/stage.json").read_text())
        assert (facts["reliable_pixels"] == facts["pixels"]) == all_of_them
        store = MaskStore(place / f"labels{number}/masks.h5")
        assert all(store.confidence(image).shape == store[image].shape for image in store.ids)
