"""Train a network for the benchmark that is sure of what it sees.

    python benchmarks/speed/trainer.py --images camvid/JPEGImages --masks camvid/SegmentationClass r50.pt

A DeepLabv3+ with ResNet-50 from random weights, on all images but those that the benchmark predicts. Most of it is done
at output stride 16 and half the dilations, which sees as far as output stride 8 in a third of the time; the end at 8.
"""

import argparse
import statistics
from pathlib import Path

import torch
from ours import NETWORK
from PIL import Image
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from turns import COUNT, spread

from stpp.data.dataset import EpochBatches, Sample, TrainingSet
from stpp.data.manifest import Row
from stpp.engine.distributed import Team
from stpp.engine.inference import network_input
from stpp.engine.losses import cross_entropy
from stpp.engine.optimisation import forward
from stpp.models import build
from stpp.models.folding import PRECISIONS
from stpp.runtime.process import prepare_process
from stpp.store.checkpoint import save_checkpoint

CROP, BATCH, RATE, WARM_UP = 241, 6, 1e-3, 20
AT_16 = {**NETWORK, "output_stride": 16, "rates": [6, 12, 18], "dropout": 0.2}
LAST = 0.1
"""Share of the iterations that are done at output stride 8."""
AUGMENTATION = {"scale": [0.75, 1.5], "flip": 0.5}


def main() -> None:
    """Train, and write the checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="the checkpoint to write")
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--masks", type=Path, required=True, help="folder of their masks, of the same names")
    parser.add_argument("--classes", type=int, default=11, help="default: %(default)s, CamVid's")
    parser.add_argument("--count", type=int, default=COUNT, help="images that are left out; default: %(default)s")
    parser.add_argument("--iterations", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--precision", default="bf16", choices=PRECISIONS, help="default: %(default)s")
    options = parser.parse_args()
    prepare_process(options.threads)
    torch.manual_seed(0)
    device = torch.device("cpu")
    dataset = training_set(options)
    batches = iter(EpochBatches(len(dataset), BATCH, options.iterations, 0, "teacher"))
    network = build(AT_16, options.classes).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = AdamW(network.parameters(), lr=RATE, weight_decay=0.02)
    schedule = LambdaLR(optimizer, lambda i: min(1, (i + 1) / WARM_UP) * max(0, 1 - i / options.iterations) ** 0.9)
    losses: list[float] = []
    for iteration in range(options.iterations):
        if iteration == round((1 - LAST) * options.iterations):
            finer = build(NETWORK, options.classes)
            for here, there in zip(network.modules(), finer.modules(), strict=True):
                if isinstance(here, torch.nn.Conv2d):
                    here.stride, here.padding, here.dilation = there.stride, there.padding, there.dilation
        images, masks = zip(*(dataset[key] for key in next(batches)))
        logits = forward(network, network_input(torch.stack(images), device, network.normalisation), options.precision)
        loss = cross_entropy(logits, torch.stack(masks), Team(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if not (iteration + 1) % 20:
            print(f"iteration {iteration + 1}: loss {statistics.mean(losses[-20:]):.4f}", flush=True)
    settings = {"network": {**NETWORK, "weights": "none"}, "classes": [f"class {c}" for c in range(options.classes)]}
    save_checkpoint(options.out, network.state_dict(), settings, options.iterations, network.normalisation)
    print(f"Wrote {options.out}")


def training_set(options: argparse.Namespace) -> TrainingSet:
    """All images but those that the benchmark predicts."""
    paths = sorted(options.images.iterdir())
    samples = []
    for path in sorted(set(paths) - set(spread(paths, options.count))):
        with Image.open(path) as image:
            width, height = image.size
        mask = str(options.masks / f"{path.stem}.png")
        samples.append(Sample(Row(path.stem, "labeled", str(path), mask, height, width, 0)))
    encoding, augmentation = {"classes": options.classes, "ignore_value": 255}, {"labeled": AUGMENTATION}
    return TrainingSet(
        samples, encoding, augmentation, crop=CROP, base_size=480, seed=0, role="teacher", cache=2 * 10**9
    )


if __name__ == "__main__":
    main()
