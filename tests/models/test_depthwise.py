"""Depthwise convolutions: their gradients in bfloat16 against PyTorch's."""

import fabricate
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stpp.models import build
from stpp.models.depthwise import DepthwiseConv2d, _grids, _together
from stpp.settings.training import Network

CHANNELS = 5


def pair(stride: int, dilation: int) -> tuple[DepthwiseConv2d, nn.Conv2d]:
    """Ours and PyTorch's, with equal weights."""
    plain = nn.Conv2d(CHANNELS, CHANNELS, 3, stride, dilation, dilation, CHANNELS, bias=False)
    ours = DepthwiseConv2d(CHANNELS, stride, dilation)
    ours.load_state_dict(plain.state_dict())
    return ours, plain


def learned(conv: nn.Conv2d, x: Tensor, *, cast: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, and the gradients of the inputs and of the weight, all float32."""
    inputs = x.clone().requires_grad_()
    conv.weight.grad = None
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        outputs = conv(inputs)
    assert outputs.dtype == (torch.bfloat16 if cast else torch.float32)
    outputs.backward(torch.linspace(-3, 2, outputs.numel()).cos().view_as(outputs).to(outputs.dtype))
    assert inputs.grad is not None and conv.weight.grad is not None
    return outputs.detach().float(), inputs.grad, conv.weight.grad


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13)),
    how=st.sampled_from([(1, 1), (2, 1), (1, 2), (1, 3), (1, 6)]),
)
def test_its_gradients_in_bfloat16_are_those_of_float32(size: tuple[int, int, int], how: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours, plain = pair(*how)
    x = torch.randn(size[0], CHANNELS, *size[1:])
    found, expected = learned(ours, x, cast=True), learned(plain, x, cast=False)
    assert torch.equal(found[0], learned(plain, x, cast=True)[0])
    for one, other in zip(found, expected):
        assert (one - other).norm() <= 0.01 * other.norm()


@pytest.mark.parametrize("how", [(1, 1), (2, 1), (1, 2)])
def test_in_float32_it_has_the_bits_of_pytorchs(how: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours, plain = pair(*how)
    x = torch.randn(2, CHANNELS, 9, 7)
    for one, other in zip(learned(ours, x, cast=False), learned(plain, x, cast=False)):
        assert torch.equal(one, other)
    with torch.no_grad():
        assert torch.equal(ours.bfloat16()(x.bfloat16()), plain.bfloat16()(x.bfloat16()))


@given(sides=st.tuples(st.integers(1, 9), st.integers(1, 9)), rate=st.integers(1, 4))
def test_grids_are_put_together_again(sides: tuple[int, int], rate: int) -> None:
    maps = torch.arange(2.0 * 3 * sides[0] * sides[1]).view(2, 3, *sides)
    grids = _grids(maps, rate)
    assert grids.shape[0] == 2 * rate**2
    assert torch.equal(_together(grids, rate, maps.shape), maps)
    assert torch.equal(grids[:2, :, 0, 0], maps[..., 0, 0])


def test_those_of_mobilenet_are_its_depthwise_ones() -> None:
    network = build(Network(**fabricate.TINY["network"] | {"backbone": "mobilenet_v2"}).model_dump(), 3)
    found = [each for each in network.backbone.modules() if isinstance(each, nn.Conv2d) and each.groups > 1]
    assert len(found) == 17 and all(isinstance(each, DepthwiseConv2d) for each in found)
    assert all(each.padding == each.dilation for each in found)
    assert {(each.stride[0], each.dilation[0]) for each in found} == {(1, 1), (2, 1), (1, 2), (1, 4)}
