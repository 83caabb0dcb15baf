"""What looks like a clone of the project, in which everything that the documentation shows takes seconds."""

import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import yaml
from PIL import Image
from runs import PROJECT
from trained import picture

SMALLER = {
    "benchmarks/speed/floor.py": "--backbone mobilenet_v2 --crop 33 --batch 2 --images 4 --turns 1 --precision fp32",
    "benchmarks/speed/trainer.py": "--count 2 --iterations 1 --precision fp32",
    "benchmarks/speed": "--only score-memory --count 4 --turns 1",
    "benchmarks/gpu": "--seconds 0",
    "benchmarks/memory.py": "--few 4 --many 5 --checkpoints 4",
}
"""What the clone's Python adds to a benchmark's options; bf16 takes minutes on a processor without it."""
REFERENCE = """\
import numpy as np


class meanIOU:
    def __init__(self, num_classes):
        self.counts = np.zeros((num_classes, num_classes))

    def add_batch(self, predictions, truths):
        np.add.at(self.counts, (truths.ravel(), predictions.ravel()), 1)

    def evaluate(self):
        both = np.diag(self.counts)
        ious = both / np.maximum(self.counts.sum(0) + self.counts.sum(1) - both, 1)
        present = self.counts.sum(0) + self.counts.sum(1) > 0
        return ious, ious[present].mean()
"""
"""Stands for the part of the authors' code that computes scores."""


def write(folder: Path) -> Path:
    """The clone in `folder`, with data beside it that `make` looks for, and no results; returns it.

    Its `config.yaml` and its experiments are those of the project on tiny data, with tiny networks.
    """
    copy(folder, "Snakefile", "Makefile", "pyproject.toml", "rules", "profiles", "experiments", "envs", "docs")
    copy(folder, "config.yaml", "config", "tests", "mkdocs.yml")
    for name in ("stpp", "benchmarks"):
        (folder / name).symlink_to(PROJECT / name)
    shutil.copytree(folder / "profiles/slurm", folder / "profiles/ours")
    write_environment(folder / ".venv")

    reduce(folder / "config.yaml", "suponly", "st", "random", "st++")
    write_own_images(folder / "my-images")
    write_camvid(folder.parent / "shared")
    (folder / "path").symlink_to(folder.parent / "shared/camvid")
    shutil.copy(folder / "config/config.yaml", folder / "my.yaml")
    reduce(folder / "my.yaml", "suponly")
    of = {"camvid-cpu": "suponly", "ablations-demo": "st++", "methods-demo": "classmix"}
    for name, experiment in of.items():
        reduce(folder / f"experiments/{name}.yaml", experiment)
    reduce(folder / "config/config.yaml", "st++")
    (folder / "LIST").write_text("my-images/images/val0.png my-images/masks/val0.png\n")
    (folder / "annotated").mkdir()
    picture(64, 48).save(folder / "annotated/hill.png")
    shape = {"label": "sky", "shape_type": "rectangle", "points": [[0, 0], [47, 20]]}
    annotation = {"imagePath": "hill.png", "imageHeight": 64, "imageWidth": 48, "shapes": [shape]}
    (folder / "annotated/hill.json").write_text(json.dumps(annotation))
    write_exports(folder)
    (folder / "photos/coast").mkdir(parents=True)
    picture(64, 48).save(folder / "photos/beach.jpg")
    picture(48, 64, 1).save(folder / "photos/coast/rocks.jpg")
    reference = folder / "path-to-a-checkout-of-the-authors-code"
    reference.mkdir()
    (reference / "utils.py").write_text(REFERENCE)
    return folder


def copy(folder: Path, *names: str) -> None:
    """Copies of files and folders of the project in `folder`, which is created if it is not there."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (shutil.copytree if (PROJECT / name).is_dir() else shutil.copy)(PROJECT / name, folder / name)


def add_results(clone: Path, finished: Path) -> None:
    """Results as of a demo and of `my.yaml`: those of the tiny run in `finished`."""
    # Artifacts are never written in place, so that links to them serve as copies.
    shutil.copytree(finished / "my results", clone / "results", symlinks=True, copy_function=os.link)
    fabricate.write_config(clone, fabricate.tiny(name="demo", results="results"))
    shutil.copy(clone / "config/config.yaml", clone / "my.yaml")
    (clone / "my scenes").symlink_to(finished / "my scenes")
    for folder in (clone / "results", clone / "results/runs"):
        (folder / "tiny").rename(folder / "demo")
        (folder / "my-images").symlink_to("demo")
    student = clone / "results/runs/demo/experiments/st++/seed0/student/last.pt"
    (clone / "masks.h5").symlink_to(student.parent.parent / "labels1/masks.h5")
    (clone / "MODEL").symlink_to(student)


def write_environment(folder: Path) -> None:
    """This process's environment, whose Python makes benchmarks small."""
    (folder / "bin").mkdir(parents=True)
    for path in Path(sys.executable).parent.iterdir():
        if not path.name.startswith("python"):
            (folder / "bin" / path.name).symlink_to(path)
    cases = "".join(f'{script}) set -- "$@" {options};;\n' for script, options in SMALLER.items())
    python = folder / "bin/python"
    python.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}esac\nexec "{sys.executable}" "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (folder / "ready").touch()


def write_own_images(root: Path) -> None:
    """A user's own images, of which some have masks of two classes."""
    fabricate.write_scenes(root)
    for mask in (root / "masks").iterdir():
        labels = np.asarray(Image.open(mask)) % 2
        mask.unlink()
        if not mask.name.startswith("unlabeled"):
            Image.fromarray(labels).save(mask)


def write_exports(folder: Path) -> None:
    """What annotation tools exported of one image: COCO, and CVAT's two formats."""
    (folder / "coco").mkdir()
    picture(64, 48).save(folder / "coco/hill.png")
    image = {"id": 1, "file_name": "hill.png", "width": 48, "height": 64}
    sky = {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 47, 0, 47, 20, 0, 20]]}
    content = {"images": [image], "annotations": [sky], "categories": [{"id": 1, "name": "sky"}]}
    (folder / "coco/annotations.json").write_text(json.dumps(content))
    (folder / "exported/images").mkdir(parents=True)
    picture(64, 48).save(folder / "exported/images/hill.png")
    shape = '<polygon label="sky" points="0,0;47,0;47,20;0,20"/>'
    text = f'<annotations><image name="hill.png" width="48" height="64">{shape}</image></annotations>'
    (folder / "exported/annotations.xml").write_text(text)
    for name in ("JPEGImages", "SegmentationClass"):
        (folder / "exported-masks" / name).mkdir(parents=True)
        Image.new("RGB", (64, 48), (0, 0, 0)).save(folder / "exported-masks" / name / "hill.png")
    (folder / "exported-masks/labelmap.txt").write_text("background:0,0,0::\nsky:9,9,9::\n")


def write_camvid(shared: Path) -> None:
    """Small scenes where CamVid and the weights of its backbone are expected."""
    import torch
    from torchvision.models import mobilenet_v2

    root = shared / "camvid"
    fabricate.write_scenes(root)
    (root / "splits/1_8").mkdir(parents=True)
    for path in [*root.glob("*labeled.txt"), root / "val.txt"]:
        path.rename(root / "splits" / ("" if path.stem == "val" else "1_8") / path.name)
    (root / "classes.txt").write_text("\n".join(fabricate.CLASSES) + "\n")
    (root / "JPEGImages").symlink_to("images")
    (root / "SegmentationClass").symlink_to("masks")
    (shared / "weights").mkdir()
    torch.save(mobilenet_v2().state_dict(), shared / "weights/mobilenet_v2-imagenet.pth")


def reduce(path: Path, *experiments: str) -> None:
    """Let a configuration take seconds: these experiments, one seed, no controls, short trainings, few images."""
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    config |= {part: fabricate.TINY[part] for part in ("training", "labeling", "runtime")}
    config |= {"seeds": [0], "controls": "none", "experiments": {name: {"method": name} for name in experiments}}
    if config["network"]["weights"] in ("none", "torchvision"):
        config["network"] = fabricate.TINY["network"]
    if "demo" in config["data"]:
        config["data"]["demo"] |= fabricate.COUNTS
    path.write_text(yaml.safe_dump(config, sort_keys=False))
