"""How many images a second an encoder of timm's turns into features; started by `benchmarks/gpu`."""

import argparse
import json
from pathlib import Path

import timer
import torch

from stpp.engine.inference import images_at_once
from stpp.models import build
from stpp.models.blocks import to_multiple
from stpp.models.folding import PRECISIONS, for_prediction
from stpp.runtime.process import prepare_process

SECONDS = 5.0
"""How long each precision is measured."""


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
    options.batch = options.batch or images_at_once(options.size, options.size)
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
    return timer.rate(lambda _: encoder(images), options.seconds, device) * float(options.batch)


if __name__ == "__main__":
    main()
