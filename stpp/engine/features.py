"""What an encoder makes of a whole image: one row of numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from stpp.engine.inference import network_input, reduced
from stpp.models.folding import PRECISIONS
from stpp.models.network import SegmentationNetwork
from stpp.plan.counts import LONGEST_ENCODED
from stpp.store.maps import StoredImage


@torch.inference_mode()
def image_features(
    network: SegmentationNetwork,
    image: NDArray[np.uint8] | StoredImage,
    device: torch.device,
    prediction: Mapping[str, Any],
) -> NDArray[np.float32]:
    """The mean of the coarsest feature map of an image, uint8 (H, W, bands): float32 (D,), of length 1.

    The image has the size that it has in a prediction, at most `LONGEST_ENCODED`; `network` is from `for_prediction`.
    Of a stored image, it is the map as it is stored.
    """
    if isinstance(image, StoredImage):
        (*_, stored), *_ = image.maps.values()
        mean = torch.from_numpy(stored).float().mean(dim=(0, 1))
        return F.normalize(mean, dim=0).numpy()
    side = min(prediction["long_side"] or max(image.shape[:2]), LONGEST_ENCODED)
    pixels = torch.from_numpy(np.stack([reduced(image, side)]))
    x = network_input(pixels, device, network.normalisation).to(PRECISIONS[prediction["precision"]])
    coarsest = network.encoded(x).maps[-1]
    row: NDArray[np.float32] = F.normalize(coarsest.float().mean(dim=(2, 3)), dim=1)[0].cpu().numpy()
    return row
