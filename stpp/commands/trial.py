"""How fast a network trains and predicts on this machine, and in how much memory: a few steps on random pixels."""

import resource
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from stpp.commands.estimate import Speeds, Work
from stpp.common.bands import bands_in
from stpp.engine.distributed import Team
from stpp.engine.inference import network_input, predict_mask
from stpp.engine.losses import cross_entropy
from stpp.engine.optimisation import forward, make_optimizer
from stpp.models import build
from stpp.models.folding import for_prediction
from stpp.plan.computation import pixels_of_iteration
from stpp.runtime.process import prepare_process

STEPS, PATIENCE = 3, 4.0
"""Times that an action is measured, or fewer where these take so many seconds."""
DATA = 1.1
"""How much longer a step takes that has to read and to augment its images."""


class Trial(NamedTuple):
    """The `threads` of a trial, seconds of a `step` of the training, the `speeds`, and the network's `parameters`.

    The step is in the `precision` of the training.

    `memory` and `gpu_memory` are the bytes that a training takes, about, of the main memory and of that of the GPU; one
    of them is 0, as nothing tells what a trial on a GPU takes of the main memory.
    """

    threads: int
    step: float
    speeds: Speeds
    parameters: int
    memory: int = 0
    gpu_memory: int = 0
    precision: str = "fp32"


def tried(settings: Mapping[str, Any], threads: int, gpu: bool, most: int | None = None) -> Trial:
    """A trial of the network of a training, which has these settings of a stage.

    A batch has at most `most` images; the results are those of a full one, as if time and memory grew with the images.
    """
    prepare_process(threads)
    device, training = torch.device("cuda" if gpu else "cpu"), settings["training"]
    network = build(settings["network"], len(settings["classes"]), bands_in(settings))
    network = network.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer, team, rng = make_optimizer([network], training), Team(device), np.random.default_rng(0)
    size, crop = min(training["batch_size"], most or training["batch_size"]), training["crop"]
    part = Fraction(training["batch_size"], size)
    pixels = torch.from_numpy(rng.integers(0, 256, (size, crop, crop, network.backbone.bands), np.uint8))
    labels = torch.from_numpy(rng.integers(0, len(settings["classes"]), (size, crop, crop), np.uint8)).to(device)

    def step() -> None:
        logits = forward(network, network_input(pixels, device, network.backbone.normalisation), training["precision"])
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(logits, labels, team).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    speeds, before = Speeds(), _held(gpu)
    duration = DATA * float(part) * _seconds(step, gpu)
    memory = int(before + part * max(0, _most(gpu) - before))
    speeds.add("train", Work(trained=float(pixels_of_iteration(settings))), duration)
    how = settings["prediction"] or {"precision": "fp32", "long_side": None, "tile": None, "overlap": None}
    side = how["long_side"] or training["base_size"]
    image, ready = (
        rng.integers(0, 256, (side, side, network.backbone.bands), np.uint8),
        for_prediction(network, how["precision"]),
    )
    seconds = _seconds(lambda: predict_mask(ready, image, device, {**how, "long_side": None}), gpu)
    speeds.add("predict", Work(predicted=float(side**2)), DATA * seconds)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    held = (0, memory) if gpu else (memory, 0)
    return Trial(threads, duration, speeds, parameters, *held, training["precision"])


def _held(gpu: bool) -> int:
    """Bytes that this process holds now."""
    if gpu:
        return torch.cuda.memory_reserved()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _most(gpu: bool) -> int:
    """The most bytes that this process has held."""
    return torch.cuda.max_memory_reserved() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _seconds(action: Callable[[], Any], gpu: bool) -> float:
    """The fewest seconds that an action takes, after a first time: other programs only make it slower."""
    found: list[float] = []
    while len(found) < 2 or (len(found) <= STEPS and sum(found) < PATIENCE):
        start = time.perf_counter()
        action()
        if gpu:
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found[1:])
