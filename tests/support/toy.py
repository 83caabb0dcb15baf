"""The four pixels on which the losses of methods are computed by hand.

Probabilities of three classes for the pixels a, b / c, d, by a teacher and by a student. Networks that give them as
logits, whatever the image.
"""

from copy import deepcopy
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from stpp.engine.batch import Batch, Moment
from stpp.engine.companions import Beside
from stpp.engine.distributed import Team
from stpp.methods import Average, Step

TEACHER = [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.96, 0.02, 0.02]]
STUDENT = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]


class Constant:
    """A network whose logits are the logarithms of given probabilities, for each of the images; `calls` counts them.

    The first call gives the first of several tables, the next one the second; the last one stays.
    """

    module = SimpleNamespace(
        classifier=SimpleNamespace(width=4), backbone=SimpleNamespace(channels=(2, 3), strides=(1, 2), bands=3)
    )

    def __init__(self, *tables: list[list[float]]) -> None:
        self.tables = [torch.tensor(table).T.reshape(1, 3, 2, 2).log().requires_grad_() for table in tables]
        self.calls: list[int] = []

    @property
    def logits(self) -> Tensor:
        """The last table."""
        return self.tables[-1]

    def __call__(self, images: Tensor) -> Tensor:
        table = self.tables[min(len(self.calls), len(self.tables) - 1)]
        self.calls.append(len(images))
        return larger(table, images.shape[-1] // 2).expand(len(images), -1, -1, -1)

    def evaluated(self, images: Tensor) -> Tensor:
        return self(images).detach()

    def with_features(self, images: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """The same logits, and maps of the encoder and features of the decoder that are 1 everywhere."""
        count, side = len(images), images.shape[-1]
        maps = [torch.ones(count, channels, side // stride, side // stride) for channels, stride in ((2, 1), (3, 2))]
        return self(images), maps, torch.ones(count, 4, side, side)

    def classified(self, features: Tensor) -> Tensor:
        """The class that is the most probable of the first pixel, at each place."""
        return self.logits.detach()[:, :, :1, :1].expand(len(features), -1, *features.shape[-2:])

    def perturbed(self, images: Tensor, dropped: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The same logits for the features with dropped channels, but of the next table."""
        assert [factors.shape for factors in dropped] == [(len(images), 2), (len(images), 3)]
        return self(images), self(images)

    def dropped(self, images: Tensor, dropped: list[Tensor]) -> Tensor:
        """The same logits, whatever the features."""
        assert [factors.shape for factors in dropped] == [(len(images), 2), (len(images), 3)]
        return self(images)


def companions(step: Step, settings: Any) -> dict[str, Beside]:
    """Those of a method, for networks of three classes as the constant ones."""
    network: Any = Constant.module
    found = {}
    for name, kind in step.companions(settings).items():
        if isinstance(kind, Average):
            module = deepcopy(found[kind.of].module).requires_grad_(False)
            found[name] = Beside(module, module, "fp32", None)
            continue
        torch.manual_seed(0)
        module = kind.make(network, 3)
        found[name] = Beside(module, module, "fp32", kind.rate)
    return found


def larger(values: Tensor, times: int) -> Tensor:
    """`values` (..., 2, 2), each of them so many times as wide and high."""
    return values.repeat_interleave(times, dim=-1).repeat_interleave(times, dim=-2) if times > 1 else values


def batch(mask: int = 255, valid: list[list[bool]] | None = None, images: int = 1, times: int = 1) -> Batch:
    """So many labeled images whose mask is `mask` everywhere, and as many unlabeled ones in all views.

    Each of the four pixels is one, or a square of `times` as many a side.
    """
    pixels = torch.zeros(images, 3, 2 * times, 2 * times)
    seen = torch.tensor([[[True, True], [True, True]] if valid is None else valid]).expand(images, -1, -1)
    seen = larger(seen, times)
    masks = torch.full((images, 2 * times, 2 * times), mask, dtype=torch.uint8)
    views = ("weak", "strong", "strong2")
    return Batch(pixels, masks, draws, dict.fromkeys(views, pixels), dict.fromkeys(views, seen))


def draws(stream: str, number: int, part: str) -> np.random.Generator:
    return np.random.default_rng([len(stream), number, crc32(part.encode())])


def moment(iteration: int = 0, **changes: Any) -> Moment:
    """A moment of a training of 10 epochs of 4 iterations, by one process."""
    return Moment(**{"iteration": iteration, "per_epoch": 4, "total": 40, "team": Team(torch.device("cpu"))} | changes)
