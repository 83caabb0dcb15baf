"""How near training comes to what the hardware can do.

    python benchmarks/speed/floor.py
    python benchmarks/speed/floor.py --method unimatch

Three rates of one network: what the device reaches in multiplying matrices, what the bare training step reaches on a
batch that lies in memory, and what `stpp train` reaches with strong augmentation. Of a method with unlabeled images in
every step, the bare step is the same forward and backward passes of its networks, without labels and mixing. The stage
is run for a few epochs and for twice as many; the difference is what an epoch costs once images are decoded. It and the
bare step take turns. On a CPU, processor time of one thread is measured, data loading included; on a GPU wall time,
with loader processes. Then the same of predictions: the network's rate on a batch that lies in the device's memory, and
that of `predict_masks` from images to masks in main memory. Operations are counted from the layers' sizes: where a
dilated convolution skips the padding, its rate can exceed that of multiplying matrices.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from stpp.data.augmentation import sample_rng
from stpp.data.streams import joined
from stpp.engine.batch import Moment, on_device
from stpp.engine.distributed import Team
from stpp.engine.inference import network_input, predict_masks
from stpp.engine.losses import cross_entropy
from stpp.engine.networks import Net, networks_of, trained
from stpp.engine.optimisation import make_optimizer
from stpp.methods import methods, step_of
from stpp.models.folding import PRECISIONS, for_prediction
from stpp.models.network import SegmentationNetwork
from stpp.runtime.job import Job, Runtime
from stpp.runtime.process import prepare_process
from stpp.stages import train

PROJECT = Path(__file__).parents[2]
EPOCHS = (2, 4)
ONLINE = [
    method.name
    for method in methods()
    if method.online and method.settings and not method.online.companions(method.settings())
]
"""The methods whose step is made of passes through networks alone: further small networks have no bare step here."""
REPEATS = {"cpu": 1, "cuda": 20}
"""Steps that are timed together: a GPU would wait for orders where each is waited for."""
AT_ONCE = {"cpu": 1, "cuda": 12}
"""Images of 480 x 360 that go through the network together in predictions, by type of device."""
TARGET = {"cpu": 0.97, "cuda": 0.95}
STRONG: dict[str, Any] = {"jitter": {}, "grayscale": {}, "blur": {}, "cutout": {}}


def main() -> None:
    """Print the rates and the shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--method", default="suponly", choices=("suponly", *ONLINE), help="default: %(default)s")
    parser.add_argument("--backbone", default="resnet50", help="of DeepLabv3+; default: %(default)s")
    parser.add_argument("--precision", default="bf16", choices=PRECISIONS, help="default: %(default)s")
    parser.add_argument("--crop", type=int, default=321, help="px; default: %(default)s")
    parser.add_argument("--batch", type=int, default=4, help="images; default: %(default)s")
    parser.add_argument("--workers", type=int, default=12, help="loader processes on a GPU; default: %(default)s")
    parser.add_argument("--images", type=int, default=12, help="of an epoch; default: %(default)s")
    parser.add_argument("--turns", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    prepare_process(threads=1)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory(prefix="stpp-floor-") as folder:
        stages = planned(Path(folder), options)
        with redirect_stdout(io.StringIO()):
            step = BareStep(Job(stages[0], "train"), device)
        if device.type == "cuda":
            run(stages[0], device, options.workers)  # which starts the device, and finds its kernels
        staged, bare = [], []
        for _ in range(options.turns):
            few, many = (seconds(partial(run, stage, device, options.workers), device) for stage in stages)
            staged.append((many - few) / ((EPOCHS[1] - EPOCHS[0]) * step.per_epoch))
            bare.append(statistics.median(seconds(step, device, REPEATS[device.type]) for _ in range(5)))
    limit = matrix_rate(PRECISIONS[options.precision], device)
    shares = sorted(b / s for b, s in zip(bare, staged))
    network = f"DeepLabv3+ {options.backbone}, {options.precision}"
    print(f"{options.method}, {network}, crop {options.crop}, batch {options.batch}, {device}")
    reached = flops(step) / statistics.median(bare)
    print(f"matrix products  {limit / 1e9:9.0f} GFLOP/s")
    print(f"bare step        {reached / 1e9:9.0f} GFLOP/s, {reached / limit:.0%} of that")
    print(f"bare step        {options.batch / statistics.median(bare):9.3g} images/s")
    share = f"{statistics.median(shares):.1%} of that ({shares[0]:.1%} to {shares[-1]:.1%})"
    print(f"stpp train       {options.batch / statistics.median(staged):9.3g} images/s, {share}", end="")
    print(f"; target: {TARGET[device.type]:.0%}")
    predict = prediction(step.network, options.precision, device)
    alone, whole = (min(seconds(work, device) for _ in range(6)) / AT_ONCE[device.type] for work in predict)
    count = flops(prediction(step.network, "fp32", device)[0])  # PyTorch's counter knows no packed convolutions
    reached = count / AT_ONCE[device.type] / alone
    print(f"prediction       {reached / 1e9:9.0f} GFLOP/s, {reached / limit:.0%} of matrix products, 480 x 360")
    print(f"bare prediction  {1 / alone:9.3g} images/s")
    print(f"predict_masks    {1 / whole:9.3g} images/s, {alone / whole:.1%} of that")
    if options.json:
        trained = {"bare": options.batch / statistics.median(bare), "staged": options.batch / statistics.median(staged)}
        shares_of = {"share": statistics.median(shares), "low": shares[0], "high": shares[-1]}
        predicted = {"predict_bare": 1 / alone, "predict": 1 / whole, "predict_share": alone / whole}
        options.json.write_text(json.dumps({"matrices": limit / 1e12, **trained, **shares_of, **predicted}))


def planned(folder: Path, options: argparse.Namespace) -> list[Path]:
    """Stages that train for each of `EPOCHS`, on the demo's scenes."""
    config: dict[str, Any] = yaml.safe_load((PROJECT / "config.yaml").read_text())
    config["data"]["demo"] |= {"labeled": options.images, "unlabeled": options.images, "val": 1, "test": 0}
    config["network"] = {"architecture": "deeplabv3plus", "backbone": options.backbone, "weights": "none"}
    training = {"batch_size": options.batch, "crop": options.crop, "base_size": 400, "precision": options.precision}
    training |= {"labeled_repeat": 1, "validate_every": 0, "learning_rate": 0.001}
    config["training"] = {"teacher": training, "student": training}
    config["augmentation"] = {"teacher": {"labeled": STRONG}, "student": {"unlabeled": STRONG}}
    config["selection"] = {"checkpoints": 2}
    config["experiments"] = {
        f"epochs{epochs}": {
            "method": options.method,
            "training": {"teacher": {"epochs": epochs}, "student": {"epochs": epochs}},
        }
        for epochs in EPOCHS
    }
    os.chdir(folder)
    Path("config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "stpp"]
    subprocess.run([*command, "index", "config.yaml"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*command, "plan", "--recipes", "config.yaml"], check=True, stdout=subprocess.DEVNULL)
    stages = [path.parent.resolve() for path in Path("results/stages/train").glob("*/recipe.json")]
    return sorted(stages, key=lambda path: int(Job(path, "train").settings["training"]["epochs"]))


def run(stage: Path, device: torch.device, workers: int) -> None:
    """Train the stage, in this process; on a GPU with processes that load data."""
    gpu = device.type == "cuda"
    runtime = Runtime(device=device.type, gpus=int(gpu), workers=workers * gpu)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        train.run(Job(stage, "train"), runtime)


class BareStep:
    """The forward and backward passes of a step, and the update, on images that are augmented and normalised."""

    def __init__(self, job: Job, device: torch.device) -> None:
        self.team = Team(device)
        method, own = step_of(job.settings) or (train.SELF_TRAINING, None)
        views = method.views(own)
        dataset, batches = train.training_data(job, method, views, 0)
        self.per_epoch, total = batches.batches_per_epoch, len(batches)
        nets = networks_of(method.networks, job.settings, None, None, self.team, lambda part: 0, compile=False)
        self.network = nets[method.result].module
        for net in nets.values():
            net.module.train()
        self.optimizer = make_optimizer(trained(nets), job.settings["training"])
        self.calls: list[Call] = []
        loaded = joined([dataset[key] for key in next(iter(batches))])
        batch = on_device(loaded, views, device, self.network.normalisation, lambda *draw: sample_rng(0, *draw))
        recorded = {name: Recorder(net, self.calls) for name, net in nets.items()}
        method.step(batch, recorded, own, Moment(total - 1, self.per_epoch, total, self.team))
        generator = torch.Generator().manual_seed(0)
        self.masks = [
            [
                torch.randint(each.shape[1], each[:, 0].shape, dtype=torch.uint8, generator=generator).to(device)
                for each in of(call())
            ]
            for call in self.calls
        ]

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        losses = [
            cross_entropy(logits, masks, self.team)
            for call, known in zip(self.calls, self.masks)
            for logits, masks in zip(of(call()), known)
            if logits.requires_grad
        ]
        sum(losses).backward()  # type: ignore[union-attr]
        self.optimizer.step()


Call = Callable[[], Any]
"""A pass of images through a network: gives logits, or a pair of them."""


class Recorder:
    """A network of a step that notes in `calls` what is asked of it."""

    def __init__(self, net: Net, calls: list[Call]) -> None:
        self.net, self.calls, self.module = net, calls, net.module

    def __call__(self, images: Tensor) -> Any:
        return self.noted(self.net, images)

    def evaluated(self, images: Tensor) -> Any:
        return self.noted(self.net.evaluated, images)

    def perturbed(self, images: Tensor, dropped: Any) -> Any:
        return self.noted(self.net.perturbed, images, dropped)

    def dropped(self, images: Tensor, dropped: Any) -> Any:
        return self.noted(self.net.dropped, images, dropped)

    def noted(self, method: Callable[..., Any], *arguments: Any) -> Any:
        self.calls.append(torch.set_grad_enabled(torch.is_grad_enabled())(partial(method, *arguments)))
        return self.calls[-1]()


def of(found: Any) -> tuple[Tensor, ...]:
    """The logits of a call."""
    return found if isinstance(found, tuple) else (found,)


def prediction(
    network: SegmentationNetwork, precision: str, device: torch.device
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The logits of images of 480 x 360 by the network as predictions use it, and their masks from the images on."""
    ready = for_prediction(network, precision)
    pictures = [np.zeros((360, 480, 3), np.uint8)] * AT_ONCE[device.type]
    pixels = torch.from_numpy(np.stack(pictures))
    images = network_input(pixels, device, network.normalisation).to(PRECISIONS[precision])
    how = {"precision": precision, "long_side": None, "tile": None, "overlap": 0}
    return torch.inference_mode()(partial(ready, images)), partial(predict_masks, ready, pictures, device, how)


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


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Processor time of this process on a CPU, wall time on a GPU, for one of so many times."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    started = clock()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (clock() - started) / repeats


if __name__ == "__main__":
    main()
