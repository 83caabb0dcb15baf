"""The confusion matrix of a network over images with masks: in validation during training, and in evaluation."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from stpp.data.images import read_image, read_mask
from stpp.data.manifest import Row
from stpp.inference import predict_mask
from stpp.metrics import Confusion, confusion_matrix, total
from stpp.models.folding import for_prediction
from stpp.models.network import SegmentationNetwork


def evaluate_network(
    network: SegmentationNetwork,
    rows: Iterable[Row],
    encoding: Mapping[str, Any],
    prediction: Mapping[str, Any],
    device: torch.device,
) -> tuple[Confusion, dict[str, Confusion]]:
    """Confusion matrices int64 (C, C) of whole images, no test-time augmentation: the sum, and by image id."""
    ready, images = for_prediction(network, prediction["precision"]), {}
    for row in rows:
        mask = predict_mask(ready, np.asarray(read_image(row.image)), device, prediction)
        images[row.id] = confusion_matrix(mask, read_mask(row.true_mask, encoding), encoding["classes"])
    return total(images.values(), encoding["classes"]), images
