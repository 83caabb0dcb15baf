"""The configurations that come with the project: each is valid, and plans the graph that it means."""

import re
import shutil
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest
import yaml
from conftest import ROOT, Snakemake
from PIL import Image

from stpp.settings.configfile import load, read

EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.yaml"))
OWN = sorted((ROOT / "config").glob("*.yaml"))
"""Configurations for one's own images."""


def dry_run(folder: Path, config: Path, root: Path, snakemake: Snakemake, **changes: Any) -> str:
    """The dry run of an experiment with its data root (and more) replaced."""
    raw = yaml.safe_load(config.read_text())
    raw["data"]["root"] = str(root)
    if "published" in raw:
        raw["published"] = str(ROOT / raw["published"])
    for section, values in changes.items():
        raw[section] |= values
    fabricate.write_config(folder, raw)
    return snakemake(folder, "--dry-run").stdout


def jobs(output: str) -> dict[str, int]:
    """Rule -> number of jobs of a dry run."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}


def write_pair(image: Path, mask: Path | None, classes: int, rng: np.random.Generator) -> None:
    """A small image, and a mask in which every class occurs."""
    labels = np.arange(32 * 40).reshape(32, 40) % classes
    for path in (image, *([mask] if mask else [])):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(image)
    if mask:
        Image.fromarray(labels.astype(np.uint8)).save(mask)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_is_valid(path: Path) -> None:
    assert read(path).name == "-".join(path.relative_to(ROOT / "experiments").with_suffix("").parts)


def test_pascal_is_the_authors_layout_and_settings(tmp_path: Path, snakemake: Snakemake) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "voc"
    lists: dict[str, list[str]] = {"1_8/labeled": [], "1_8/unlabeled": [], "val": []}
    for name, lines in lists.items():
        for i in range(16):
            image = f"JPEGImages/{name.replace('/', '_')}_{i}.jpg"
            mask = f"SegmentationClass/{name.replace('/', '_')}_{i}.png"
            write_pair(root / image, None if "un" in name else root / mask, 21, rng)
            lines.append(f"{image} {mask}")
        path = root / "splits" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    counts = jobs(dry_run(tmp_path, ROOT / "experiments/pascal.yaml", root, snakemake))
    assert counts["train_teacher_k3_val"] == 1
    assert counts["train_student_val"] == 1
    assert counts["train_student_phase1_val"] == counts["train_student_phase2_val"] == 2
    assert counts["predict"] == 3 + 1 + 2 + 2
    assert counts["weights"] == 1


def test_cityscapes_is_read_as_the_official_tools_lay_it_out(tmp_path: Path, snakemake: Snakemake) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "cityscapes"
    for split, count in (("train", 24), ("val", 3)):
        for i in range(count):
            stem = f"{split}/ulm/ulm_{i:06d}_000019"
            write_pair(
                root / f"leftImg8bit/{stem}_leftImg8bit.png",
                root / f"gtFine/{stem}_gtFine_labelTrainIds.png",
                19,
                rng,
            )
    partition = {"partition": {"count": 8, "seed": 0}, "root": str(root)}
    counts = jobs(dry_run(tmp_path, ROOT / "experiments/cityscapes.yaml", root, snakemake, data=partition))
    assert counts["train_teacher_k3_val"] == 1
    assert counts["score"] == 1


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_a_folder_of_images_needs_no_lists(path: Path, tmp_path: Path, snakemake: Snakemake) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "my images"
    for i in range(12):
        mask = root / f"masks/holiday {i}.png" if i < 8 else None
        write_pair(root / f"images/holiday {i}.jpg", mask, 2, rng)
    counts = jobs(dry_run(tmp_path, path, root, snakemake))
    assert counts["train_teacher_k3_val"] == 1 + 2  # the controls
    assert counts["choose"] == 1


def test_camvid_without_the_images_is_a_clear_message(tmp_path: Path, snakemake: Snakemake) -> None:
    shutil.copy(ROOT / "experiments/camvid-cpu.yaml", tmp_path / "config.yaml")
    done = snakemake(tmp_path, "--dry-run", check=False)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "The data root ../shared/camvid is not a folder" in said
    assert "Traceback" not in said


def test_missing_weights_are_a_clear_message(tmp_path: Path, snakemake: Snakemake) -> None:
    fabricate.write_scenes(tmp_path / "my scenes")
    network = fabricate.tiny()["network"] | {"weights": "no such file.pth"}
    fabricate.write_config(tmp_path, fabricate.tiny(network=network))
    done = snakemake(tmp_path, "--dry-run", check=False)
    assert done.returncode != 0
    assert "no file no such file.pth" in done.stderr


def test_the_ablations_of_the_documentation_are_valid() -> None:
    page = (ROOT / "docs/experiments.md").read_text()
    lines = re.findall(r"^    ([\w-]+: +\{method: .*)$", page, re.MULTILINE)
    assert len(lines) == 20
    training = {"teacher": {"epochs": 5}}
    config = load(fabricate.tiny(training=training, experiments=yaml.safe_load("\n".join(lines))))
    assert all(len(experiment.model_fields_set) == 2 for experiment in config.experiments.values())
