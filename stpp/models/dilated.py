"""Convolutions with dilations as wide as the feature map, whose weights learn at a fraction of the cost on a CPU."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DilatedConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 1 that keeps the size; `dilation` is its padding as well.

    On a CPU its weights' gradient is one matrix product for each tap, over the pixels where the tap meets the map.
    PyTorch's own gradient goes over the padding too, which with the paper's dilations is most of it (1.6 to 5.6 times
    the time of these products at output stride 8).
    """

    def __init__(self, inputs: int, outputs: int, dilation: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input)
        rate = self.dilation[0]
        outputs = F.conv2d(input, self.weight.detach(), self.bias, padding=rate, dilation=rate)
        result: Tensor = _WithWeights.apply(outputs, input, self.weight, rate)
        return result


class _WithWeights(torch.autograd.Function):
    """The outputs of a dilated convolution, from which the gradient of its weights is to come."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, inputs: Tensor, weight: Tensor, rate: int) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.like, ctx.rate = (weight.shape, weight.dtype), rate
        return outputs.view_as(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, None]:
        (gradient,), (inputs,) = gradients, ctx.saved_tensors
        shape, dtype = ctx.like
        at_output, at_input = (x.permute(0, 2, 3, 1) for x in (gradient, inputs.to(gradient.dtype)))
        weights = gradient.new_zeros(shape)
        for row, column, outer, inner in taps(inputs, ctx.rate):
            left, right = at_output[outer].reshape(-1, shape[0]), at_input[inner].reshape(-1, shape[1])
            weights[:, :, row, column] = left.t() @ right
        return gradient, None, weights.to(dtype), None


Part = tuple[slice, slice, slice]


def taps(maps: Tensor, rate: int) -> Iterator[tuple[int, int, Part, Part]]:
    """Row and column of each tap that meets maps (N, C, H, W), and which pixels (N, H, W, C): of outputs, of inputs."""
    all_images = slice(None)
    for row in range(3):
        rows = _meeting(maps.shape[2], (row - 1) * rate)
        for column in range(3):
            columns = _meeting(maps.shape[3], (column - 1) * rate)
            if rows and columns:
                yield row, column, (all_images, rows[0], columns[0]), (all_images, rows[1], columns[1])


def _meeting(length: int, offset: int) -> tuple[slice, slice] | None:
    """The outputs along a side that read inside of it at `offset`, and the inputs that they read."""
    if abs(offset) >= length:
        return None
    return slice(max(0, -offset), length - max(0, offset)), slice(max(0, offset), length - max(0, -offset))
