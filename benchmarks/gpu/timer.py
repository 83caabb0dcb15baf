"""How often something can be done in a second, on a CPU or on a GPU."""

import time
from collections.abc import Callable

import torch


def rate(turn: Callable[[int], object], seconds: float, device: torch.device) -> float:
    """Turns a second, after three that are not measured; each ends when the device has done all of it.

    `turn` gets its number, from 0. At least one is measured.
    """

    def done(number: int) -> None:
        turn(number)
        if device.type == "cuda":
            torch.cuda.synchronize()

    for number in range(3):
        done(number)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds or not count:
        done(count)
        count += 1
    return count / (time.perf_counter() - began)
