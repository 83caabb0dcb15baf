"""The confusion matrix of a network over images with masks: in validation during training, and in evaluation."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stpp.data.images import read_image, read_mask
from stpp.data.manifest import Row
from stpp.inference import predict_mask
from stpp.metrics import confusion_matrix
from stpp.models.network import SegmentationNetwork

Confusion = NDArray[np.int64]


def evaluate_network(
    network: SegmentationNetwork,
    rows: Sequence[Row],
    encoding: Mapping[str, Any],
    prediction: Mapping[str, Any],
    device: torch.device,
) -> tuple[Confusion, dict[str, Confusion]]:
    """Confusion matrices int64 (C, C) of whole images, no test-time augmentation: the sum, and by image id."""
    images = {}
    for row in rows:
        mask = predict_mask(network, np.asarray(read_image(row.image)), device, prediction)
        images[row.id] = confusion_matrix(mask, read_mask(row.true_mask, encoding), encoding["classes"])
    return total(images.values(), encoding["classes"]), images


def total(confusions: Iterable[Confusion], classes: int) -> Confusion:
    """Sum of confusion matrices, int64 (C, C); zeros for none."""
    return sum(confusions, start=np.zeros((classes, classes), dtype=np.int64))
