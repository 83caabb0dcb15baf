"""Cityscapes: `leftImg8bit/SUBSET/CITY/*_leftImg8bit.png` with `gtFine/SUBSET/CITY/*_gtFine_labelTrainIds.png`."""

from stpp.data.sources import Entry, Place

NAMES = ("cityscapes",)
VAL = True
SUFFIX = "_leftImg8bit.png"


def scan(place: Place) -> tuple[list[Entry], list[Entry]]:
    """The images of the folders `train` and `val`; the test set has no labels and is not taken."""
    train, val = (_images(place, subset) for subset in ("train", "val"))
    if not train:
        place.report_none("leftImg8bit/train/CITY/*.png")
    return train, val


def _images(place: Place, subset: str) -> list[Entry]:
    names = [name for name in place.names(f"leftImg8bit/{subset}") or [] if name.endswith(SUFFIX)]
    return [
        place.made(
            f"leftImg8bit/{subset}/{name}",
            f"gtFine/{subset}/{name.removesuffix(SUFFIX)}_gtFine_labelTrainIds.png",
        )
        for name in names
    ]
