"""The work as segmentation_models.pytorch does it; started by `benchmarks/speed --peer smp`."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from turns import DESCRIPTION, Turn, arguments, serve, taken

TOLERANCE = 0.02
"""Share by which the numbers of parameters may differ: else the networks are not the same."""
NAMES = {"mobilenet_v2": "tu-mobilenetv2_100"}
"""Encoders that it calls otherwise, beside those of timm, `tu-NAME`. Its own MobileNetV2 ends in 1280 channels."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(scratch: Path) -> torch.nn.Module:
    """Its DeepLabv3+ on the encoder of the network that is described; SystemExit where that is another network."""
    import segmentation_models_pytorch as smp

    described = json.loads((scratch / DESCRIPTION).read_text())
    name = described["backbone"]
    encoder = f"tu-{name.removeprefix('timm/')}" if name.startswith("timm/") else NAMES.get(name, name)
    weights = torch.load(scratch / "weights.pt", weights_only=True)
    try:
        model: torch.nn.Module = smp.DeepLabV3Plus(
            encoder,
            encoder_weights=None,
            encoder_output_stride=described["output_stride"],
            decoder_channels=described["decoder_channels"],
            classes=len(weights["classifier.score.weight"]),
        )
    except KeyError:
        sys.exit(f"segmentation_models.pytorch has no encoder {encoder}; choose another --backbone")
    # In theirs, the second convolution comes before the upsampling; in DeepLabv3+ and in stpp, it comes after it.
    pooling, *second = model.decoder.aspp
    model.decoder.aspp, model.decoder.block2 = pooling, torch.nn.Sequential(model.decoder.block2, *second)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if message := unlike(parameters, parameters_in(weights)):
        sys.exit(message)
    return model


def parameters_in(weights: dict[str, torch.Tensor]) -> int:
    """How many parameters a state dict has: its values, but for the statistics of batch norms."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return sum(value.numel() for name, value in weights.items() if not name.endswith(statistics))


def unlike(theirs: int, ours: int) -> str:
    """What is wrong where the numbers of parameters differ by more than `TOLERANCE`."""
    if abs(theirs / ours - 1) <= TOLERANCE:
        return ""
    return f"not the same network: theirs has {theirs:,} parameters, that of stpp {ours:,}; choose another --backbone"


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W)."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255 - mean) / std


def predict(scratch: Path, device: str) -> Turn:
    """Masks of whole images, other ones in each turn."""
    model, images = network(scratch).to(device).eval(), list(np.load(scratch / "images.npy"))

    @torch.no_grad()
    def turn(number: int) -> tuple[int, np.ndarray]:
        masks = [
            model(normalised(image[None]).to(device)).argmax(dim=1).cpu().numpy()[0]
            for image in taken(images, number, 4)
        ]
        return len(masks), np.array(masks)

    return turn


def train(scratch: Path, device: str) -> Turn:
    """One step of training after the other, without dropout, as the other side."""
    model = network(scratch).to(device).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001 / 4, momentum=0.9, weight_decay=1e-4)
    batches = np.load(scratch / "batches.npz")

    def turn(number: int) -> tuple[int, np.ndarray]:
        pixels, masks = (batches[key][number % len(batches[key])] for key in ("images", "masks"))
        loss = criterion(model(normalised(pixels).to(device)), torch.from_numpy(masks).long().to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return len(pixels), np.array([loss.item()])

    return turn


def main() -> None:
    """Take turns at one kind of work."""
    options = arguments()
    torch.set_num_threads(1)
    turns: dict[str, Any] = {"predict": predict, "train": train}
    serve(turns[options.work.partition("-")[0]](options.scratch, options.device), "smp", options)


if __name__ == "__main__":
    main()
