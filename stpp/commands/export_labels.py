"""What `stpp export-labels` does: write pseudo-labels or predictions for an annotation tool."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stpp.commands.import_data import CLASSES, classes_text
from stpp.commands.origin import palette_of
from stpp.commands.output import Outputs
from stpp.common import disk
from stpp.common.errors import Problems, StppError
from stpp.common.labels import IGNORE
from stpp.common.registry import IMPORTERS, component
from stpp.common.wording import counted, listed
from stpp.data.classes import read_classes
from stpp.data.images import read_mask
from stpp.data.lists import is_image
from stpp.data.manifest import SUBSETS, manifest_path, read_manifest
from stpp.data.record import listing
from stpp.importers import Labels
from stpp.plan.recipe import read_recipe
from stpp.store.colours import class_colours
from stpp.store.masks import MaskStore, voc_palette

GUESSED = "\nthe images are named .jpg, since nothing says otherwise; --images DIR finds their names"
LABELS = "labels*"
"""The stages of a run that hold its pseudo-labels, each those of some of the images."""


def export_labels(
    source: Path, format: str, out: Path, outputs: Outputs, images: Path | None, tolerance: float | None
) -> str:
    """Write the masks of `source` in a format below `out`, with the classes, and return what to say of it.

    `source` is a mask store, the folder of a stage or of a run that has one, or what `stpp segment` wrote; `images` the
    folder that the ids of the masks start from. With a `tolerance` (px), polygons are written. Raises StppError or
    Problems, before anything is written, where there are no masks, or images cannot be found.
    """
    if tolerance is not None and not 0 <= tolerance < 1000:
        raise StppError(f"--polygons {tolerance} is asked for; expected a number of pixels from 0 on, such as 1")
    with ExitStack() as opened:
        labels, inputs = _segmented(source) if _is_segmented(source) else _stored(source, opened, out)
        guessed = "" if images or all(labels.images.values()) else GUESSED
        labels = labels._replace(images=_named(labels.images, images))
        if images:
            labels = labels._replace(files={id: images / name for id, name in labels.images.items()})
        files = component(IMPORTERS, format).files(labels, tolerance)
        outputs.spare(inputs)
        outputs.claim([out / CLASSES, *(out / name for name in files)])
        for name, write in files.items():
            with outputs.writing(out / name) as path:
                write(path)
        with outputs.writing(out / CLASSES) as path:
            path.write_text(classes_text(labels.classes, labels.palette), encoding="utf-8")
    again = f"stpp import {format} {out} --classes {out / CLASSES} --images {images or 'IMAGES'} --out DIR"
    return f"{counted(len(labels.images), 'mask')} in {out}{guessed}\nonce they are corrected: {again}"


def ids_below(store: MaskStore, out: Path) -> Sequence[str]:
    """The ids of a store as names of files below `out`. Raises StppError where one leads out of it."""
    if outside := [id for id in store.ids if id.startswith("/") or ".." in id.split("/") or "\0" in id]:
        raise StppError(
            f"{store.path} has a mask of {outside[0]!r}, which leads out of {out}; image ids are paths below the data "
            "root, so this store was not written by stpp: delete it"
        )
    return store.ids


# --- sources ----------------------------------------------------------------------------------------------------------


def _is_segmented(source: Path) -> bool:
    return (source / CLASSES).is_file() and (source / "masks").is_dir()


def _segmented(source: Path) -> tuple[Labels, list[Path]]:
    """What `stpp segment` wrote."""
    names, colours = read_classes(source / CLASSES)
    found = [Path(name) for name in listing(source / "masks").names if name.endswith((".png", ".tif"))]
    masks = {name.with_suffix("").as_posix(): source / "masks" / name for name in found}
    if not masks or not names:
        raise StppError(f"there are no masks in {source / 'masks'}, or no classes in {source / CLASSES}")
    encoding = {"classes": len(names), "ignore_value": IGNORE}

    def mask(id: str) -> NDArray[np.uint8]:
        return read_mask(masks[id], encoding)

    palette = shown_in(colours if len(colours) == len(names) else voc_palette(len(names)))
    places = {id: path for id, path in masks.items() if path.suffix == ".tif"}
    return Labels(names, palette, dict.fromkeys(masks, ""), mask, places), [source / CLASSES, *masks.values()]


def _stored(source: Path, opened: ExitStack, out: Path) -> tuple[Labels, list[Path]]:
    """The masks of stores, which stay open, and the names of their images where the stages' manifests have them."""
    paths = _stores_in(source)
    of: dict[str, MaskStore] = {}
    images: dict[str, str] = {}
    places: dict[str, Path] = {}
    for path in paths:
        store = opened.enter_context(MaskStore(path))
        known = _images(path.resolve().parent)
        for id in ids_below(store, out):
            of[id], images[id] = store, f"{id}{known[id].suffix}" if id in known else ""
        places |= {id: known[id] for id in store.ids if id in known}

    def mask(id: str) -> NDArray[np.uint8]:
        return of[id][id]

    palette = shown_in(palette_of(store))
    return Labels(store.classes, palette, images, mask, places), paths


def shown_in(palette: Sequence[Sequence[int]]) -> list[list[int]]:
    """The colours [r, g, b] in which classes of this palette are shown everywhere."""
    colours: list[list[int]] = class_colours(palette)[: len(palette)].tolist()
    return colours


def _stores_in(source: Path) -> list[Path]:
    """The mask stores that are meant: one, or all labels of a run. Raises StppError where there is none."""
    one = [path for path in (source, source / disk.MASKS) if path.is_file()][:1]
    if found := one or sorted(source.glob(f"{LABELS}/{disk.MASKS}")):
        return found
    below = sorted(str(path.parent) for path in source.glob(f"**/{disk.MASKS}")) if source.is_dir() else []
    hint = f"; it holds {listed(below, 5)}: give one of these" if below else ""
    raise StppError(
        f"there are no masks in {source}; expected a {disk.MASKS}, the folder of a stage or of a run that has one, or "
        f"what `stpp segment` wrote{hint}"
    )


def _images(folder: Path) -> dict[str, Path]:
    """The images by id, as the manifests of a stage have them; none for another folder."""
    try:
        recipe = read_recipe(folder / disk.RECIPE)
        results = folder.parent.parent.parent
        known = {subset: digest for subset, digest in recipe["manifests"].items() if subset in SUBSETS}
        rows = [
            row for subset, digest in known.items() for row in read_manifest(manifest_path(results, subset, digest))
        ]
    except StppError:
        return {}
    return {row.id: Path(row.image) for row in rows}


def _named(images: Mapping[str, str], folder: Path | None) -> dict[str, str]:
    """The file name of each image by its id: below the folder, where one is given.

    It may be the root that the ids start from, or the folder in it that their first part names. Raises Problems where
    it lacks some.
    """
    if folder is None:
        return {id: name or f"{id}.jpg" for id, name in images.items()}
    if not folder.is_dir():
        raise StppError(f"there is no folder {folder}; give the one that the ids of the masks start from")
    names = [name for name in listing(folder).names if is_image(name)]
    found = {f"{folder.resolve().name}/{stem}": name for name in names if (stem := name.rpartition(".")[0])}
    found |= {name.rpartition(".")[0]: name for name in names}
    if missing := [id for id in images if id not in found]:
        problems = [f"{counted(len(missing), 'image')} missing below it, for example {listed(missing)}"]
        raise Problems(f"{folder} as the folder that the ids of the masks start from", problems)
    return {id: found[id] for id in images}
