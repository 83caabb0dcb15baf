"""The methods beside ST++ itself, computed on small scenes: what their stages make, against an own computation."""

import json
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from stpp.models.network import OF_IMAGENET
from stpp.store.checkpoint import load_checkpoint
from stpp.store.masks import MaskStore

EXPERIMENTS = {
    "pixel": {"method": "pixel"},
    "confident": {"method": "pixel", "selection": {"pixels": "confidence", "confidence": 0.4}},
    "three": {"method": "st++", "training": {"further_phases": 1}, "labeling": {"reliable": "student"}},
    "supervised": {"method": "supervised"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all experiments are computed."""
    return fabricate.computed(tmp_path_factory.mktemp("methods"), "chart", "report", experiments=EXPERIMENTS)


@pytest.fixture
def computed(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the links to the experiments' stages; the working directory is that of the workflow."""
    monkeypatch.chdir(place)
    return place / "my results/runs/tiny/experiments"


def store(computed: Path, experiment: str, role: str) -> MaskStore:
    """The masks that an experiment has in a role."""
    return MaskStore(computed / experiment / "seed0" / role / "masks.h5")


def content(computed: Path, experiment: str, role: str, file: str = "stage.json") -> dict[str, Any]:
    """A JSON file of the stage that an experiment has in a role."""
    return json.loads((computed / experiment / "seed0" / role / file).read_text())


def test_agreement_keeps_the_pixels_on_which_all_checkpoints_agree(computed: Path) -> None:
    labels, reliable = store(computed, "pixel", "labels"), store(computed, "pixel", "labels1")
    checkpoints = [store(computed, "pixel", f"masks{k}") for k in (1, 2, 3)]
    kept = 0
    for image in labels.ids:
        masks = [masks[image] for masks in checkpoints]
        for place in np.ndindex(masks[0].shape):
            agreed = len({int(mask[place]) for mask in masks}) == 1
            assert reliable[image][place] == (labels[image][place] if agreed else 255)
            kept += agreed
    facts = content(computed, "pixel", "select")
    assert 0 < kept < facts["pixels"]
    assert facts["reliable_pixels"] == kept
    assert facts["pixels"] == sum(labels[image].size for image in labels.ids)


def test_confidence_is_the_mean_probability_over_scales_and_flips(computed: Path) -> None:
    model = load_checkpoint(computed / "confident/seed0/teacher/last.pt", torch.device("cpu"))
    labels, reliable = store(computed, "confident", "labels"), store(computed, "confident", "labels1")
    plain = store(computed, "pixel", "labels")
    kept = 0
    for image in labels.ids:
        assert np.array_equal(labels[image], plain[image]), "the confidence changes no label"
        path = Path("my scenes").resolve() / f"{image}.png"
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] / 255
        x = (pixels - torch.tensor(OF_IMAGENET.mean).view(1, 3, 1, 1)) / torch.tensor(OF_IMAGENET.std).view(1, 3, 1, 1)
        height, width = x.shape[2:]
        maps = []
        with torch.no_grad():
            for scale in fabricate.TINY["labeling"]["scales"]:
                y = F.interpolate(x, (int(height * scale), int(width * scale)), mode="bilinear", align_corners=True)
                for back in (lambda m: m, lambda m: torch.flip(m, [3])):
                    p = back(torch.softmax(model.network(back(y)), 1))
                    maps.append(F.interpolate(p, (height, width), mode="bilinear", align_corners=True)[0].double())
        expected = torch.stack(maps).mean(0).amax(0).numpy()
        confidence = labels.confidence(image)
        assert np.abs(confidence - expected).max() <= 0.5 / 255 + 1e-4
        # In steps of 1/255, 102 is exactly 0.4.
        chosen = np.rint(255 * confidence) >= 102
        assert np.array_equal(reliable[image], np.where(chosen, labels[image], 255))
        kept += int(chosen.sum())
    assert kept == content(computed, "confident", "select")["reliable_pixels"]


def test_phase_two_of_pixels_keeps_the_teachers_reliable_ones(computed: Path) -> None:
    from stpp.runtime.job import Job, Runtime
    from stpp.stages.train import SELF_TRAINING, training_data

    stage = Job((computed / "pixel/seed0/student").resolve(), "train")
    streams, _ = training_data(stage, SELF_TRAINING, (), Runtime().cache)
    (dataset,) = streams.sets
    reliable, student = store(computed, "pixel", "labels1"), store(computed, "pixel", "labels2")
    pseudo = [sample for sample in dataset.samples if sample.stores]
    assert [sample.row.id for sample in pseudo] == student.ids
    mixed = 0
    for sample in pseudo:
        first, second = reliable[sample.row.id], student[sample.row.id]
        _, mask = dataset.decoded(sample)
        assert np.array_equal(mask, np.where(first == 255, second, first))
        mixed += int((first == 255).any() and (first != 255).any())
    assert mixed


def test_the_students_labels_replace_the_teachers_for_all_images(computed: Path) -> None:
    everything = store(computed, "pixel", "labels").ids
    for role, labeler in (("labels2", "phase1"), ("labels3", "phase2")):
        assert store(computed, "three", role).ids == everything
        facts = content(computed, "three", role)
        assert facts["inputs"]["checkpoint"].startswith("train/" + (computed / "three/seed0" / labeler).resolve().name)
    assert content(computed, "three", "student")["inputs"]["labels"] == [
        f"predict/{(computed / 'three/seed0/labels3').resolve().name}/masks.h5"
    ]


def test_full_supervision_trains_on_every_true_mask_once_an_epoch(computed: Path) -> None:
    from stpp.data.images import read_mask
    from stpp.runtime.job import Job
    from stpp.stages.train import SELF_TRAINING, training_data

    stage = Job((computed / "supervised/seed0/supervised").resolve(), "train")
    streams, _ = training_data(stage, SELF_TRAINING, (), 0)
    (dataset,) = streams.sets
    counts = fabricate.COUNTS
    assert [sample.row.id.split("/")[1] for sample in dataset.samples] == [
        f"{subset}{n}" for subset in ("labeled", "unlabeled") for n in range(counts[subset])
    ]
    scenes = Path("my scenes").resolve()
    for sample in dataset.samples:
        true = np.array(Image.open(scenes / "masks" / f"{sample.row.id.split('/')[1]}.png"))
        assert np.array_equal(dataset.decoded(sample)[1], true)
        assert np.array_equal(read_mask(sample.row.true_mask, stage.settings["encoding"]), true)
    assert not stage.settings["augmentation"].get("unlabeled")


def test_the_table_has_every_phase_of_every_method(computed: Path) -> None:
    table = pd.read_csv(computed.parents[2] / "tiny/runs.csv").set_index("experiment")
    for model in ("teacher", "phase1", "phase2", "student"):
        metrics = content(computed, "three", f"{model}-test", "metrics.json")
        assert table.loc["three", f"{model}_test"] == metrics["miou"]
    assert table.loc["three", "miou"] == table.loc["three", "student_test"]
    assert table.loc["supervised", "miou"] == table.loc["supervised", "supervised_test"]
    assert table.loc["three", ["labels1", "labels2", "labels3"]].between(0, 1).all()
    assert table.loc["pixel", ["labels", "labels1", "labels2"]].between(0, 1).all()


def test_the_quality_of_reliable_pixels_leaves_the_others_out(computed: Path) -> None:
    reliable = store(computed, "pixel", "labels1")
    scenes = Path("my scenes").resolve()
    both, predicted, true = np.zeros(3), np.zeros(3), np.zeros(3)
    for image in reliable.ids:
        mask = reliable[image].reshape(-1)
        truth = np.array(Image.open(scenes / "masks" / f"{image.split('/')[1]}.png")).reshape(-1)
        for found, expected in zip(mask[mask != 255].tolist(), truth[mask != 255].tolist()):
            predicted[found] += 1
            true[expected] += 1
            both[found] += found == expected
    union = predicted + true - both
    metrics = content(computed, "pixel", "labels1-truth", "metrics.json")
    assert metrics["miou"] == pytest.approx((both / np.maximum(union, 1))[union > 0].mean())
