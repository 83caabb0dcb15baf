"""A model in use: one object that turns images into masks."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stpp.commands.origin import Provenance, provenance
from stpp.common.bands import Bands
from stpp.common.errors import StppError, shortened
from stpp.common.wording import counted, listed
from stpp.data.classes import CITYSCAPES, VOC_CLASSES
from stpp.data.images import large_image, read_image
from stpp.data.multiband import scaled
from stpp.engine.features import image_features
from stpp.engine.inference import Pixels, masks_of, pick_device, predict_masks, predict_scores, score_bands
from stpp.models import build
from stpp.models.authors import from_authors
from stpp.models.folding import for_prediction
from stpp.models.network import SegmentationNetwork
from stpp.models.weights import load_weights
from stpp.runtime.faults import COMMAND, LEAST_SIDE, LEAST_TILE, explained, prediction_advice
from stpp.store.checkpoint import Model, load_checkpoint
from stpp.store.colours import class_colours
from stpp.store.masks import voc_palette
from stpp.store.tensorfile import read_tensors

Picture = str | Path | Image.Image | NDArray[np.uint8]
PLAIN: Mapping[str, Any] = {"precision": "fp32", "long_side": None, "tile": None, "overlap": 64}
"""How the paper applies a network to an image: whole, as it is."""


@dataclass(frozen=True, repr=False)
class Segmenter:
    """A trained network, ready for images of any size.

    `classes` are the class names in label order (C of them) and `palette` their colours, [r, g, b] of 0..255.
    `prediction` says how images are read: `precision` ("fp32" or "bf16"), `long_side` (px or None: images are resized
    to it first, masks are of full size), `tile` (px or None: larger images are read in tiles) and `overlap` (px).
    `model` is the network as it was trained, `network` the one that predicts; `provenance` what is known of its past.
    """

    model: Model
    network: SegmentationNetwork
    device: torch.device
    prediction: Mapping[str, Any]
    provenance: Provenance

    def __repr__(self) -> str:
        millions = sum(parameter.numel() for parameter in self.model.network.parameters()) / 1e6
        side = self.prediction["long_side"]
        parts = [
            f"{counted(len(self.classes), 'class', 'es')} ({listed(self.classes, 4)})",
            f"{millions:.2f} million parameters",
            *([f"images resized to a long side of {side} px"] if side else []),
            f"on {self.device}",
        ]
        return f"<stpp model: {', '.join(parts)}>"

    @property
    def classes(self) -> Sequence[str]:
        """The class names in label order."""
        return self.model.classes

    @property
    def bands(self) -> Bands | None:
        """Which bands of a file its images are made of, and how they are scaled; None where they are RGB of 8 bits."""
        return self.model.bands

    @property
    def palette(self) -> list[list[int]]:
        """[r, g, b] of 0..255 for each class: those of the report.

        Of a model that does not say them and lies outside its stage, those of Cityscapes for its classes, else those
        of a data set without colours of its own.
        """
        known = list(CITYSCAPES.values()) if list(self.classes) == list(CITYSCAPES) else voc_palette(len(self.classes))
        own = self.model.palette or self.provenance.palette or known
        colours: list[list[int]] = class_colours(own)[: len(own)].tolist()
        return colours

    def predict(self, image: Picture) -> NDArray[np.uint8]:
        """The mask of one image: uint8 (H, W), the class 0..C-1 of each pixel, at the image's own size.

        `image` is the path of a JPEG, PNG, TIFF, WebP, BMP or GIF file, turned upright as its EXIF orientation says; a
        Pillow image; or RGB pixels, uint8 (H, W, 3) of 0..255. For a model of other `bands`, it is the path of a file
        that has them, or an array (H, W, B) of just these bands with the values that files have, which are scaled.
        Raises StppError for a file that cannot be read, for another array, and for too little memory.
        """
        return self.mask_of(self.pixels(image))

    def mask_of(self, pixels: Pixels) -> NDArray[np.uint8]:
        """The same of what `pixels` gives."""
        with self._explained(pixels):
            ((mask, _),) = predict_masks(self.network, [pixels], self.device, self.prediction)
        return mask

    def probabilities(self, image: Picture) -> NDArray[np.float32]:
        """The softmax of one image, as `predict` takes it: float32 (C, H, W), 0..1, 1 in sum over the classes.

        This and `scores` take 4 bytes a class and pixel, whatever `tile` is; `predict` does without.
        """
        pixels = self.pixels(image)
        with self._explained(pixels):
            scores = predict_scores(self.network, [pixels], self.device, self.prediction)
            softmax: NDArray[np.float32] = scores.softmax(dim=1)[0].cpu().numpy()
        return softmax

    def mask_and_probabilities(self, pixels: Pixels) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """What `mask_of` and, rounded to float16 (C, H, W), `probabilities` give, in the time and memory of one."""
        mask = np.empty(pixels.shape[:2], np.uint8)
        with self._explained(pixels):
            rounded = np.empty((len(self.classes), *mask.shape), np.float16)
            for rows, scores in score_bands(self.network, [pixels], self.device, self.prediction):
                mask[rows] = masks_of(scores)[0]
                rounded[:, rows] = scores.softmax(dim=1)[0].half().cpu().numpy()
        return mask, rounded

    def scores(self, image: Picture) -> Tensor:
        """The logits of one image, as `predict` takes it: float32 (1, C, H, W), on `device`."""
        pixels = self.pixels(image)
        with self._explained(pixels):
            return predict_scores(self.network, [pixels], self.device, self.prediction)

    def features(self, image: Picture) -> NDArray[np.float32]:
        """What the encoder makes of one image, as `predict` takes it: float32 (D,), of length 1."""
        pixels = _pixels(image) if self.bands is None else _banded_pixels(image, self.bands)
        return image_features(self.network, pixels, self.device, self.prediction)

    def pixels(self, image: Picture) -> Pixels:
        """What the network is given of an image, as `predict` takes it: uint8 (H, W, number of bands).

        A large TIFF file is read by windows, and if the network sees it in tiles, a row of these at a time.
        """
        if isinstance(image, str | Path) and (large := large_image(image, self.bands)):
            in_rows = self.prediction["tile"] and not self.prediction["long_side"]
            return large if in_rows else large[:, :]
        return _pixels(image) if self.bands is None else _banded_pixels(image, self.bands)

    def _explained(self, pixels: Pixels) -> AbstractContextManager[None]:
        height, width, _ = pixels.shape
        return explained(prediction_advice(height, width, len(self.classes), self.prediction, named=COMMAND))


def load(path: str | Path, device: str = "auto", *, long_side: int | None = None, tile: int | None = None) -> Segmenter:
    """Read a model: a checkpoint of stpp, or a state dict that the ST++ authors' code saved.

    `device` is "cpu", "cuda" or "auto", a GPU where there is one. Images are read as when the model was evaluated,
    where the file or its stage tells, else whole and as they are; `long_side` and `tile` (px) are used instead where
    given. The classes of the authors' models are PASCAL VOC's (21) or Cityscapes' (19), or numbered. Raises StppError
    for a file that is no model.
    """
    path = Path(path)
    where = pick_device(device)
    if (long_side or LEAST_SIDE) < LEAST_SIDE or (tile or LEAST_TILE) < LEAST_TILE:
        raise StppError(
            f"a long side of {long_side} px and tiles of {tile} px are asked for; expected at least {LEAST_SIDE} and "
            f"{LEAST_TILE}"
        )
    model, past = _model(path, where), provenance(path)
    past.refuse_other_classes(path, model.classes)
    prediction = {**PLAIN, **(model.prediction or past.prediction or {})}
    if long_side is not None:
        prediction["long_side"] = long_side
    if tile is not None:
        prediction |= {"tile": tile, "overlap": min(PLAIN["overlap"], tile // 4)}
    return Segmenter(model, for_prediction(model.network, prediction["precision"]), where, prediction, past)


def _model(path: Path, device: torch.device) -> Model:
    if not path.is_file():
        found = "is a folder; give the file in it, such as model.pt" if path.is_dir() else "does not exist"
        raise StppError(f"the model {path} {found} (seen from {Path.cwd()})")
    try:
        with explained(f"close other programs, or read {path} on a machine with more"):
            content = read_tensors(path)
    except StppError as error:
        raise StppError(f"{path}: {error}") from None
    except Exception as error:  # torch's readers meet other files with a dozen kinds of exceptions
        found = f"{type(error).__name__}: {shortened(next(iter(str(error).splitlines()), ''), 400)}"
        raise StppError(
            f"{path} is not a model ({found}); expected a checkpoint of "
            "stpp, such as results/NAME/model.pt, or a state dict of the ST++ "
            "authors' code"
        ) from None
    if not isinstance(content, dict) or "format" in content:
        return load_checkpoint(path, device)
    try:
        description, classes, state = from_authors(content)
    except StppError as error:
        raise StppError(f"{path} is neither a checkpoint of stpp nor a model of the authors: {error}") from None
    network = build(description, classes)
    load_weights(network, state, str(path))
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    names = {len(VOC_CLASSES): VOC_CLASSES, len(CITYSCAPES): list(CITYSCAPES)}
    return Model(network.eval(), names.get(classes, [f"class {index}" for index in range(classes)]))


def _banded_pixels(image: Picture, bands: Bands) -> NDArray[np.uint8]:
    if isinstance(image, str | Path):
        return read_image(image, None, bands)
    values = np.asarray(image)
    values = values[..., None] if values.ndim == 2 else values
    count = len(bands.numbers)
    if values.ndim != 3 or values.shape[2] != count or values.dtype.kind not in "uif":
        raise StppError(f"expected a path or numbers (H, W, {count}), but got {values.dtype} {values.shape}")
    if bands.scale is None and values.dtype != np.uint8:
        raise StppError(f"expected uint8 (H, W, {count}), since the model has no scale, but got {values.dtype}")
    return scaled(values, bands)


def _pixels(image: Picture) -> NDArray[np.uint8]:
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise StppError(f"expected RGB pixels, uint8 (H, W, 3), a Pillow image or a path, but got {found}")
    return image
