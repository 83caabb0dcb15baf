"""The protocol between the benchmark and its contestants: a number in, a line of JSON out, turn by turn."""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stpp.data.augmentation import crop_box, rescale_size, sample_rng

T = TypeVar("T")

SIZE = (400, 300)
"""Of the images of "whole", in px."""
WHOLE = {"crop": 289, "batch": 4, "epochs": 4, "rate": 0.004}
"""Of its trainings: px, images, epochs, and the learning rate of the backbone for such a batch."""
BACKBONE = "pretrained/resnet50.pth"
"""In the scratch folder, where the authors' code looks for it: what the backbones of "whole" start from, if given."""

DESCRIPTION = "network.json"
"""In the scratch folder: the network of "predict" and "train" in stpp's words."""

Turn = Callable[[int], tuple[int, NDArray[np.generic]]]
"""Does the work of a turn; returns how many images that were, and what came out of it."""


def arguments() -> argparse.Namespace:
    """What each contestant is told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work")
    parser.add_argument("--device", required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--reference", type=Path)
    return parser.parse_args()


COUNT = 24
"""Of images, unless another number is asked for."""
CROP, BASE = 321, 400
"""Of the augmented images, in px."""


def spread(paths: Sequence[Path], count: int) -> Sequence[Path]:
    """`count` of the paths, equally far apart; all, where there are fewer."""
    return paths[:: max(1, len(paths) // count)][:count]


def taken(images: Sequence[T], number: int, count: int) -> list[T]:
    """`count` of the images, the next ones in each turn, over and over."""
    return [images[(number * count + each) % len(images)] for each in range(count)]


def drawn(shape: tuple[int, ...], number: int) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """The size that an image of `shape` is rescaled to, and the box that is cropped from that, as stpp draws them."""
    scale, place = (sample_rng(0, "student", 0, number, part) for part in ("scale", "crop"))
    size = rescale_size(shape, scale, scale=(0.5, 2.0), base_size=BASE)
    return size, crop_box(size, place, crop=CROP)


def peak_mb() -> float:
    """The most memory that this process has had since `forget_peak`, or one that it started and waited for, in MB."""
    status = Path("/proc/self/status").read_text().splitlines()
    own = int(next(line.split()[1] for line in status if line.startswith("VmHWM")))
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def forget_peak() -> None:
    """A process begins with the peak of the one that started it."""
    Path("/proc/self/clear_refs").write_text("5")


def processor_time() -> float:
    """Seconds of this process and of those that it has started and waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def serve(turn: Turn, side: str, options: argparse.Namespace) -> None:
    """Take turns until the input ends."""
    forget_peak()
    clock = processor_time if options.device == "cpu" else time.perf_counter
    for line in sys.stdin:
        started = clock()
        images, result = turn(int(line))
        seconds = clock() - started
        path = options.scratch / f"{options.work}-{side}-{int(line)}.npy"
        np.save(path, result)
        answer = {"seconds": seconds, "images": images, "peak_mb": peak_mb(), "result": str(path)}
        print(json.dumps(answer), flush=True)
