"""Perturbed features: channels that are dropped, as dropout does it, but drawn for each image."""

import numpy as np
import torch
from torch import Tensor

from stpp.engine.batch import Batch
from stpp.engine.networks import Net


def dropped_channels(batch: Batch, net: Net, p: float) -> list[Tensor]:
    """Factors for the channels of each map of features, float32 (B + U, channels).

    0 with probability `p`, else 1 / (1 - p), for the labeled images and then for the unlabeled ones.
    """
    factors = []
    for level, channels in enumerate(net.module.backbone.channels):
        draws = [
            batch.draws(stream, number, f"channels {level}").random(channels)
            for stream, count in (("labeled", len(batch.images)), ("unlabeled", len(batch.views["weak"])))
            for number in range(count)
        ]
        kept = torch.from_numpy(np.stack(draws) >= p)
        factors.append((kept / (1 - p)).float().to(batch.images.device, non_blocking=True))
    return factors


def complementary_channels(batch: Batch, net: Net) -> list[Tensor]:
    """Factors for the channels of each map of features of two views, float32 (2 U, channels) (UniMatch V2).

    Each channel is dropped in one of the views and doubled in the other, which of them is drawn. Maps of equally many
    channels share the draw. One image of each pair, drawn, keeps all its channels in both views.
    """
    count = len(batch.views["weak"])
    kept = np.array([batch.draws("unlabeled", first, "whole").random() < 0.5 for first in range(0, count, 2)])
    whole = np.stack([kept, ~kept], axis=1).reshape(-1, 1)
    factors = []
    for channels in net.module.backbone.channels:
        draws = [
            batch.draws("unlabeled", number, f"channels of {channels}").random(channels) for number in range(count)
        ]
        first = 2.0 * (np.stack(draws) < 0.5)
        views = [np.where(whole, 1.0, view) for view in (first, 2 - first)]
        factors.append(torch.from_numpy(np.concatenate(views)).float().to(batch.images.device, non_blocking=True))
    return factors
