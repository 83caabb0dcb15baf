"""The confusion matrix of a network over images with masks: in validation during training, and in evaluation."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stpp.data.ahead import windows
from stpp.data.manifest import Row
from stpp.data.reading import image_of, mask_of
from stpp.engine.inference import WINDOW, WholeImage, predict_masks
from stpp.models.folding import for_prediction
from stpp.models.network import SegmentationNetwork
from stpp.runtime.faults import WORKFLOW, explained, prediction_advice
from stpp.scoring.metrics import Confusion, confusion_matrix, total


def evaluate_network(
    network: SegmentationNetwork,
    rows: Iterable[Row],
    encoding: Mapping[str, Any],
    prediction: Mapping[str, Any],
    device: torch.device,
    named: str = WORKFLOW,
    picture: Callable[[Row], WholeImage] = image_of,
) -> tuple[Confusion, dict[str, Confusion]]:
    """Confusion matrices int64 (C, C) of whole images, no test-time augmentation: the sum, and by image id.

    `picture` gives what the network is shown of an image.
    Raises StppError for too little memory; `named` says how it calls the settings, as in `prediction_advice`.
    """
    ready, images = for_prediction(network, prediction["precision"]), {}

    def pair(row: Row) -> tuple[WholeImage, NDArray[np.uint8]]:
        return picture(row), mask_of(row, encoding)

    for window in windows(rows, pair, WINDOW[device.type]):
        pictures = [image for _, (image, _) in window]
        height, width = max((image.shape[:2] for image in pictures), key=math.prod)
        with explained(prediction_advice(height, width, encoding["classes"], prediction, named=named)):
            masks = predict_masks(ready, pictures, device, prediction)
        for (row, (_, truth)), (mask, _) in zip(window, masks):
            images[row.id] = confusion_matrix(mask, truth, encoding["classes"])
    return total(images.values(), encoding["classes"]), images
