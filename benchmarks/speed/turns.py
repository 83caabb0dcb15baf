"""The protocol between the benchmark and its contestants: a number in, a line of JSON out, turn by turn."""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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


def serve(turn: Turn, side: str, device: str, scratch: Path) -> None:
    """Take turns until the input ends."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    for line in sys.stdin:
        started = clock()
        images, result = turn(int(line))
        seconds = clock() - started
        path = scratch / f"{side}-{int(line)}.npy"
        np.save(path, result)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "images": images, "peak_mb": peak, "result": str(path)}), flush=True)
