"""How fast a core augments images for a student, and how fast the device would, by torchvision's transforms.

Started by `benchmarks/gpu`. Both rescale, crop, flip, change colours, blur and erase with the settings of ST++. Each
image has draws of its own, so on a device each passes alone.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from stpp.data.augmentation import augment
from stpp.runtime.process import prepare_process
from stpp.settings.training import StrongAugmentation

HEIGHT, WIDTH = 360, 480
STRONG = StrongAugmentation().model_dump()


def main() -> None:
    """Write the images a second of one core and of the device, and how many cores equal it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--crop", type=int, default=321, help="in px; default: %(default)s")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"), help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each way; default: %(default)s")
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures to")
    options = parser.parse_args()
    prepare_process(threads=1)
    pixels = np.random.default_rng(0).integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
    ways = {"core": by_stpp(pixels, options.crop), "device": by_torchvision(pixels, options.crop, options.device)}
    found = {way: rate(each, options.seconds, options.device) for way, each in ways.items()}
    options.json.write_text(json.dumps(found | {"cores": found["device"] / found["core"]}))


def by_stpp(pixels: np.ndarray, crop: int) -> Callable[[int], object]:
    """What a loader process does to an image; the argument is the number of the draw."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    how = {"crop": crop, "base_size": WIDTH, "seed": 0, "role": "student", "index": 0}
    return lambda number: augment(pixels, mask, STRONG, **how, epoch=number)  # type: ignore[arg-type]


def by_torchvision(pixels: np.ndarray, crop: int, device: str) -> Callable[[int], object]:
    """The same parts in the same order on a device, from pinned memory on; they draw other numbers."""
    image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    image = image.pin_memory() if device == "cuda" else image
    jitter, blur, box = (STRONG[part] for part in ("jitter", "blur", "cutout"))
    colours = v2.ColorJitter(*(jitter[part] for part in ("brightness", "contrast", "saturation", "hue")))
    rest = v2.Compose(
        [
            v2.RandomCrop(crop, pad_if_needed=True),
            v2.RandomHorizontalFlip(STRONG["flip"]),
            v2.RandomApply([colours], jitter["p"]),
            v2.RandomGrayscale(STRONG["grayscale"]["p"]),
            v2.RandomApply([v2.GaussianBlur(13, tuple(blur["sigma"]))], blur["p"]),
            v2.RandomErasing(box["p"], tuple(box["area"]), tuple(box["ratio"]), "random"),
        ]
    )
    rng = np.random.default_rng(0)

    def augmented(number: int) -> Tensor:
        side = int(rng.integers(*(int(WIDTH * bound) for bound in STRONG["scale"]), endpoint=True))
        size = [round(HEIGHT * side / WIDTH), side]
        there = image.to(device, non_blocking=True)
        result: Tensor = rest(v2.functional.resize(there, size, antialias=True))
        return result

    return augmented


def rate(way: Callable[[int], object], seconds: float, device: str) -> float:
    """Images a second, after ten that are not measured."""
    for number in range(10):
        way(number)
    waited(device)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds or not count:
        way(count)
        count += 1
    waited(device)
    return count / (time.perf_counter() - began)


def waited(device: str) -> None:
    """All that is queued is done."""
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
