"""`stpp segment`: the masks of a user's own images, as files that people and other programs can look at."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from glob import glob
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from stpp.commands.output import Outputs
from stpp.commands.segmenter import Segmenter
from stpp.common.errors import Problems, StppError, of_the_machine, of_the_system, shortened
from stpp.data.lists import is_image
from stpp.data.multiband import shown
from stpp.data.record import listing
from stpp.engine.inference import Pixels
from stpp.store.geotiff import georeference, write_geotiff
from stpp.store.masks import write_palette_png

SUFFIXES = {"masks": ".png", "overlays": ".jpg", "probabilities": ".npz"}
"""What is written, each kind in a folder of its own."""
AREAS = "areas.csv"
LONGEST_JPEG = 65500
"""Pixels of a side that libjpeg writes."""
LONGEST_PART = 4096
"""Pixels of a side of the overlay of an image that is read by rows."""
ROWS = 64
"""Of such an overlay, so many are made at once."""
WILD = ("*", "?", "[")


def segment(
    model: Segmenter,
    arguments: Sequence[str],
    out: Path,
    outputs: Outputs,
    *,
    probabilities: bool = False,
    resume: bool = False,
) -> int:
    """Write the masks of the images that `arguments` name (see `images_of`) below `out`; returns how many images.

    `masks/NAME.png` are palette PNGs, of GeoTIFF files `masks/NAME.tif` with their georeference, `overlays/NAME.jpg`
    the images half covered by the colours of the classes, and with `probabilities`, `probabilities/NAME.npz` holds
    `probabilities`, float16 (C, H, W), and `classes`. `classes.txt` lists the classes and their colours, as
    `classes_file` of a configuration reads them, and `areas.csv` the share of each class in each image. With `resume`,
    images whose files are all there are left as they are; raises StppError where they are of other classes.

    Raises Problems, before anything is written, where two images would be written to one file, and what `outputs`
    raises; and at the end for images that could not be read or written, after all others are done. Overlays of more
    than 65,500 px a side are shrunk to that.
    """
    images = images_of(arguments, out)
    kinds = [kind for kind in SUFFIXES if probabilities or kind != "probabilities"]
    files = {
        path: {kind: out / kind / f"{name}{suffix_of(kind, path)}" for kind in kinds} for path, name in images.items()
    }
    classes = "".join(
        f"{name} #{red:02x}{green:02x}{blue:02x}\n" for name, (red, green, blue) in zip(model.classes, model.palette)
    )
    legend = out / "classes.txt"
    said = legend.is_file() and legend.read_bytes() == classes.encode()
    if resume and legend.is_file() and not said:
        raise StppError(
            f"{legend} has other classes than the model, so the call cannot be continued; choose another --out"
        )
    done = {path for path, its in files.items() if resume and all(file.is_file() for file in its.values())}
    written = [file for path, its in files.items() if path not in done for file in its.values()]
    _refuse_collisions(images)
    outputs.spare(images)
    outputs.claim([out / AREAS, *([] if said else [legend]), *written])
    if not said:
        with outputs.writing(legend) as path:
            path.write_text(classes, encoding="utf-8")
    problems = []
    areas: dict[str, list[float]] = {}
    for path in tqdm(images, unit="img", desc="segment", mininterval=1):
        try:
            mask = _written(files[path]["masks"]) if path in done else _segment(model, path, files[path], outputs)
            areas[images[path]] = (
                np.bincount(mask.reshape(-1), minlength=256)[: len(model.classes)] / mask.size
            ).tolist()
        except Exception as error:  # whatever happens to one image, the others are done
            problems.append(_problem(path, error))
    with outputs.writing(out / AREAS) as path, path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [["image", *model.classes], *([n, *a] for n, a in areas.items())]
        )
    if problems:
        raise Problems(f"{len(images) - len(problems)} of {len(images)} images are in {out}", problems)
    return len(images)


def suffix_of(kind: str, image: Path) -> str:
    """The suffix of what is written of an image: the mask of one with a georeference has it, too."""
    if kind == "masks" and image.suffix.lower() in (".tif", ".tiff") and georeference(image):
        return ".tif"
    return SUFFIXES[kind]


def images_of(arguments: Sequence[str], out: Path) -> dict[Path, str]:
    """The images that files, folders and patterns name, and the name of each, without suffix, below the output folders.

    A file keeps its own name. The images of a folder, at any depth, keep their path below it, and those of a pattern
    (`*`, `?`, `[...]`, and `**` for any depth) theirs below the folder before its first wildcard. Where `out` lies
    within such a folder, what is in it is passed over. Raises StppError for an argument without an image.
    """
    images: dict[Path, tuple[Path, str]] = {}
    for argument in arguments:
        found = list(_matching(argument, out.absolute()))
        if not found:
            raise StppError(
                f"{argument}: there is no image (seen from {Path.cwd()}); expected JPEG, PNG, TIFF, WebP, BMP or GIF "
                "files, a folder with such files, or a pattern in quotes"
            )
        for path, below in found:
            images.setdefault(path.absolute(), (path, str(path.relative_to(below).with_suffix(""))))
    return dict(images.values())


def _matching(argument: str, out: Path) -> Iterator[tuple[Path, Path]]:
    """The images that an argument names, each with the folder that its name starts from."""
    path = Path(argument)
    if path.is_file():
        yield path, path.parent
        return
    below = path
    if path.is_dir():
        names, _, errors = listing(path)
        if errors := [error for error in errors if not is_image(str(error.filename))]:
            raise Problems(
                f"not all of {path} can be read, so images may be missing; correct the permissions or the place",
                [f"{shortened(str(error.filename), 500)}: {error.strerror}" for error in errors],
            )
        found = [path / name for name in names]
    else:
        found = [Path(name) for name in sorted(glob(argument, recursive=True))]  # noqa: PTH207 (also from the root)
        while any(mark in str(below) for mark in WILD):
            below = below.parent
    inside = below.absolute() in out.parents
    for image in found:
        if is_image(image.name) and not image.is_dir() and not (inside and image.absolute().is_relative_to(out)):
            yield image, below


def _problem(image: Path, error: Exception) -> str:
    """A sentence for what happened to an image."""
    found = of_the_system(error) if isinstance(error, OSError) else of_the_machine(error)
    if found is None:
        kind = "" if isinstance(error, StppError) else f"{type(error).__name__}: "
        found = f"{kind}{shortened(str(error), 400) if kind else error}"
    return found if str(image) in found else f"{image}: {found}"


def _refuse_collisions(images: Mapping[Path, str]) -> None:
    named = defaultdict(list)
    for path, name in images.items():
        named[name].append(str(path))
    same = {name: paths for name, paths in named.items() if len(paths) > 1}
    problems = [f"{' and '.join(paths)} would be written to one file, {name}" for name, paths in same.items()]
    if problems:
        raise Problems(
            "images of the same name; give the folder that holds them all, or a pattern in quotes, which keep "
            "sub-folders; or make several calls, each with its own --out",
            problems,
        )


def _written(path: Path) -> NDArray[np.uint8]:
    """The mask in a file that `_segment` wrote, of any size."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as mask:
            return np.asarray(mask)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _segment(model: Segmenter, image: Path, files: Mapping[str, Path], outputs: Outputs) -> NDArray[np.uint8]:
    """Write the mask of an image and what else is asked for; returns the mask."""
    pixels = model.pixels(image)
    mask, values = model.mask_and_probabilities(pixels) if "probabilities" in files else (model.mask_of(pixels), None)
    with outputs.writing(files["masks"]) as path:
        if files["masks"].suffix == ".png":
            write_palette_png(mask, model.palette, path)
        else:
            place = georeference(image)
            assert place is not None  # else the mask would be a PNG file
            write_geotiff(mask, model.palette, place, path)
    picture, step = _picture(pixels)
    colours = Image.fromarray(np.array(model.palette, np.uint8)[mask[::step, ::step]])
    with outputs.writing(files["overlays"]) as path:
        overlay = Image.blend(Image.fromarray(shown(picture, model.bands)), colours, 0.5)
        overlay.thumbnail((LONGEST_JPEG, LONGEST_JPEG))  # larger ones become smaller
        overlay.save(path, format="JPEG", quality=90)
    if values is not None:
        with outputs.writing(files["probabilities"]) as path, path.open("wb") as file:
            np.savez_compressed(file, probabilities=values, classes=np.array(model.classes))
    return mask


def _picture(pixels: Pixels) -> tuple[NDArray[np.uint8], int]:
    """An image for its overlay, and of how many of its rows and columns one is taken: of a large one that is read by
    rows, so many that no side is longer than LONGEST_PART."""
    if isinstance(pixels, np.ndarray):
        return pixels, 1
    height, width, _ = pixels.shape
    step = -(-max(height, width) // LONGEST_PART)
    rows = range(0, height, step * ROWS)
    return np.concatenate([pixels.lines(first, first + step * ROWS)[::step, ::step] for first in rows]), step
