"""Depthwise convolutions whose gradients in bfloat16 take a fraction of the time on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DepthwiseConv2d(nn.Conv2d):
    """A 3x3 convolution of each channel alone, without bias; `dilation` is its padding as well.

    In bfloat16 on a CPU, PyTorch's own gradients are slow where it is strided or dilated. With a stride they are
    computed in float32 (at the sizes of MobileNetV2 in a seventh to a fortieth of the time), with a dilation in parts.
    """

    def __init__(self, channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(channels, channels, 3, stride, dilation, dilation, channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        fast = max(self.stride) == max(self.dilation) == 1
        if fast or not torch.is_grad_enabled() or not _in_bfloat16(input):
            return super().forward(input)
        outputs: Tensor = _WithGradients.apply(input.bfloat16(), self.weight, self.stride[0], self.dilation[0])
        return outputs


def _in_bfloat16(input: Tensor) -> bool:
    """Whether a convolution of this input is computed in bfloat16 on a CPU."""
    if not input.is_cpu:
        return False
    cast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return cast or input.dtype == torch.bfloat16


class _WithGradients(torch.autograd.Function):
    """The outputs (N, C, h, w) of such a convolution of `inputs` (N, C, H, W), by a `weight` (C, 1, 3, 3)."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.dilation = stride, dilation
        return F.conv2d(inputs, weight.to(inputs.dtype), None, stride, dilation, dilation, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        wanted: list[bool] = [*ctx.needs_input_grad[:2], False]
        if ctx.stride == 1:
            outer, within = (_grids(each, ctx.dilation) for each in (gradients[0], inputs))
            found = _gradients(outer, within, weight.to(inputs.dtype), 1, 1, wanted)
            of_inputs = None if found[0] is None else _together(found[0], ctx.dilation, inputs.shape)
        else:
            outer, within, used = (each.float() for each in (gradients[0], inputs, weight.to(inputs.dtype)))
            found = _gradients(outer, within, used, ctx.stride, ctx.dilation, wanted)
            of_inputs = None if found[0] is None else found[0].to(inputs.dtype)
        return of_inputs, None if found[1] is None else found[1].to(weight.dtype), None, None


def _gradients(
    outer: Tensor, inputs: Tensor, weight: Tensor, stride: int, dilation: int, wanted: list[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """PyTorch's own gradients of the inputs and of the weight, from those of the outputs, `outer`; None if unwanted."""
    how = ((stride, stride), (dilation, dilation), (dilation, dilation), False, (0, 0), len(weight))
    of_inputs, of_weight, _ = torch.ops.aten.convolution_backward(outer, inputs, weight, None, *how, wanted)
    return of_inputs, of_weight


def _grids(maps: Tensor, rate: int) -> Tensor:
    """The `rate` ** 2 grids of every `rate`-th row and column, as images of their own: (N, C, H, W) becomes (rate ** 2
    N, C, h, w), with zeros below and on the right where a side is no multiple. A dilation of `rate` is none on them."""
    height, width = (-side % rate for side in maps.shape[2:])
    padded = F.pad(maps, (0, width, 0, height)) if height or width else maps
    return torch.cat([padded[..., top::rate, left::rate] for top in range(rate) for left in range(rate)])


def _together(grids: Tensor, rate: int, shape: torch.Size) -> Tensor:
    """Maps of this shape from their grids."""
    count, channels, height, width = shape
    like = (count, channels, height - height % -rate, width - width % -rate)
    maps = torch.empty(like, dtype=grids.dtype, memory_format=torch.channels_last)
    for number, grid in enumerate(torch.split(grids, count)):
        maps[..., number // rate :: rate, number % rate :: rate] = grid
    return maps[..., :height, :width]
