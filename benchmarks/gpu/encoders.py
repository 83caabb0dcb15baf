"""How many images a second an encoder of timm's turns into features; started by `benchmarks/gpu`."""

import argparse
import json
import time
from pathlib import Path

import torch

from stpp.engine.inference import BATCH_PIXELS
from stpp.models import build
from stpp.models.blocks import to_multiple
from stpp.models.folding import PRECISIONS, for_prediction
from stpp.runtime.process import prepare_process

SECONDS = 5.0
"""How long each precision is measured, after three batches that are not."""


def main() -> None:
    """Write the rates in each precision, the number of parameters and the peak of memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("encoder", help="its name, such as timm/vit_small_patch14_dinov2; its weights are random")
    parser.add_argument("--size", type=int, default=518, help="side of the images, in px; default: %(default)s")
    parser.add_argument("--batch", type=int, help="images at a time; default: as many as the stage encode takes")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"), help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each precision; default: %(default)s")
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures to")
    options = parser.parse_args()
    options.batch = options.batch or max(1, BATCH_PIXELS // options.size**2)
    prepare_process(threads=1)
    device = torch.device(options.device)
    network = build({"backbone": options.encoder, "architecture": "linear", "output_stride": 32}, 2).to(device)
    found: dict[str, float] = {"parameters": sum(each.numel() for each in network.backbone.parameters()) / 1e6}
    for precision in ("bf16", "fp32"):
        found[precision] = rate(network, precision, options, device)
    if device.type == "cuda":
        found["memory"] = torch.cuda.max_memory_allocated() / 1e9
    options.json.write_text(json.dumps(found))


@torch.inference_mode()
def rate(network: torch.nn.Module, precision: str, options: argparse.Namespace, device: torch.device) -> float:
    """Images a second through the encoder, as predictions use it; their sides are the nearest that it takes."""
    encoder = for_prediction(network, precision).backbone  # type: ignore[arg-type]
    images = torch.rand(options.batch, 3, options.size, options.size, device=device, dtype=PRECISIONS[precision])
    images = to_multiple(images, encoder.multiple_of).to(memory_format=torch.channels_last)
    for _ in range(3):
        encoder(images)
    waited(device)
    began, batches = time.perf_counter(), 0
    while time.perf_counter() - began < options.seconds:
        encoder(images)
        batches += 1
        waited(device)
    return float(batches * options.batch / (time.perf_counter() - began))


def waited(device: torch.device) -> None:
    """All that is queued is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
