"""What `stpp import` does: write what an annotation tool exported as a data set of images and masks."""

import shutil
from collections.abc import Callable
from pathlib import Path

from stpp.commands.output import Outputs
from stpp.data.classes import read_classes
from stpp.errors import StppError
from stpp.importers import Export
from stpp.registry import IMPORTERS, component
from stpp.store.masks import voc_palette, write_palette_png

CLASSES = "classes.txt"


def import_data(format: str, source: Path, out: Path, outputs: Outputs, classes: Path | None, link: bool) -> str:
    """Write `out`/images, `out`/masks and `out`/classes.txt, and return what to say of it.

    `classes` is a text file with one name a line in label order. With `link` the images are links to where they are.
    Raises StppError where the export cannot be read, and before anything is written.
    """
    if not source.exists():
        raise StppError(f"there is no {source}; give the file or folder that the annotation tool exported")
    names = _names(classes) if classes else None
    export: Export = component(IMPORTERS, format).find(source, names)
    if len(export.classes) > 255:
        raise StppError(f"{source} has {len(export.classes)} classes; at most 255 can be told apart")
    outputs.spare([*export.files, *([classes] if classes else [])])
    outputs.spare(item.image for item in export.images if isinstance(item.image, Path))
    named = [(item.name, item.suffix) for item in export.images]
    files = [(out / "images" / f"{name}{suffix}", out / "masks" / f"{name}.png") for name, suffix in named]
    outputs.claim([out / CLASSES, *(file for pair in files for file in pair)])
    palette = voc_palette(len(export.classes))
    for item, (image, mask) in zip(export.images, files):
        with outputs.writing(image) as path:
            _place(item.image, path, link)
        with outputs.writing(mask) as path:
            write_palette_png(item.draw(), palette, path)
    with outputs.writing(out / CLASSES) as path:
        path.write_text("".join(f"{name}\n" for name in export.classes), encoding="utf-8")
    return _summary(export, out)


def _names(classes: Path) -> list[str]:
    try:
        names, _ = read_classes(classes)
    except UnicodeDecodeError:
        raise StppError(f"{classes} is no text in UTF-8; expected one class name a line") from None
    if len(names) < 2 or len({*names}) < len(names):
        raise StppError(f"{classes} has {len(names)} names, expected two or more that differ, one a line")
    return names


def _place(image: Path | Callable[[], bytes], path: Path, link: bool) -> None:
    """An image at `path`: its bytes, or a link to it."""
    if not isinstance(image, Path):
        path.write_bytes(image())
    elif link:
        path.unlink(missing_ok=True)
        path.symlink_to(image.resolve())
    else:
        shutil.copyfile(image, path)


def _summary(export: Export, out: Path) -> str:
    lines = [f"{len(export.images)} images and masks in {out}; classes: {', '.join(export.classes)}"]
    lines += [f"left out: {text}" for text in export.left_out]
    lines += ["in a configuration:", "data:", "  layout: folder", f"  root: {out}", f"  classes_file: {CLASSES}"]
    return "\n".join(lines)
