"""What saving the state of a training costs, as a share of the interval between two saves.

    python benchmarks/saving.py

For each network the state (weights, momentum, best epoch) is saved several times, interleaved with the others. `held`
is how long the training waits; `CPU` is all the processor time of a save, the writing in the background included, which
a training on the CPU loses. The interval is the default of runtime.save_minutes; both must stay below 2 % of it.
"""

import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from stpp.engine.distributed import Team
from stpp.engine.optimisation import make_optimizer
from stpp.engine.resume import Saver, TrainingState
from stpp.models import build
from stpp.settings.config import RuntimeSettings
from stpp.settings.training import Training

LIMIT = 0.02
REPEATS = 5
NETWORKS = [("deeplabv3plus", "tiny"), ("deeplabv3plus", "mobilenet_v2"), ("deeplabv3plus", "resnet50")]
NETWORKS += [("pspnet", "resnet101"), ("deeplabv2", "resnet101")]


def state_of(architecture: str, backbone: str) -> TrainingState:
    """A training after its first step: every parameter has its momentum, and there is a best epoch."""
    description = {"architecture": architecture, "backbone": backbone, "output_stride": 8, "rates": [6, 12, 18]}
    description |= {"head_channels": None, "decoder_channels": 256, "low_level_channels": 48, "dropout": 0.5}
    network = build(description, 21)
    optimizer = make_optimizer([network], Training().model_dump())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    best = {"miou": 0.5, "epoch": 1, "state_dict": weights}
    return TrainingState({"student": network}, network, optimizer, torch.zeros(()), best=best)


def main() -> int:
    """Print the figures; exits with 1 if a network takes more than the limit."""
    interval = 60 * RuntimeSettings().save_minutes
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {REPEATS} saves each")
    print(f"interval {interval:.0f} s, limit {100 * LIMIT:.0f} %\n")
    held: dict[str, list[float]] = {}
    used: dict[str, list[float]] = {}
    sizes: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training.pt"
        for _ in range(REPEATS):
            for architecture, backbone in NETWORKS:
                name = f"{architecture} {backbone}"
                state = state_of(architecture, backbone)
                cpu = time.process_time()
                with Saver(path, Team(torch.device("cpu"))) as saver:
                    started = time.perf_counter()
                    saver.save(state)
                    held.setdefault(name, []).append(time.perf_counter() - started)
                used.setdefault(name, []).append(time.process_time() - cpu)
                sizes[name] = path.stat().st_size / 1e6
    print(f"{'network':28} {'MB':>5} {'held: median, min..max s':>26} {'share':>7} {'CPU: the same':>22} {'share':>7}")
    worst = 0.0
    for name in held:
        cells = []
        for times in (held[name], used[name]):
            share = statistics.median(times) / interval
            worst = max(worst, share)
            cells.append(f"{statistics.median(times):.3f}, {min(times):.3f}..{max(times):.3f} {100 * share:6.2f}%")
        print(f"{name:28} {sizes[name]:5.0f} {cells[0]:>34} {cells[1]:>30}")
    return 1 if worst > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
