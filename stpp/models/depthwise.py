"""Depthwise convolutions that take a fraction of PyTorch's time on a CPU.

A dilated one is a sum over its taps, each a product of the weights with the part of the map that the tap meets. With a
dilation as wide as the map, all but one of them meet nothing.
"""

from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stpp.models.dilated import taps

Sizes = tuple[int, ...]
"""Of height and width."""


def depthwise(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes
) -> Tensor:
    """The outputs of PyTorch's convolution of each channel alone, by a `weight` (C, 1, k, k).

    In bfloat16 on a CPU, PyTorch's own gradients are slow, except those of 3x3 kernels without stride and dilation.
    Here they are computed in float32 (at the sizes of MobileNetV2 in a seventh to a fortieth of the time), or by taps
    where a 3x3 kernel is dilated and keeps the size.
    """
    fast = max(weight.shape[2:]) <= 3 and max(*stride, *dilation) == 1
    if fast or not torch.is_grad_enabled() or not input.is_cpu or _computed_in(input) != torch.bfloat16:
        return F.conv2d(input, weight, bias, stride, padding, dilation, len(weight))
    outputs: Tensor = _WithGradients.apply(input.bfloat16(), weight, bias, stride, padding, dilation)
    return outputs


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of each channel alone, by `depthwise`; a 3x3 one without bias, whose padding is its `dilation`."""

    def __init__(self, channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(channels, channels, 3, stride, dilation, dilation, channels, bias=False)

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> Self:
        """One of any size that takes the place of `convolution`, with the same parameters."""
        taken = cls.__new__(cls)
        nn.Module.__init__(taken)
        taken.__dict__.update(convolution.__dict__)
        return taken

    def forward(self, input: Tensor) -> Tensor:
        padding = cast(Sizes, self.padding)
        return depthwise(input, self.weight, self.bias, self.stride, padding, self.dilation)


class DilatedDepthwiseConv2d(DepthwiseConv2d):
    """One of stride 1 whose outputs, too, are computed by taps on a CPU, in float32 and rounded where bfloat16 is asked
    for."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(channels, 1, dilation)

    def forward(self, input: Tensor) -> Tensor:
        if not input.is_cpu or torch.compiler.is_compiling():
            return super().forward(input)
        outputs: Tensor = _ByTaps.apply(input.to(_computed_in(input)), self.weight, self.dilation[0])
        return outputs


def _computed_in(input: Tensor) -> torch.dtype:
    """The precision in which a convolution of this input is computed on a CPU."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype


class _WithGradients(torch.autograd.Function):
    """PyTorch's outputs (N, C, h, w) of such a convolution of `inputs` (N, C, H, W)."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.how = stride, padding, dilation
        used = None if bias is None else bias.to(inputs.dtype)
        return F.conv2d(inputs, weight.to(inputs.dtype), used, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.how
        wanted = list(ctx.needs_input_grad[:3])
        of_bias = gradients[0].float().sum(dim=(0, 2, 3)) if wanted[2] else None
        if weight.shape[2:] == (3, 3) and stride == (1, 1) and padding == dilation == (dilation[0], dilation[0]):
            return *_gradients_by_taps(gradients[0], inputs, weight, dilation[0]), of_bias, None, None, None
        outer, within, used = (each.float() for each in (gradients[0], inputs, weight.to(inputs.dtype)))
        how = (stride, padding, dilation, False, (0, 0), len(weight), [*wanted[:2], False])
        of_inputs, of_weight, _ = torch.ops.aten.convolution_backward(outer, within, used, None, *how)
        of_inputs = None if of_inputs is None else of_inputs.to(inputs.dtype)
        return of_inputs, None if of_weight is None else of_weight.to(weight.dtype), of_bias, None, None, None


class _ByTaps(torch.autograd.Function):
    """The outputs of such a convolution of stride 1 by taps."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.dilation = dilation
        pixels, factors = _pixels(inputs), _factors(weight, inputs)
        outputs = torch.zeros_like(pixels)
        for row, column, outer, inner in taps(inputs, dilation):
            outputs[outer].addcmul_(pixels[inner], factors[:, row, column])
        return outputs.permute(0, 3, 1, 2).to(inputs.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        return *_gradients_by_taps(gradients[0], inputs, weight, ctx.dilation), None


def _gradients_by_taps(outer: Tensor, inputs: Tensor, weight: Tensor, dilation: int) -> tuple[Tensor, Tensor]:
    """The gradients of the inputs and of the weight, from those of the outputs, `outer`."""
    at_output, at_input, factors = _pixels(outer), _pixels(inputs), _factors(weight, inputs)
    of_inputs, of_weight = torch.zeros_like(at_input), torch.zeros_like(factors)
    for row, column, outer_part, inner_part in taps(inputs, dilation):
        of_inputs[inner_part].addcmul_(at_output[outer_part], factors[:, row, column])
        of_weight[:, row, column] = (at_output[outer_part] * at_input[inner_part]).sum(dim=(0, 1, 2))
    return of_inputs.permute(0, 3, 1, 2).to(inputs.dtype), of_weight[:, None].to(weight.dtype)


def _pixels(maps: Tensor) -> Tensor:
    """Maps (N, C, H, W) as (N, H, W, C), in float32 at least."""
    return maps.permute(0, 2, 3, 1).to(torch.promote_types(maps.dtype, torch.float32))


def _factors(weight: Tensor, inputs: Tensor) -> Tensor:
    """The weights (C, 3, 3) as they are in the precision of the inputs, in float32 at least."""
    return weight.to(inputs.dtype).to(torch.promote_types(inputs.dtype, torch.float32))[:, 0]
