"""A trained and evaluated model for the tests of what uses one, and pictures of any size."""

import contextlib
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import torch
from PIL import Image

from stpp.commands.cli import main
from stpp.models import build
from stpp.store.checkpoint import save_checkpoint

SUPONLY = {"experiments": {"suponly": {"method": "suponly"}}, "prediction": {"long_side": 48}}
SMALL: dict[str, Any] = {
    "backbone": "tiny",
    "output_stride": 8,
    "rates": [1, 2, 3],
    "head_channels": 8,
    "decoder_channels": 8,
    "low_level_channels": 4,
    "dropout": 1.0,
    "weights": "none",
}

SPEC = {
    "architecture": "deeplabv3plus",
    "output_stride": 8,
    "dropout": 1.0,
    **{key: fabricate.TINY["network"][key] for key in fabricate.TINY["network"] if key != "weights"},
}
"""What `models.build` makes the network of the tiny configuration from."""


def train(folder: Path) -> None:
    """Train a tiny teacher in `folder`, which is created, and evaluate it on test."""
    fabricate.planned(folder, **SUPONLY)
    with contextlib.chdir(folder):
        assert main(["train", str(fabricate.only(folder, "train/*")), "--gpus", "0"]) == 0
        assert main(["evaluate", str(fabricate.only(folder, "evaluate/*-test-*")), "--gpus", "0"]) == 0


def checkpoint(path: Path, architecture: str = "deeplabv3plus") -> Path:
    """A checkpoint of a small network whose classes all occur in the pictures that `picture` makes."""
    torch.manual_seed(1)
    spec = {**SMALL, "architecture": architecture, "rates": None if architecture == "pspnet" else SMALL["rates"]}
    network = build(spec, 3).eval()
    for name, value in network.state_dict().items():
        if "classifier" in name and name.endswith("weight") and value.ndim == 4:
            value *= 8  # far from ties between the classes
    save_checkpoint(
        path, network.state_dict(), {"network": spec, "classes": fabricate.CLASSES}, 1, network.normalisation
    )
    return path


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """A smooth random picture."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
