"""Depthwise convolutions: their outputs and gradients against PyTorch's."""

import fabricate
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stpp.models import build
from stpp.models.depthwise import DepthwiseConv2d, DilatedDepthwiseConv2d
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


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13)),
    rate=st.integers(2, 14),
    kind=st.sampled_from([torch.float32, torch.float64]),
)
def test_by_taps_it_has_pytorchs_outputs_and_gradients(
    size: tuple[int, int, int], rate: int, kind: torch.dtype
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(CHANNELS, CHANNELS, 3, 1, rate, rate, CHANNELS, bias=False).to(kind)
    ours = DilatedDepthwiseConv2d(CHANNELS, rate).to(kind)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(size[0], CHANNELS, *size[1:], dtype=kind)
    found = []
    for conv in (ours, plain):
        inputs = x.clone().requires_grad_()
        outputs = conv(inputs)
        outputs.backward(torch.linspace(-3, 2, outputs.numel()).cos().view_as(outputs).to(kind))
        found.append((outputs.detach(), inputs.grad, conv.weight.grad))
    close = {torch.float32: {"rtol": 1e-4, "atol": 1e-5}, torch.float64: {"rtol": 1e-10, "atol": 1e-12}}[kind]
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, **close)


def test_by_taps_in_bfloat16_it_is_nearer_to_float32_than_pytorchs() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 3, 3, CHANNELS, bias=False)
    ours = DilatedDepthwiseConv2d(CHANNELS, 3)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(3, CHANNELS, 12, 10)
    exact, found, theirs = (learned(c, x, cast=cast) for c, cast in ((plain, False), (ours, True), (plain, True)))
    for one, other, true in zip(found, theirs, exact):
        assert (one - true).norm() <= 1.05 * (other - true).norm() + 1e-6


def test_those_of_mobilenet_are_its_depthwise_ones() -> None:
    network = build(Network(**fabricate.TINY["network"] | {"backbone": "mobilenet_v2"}).model_dump(), 3)
    found = [each for each in network.backbone.modules() if isinstance(each, nn.Conv2d) and each.groups > 1]
    assert len(found) == 17 and all(isinstance(each, DepthwiseConv2d) for each in found)
    assert all(each.padding == each.dilation for each in found)
    assert {(each.stride[0], each.dilation[0]) for each in found} == {(1, 1), (2, 1), (1, 2), (1, 4)}


@settings(max_examples=40)
@given(
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.sampled_from([1, 2]),
    rate=st.sampled_from([1, 2, 3]),
    padding=st.integers(0, 3),
    bias=st.booleans(),
)
def test_one_of_any_size_takes_the_place_of_pytorchs(
    kernel: int, stride: int, rate: int, padding: int, bias: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, padding, rate, CHANNELS, bias=bias)
    ours = DepthwiseConv2d.of(plain)
    assert list(ours.parameters()) == list(plain.parameters())
    x = torch.randn(2, CHANNELS, 19, 20)
    expected = learned(plain, x, cast=False)
    of_bias = plain.bias.grad.clone() if plain.bias is not None and plain.bias.grad is not None else None
    plain.zero_grad()
    found = learned(ours, x, cast=True)
    assert torch.equal(found[0], learned(plain, x, cast=True)[0])
    plain.zero_grad()
    found = learned(ours, x, cast=True)
    for one, other in zip(found, expected):
        assert (one - other).norm() <= 0.01 * other.norm()
    if of_bias is not None:
        assert plain.bias is not None and plain.bias.grad is not None
        assert (plain.bias.grad - of_bias).norm() <= 0.01 * of_bias.norm()


def test_those_of_a_timm_encoder_are_its_depthwise_ones() -> None:
    encoder = build({"backbone": "timm/tf_efficientnet_lite0", "architecture": "linear"}, 3).backbone
    found = [each for each in encoder.modules() if isinstance(each, nn.Conv2d) and each.groups > 1]
    assert len(found) == 16
    kinds = {type(each).__name__ for each in found}
    assert kinds == {"DepthwiseConv2d", "PaddedConv2d"}
