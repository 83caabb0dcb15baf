"""How near training comes to what the hardware can do.

    python benchmarks/speed/floor.py

Three rates of one network: what the device reaches in multiplying matrices, what the bare training step reaches on a
batch that lies in memory, and what `stpp train` reaches with strong augmentation. The stage is run for one epoch and
for several; the difference is what an epoch costs once images are decoded. It and the bare step take turns. On a CPU,
processor time of one thread is measured, data loading included; on a GPU wall time, with loader processes. Then the
rate of a bare prediction. Operations are counted from the layers' sizes: where a dilated convolution skips the padding,
its rate can exceed that of multiplying matrices.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from stpp.engine.distributed import Team
from stpp.engine.inference import network_input
from stpp.engine.losses import cross_entropy
from stpp.engine.optimisation import forward, make_optimizer
from stpp.models import build
from stpp.models.folding import PRECISIONS, for_prediction
from stpp.models.network import OF_IMAGENET, SegmentationNetwork
from stpp.runtime.job import Job, Runtime
from stpp.runtime.process import prepare_process
from stpp.stages import train

PROJECT = Path(__file__).parents[2]
EPOCHS = (2, 4)
TARGET = {"cpu": 0.97, "cuda": 0.95}
STRONG: dict[str, Any] = {"jitter": {}, "grayscale": {}, "blur": {}, "cutout": {}}


def main() -> None:
    """Print the rates and the shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backbone", default="resnet50", help="of DeepLabv3+; default: %(default)s")
    parser.add_argument("--precision", default="bf16", choices=PRECISIONS, help="default: %(default)s")
    parser.add_argument("--crop", type=int, default=321, help="px; default: %(default)s")
    parser.add_argument("--batch", type=int, default=4, help="images; default: %(default)s")
    parser.add_argument("--images", type=int, default=12, help="of an epoch; default: %(default)s")
    parser.add_argument("--turns", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: %(default)s")
    options = parser.parse_args()
    prepare_process(threads=1)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory(prefix="stpp-floor-") as folder:
        stages = planned(Path(folder), options)
        settings = Job(stages[0], "train").settings
        step = BareStep(settings, options, device)
        staged, bare = [], []
        for _ in range(options.turns):
            few, many = (seconds(partial(run, stage, device), device) for stage in stages)
            staged.append((many - few) / ((EPOCHS[1] - EPOCHS[0]) * (options.images // options.batch)))
            bare.append(statistics.median(seconds(step, device) for _ in range(5)))
    limit = matrix_rate(PRECISIONS[options.precision], device)
    shares = sorted(b / s for b, s in zip(bare, staged))
    print(f"DeepLabv3+ {options.backbone}, {options.precision}, crop {options.crop}, batch {options.batch}, {device}")
    reached = flops(step) / statistics.median(bare)
    print(f"matrix products  {limit / 1e9:9.0f} GFLOP/s")
    print(f"bare step        {reached / 1e9:9.0f} GFLOP/s, {reached / limit:.0%} of that")
    print(f"bare step        {options.batch / statistics.median(bare):9.3g} images/s")
    share = f"{statistics.median(shares):.1%} of that ({shares[0]:.1%} to {shares[-1]:.1%})"
    print(f"stpp train       {options.batch / statistics.median(staged):9.3g} images/s, {share}", end="")
    print(f"; target: {TARGET[device.type]:.0%}")
    predict = prediction(step.network, options.precision, device)
    predict()
    count = flops(prediction(step.network, "fp32", device))  # PyTorch's counter knows no packed convolutions
    reached = count / statistics.median(seconds(predict, device) for _ in range(5))
    print(f"prediction       {reached / 1e9:9.0f} GFLOP/s, {reached / limit:.0%} of matrix products, 480 x 360")


def planned(folder: Path, options: argparse.Namespace) -> list[Path]:
    """Stages that train for each of `EPOCHS`, on the demo's scenes."""
    config: dict[str, Any] = yaml.safe_load((PROJECT / "config.yaml").read_text())
    config["data"]["demo"] |= {"labeled": options.images, "unlabeled": 1, "val": 1, "test": 0}
    config["network"] = {"architecture": "deeplabv3plus", "backbone": options.backbone, "weights": "none"}
    training = {"batch_size": options.batch, "crop": options.crop, "base_size": 400, "precision": options.precision}
    training |= {"labeled_repeat": 1, "validate_every": 0, "learning_rate": 0.001}
    config["training"] = {"teacher": training, "student": training}
    config["augmentation"] = {"teacher": {"labeled": STRONG}}
    config["selection"] = {"checkpoints": 2}
    config["experiments"] = {
        f"epochs{epochs}": {"method": "suponly", "training": {"teacher": {"epochs": epochs}}} for epochs in EPOCHS
    }
    os.chdir(folder)
    Path("config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "stpp"]
    subprocess.run([*command, "index", "config.yaml"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*command, "plan", "--recipes", "config.yaml"], check=True, stdout=subprocess.DEVNULL)
    stages = [path.parent.resolve() for path in Path("results/stages/train").glob("*/recipe.json")]
    return sorted(stages, key=lambda path: int(Job(path, "train").settings["training"]["epochs"]))


def run(stage: Path, device: torch.device) -> None:
    """Train the stage, in this process; on a GPU with processes that load data."""
    runtime = Runtime(device=device.type, gpus=int(device.type == "cuda"), workers=12 * (device.type == "cuda"))
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        train.run(Job(stage, "train"), runtime)


class BareStep:
    """Forward, backward and update, on one batch that is augmented and normalised already."""

    def __init__(self, settings: Mapping[str, Any], options: argparse.Namespace, device: torch.device) -> None:
        self.precision, self.team = options.precision, Team(device)
        network: SegmentationNetwork = build(settings["network"], len(settings["classes"]))
        self.network = network.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.optimizer = make_optimizer([self.network], settings["training"])
        shape = (options.batch, options.crop, options.crop)
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (*shape, 3), dtype=torch.uint8, generator=generator)
        self.images = network_input(pixels, device, OF_IMAGENET)
        self.masks = torch.randint(len(settings["classes"]), shape, dtype=torch.uint8, generator=generator).to(device)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        logits = forward(self.network, self.images, self.precision)
        cross_entropy(logits, self.masks, self.team).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def prediction(network: SegmentationNetwork, precision: str, device: torch.device) -> Callable[[], object]:
    """The logits of one image of 480 x 360, by the network as predictions use it."""
    ready = for_prediction(network, precision)
    image = network_input(torch.zeros(1, 360, 480, 3, dtype=torch.uint8), device, OF_IMAGENET).to(PRECISIONS[precision])
    return torch.inference_mode()(partial(ready, image))


def flops(work: Callable[[], object]) -> int:
    """Floating point operations, a multiplication with an addition counted as two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def matrix_rate(kind: torch.dtype, device: torch.device) -> float:
    """Floating point operations a second of the fastest of several products of square matrices."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.rand(size, size, device=device).to(kind) for _ in range(2))

    def product() -> Tensor:
        return a @ b

    return 2 * size**3 / min(seconds(product, device) for _ in range(8))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Processor time of this process on a CPU, wall time on a GPU."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    started = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


if __name__ == "__main__":
    main()
