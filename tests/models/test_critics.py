"""Small networks that look at segmentations: what they give, and the layers of their papers."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from stpp.models.critics import (
    Corrector,
    FlawDetector,
    HalfNorm,
    ImageDiscriminator,
    PixelDiscriminator,
    RotationHead,
)
from stpp.models.upsampling import UpsamplingDecoder, UpsamplingDecoders


@pytest.mark.parametrize("size", [(2, 2), (24, 30), (65, 64)])
def test_what_they_say_has_the_size_of_what_they_see(size: tuple[int, int]) -> None:
    maps, images = torch.rand(2, 5, *size), torch.rand(2, 3, *size)
    assert PixelDiscriminator(5, 4)(maps).shape == (2, 1, *size)
    assert FlawDetector(8, 4)(images, maps).shape == (2, *size)
    assert Corrector(3, 5, 4)(images, maps).shape == (2, 6, *size)
    assert RotationHead(5)(maps).shape == (2, 4)
    scores, features = ImageDiscriminator(8, 0.5, 4)(images, maps)
    assert scores.shape == (2,) and features.shape == (2, 32)


def test_they_have_the_layers_of_their_papers() -> None:
    def convolutions(network: nn.Module) -> list[tuple[int, int, int, int]]:
        found = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
        return [(conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0]) for conv in found]

    sizes = [21, 64, 128, 256, 512, 1]
    assert convolutions(PixelDiscriminator(21)) == [(*pair, 4, 2) for pair in pairwise(sizes)]
    assert convolutions(ImageDiscriminator(24, 0.5)) == [(*pair, 4, 2) for pair in zip([24, *sizes[1:]], sizes[1:5])]
    sizes, strides = [24, 64, 128, 128, 256, 256, 512, 512, 1], [2, 2, 1, 2, 1, 2, 1, 2]
    assert convolutions(FlawDetector(24)) == [(a, b, 4, s) for a, b, s in zip(sizes, sizes[1:], strides)]
    detector = FlawDetector(24, 4)
    layers = detector.layers(torch.rand(2, 24, 96, 96))
    assert layers.shape == (2, 32, 4, 4), "a convolution of stride 1 takes a pixel"
    assert detector.score(layers).shape == (2, 1, 2, 2)
    assert convolutions(RotationHead(21)) == [(21, 21, 4, 2), (21, 42, 4, 2)]
    dropped = [each for each in ImageDiscriminator(24, 0.5).modules() if isinstance(each, nn.Dropout2d)]
    assert len(dropped) == 3 and all(each.p == 0.5 for each in dropped)


def test_half_of_the_channels_have_the_norm_of_the_batch() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 6, 5, 5) * torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1, 1)
    found = HalfNorm(6)(x)
    assert found[:, :3].mean(dim=(0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-5)
    assert found[:, :3].mean(dim=(2, 3)).abs().min() > 1e-3
    assert found[:, 3:].mean(dim=(2, 3)).abs().max() < 1e-5
    assert [len(each) for each in HalfNorm(6).parameters()] == [3, 3], "the norm of an image has nothing to learn"


def test_a_new_decoder_doubles_by_nearest_neighbours() -> None:
    torch.manual_seed(0)
    features = torch.rand(2, 7, 3, 4)
    logits = UpsamplingDecoder(7, 5, 8)(features)
    assert logits.shape == (2, 5, 24, 32)
    blocks = logits.view(2, 5, 3, 8, 4, 8)
    assert torch.equal(blocks, blocks[:, :, :, :1, :, :1].expand_as(blocks))
    assert UpsamplingDecoder(7, 5, 14)(features).shape == (2, 5, 48, 64)


def test_each_of_several_decoders_has_features_of_its_own() -> None:
    several = UpsamplingDecoders(3, 7, 5, 4)
    features = [torch.rand(1, 7, 2, 2) for _ in range(3)]
    for decoder, each, found in zip(several, features, several(features)):
        assert torch.equal(decoder(each), found)
    with pytest.raises(ValueError, match="shorter"):
        several(features[:2])
