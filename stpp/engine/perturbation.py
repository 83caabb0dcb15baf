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
