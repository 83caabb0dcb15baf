"""The work as stpp does it; started by `benchmarks/speed`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image
from turns import BACKBONE, BASE, CROP, DESCRIPTION, WHOLE, Turn, arguments, drawn, serve, taken

from stpp.data.augmentation import rescaled_crop
from stpp.data.dataset import Sample, TrainingSet
from stpp.data.manifest import Row
from stpp.engine.distributed import Team
from stpp.engine.inference import WINDOW, network_input, predict_masks
from stpp.engine.losses import cross_entropy
from stpp.engine.optimisation import forward, make_optimizer
from stpp.models import build
from stpp.models.folding import for_prediction
from stpp.models.network import OF_IMAGENET, SegmentationNetwork
from stpp.runtime.process import prepare_process
from stpp.scoring.metrics import mean_iou
from stpp.scoring.stability import pair_confusions, pairs
from stpp.settings.training import StudentAugmentation, Training
from stpp.stages.score import compare_masks
from stpp.store.alike import masks_in_order
from stpp.store.masks import MaskStore

PROJECT = Path(__file__).parents[2]
NETWORK = {
    "architecture": "deeplabv3plus",
    "backbone": "resnet50",
    "output_stride": 8,
    "rates": None,
    "dropout": 1.0,
    "head_channels": None,
    "decoder_channels": 256,
    "low_level_channels": 48,
}
UNTILED = {"long_side": None, "tile": None, "overlap": 64}
PAPER = {"scales": [0.5, 0.75, 1.0, 1.5, 2.0], "flip": True}


def data(work: str, scratch: Path) -> Turn:
    """Augmented and normalised images of one epoch; the first turn fills the cache. Beside it, `cropped` masks."""
    augmentation, suffix = work.split("-")
    stores = (MaskStore(scratch / "masks-1.h5"),) if augmentation == "strong" else ()
    samples = []
    for line in (scratch / f"{suffix}.txt").read_text().split("\n"):
        image, mask = line.split(" ")
        row = Row(Path(image).stem, "unlabeled", str(scratch / image), str(scratch / mask), 360, 480, 0)
        samples.append(Sample(row, stores))
    settings = StudentAugmentation().model_dump()
    how: dict[str, Any] = {"crop": CROP, "base_size": BASE, "seed": 0, "role": "student", "cache": 10**9}
    dataset = TrainingSet(samples, {"classes": 21, "ignore_value": 255}, settings, **how)
    device, masks = torch.device("cpu"), cropped(scratch)

    def turn(number: int) -> tuple[int, np.ndarray]:
        for first in range(0, len(samples), 4):
            images = [dataset[number, index][0] for index in range(first, min(first + 4, len(samples)))]
            network_input(torch.stack(images), device, OF_IMAGENET)
        return len(samples), masks

    return turn


def cropped(scratch: Path) -> np.ndarray:
    """The masks, each rescaled and cropped as it is `drawn`."""
    masks = [np.asarray(Image.open(path)) for path in sorted((scratch / "masks").iterdir())]
    found = [
        rescaled_crop(np.repeat(mask[..., None], 3, axis=2), mask, *drawn(mask.shape, number), crop=CROP)[1]
        for number, mask in enumerate(masks)
    ]
    return np.array(found)


def score(scratch: Path, *, stored: bool) -> Turn:
    """Stability scores of masks in memory, or in stores."""
    masks, compared = np.load(scratch / "masks.npy"), pairs(3, "mean")
    stores = [MaskStore(scratch / f"masks-{k}.h5") for k in (1, 2, 3)]

    def turn(number: int) -> tuple[int, np.ndarray]:
        if stored:
            rows = [compare_masks(stores, *image, compared) for image in masks_in_order(stores, 0)]
            return len(masks), np.array([np.mean(row[1:]) for row in rows])
        found = (pair_confusions(image, 21, compared)[0] for image in masks)
        return len(masks), np.array([np.mean([mean_iou(one) for one in confusions]) for confusions in found])

    return turn


def network(scratch: Path) -> SegmentationNetwork:
    """The network that is described, with the weights that are there; the authors' has the same ones."""
    weights = torch.load(scratch / "weights.pt", weights_only=True)
    made = build(json.loads((scratch / DESCRIPTION).read_text()), len(weights["classifier.score.weight"]))
    made.load_state_dict(weights)
    return made


def predict(scratch: Path, device: torch.device, precision: str, tta: dict[str, Any] | None) -> Turn:
    """Masks of whole images, other ones in each turn, as many at once as in the stages."""
    ready = for_prediction(network(scratch).to(device), precision)
    images, count = list(np.load(scratch / "images.npy")), 4 if tta is None else 1

    def turn(number: int) -> tuple[int, np.ndarray]:
        how, chosen, size = {**UNTILED, "precision": precision}, taken(images, number, count), WINDOW[device.type]
        windows = (chosen[first : first + size] for first in range(0, count, size))
        masks = [mask for window in windows for mask, _ in predict_masks(ready, window, device, how, tta)]
        return len(masks), np.array(masks)

    return turn


def train(scratch: Path, device: torch.device, precision: str) -> Turn:
    """One step of training after the other, without dropout, which no two programs draw alike."""
    model = network(scratch).to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0
    optimizer = make_optimizer([model], Training().model_dump())
    for group in optimizer.param_groups:
        group["lr"] = group["factor"] * 0.001 / 4
    batches, team = np.load(scratch / "batches.npz"), Team(device)

    def turn(number: int) -> tuple[int, np.ndarray]:
        pixels, masks = (torch.from_numpy(batches[key][number % len(batches[key])]) for key in ("images", "masks"))
        logits = forward(model, network_input(pixels, device, OF_IMAGENET), precision)
        loss = cross_entropy(logits, masks.to(device), team)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return len(pixels), np.array([loss.item()])

    return turn


def whole(scratch: Path) -> Turn:
    """All of ST++ to the last student, through Snakemake; the mIoU is that of the best epoch of the last student."""
    config: dict[str, Any] = yaml.safe_load((PROJECT / "experiments" / "pascal.yaml").read_text())
    config["data"] |= {"root": str(scratch)} | {name: f"{name}.txt" for name in ("labeled", "unlabeled")}
    config["data"]["val"] = "dataset/splits/pascal/val.txt"
    config["network"]["weights"] = str(scratch / BACKBONE) if (scratch / BACKBONE).exists() else "none"
    training = {"epochs": WHOLE["epochs"], "batch_size": WHOLE["batch"], "crop": WHOLE["crop"], "precision": "bf16"}
    training |= {"learning_rate": WHOLE["rate"] * 16 / WHOLE["batch"]}
    for role in ("teacher", "student"):
        config["training"][role] = {**config["training"]["teacher"], **training}
    config["prediction"] = {"precision": "bf16"}
    config["runtime"] = {"train": {"gpu": 0, "workers": 0}, "predict": {"gpu": 0}}
    config["experiments"] = {"st++": {"method": "st++"}}
    command = [sys.executable, "-m", "snakemake", "students", "--snakefile", str(PROJECT / "Snakefile"), "--cores", "1"]

    def turn(number: int) -> tuple[int, np.ndarray]:
        out = scratch / f"ours-{number}"
        out.mkdir()
        (out / "config.yaml").write_text(yaml.safe_dump(config | {"seeds": [number]}))
        subprocess.run([*command, "--configfile", "config.yaml"], cwd=out, check=True, stdout=sys.stderr)
        (metrics,) = out.glob("results/stages/train/student-phase2-*/metrics.csv")
        return 1, np.array([100 * pd.read_csv(metrics)["val_miou"].max()])

    return turn


def main() -> None:
    """Take turns at one kind of work."""
    options = arguments()
    prepare_process(threads=1)
    device, scratch = torch.device(options.device), options.scratch
    kind, _, detail = options.work.partition("-")
    turns = {
        "weak": lambda: data(options.work, scratch),
        "strong": lambda: data(options.work, scratch),
        "score": lambda: score(scratch, stored=detail == "stored"),
        "predict": lambda: predict(scratch, device, detail, None),
        "tta": lambda: predict(scratch, device, detail, PAPER),
        "whole": lambda: whole(scratch),
        "train": lambda: train(scratch, device, detail),
    }
    serve(turns[kind](), "ours", options)


if __name__ == "__main__":
    main()
