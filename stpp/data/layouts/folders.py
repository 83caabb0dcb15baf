"""Plain folders: images in one, masks of the same relative paths in the other, or both in one, told apart by names."""

import posixpath
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from stpp.common.labels import STEM
from stpp.common.wording import listed
from stpp.data import annotations
from stpp.data.lists import is_image
from stpp.data.naming import Names, by_stem, differ_in_case, guess
from stpp.data.sources import Entry, Place

NAMES = ("folder",)
CLASSES = False

PICTURES = (
    ".avif",
    ".heic",
    ".heif",
    ".jp2",
    ".jxl",
    ".ppm",
    ".pgm",
    ".pbm",
    ".tga",
    ".exr",
    ".hdr",
    ".dng",
    ".nef",
    ".cr2",
    ".arw",
    ".svg",
)
"""Formats of pictures that are not read: where no other file has its name, such a file is a damaged image."""
JUNK = {"@eadir", "__macosx", "#recycle", "$recycle.bin", "@recycle", "@tmp"}
"""Folders that file servers and archives put among one's own."""
QUIET = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
"""Files of file managers, which nobody misses."""
PACKED = (".gz", ".bz2", ".xz", ".zst")
ARRAYS = {".npy", ".npz", ".mat", ".h5", ".hdf5", ".pkl", ".dcm", ".dicom", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"}


def scan(place: Place) -> tuple[list[Entry], list[Entry]]:
    """The images of a folder and of its sub-folders, with their masks where there are such; no val images."""
    images, masks = posixpath.normpath(place.data["images"]), posixpath.normpath(place.data["masks"])
    names = Names(place.data.get("image_name") or STEM, place.data.get("mask_name") or STEM)
    inside = masks.startswith(f"{images}/") or images == "." != masks
    if ".." in (images.split("/")[0], masks.split("/")[0]) or inside or (images == masks and names.image == names.mask):
        place.problems.append(
            f"images: {images} and masks: {masks} must be two sub-folders of the data root {place.root}, and the "
            "masks not among the images; or one folder for both, with a mask_name that tells the masks apart, such as "
            "'{stem}_mask', or '{stem}.png' with image_name: '{stem}.jpg'. "
            f"{annotations.advice_beside(place.root)}".rstrip()
        )
        return [], []
    pictures, others = _pictures(place, images)
    if images == masks:
        found = {name for members in by_stem(pictures, names.mask).values() for name in members}
        image_names, mask_names, beside = [name for name in pictures if name not in found], sorted(found), ""
    else:
        image_names, (mask_names, beside) = pictures, _pictures(place, masks)
        if masks == "." or images.startswith(f"{masks}/"):  # the images lie among the masks
            within = "" if masks == "." else f"{masks}/"
            mask_names = [name for name in mask_names if not f"{within}{name}".startswith(f"{images}/")]
    images_of, masks_of = by_stem(image_names, names.image), by_stem(mask_names, names.mask)
    mask_of = {stem: members[0] for stem, members in masks_of.items()}
    if twice := [members for members in masks_of.values() if len(members) > 1]:
        pairs = [" and ".join(str(place.root / masks / name) for name in members) for members in twice]
        place.problems.append(f"{listed(pairs)} are two masks of one image; remove one of them.")
    entries = [
        place.made(
            posixpath.normpath(f"{images}/{name}"),
            posixpath.normpath(f"{masks}/{mask}") if (mask := mask_of.get(stem)) is not None else None,
        )
        for name, stem in sorted((name, stem) for stem, members in images_of.items() for name in members)
    ]
    strangers = sorted(set(image_names) - {name for members in images_of.values() for name in members})
    if strangers:
        place.warnings.append(
            f"Of the images below {place.root / images}, {len(strangers):,} do not match image_name and are left out, "
            f"for example {listed(strangers)}."
        )
    lonely = sorted({*mask_names} - {name for stem in images_of for name in masks_of.get(stem, ())})
    labeled = place.data.get("labeled") is not None
    if place.problems:
        pass  # which say why there are none
    elif not image_names and not labeled:
        place.problems.append(f"There is no image below {place.root / images}. {others}".rstrip())
    elif not mask_names and not labeled:
        place.problems.append(
            f"There is no mask below {place.root / masks}: expected one for each labeled image, by its name. "
            f"{beside or annotations.advice_beside(place.root)}".rstrip()
        )
        beside = ""
    elif lonely:
        text = annotations.advice_for_masks(place.root / masks, place.root / images, lonely)
        text = text or _why_alone(f"{place.root / masks}", image_names, lonely, annotations.of_parts(place.root))
        (place.warnings if labeled or any(entry.mask for entry in entries) else place.problems).append(text)
    place.warnings += [text for text in (others if image_names else "", beside) if text]
    return entries, []


def _why_alone(masks: str, image_names: Sequence[str], lonely: Sequence[str], command: str) -> str:
    """Why masks belong to no image, and the names that would bring them together, or the `command`, where an image has
    several.
    """
    text = (
        f"Of the masks below {masks}, {len(lonely)} belong{'s' if len(lonely) == 1 else ''} to no image, for example "
        f"{listed(lonely)}: a mask has the path of its image, up to the suffix"
    )
    found = guess(image_names, lonely)
    if found and found[0][1] > 1:
        names, count = found[0]
        several = [other.mask for other, number in found if other.image == names.image and number == count]
        if len(several) > 1:
            return (
                f"{text}. There seem to be several masks per image, {listed(several)}: {command} makes one of them, "
                "whose values are the numbers of the classes."
            )
        image = f"image_name: '{names.image}', " if names.image != STEM else ""
        return f"{text}. {count} would have one with these settings of data: {image}mask_name: '{names.mask}'"
    if (count := differ_in_case(image_names, lonely)) > 0:
        return f"{text}. {count} differ from an image in upper and lower case alone: rename them."
    image = next(
        filter(None, (_meant(posixpath.splitext(name)[0], image_names) for name in lonely[:3])), image_names[0]
    )
    return f"{text}, as {posixpath.splitext(image)[0]}.png has that of {image}."


def _pictures(place: Place, folder: str) -> tuple[list[str], str]:
    """The images below a folder of the root, and what is to be said of all else that lies there, or ""."""
    names = place.names(folder)
    if names is None:
        place.problems.append(
            f"There is no folder {place.root / folder}: correct `root`, `images` or `masks`. "
            f"{annotations.advice_beside(place.root)}".rstrip()
        )
        return [], ""
    junk = [name for name in names if JUNK.intersection(name.lower().split("/")[:-1])]
    wanted = sorted({*names} - {*junk})
    read = [name for name in wanted if is_image(name)]
    stems = {posixpath.splitext(name)[0] for name in read}
    broken = [name for name in wanted if name.lower().endswith(PICTURES) and posixpath.splitext(name)[0] not in stems]
    rest = {*wanted} - {*read, *broken}
    rest = {name for name in rest if posixpath.basename(name).lower() not in QUIET}
    return sorted([*read, *broken]), _account(place.root / folder, rest, junk)


def _account(folder: Path, rest: Collection[str], junk: Sequence[str]) -> str:
    """What to say of files that are no images, and of those in folders that are left out; "" where there are none."""
    text = ""
    if kinds := Counter(_suffix(name) for name in rest):
        ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        counts = listed([f"{suffix or 'no suffix'} {count:,}" for suffix, count in ordered], 8)
        files = "file" if kinds.total() == 1 else "files"
        text = f"{kinds.total():,} {files} in {folder} not taken as images ({counts}), for example {min(rest)}."
        text += "".join(f" {advice}" for advice in (annotations.advice(folder, rest), _advice(kinds)) if advice)
    if junk:
        text += (
            f" {len(junk):,} files in {folder} left out, because a file server or an archive program made their "
            "folders, for example "
            f"{junk[0]}."
        )
    return text.strip()


def _suffix(name: str) -> str:
    """The suffix of a name in lower case, with the one before it where the last says how the file is packed."""
    stem, suffix = posixpath.splitext(name.lower())
    return posixpath.splitext(stem)[1] + suffix if suffix in PACKED else suffix


def _advice(kinds: Iterable[str]) -> str:
    """What to do about files that hold arrays, by their suffixes."""
    found = sorted(ARRAYS.intersection(kinds))
    arrays = f"Write the arrays in {' and '.join(found)} files as PNG: images of 8 bits, masks of class numbers."
    return arrays if found else ""


def _meant(mask: str, images: Iterable[str]) -> str | None:
    """The image with the longest name, folders and suffix left aside, that is part of the name of a mask; or None."""
    names = {image: posixpath.splitext(posixpath.basename(image))[0] for image in images}
    within = [image for image, name in names.items() if name in posixpath.basename(mask)]
    return max(within, key=lambda image: len(names[image]), default=None)
