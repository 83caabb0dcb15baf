"""The network that a training starts from, and whether the weights of a file fit it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from stpp.common.bands import Bands, bands_in
from stpp.common.errors import StppError
from stpp.common.files import sha256
from stpp.models import build
from stpp.models.blocks import nearest_multiple
from stpp.models.network import SegmentationNetwork
from stpp.models.weights import load_weights, matched
from stpp.store.checkpoint import load_checkpoint
from stpp.store.tensorfile import read_tensors


def initial_network(settings: Mapping[str, Any], weights: str | None) -> tuple[SegmentationNetwork, str]:
    """A new network: random head, and a backbone from `weights`, the path of a state dict, or random as well.

    Also a sentence that says which. Raises StppError for a file that is no state dict, or not one for this network.
    """
    network = build(settings["network"], len(settings["classes"]), bands_in(settings))
    if not weights:
        return network, "The network starts from random weights."
    expected = settings["network"]["weights"]
    if expected.startswith("sha256 ") and expected != f"sha256 {sha256(Path(weights))}":
        raise StppError(f"network.weights: {weights} changed since the workflow was started; run it again")
    return network, load_weights(network, _content(weights), weights)


def maps_of_encoder(network: Mapping[str, Any]) -> Callable[[int, int], list[tuple[int, int, int]]]:
    """From the height and width of an image to (h, w, channels) of each map that the encoder makes of it.

    The encoder that is described is built without values.
    """
    with torch.device("meta"):
        encoder = build({**network, "architecture": "linear"}, 2).backbone

    def shapes(*sides: int) -> list[tuple[int, int, int]]:
        seen = [nearest_multiple(side, encoder.multiple_of) for side in sides]
        of_maps = ([-(-side // stride) for side in seen] for stride in encoder.strides)
        return [(height, width, channels) for (height, width), channels in zip(of_maps, encoder.channels)]

    return shapes


def take_weights(network: SegmentationNetwork, checkpoint: Path, *, head: bool) -> str:
    """Give `network` the weights of a `checkpoint` of the same kind of network: all, or without `head` the encoder's.

    Returns a sentence that says so. StppError for a file that is no checkpoint.
    """
    known = load_checkpoint(checkpoint, torch.device("cpu")).network
    if head:
        network.load_state_dict(known.state_dict())
    else:
        network.backbone.load_state_dict(known.backbone.state_dict())
    return f"The network starts from {'all weights' if head else 'the encoder'} of {checkpoint}."


def refuse_unfit(
    network: Mapping[str, Any],
    classes: int,
    weights: str | None = None,
    tune: str | int = "all",
    bands: Mapping[str, Any] | None = None,
) -> None:
    """Raise StppError for a network that cannot be built, takes no images, or does not fit the file `weights`.

    Or of which more blocks are to be tuned than its encoder has. `bands` are those of a stage's settings.

    What is checked has no values, so it takes no memory; but where an encoder cannot be without.
    """
    try:
        with torch.device("meta"):
            net = build(network, classes, Bands.said(bands)).eval()
        net.freeze(tune)
        if weights is not None:
            matched(net, _content(weights), weights)
        if not all(parameter.is_meta for parameter in net.parameters()):
            net = build(network, classes, Bands.said(bands)).eval()
        side = 2 * net.backbone.multiple_of
        images = torch.zeros(1, net.backbone.bands, side, side + side // 2, device=next(net.parameters()).device)
        with torch.no_grad():
            net(images)
    except StppError:
        raise
    except Exception as error:  # whatever the networks of other packages refuse
        raise StppError(
            f"network.backbone: {network['backbone']} does not take images of any size ({type(error).__name__}: "
            f"{error}); choose another encoder"
        ) from error


def _content(weights: str) -> Any:
    try:
        return read_tensors(Path(weights))
    except Exception as error:  # torch's readers meet other files with a dozen kinds of exceptions
        raise StppError(f"network.weights: cannot read {weights} as a state dict: {error}") from error
