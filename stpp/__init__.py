"""ST++: semi-supervised semantic segmentation by selective self-training, as a cached workflow.

import stpp
mask = stpp.load("results/runs/demo/experiments/st++/seed0/student/last.pt").predict("photo.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from stpp.commands.segmenter import Segmenter

__version__ = "0.1.0"


def load(path: str | Path, device: str = "auto", *, long_side: int | None = None, tile: int | None = None) -> Segmenter:
    """Read a model; its `predict(image)` gives the mask of an image.

    `path` is a checkpoint of stpp, or a state dict that the ST++ authors' code saved. `device` is "cpu", "cuda" or
    "auto", a GPU where there is one. Images are read as when the model was evaluated, where its stage tells, else whole
    and as they are; `long_side` and `tile` (px) are used instead where given. Of the result,

    - `predict(image)` gives uint8 (H, W), the class 0..C-1 of each pixel, at the image's own size
    - `probabilities(image)` gives float32 (C, H, W), 0..1, 1 in sum over the classes
    - `classes` are the C class names in label order, `palette` their colours, [r, g, b] of 0..255

    where `image` is the path of a JPEG, PNG, TIFF, WebP, BMP or GIF file, turned upright as its EXIF orientation says;
    a Pillow image; or RGB pixels, uint8 (H, W, 3) of 0..255. A model of other `bands` takes the path of a file that has
    them, or an array (H, W, B) of just these with the values of files. Raises stpp.common.errors.StppError for a file
    that is no model.
    """
    from stpp.commands.segmenter import load  # torch takes seconds to import, so only who loads a model does

    return load(path, device, long_side=long_side, tile=tile)
