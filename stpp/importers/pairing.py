"""From exports that hold masks as pictures to an `Export`: each mask is read once, so that none fails later."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stpp.common.wording import counted
from stpp.data.images import class_of, raw_values, read_mask
from stpp.data.readers import ImageError
from stpp.importers import Annotated, Export
from stpp.importers.gathering import Colour, Notes
from stpp.importers.parsing import Mistakes
from stpp.importers.pictures import size_of


class Pair(NamedTuple):
    """An image, by its name without a suffix, and the file of its mask; None where nobody annotated it."""

    name: str
    image: Path
    mask: Path | None


def paired(
    headline: str,
    pairs: Sequence[Pair],
    classes: Sequence[str],
    encoding: Mapping[str, Any],
    palette: Sequence[Colour],
    mistakes: Mistakes,
    notes: Notes,
    files: Sequence[Path],
) -> Export:
    """An export of images and masks, which are read as `stpp.data.images.class_of` says of an `encoding`.

    Raises Problems where a mask has another size than its image or a value that is no class, and for all `mistakes`.
    """
    for pair in pairs:
        if pair.mask is not None:
            _check(pair.image, pair.mask, encoding, mistakes)
    if not any(pair.mask for pair in pairs):
        mistakes.add("no image has a mask")
    mistakes.refuse(headline)
    if waiting := sum(pair.mask is None for pair in pairs):
        notes.remarks.append(f"{counted(waiting, 'image')} without a mask: unlabeled")
    images = [
        Annotated(name, image, image.suffix, partial(read_mask, mask, encoding) if mask else None)
        for name, image, mask in pairs
    ]
    masks = [pair.mask for pair in pairs if pair.mask is not None]
    return Export(classes, images, [*files, *masks], notes.phrases(), palette, notes.remarks)


def _check(image: Path, mask: Path, encoding: Mapping[str, Any], mistakes: Mistakes) -> None:
    try:
        raw = raw_values(mask, encoding)
    except ImageError as error:
        mistakes.add(f"{error.what}. {error.remedy}", mask)
        return
    by_colour = raw.dtype == np.uint32
    for value in np.unique(raw).tolist():
        text = f"#{value:06x}" if by_colour else str(value)
        if class_of(text, encoding) is None:
            mistakes.add(f"the {'colour' if by_colour else 'value'} {text} is not a class", mask)
    size = size_of(image, mistakes)
    if size not in (None, raw.shape):
        mistakes.add("a mask has another size than its image", mask)


def covered(path: Path) -> NDArray[np.bool_]:
    """The pixels of a mask, bool (H, W), that are brighter than half of the brightest one. Raises ImageError."""
    values = raw_values(path, {"classes": 2, "label_map": {"default": 1}})
    if values.dtype == np.uint32:  # colours
        values = np.stack([values >> shift & 255 for shift in (16, 8, 0)]).max(axis=0)
    found: NDArray[np.bool_] = 2 * values.astype(np.int64) > values.max()
    return found
