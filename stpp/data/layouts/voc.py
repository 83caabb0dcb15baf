"""PASCAL VOC: id lists below `ImageSets/Segmentation`, images in `JPEGImages`, masks in `SegmentationClass`."""

from stpp.data.lists import is_image
from stpp.data.record import stamp
from stpp.data.sources import Entry, Place

NAMES = ("voc",)
VAL = True


def scan(place: Place) -> tuple[list[Entry], list[Entry]]:
    """The images of VOC's own lists `train` and `val`."""
    train, val = (_listed(place, subset) for subset in ("train", "val"))
    if train is None:
        place.report_none("ImageSets/Segmentation/train.txt")
    return train or [], val or []


def expand(fields: list[str]) -> list[str]:
    """A bare id stands for its image and mask."""
    if len(fields) == 1 and "/" not in fields[0] and not is_image(fields[0]):
        return [f"JPEGImages/{fields[0]}.jpg", f"SegmentationClass/{fields[0]}.png"]
    return fields


def _listed(place: Place, subset: str) -> list[Entry] | None:
    """The images of one of the id lists, None if there is none."""
    path = place.root / "ImageSets" / "Segmentation" / f"{subset}.txt"
    if not path.is_file():
        place.report_broken(path)
        return None
    place.files[str(path)] = stamp(path)
    return place.read(path, subset)
