"""The few pieces that several networks are made of."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from stpp.common.errors import StppError
from stpp.models.dilated import DilatedConv2d


def conv_bn_relu(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """A convolution of stride 1 that keeps the size (odd kernel, 3 if dilated, no bias), batch norm, ReLU."""
    conv = (
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        if dilation == 1
        else DilatedConv2d(inputs, outputs, dilation, bias=False)
    )
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def resize(x: Tensor, like: Tensor) -> Tensor:
    """`x` (N, C, h, w), bilinearly resized to the size of `like` with corners aligned, as everywhere here."""
    return resize_to(x, (like.shape[-2], like.shape[-1]))


def resize_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The same for a size that is given as (H, W)."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def nearest_multiple(side: int, multiple: int) -> int:
    """The multiple of a whole number that is nearest to `side`, but not 0."""
    # As torch can tell of the symbols that sides are while a network is exported: it divides by `multiple` again.
    return multiple * max(1, (side + multiple // 2) // multiple)


def to_multiple(images: Tensor, multiple: int) -> Tensor:
    """`images` (N, C, H, W), resized as `resize` does so that H and W are the nearest multiples of it, but not 0."""
    if multiple == 1:
        return images
    height, width = (nearest_multiple(side, multiple) for side in images.shape[-2:])
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=True)


def init_convolutions(module: nn.Module) -> None:
    """He initialisation (fan out, ReLU) of every convolution, as torchvision's; batch norms stay at 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and takes_values(layer):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def takes_values(layer: nn.Conv2d) -> bool:
    """Whether its weights have memory.

    Those of a network that is to be filled from a checkpoint have none, and drawing normal numbers for such would load
    torch's compiler, in 1.5 s.
    """
    return not layer.weight.is_meta


def replace_modules(network: nn.Module, substitute: Callable[[nn.Module], nn.Module]) -> None:
    """Puts `substitute(module)`, which may be the module itself, in the place of each module of `network`, in place."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            setattr(parent, name, substitute(child))


def limit_stride(to_16: nn.Module, to_32: nn.Module, output_stride: int) -> None:
    """Turns a backbone of output stride 32 into one of output stride 8 or 16, in place.

    `to_16` holds all layers between output strides 8 and 16, `to_32` all between 16 and 32. Raises StppError for
    another output stride.
    """
    if output_stride not in (8, 16):
        raise StppError(f"network: output_stride is {output_stride!r}; expected 8 or 16")
    if output_stride == 8:
        _trade_stride_for_dilation(to_16, dilation=1)
        _trade_stride_for_dilation(to_32, dilation=2)
    else:
        _trade_stride_for_dilation(to_32, dilation=1)


def _trade_stride_for_dilation(stage: nn.Module, dilation: int) -> None:
    """Removes the stride of 2 from the head of `stage`, whose input is already dilated by `dilation`.

    The convolution that had the stride still sees its input's grid, thus keeps `dilation`; those after it see a grid
    twice as fine as before, thus double it. So each kept position holds the very value it held with the stride (this
    is also torchvision's and the authors' placement).
    """
    for conv in stage.modules():
        if isinstance(conv, nn.Conv2d):
            rate = dilation if conv.stride == (2, 2) else 2 * dilation
            conv.stride = (1, 1)
            if conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (rate, rate)
