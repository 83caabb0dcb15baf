"""What goes wrong on a machine while a network runs, said so that one knows what to change."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from stpp.common.errors import MEMORY, StppError, of_a_dead_loader, of_the_machine


@contextmanager
def explained(advice: str) -> Iterator[None]:
    """Turn a lack of memory or of threads, a dead loader process and a missing compiler into a StppError.

    `advice` says which setting to lower where memory lacks.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        found = str(error).partition(". ")[0]
        raise StppError(f"the GPU's memory is too small ({found}); {advice}") from None
    except (MemoryError, RuntimeError) as error:
        if said := of_the_machine(error):
            raise StppError(MEMORY + advice if said.startswith(MEMORY) else said) from None
        if of_a_dead_loader(error):
            raise StppError(dead_loader(str(error).splitlines()[0].strip())) from None
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise StppError(
                f"PyTorch could not compile the network ({reason.strip()}); set runtime.train.compile to false, or "
                "install a C++ compiler (such as the package g++)"
            ) from None
        raise


def dead_loader(found: str) -> str:
    """What to do about a loader process that died, of which PyTorch says `found`."""
    if "killed by signal" in found and "Killed" not in found:
        remedy = "; set runtime.train.workers: 0, with which the training loads the data itself"
    else:
        remedy = (
            ", often because the machine ran out of memory; lower runtime.train.workers or raise runtime.train.memory"
        )
    again = "and run the workflow again: it goes on where the state was saved last"
    return f"a process that loads data died ({found}){remedy}, {again}"


def training_advice(role: str, batch_size: int, crop: int) -> str:
    """What to lower, and by how much, if a training does not fit; memory grows with batch and crop's area."""
    return (
        f"lower training.{role}.batch_size from {batch_size} to {max(1, batch_size // 2)}, or training.{role}.crop "
        f"from {crop} to {max(1, int(crop * 0.7))}: either takes about half the memory"
    )


def encoding_advice(views: int, height: int, width: int) -> str:
    """What to lower if the views of an image, which go through an encoder together, do not fit."""
    return (
        f"lower features.views, or the size of the {views} views of {width} x {height} px: training.*.crop, or of "
        "whole images prediction.long_side or the largest of labeling.scales"
    )


WORKFLOW, COMMAND = "prediction.{}", "--{}"
"""How the settings `tile` and `long-side` are called in a configuration, and as options."""
ACTIVATIONS, LEAST_TILE, LEAST_SIDE = 600, 32, 8
"""Bytes of features a pixel that a network holds at once (DeepLabv3+ on ResNet-50, float32); px; px."""


def prediction_advice(
    height: int,
    width: int,
    classes: int,
    prediction: Mapping[str, Any],
    tta: Mapping[str, Any] | None = None,
    named: str = WORKFLOW,
) -> str:
    """What takes about half the memory, or less, if the prediction of an image of that size does not fit.

    A smaller tile where `prediction_memory` says that it helps, else a smaller long side, else smaller images.
    """
    now = prediction_memory(height, width, classes, prediction, tta)
    for setting, least in (("tile", LEAST_TILE), ("long_side", LEAST_SIDE)):
        found = prediction[setting]
        if setting == "tile" and named == WORKFLOW:
            least = max(least, (prediction["overlap"] or 0) + 1)  # the command chooses the overlap by itself
        side = (min(found, max(height, width)) if found else max(height, width)) * 7 // 10
        while side >= least:
            lower = {**prediction, setting: side // 32 * 32 or side}
            if lower[setting] >= least and prediction_memory(height, width, classes, lower, tta) <= now / 2:
                name = named.format(setting.replace("_", "-") if named == COMMAND else setting)
                before = f"from {found}" if found else f"(now none, for an image of {width} x {height} pixels)"
                return f"set {name} {before} to {lower[setting]}: that takes about half the memory"
            side = side * 7 // 10
    return (
        f"no tile or long side would halve it: cut the image of {width} x {height} pixels into smaller ones, or take a "
        "device with more memory"
    )


MOST_SCORES, AT_ONCE = 2**29, 2**24
"""Values, of 4 bytes: how many scores are resized whole to the size of an image, and of more than that, how many at
once."""


def prediction_memory(
    height: int, width: int, classes: int, prediction: Mapping[str, Any], tta: Mapping[str, Any] | None = None
) -> float:
    """About how many bytes `stpp.engine.inference.score_bands` and its caller need for one image of that size."""
    tile, long_side = prediction["tile"], prediction["long_side"]
    factor = long_side / max(height, width) if long_side else 1
    scales = [factor * scale for scale in (tta["scales"] if tta else [1])]
    sizes = [(max(1, height * scale), max(1, width * scale)) for scale in scales]
    down, across = max(sizes)
    whole, seen, read = height * width, height * width * factor**2, down * across
    at_once = min(across, tile or across) * min(down, tile or down)
    grown = whole if classes * max(whole, seen) <= MOST_SCORES else AT_ONCE / classes
    features = at_once * (ACTIVATIONS / (2 if prediction["precision"] == "bf16" else 1) + 4 * classes)
    bands = sum(min(down, tile or down) * across for down, across in sizes)
    if tta is not None and tile is not None and classes * max(read, seen) > MOST_SCORES:
        # Of each scale the sums of both mirrorings, their softmax, and the rows to be resized.
        scores = 4 * bands + 3 * AT_ONCE / classes
    elif tta is not None:
        scores = read + 2 * seen
    else:
        scores = bands if factor == 1 else seen
    if factor != 1:
        scores += grown
    return features + 4 * classes * scores + 16 * whole + 12 * read
