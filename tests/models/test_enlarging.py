"""Enlargement by large factors: its bits, and its gradients against PyTorch's in float64."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stpp.models.blocks import resize_to
from stpp.models.enlarging import enlarged

SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=60)
@given(small=SIDES, factor=st.tuples(st.integers(1, 17), st.integers(1, 17)), channels_last=st.booleans())
def test_it_has_pytorchs_bits_and_gradients(
    small: tuple[int, int], factor: tuple[int, int], channels_last: bool
) -> None:
    size = (small[0] * factor[0], small[1] * factor[1])
    layout = torch.channels_last if channels_last else torch.contiguous_format
    torch.manual_seed(0)
    x = torch.randn(2, 3, *small).to(memory_format=layout)
    of_pixels = torch.randn(2, 3, *size)
    found = learned(lambda maps: enlarged(maps, size), x, of_pixels)
    exact = learned(
        lambda maps: F.interpolate(maps, size, mode="bilinear", align_corners=True), x.double(), of_pixels.double()
    )
    # Each is a sum of hundreds of numbers near 1 of either sign, so it may be near 0 by chance.
    assert (found.double() - exact).norm() <= 1e-5 * exact.norm()
    with torch.no_grad():
        assert torch.equal(enlarged(x, size), resize_to(x, size))
    assert torch.equal(enlarged(x.requires_grad_(), size), resize_to(x, size))


def learned(enlarge: Callable[[Tensor], Tensor], x: Tensor, of_pixels: Tensor) -> Tensor:
    """The gradient of `x`."""
    inputs = x.detach().clone().requires_grad_()
    enlarge(inputs).backward(of_pixels)
    assert inputs.grad is not None
    return inputs.grad
