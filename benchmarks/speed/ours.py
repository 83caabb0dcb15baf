"""The work as stpp does it; started by `benchmarks/speed`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from turns import Turn, arguments, serve

from stpp.data.dataset import Sample, TrainingSet
from stpp.data.manifest import Row
from stpp.distributed import Team
from stpp.inference import network_input, predict_mask
from stpp.masks import MaskStore
from stpp.models import build
from stpp.models.folding import for_prediction
from stpp.models.network import SegmentationNetwork
from stpp.process import settle
from stpp.settings.training import StudentAugmentation
from stpp.stability import compare_masks, pairs, stability_scores
from stpp.train import forward, make_optimizer, masked_cross_entropy

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
WHOLE = {"long_side": None, "tile": None, "overlap": 64}
PAPER = {"scales": [0.5, 0.75, 1.0, 1.5, 2.0], "flip": True}


def data(work: str, scratch: Path) -> Turn:
    """Augmented and normalised images of one epoch; the first turn fills the cache."""
    augmentation, suffix = work.split("-")
    stores = (MaskStore(scratch / "masks-1.h5"),) if augmentation == "strong" else ()
    samples = []
    for line in (scratch / f"{suffix}.txt").read_text().split("\n"):
        image, mask = line.split(" ")
        row = Row(Path(image).stem, "unlabeled", str(scratch / image), str(scratch / mask), 360, 480, 1)
        samples.append(Sample(row, stores))
    settings = StudentAugmentation().model_dump()
    how: dict[str, Any] = {"crop": 321, "base_size": 400, "seed": 0, "role": "student", "cache": 10**9}
    dataset = TrainingSet(samples, {"classes": 21, "ignore_value": 255}, settings, **how)
    device = torch.device("cpu")

    def turn(number: int) -> tuple[int, np.ndarray]:
        for first in range(0, len(samples), 4):
            images = [dataset[number, index][0] for index in range(first, min(first + 4, len(samples)))]
            network_input(torch.stack(images), device)
        return len(samples), np.array([])

    return turn


def score(scratch: Path, *, stored: bool) -> Turn:
    """Stability scores of masks in memory, or in stores."""
    masks, compared = np.load(scratch / "masks.npy"), pairs(3, "mean")
    stores = [MaskStore(scratch / f"masks-{k}.h5") for k in (1, 2, 3)]

    def turn(number: int) -> tuple[int, np.ndarray]:
        if stored:
            return len(masks), np.array([np.mean(compare_masks(stores, id, compared)[1:]) for id in stores[0].ids])
        return len(masks), np.array([stability_scores(image, 21, compared)[0].mean() for image in masks])

    return turn


def network(scratch: Path) -> SegmentationNetwork:
    """The network with the weights that both sides have."""
    made = build(NETWORK, 21)
    made.load_state_dict(torch.load(scratch / "weights.pt", weights_only=True))
    return made


def predict(scratch: Path, device: torch.device, precision: str, tta: dict[str, Any] | None) -> Turn:
    """Masks of whole images."""
    ready = for_prediction(network(scratch).to(device), precision)
    images = np.load(scratch / "images.npy")[: 4 if tta is None else 1]

    def turn(number: int) -> tuple[int, np.ndarray]:
        masks = [predict_mask(ready, image, device, {**WHOLE, "precision": precision}, tta) for image in images]
        return len(images), np.array(masks)

    return turn


def train(scratch: Path, device: torch.device, precision: str) -> Turn:
    """One step of training after the other, without dropout, which no two programs draw alike."""
    model = network(scratch).to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0
    optimizer = make_optimizer(model, {"head_multiplier": 10.0, "momentum": 0.9, "weight_decay": 1e-4})
    for group in optimizer.param_groups:
        group["lr"] = group["factor"] * 0.001 / 4
    batches, team = np.load(scratch / "batches.npz"), Team(device)

    def turn(number: int) -> tuple[int, np.ndarray]:
        pixels, masks = (torch.from_numpy(batches[key][number % len(batches[key])]) for key in ("images", "masks"))
        logits = forward(model, network_input(pixels, device), precision)
        loss = masked_cross_entropy(logits, masks.to(device), team)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return len(pixels), np.array([loss.item()])

    return turn


def main() -> None:
    """Take turns at one kind of work."""
    options = arguments()
    settle(threads=1)
    device, scratch = torch.device(options.device), options.scratch
    kind, _, detail = options.work.partition("-")
    turns = {
        "weak": lambda: data(options.work, scratch),
        "strong": lambda: data(options.work, scratch),
        "score": lambda: score(scratch, stored=detail == "stored"),
        "predict": lambda: predict(scratch, device, detail, None),
        "tta": lambda: predict(scratch, device, detail, PAPER),
        "train": lambda: train(scratch, device, detail),
    }
    serve(turns[kind](), "ours", options.device, scratch)


if __name__ == "__main__":
    main()
