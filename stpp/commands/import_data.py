"""What `stpp import` does: write what an annotation tool exported as a data set of images and masks."""

import re
import shlex
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from stpp.commands.output import Outputs
from stpp.common.errors import StppError
from stpp.common.labels import MOST_CLASSES
from stpp.common.registry import IMPORTERS, component
from stpp.common.terminal import is_line
from stpp.common.wording import counted
from stpp.data.classes import read_classes
from stpp.importers import Export
from stpp.store.colours import class_colours
from stpp.store.masks import voc_palette, write_palette_png

CLASSES = "classes.txt"
Palette = Sequence[Sequence[int]]


def import_data(
    format: str, source: Path, out: Path, outputs: Outputs, classes: Path | None, images: Path | None, link: bool
) -> str:
    """Write `out`/images, `out`/masks and `out`/classes.txt, and return what to say of it.

    `classes` is a text file with one name a line in label order, and perhaps colours; `images` the folder of the images
    where they are not with the export. With `link` the images are links to where they are. Raises StppError where the
    export cannot be read, and before anything is written.
    """
    if not source.exists():
        raise StppError(f"there is no {source}; give the file or folder that the annotation tool exported")
    if source.is_file() and zipfile.is_zipfile(source):
        raise StppError(f"{source} is a ZIP archive; unpack it, and give the folder or the file in it")
    names, colours = _given(classes) if classes else (None, [])
    export: Export = component(IMPORTERS, format).find(source, names, images)
    _check_names(export.classes, source)
    outputs.spare([*export.files, *([classes] if classes else [])])
    outputs.spare(item.image for item in export.images if isinstance(item.image, Path))
    image_files = [out / "images" / f"{item.name}{item.suffix}" for item in export.images]
    mask_files = [out / "masks" / f"{item.name}.png" if item.draw else None for item in export.images]
    outputs.claim([out / CLASSES, *image_files, *filter(None, mask_files)])
    palette = colours or export.palette
    shown = class_colours(palette or voc_palette(len(export.classes))).tolist()
    for item, image, mask in zip(export.images, image_files, mask_files):
        with outputs.writing(image) as path:
            _place(item.image, path, link)
        if item.draw is not None and mask is not None:
            with outputs.writing(mask) as path:
                write_palette_png(item.draw(), shown, path)
    with outputs.writing(out / CLASSES) as path:
        path.write_text(classes_text(export.classes, palette), encoding="utf-8")
    return _summary(export, out)


def classes_text(names: Sequence[str], palette: Palette) -> str:
    """A classes file: a name a line, with its colour #rrggbb where there is one."""
    colours = [f" #{bytes(colour).hex()}" for colour in palette] or [""] * len(names)
    return "".join(f"{name}{colour}\n" for name, colour in zip(names, colours))


def _given(classes: Path) -> tuple[list[str], Palette]:
    try:
        names, colours = read_classes(classes)
    except UnicodeDecodeError:
        raise StppError(f"{classes} is not UTF-8 text; expected one class name per line") from None
    if len(names) < 2 or len({*names}) < len(names):
        raise StppError(f"{classes} has {len(names)} names, expected two or more that differ, one per line")
    return names, colours if len(colours) == len(names) else []


def _check_names(names: Sequence[str], source: Path) -> None:
    """Raises StppError where the classes are too many, or one has a name that does not come back from a text file."""
    if len(names) > MOST_CLASSES:
        raise StppError(f"{source} has {len(names)} classes; at most {MOST_CLASSES} can be told apart")
    for name in names:
        if name != name.strip(" \t") or not name or name.startswith("#") or not is_line(name):
            raise StppError(
                f"{source} has a class {name!a}; a name has no spaces around it, no line breaks, and does not begin "
                "with `#`: rename it in the annotation tool"
            )
        if re.search(r"[ \t,]*#[0-9a-fA-F]{6}$", name):
            raise StppError(
                f"{source} has a class {name!a}, which ends like a colour: rename it in the annotation tool"
            )


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
    found, masks = counted(len(export.images), "image"), sum(item.draw is not None for item in export.images)
    lines = [f"{found} and {counted(masks, 'mask')} in {out}; classes: {', '.join(export.classes)}"]
    lines += [f"left out: {text}" for text in export.left_out]
    lines += [f"note: {text}" for text in export.remarks]
    lines += [f"next: put the images that nobody annotated into {out / 'images'}; then type"]
    lines += [f"  stpp new {shlex.quote(str(out))}", "or write into a configuration of your own:"]
    lines += ["data:", "  layout: folder", f"  root: {out}", f"  classes_file: {CLASSES}"]
    lines += ["  val_split: {fraction: 0.2, seed: 0}"]
    return "\n".join(lines)
