"""Plain folders: images in one, masks of the same relative paths in the other."""

import posixpath
from collections.abc import Iterable

from stpp.data.lists import is_image
from stpp.data.sources import Entry, Place

NAMES = ("folder",)
CLASSES = False

# Image formats that are not read: such a file in a scanned folder is reported, other files there are passed over.
UNREAD_SUFFIXES = (".bmp", ".gif", ".avif", ".heic", ".jp2", ".ppm", ".pgm", ".tga", ".npy", ".exr", ".dng", ".nef")


def scan(place: Place) -> tuple[list[Entry], list[Entry]]:
    """The images of a folder and of its sub-folders, with their masks where there are such; no val images."""
    images, masks = posixpath.normpath(place.data["images"]), posixpath.normpath(place.data["masks"])
    if ".." in (images.split("/")[0], masks.split("/")[0]) or images in (".", masks) or masks.startswith(f"{images}/"):
        place.problems.append(
            f"images: {images} and masks: {masks} must be two sub-folders of the data root {place.root}, and the "
            "masks not among the images."
        )
        return [], []
    image_names, mask_names = _pictures(place, images), _pictures(place, masks)
    mask_of: dict[str, str] = {}
    for name in mask_names:
        stem = posixpath.splitext(name)[0]
        if stem in mask_of:
            both = f"{place.root / masks / mask_of[stem]} and {place.root / masks / name}"
            place.problems.append(f"{both} are two masks of one image; remove one of them.")
        mask_of[stem] = name
    entries = [
        place.made(f"{images}/{name}", f"{masks}/{mask}" if (mask := mask_of.get(stem)) is not None else None)
        for name, stem in ((name, posixpath.splitext(name)[0]) for name in image_names)
    ]
    without = sorted(set(mask_of) - {posixpath.splitext(name)[0] for name in image_names})
    if without and image_names:
        shown = without[:3]
        image = next(filter(None, (_meant(stem, image_names) for stem in shown)), image_names[0])
        place.warnings.append(
            f"Of the masks below {place.root / masks}, {len(without)} belong to no image, for example "
            f"{', '.join(mask_of[stem] for stem in shown)}: a mask has the path of its image, up to the suffix, as "
            f"{posixpath.splitext(image)[0]}.png has that of {image}."
        )
    return entries, []


def _pictures(place: Place, folder: str) -> list[str]:
    """The images below a folder of the root."""
    names = place.names(folder)
    if names is None:
        place.problems.append(f"There is no folder {place.root / folder}: correct `root`, `images` or `masks`.")
    return [name for name in names or [] if is_image(name) or name.lower().endswith(UNREAD_SUFFIXES)]


def _meant(mask: str, images: Iterable[str]) -> str | None:
    """The image with the longest name, folders and suffix left aside, that is part of the name of a mask; or None."""
    names = {image: posixpath.splitext(posixpath.basename(image))[0] for image in images}
    within = [image for image, name in names.items() if name in posixpath.basename(mask)]
    return max(within, key=lambda image: len(names[image]), default=None)
