"""Networks for images of other bands than RGB: their first convolution, its weights, and the normalisation."""

import pytest
import torch

from stpp.common.bands import Bands
from stpp.models import build
from stpp.models.network import OF_IMAGENET
from stpp.models.weights import load_weights

SMALL = {"rates": [1, 2, 3], "head_channels": 8, "decoder_channels": 8, "low_level_channels": 4}
FOUR = Bands((4, 3, 2, 8), rgb=(1, 2, 0))
FIRST = {
    "resnet18": "conv1.weight",
    "mobilenet_v2": "features.0.0.weight",
    "timm/resnet18": "model.conv1.weight",
    "timm/vit_tiny_patch16_224": "model.patch_embed.proj.weight",
}


def network(backbone: str, bands: Bands | None):
    torch.manual_seed(0)
    spec = {"backbone": backbone, **SMALL} | ({"architecture": "linear"} if "vit" in backbone else {})
    return build(spec, 3, bands).eval()


@pytest.mark.parametrize("backbone", ["tiny", *FIRST])
@pytest.mark.parametrize("bands", [Bands((1,)), Bands((1, 2)), FOUR, Bands(tuple(range(1, 14)))])
def test_each_encoder_takes_any_number_of_bands(backbone: str, bands: Bands) -> None:
    net = network(backbone, bands)
    assert net.backbone.bands == len(bands.numbers) == len(net.normalisation.mean) == len(net.normalisation.std)
    with torch.no_grad():
        assert net(torch.randn(2, len(bands.numbers), 64, 48)).shape == (2, 3, 64, 48)


@pytest.mark.parametrize(("backbone", "name"), FIRST.items())
def test_bands_take_the_weights_of_their_colours_or_the_mean(backbone: str, name: str) -> None:
    known = network(backbone, None).backbone
    # timm's own names, which its encoders are published with.
    state = {key.removeprefix("model."): tensor for key, tensor in known.state_dict().items()}
    red, green, blue = known.state_dict()[name].unbind(1)
    net = network(backbone, FOUR)
    said = load_weights(net, state, "w.pt")
    assert said.endswith(
        "Its first convolution takes 4 bands instead of 3: 3 of them red, green and blue, the others their mean."
    )
    found = net.backbone.state_dict()[name]
    for band, expected in enumerate((blue, red, green, (red + green + blue) / 3)):
        assert torch.allclose(found[:, band], expected * 3 / 4)
    others = net.backbone.state_dict()
    assert all((others[key] == tensor).all() for key, tensor in known.state_dict().items() if key != name)


def test_a_grey_image_has_the_features_of_its_rgb_copy() -> None:
    known = network("resnet18", None).backbone
    net = network("resnet18", Bands((1,)))
    assert "each the mean of the three" in load_weights(net, known.state_dict(), "w.pt")
    grey = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        for one, other in zip(net.backbone.eval()(grey), known.eval()(grey.expand(-1, 3, -1, -1))):
            assert torch.allclose(one, other, atol=1e-4)


def test_three_bands_of_which_nothing_is_said_take_the_weights_as_they_are() -> None:
    known = network("resnet18", None).backbone
    net = network("resnet18", Bands((4, 3, 2)))
    assert "bands" not in load_weights(net, known.state_dict(), "w.pt")
    assert (net.backbone.conv1.weight == known.conv1.weight).all()
    assert net.normalisation == OF_IMAGENET


def test_a_whole_network_of_other_bands_is_refused() -> None:
    with pytest.raises(Exception, match=r"backbone\.conv1\.weight: .* -> "):
        load_weights(network("resnet18", FOUR), network("resnet18", None).state_dict(), "w.pt")


def test_statistics_are_those_of_the_colour_or_the_mean() -> None:
    mean, std = network("resnet18", FOUR).normalisation
    (r, g, b), (rs, gs, bs) = OF_IMAGENET
    assert mean == pytest.approx((b, r, g, (r + g + b) / 3))
    assert std == pytest.approx((bs, rs, gs, (rs + gs + bs) / 3))
