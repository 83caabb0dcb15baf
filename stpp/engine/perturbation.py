"""Perturbed images and features: what dropout and noise do, but drawn for each image."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from contourpy import FillType, contour_generator
from torch import Tensor

from stpp.engine.batch import Batch
from stpp.engine.networks import Net
from stpp.models.network import Maps


def dropped_channels(batch: Batch, net: Net, p: float) -> list[Tensor]:
    """Factors for the channels of each feature map, float32 (B + U, channels).

    0 with probability `p`, else 1 / (1 - p), for the labeled images and then for the unlabeled ones.
    """
    factors = []
    for level, channels in enumerate(channels_of(batch, net)):
        draws = [
            batch.draws(stream, number, f"channels {level}").random(channels)
            for stream, count in (("labeled", len(batch.images)), ("unlabeled", len(batch.views["weak"])))
            for number in range(count)
        ]
        factors.append((batch.placed(np.stack(draws) >= p) / (1 - p)).float())
    return factors


def complementary_channels(batch: Batch, net: Net) -> list[Tensor]:
    """Factors for the channels of each feature map of two views, float32 (2 U, channels) (UniMatch V2).

    Each channel is dropped in one of the views and doubled in the other, which of them is drawn. Maps of equally many
    channels share the draw. One image of each pair, drawn, keeps all its channels in both views.
    """
    count = len(batch.views["weak"])
    kept = np.array([batch.draws("unlabeled", first, "whole").random() < 0.5 for first in range(0, count, 2)])
    whole = np.stack([kept, ~kept], axis=1).reshape(-1, 1)
    factors = []
    for channels in channels_of(batch, net):
        draws = [
            batch.draws("unlabeled", number, f"channels of {channels}").random(channels) for number in range(count)
        ]
        first = 2.0 * (np.stack(draws) < 0.5)
        views = [np.where(whole, 1.0, view) for view in (first, 2 - first)]
        factors.append(batch.placed(np.concatenate(views)).float())
    return factors


def channels_of(batch: Batch, net: Net) -> Sequence[int]:
    """The channels of each feature map: of all maps of the encoder, or of those that are stored."""
    if isinstance(batch.images, Maps):
        return [values.shape[1] for values in batch.images.maps]
    return net.module.backbone.channels


def quarter_turns(batch: Batch) -> list[int]:
    """1, 2 or 3 for each labeled and then for each unlabeled image, all equally likely."""
    return [
        int(batch.draws(stream, number, "turns").integers(1, 4))
        for stream, count in (("labeled", len(batch.images)), ("unlabeled", len(batch.views["weak"])))
        for number in range(count)
    ]


def turned(values: Tensor, turns: Sequence[int]) -> Tensor:
    """Images (N, C, S, S) or masks (N, S, S), each turned clockwise by so many quarters."""
    return torch.stack([torch.rot90(each, -turn, dims=(-2, -1)) for each, turn in zip(values, turns, strict=True)])


# --- CCT: the features (U, D, h, w) of unlabeled images ---------------------------------------------------------------


def uniform(batch: Batch, part: str, shape: Sequence[int], low: float, high: float) -> Tensor:
    """Numbers of U(`low`, `high`), float32 (U, *shape), on the device; `part` names them."""
    device = batch.images.device
    drawn = []
    for number in range(len(batch.views["weak"])):
        seed = int(batch.draws("unlabeled", number, part).integers(2**63))
        drawn.append(torch.rand(*shape, generator=torch.Generator(device).manual_seed(seed), device=device))
    return low + (high - low) * torch.stack(drawn)


def without_channels(batch: Batch, features: Tensor, part: str, p: float = 0.5) -> Tensor:
    """Each channel of each image is 0 with probability `p`, else divided by 1 - `p`."""
    kept = uniform(batch, part, (features.shape[1], 1, 1), 0, 1) >= p
    return features * kept / (1 - p)


def with_noise(batch: Batch, features: Tensor, part: str, most: float = 0.3) -> Tensor:
    """Each value times 1 + U(-`most`, `most`)."""
    return features * (1 + uniform(batch, part, features.shape[1:], -most, most))


def without_most_active(batch: Batch, features: Tensor, part: str) -> Tensor:
    """Without the places whose mean over the channels is at least U(0.7, 0.9) times the largest one of the image."""
    active = features.detach().mean(dim=1, keepdim=True)
    bound = uniform(batch, part, (1, 1, 1), 0.7, 0.9) * active.amax(dim=(2, 3), keepdim=True)
    return features * (active < bound)


def at_features(mask: Tensor, features: Tensor) -> Tensor:
    """`mask`, bool (U, H, W), at the places of the features, of the nearest pixel: float32 (U, 1, h, w)."""
    return F.interpolate(mask[:, None].to(features.dtype), size=features.shape[-2:])


def without_boxes(batch: Batch, features: Tensor, foreground: Tensor, part: str, side: float = 0.4) -> Tensor:
    """Without a box in the bounding box of each object: `side` times as high and wide, anywhere inside.

    An object is an outer contour of more than 50 points around `foreground`, bool (U, H, W).
    """
    kept = torch.ones_like(foreground)
    for number, mask in enumerate(foreground.cpu().numpy()):
        rng = batch.draws("unlabeled", number, part)
        padded = np.pad(mask, 1).astype(np.float32)
        contours = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(0.5, np.inf)
        for rings, offsets in zip(*contours):
            points = rings[: offsets[1]]  # without holes
            if len(points) <= 50:
                continue
            (left, top), (right, bottom) = points.min(axis=0) - 0.5, points.max(axis=0) - 0.5
            wide, tall = side * (right - left), side * (bottom - top)
            x, y = rng.uniform(left, right - wide), rng.uniform(top, bottom - tall)
            kept[number, round(y) : round(y + tall), round(x) : round(x + wide)] = False
    return features * at_features(kept, features)


def adversarial(
    batch: Batch, features: Tensor, decode: Callable[[Tensor], Tensor], part: str, length: float = 2.0
) -> Tensor:
    """The features and a step of `length` (L2) an image, in the direction that changes `decode` the most (VAT).

    That is the gradient of KL(p(x) || p(x + d)) at a random d (Miyato et al., TPAMI 2019). `decode` gives logits, and
    gradients to its argument alone. The papers' random step of 1e-6 is lost in float32, so it is 0.1 here.
    """
    start = unit(uniform(batch, part, features.shape[1:], -0.5, 0.5)).requires_grad_()
    own = features.detach()
    with torch.enable_grad():
        targets = decode(own).detach().softmax(dim=1)
        moved = decode(own + 0.1 * start).log_softmax(dim=1)
        (direction,) = torch.autograd.grad(F.kl_div(moved, targets, reduction="sum"), start)
    return features + length * unit(direction)


def unit(values: Tensor) -> Tensor:
    """`values` (N, ...) divided by the L2 norm of each image's; zero where these are."""
    norms = values.flatten(1).norm(dim=1).clamp(min=1e-12)
    return values / norms.view(-1, *[1] * (values.ndim - 1))
