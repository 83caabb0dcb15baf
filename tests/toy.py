"""The four pixels on which the losses of methods are computed by hand.

Probabilities of three classes for the pixels a, b / c, d, by a teacher and by a student. Networks that give them as
logits, whatever the image.
"""

from typing import Any

import torch
from torch import Tensor

from stpp.engine.batch import Batch, Moment
from stpp.engine.distributed import Team

TEACHER = [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.96, 0.02, 0.02]]
STUDENT = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]


class Constant:
    """A network whose logits are the logarithms of given probabilities, for each of the images; `calls` counts them."""

    def __init__(self, probabilities: list[list[float]]) -> None:
        self.logits = torch.tensor(probabilities).T.reshape(1, 3, 2, 2).log().requires_grad_()
        self.calls: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.calls.append(len(images))
        return self.logits.expand(len(images), -1, -1, -1)


def batch(mask: int = 255, valid: list[list[bool]] | None = None) -> Batch:
    """One labeled image whose mask is `mask` everywhere, and one unlabeled image in both views."""
    pixels = torch.zeros(1, 3, 2, 2)
    seen = torch.tensor([[[True, True], [True, True]] if valid is None else valid])
    masks = torch.full((1, 2, 2), mask, dtype=torch.uint8)
    return Batch(pixels, masks, {"weak": pixels, "strong": pixels}, {"weak": seen, "strong": seen})


def moment(iteration: int = 0, **changes: Any) -> Moment:
    """A moment of a training of 10 epochs of 4 iterations, by one process."""
    return Moment(**{"iteration": iteration, "per_epoch": 4, "total": 40, "team": Team(torch.device("cpu"))} | changes)
