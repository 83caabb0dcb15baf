"""How fast a core augments images for a student, and how fast the device would, by torchvision's transforms.

Started by `benchmarks/gpu`. Both rescale, crop, flip, change colours, blur and erase with the settings of ST++. Each
image has draws of its own, so on a device each passes alone.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timer
import torch
from torch import Tensor
from torchvision.transforms import v2

from stpp.data.augmentation import augment
from stpp.runtime.process import prepare_process
from stpp.settings.training import StrongAugmentation

HEIGHT, WIDTH = 360, 480
DRAWS = 32
"""Images that the device gets in a row, so that none waits for the one before."""
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
    found = {
        way: images * timer.rate(many(each, images), options.seconds, torch.device(options.device))
        for (way, each), images in zip(ways.items(), (1, DRAWS))
    }
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


def many(way: Callable[[int], object], images: int) -> Callable[[int], None]:
    """A turn of so many images."""

    def turn(number: int) -> None:
        for draw in range(number * images, (number + 1) * images):
            way(draw)

    return turn


if __name__ == "__main__":
    main()
