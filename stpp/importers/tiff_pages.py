"""TIFF files of several pages: volumes and stacks, with a page of labels for each page of the image.

Image and mask have the same name. Page 7, from 0, of `a.tif` becomes the image `a/007`. An image of one page whose mask
has several is one image: its mask has a page for each class, and a pixel is of the class whose page is not 0 there, the
later one of several; without any it is left out. Masks in black and white, 0 and 255, have two classes.
"""

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stpp.common.errors import StppError
from stpp.common.labels import IGNORE
from stpp.common.wording import counted
from stpp.importers import BACKGROUND, Annotated, Export
from stpp.importers.parsing import Mistakes
from stpp.importers.pictures import ImageFiles, stem

NAMES = ("tiff-pages",)
SUMMARY = "a folder of multi-page TIFF masks, named as their images; these by --images"


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The pages of all images, those with a mask annotated. Without `classes`, they are the background and the other
    pages or values by their numbers. Raises StppError without a folder of images or of masks, and Problems where a mask
    has no image, or pages of other sizes, numbers or values.
    """
    if images is None or not source.is_dir():
        raise StppError("give the folder of the masks, and that of the images by --images")
    mistakes, pictures, drawn = Mistakes(), ImageFiles(source, images), ImageFiles(source)
    masks = {stem(name): source / name for name in drawn.names}
    stacks = {stem(name): images / name for name in pictures.names}
    for name in sorted(masks.keys() - stacks.keys()):
        mistakes.add(f"a mask without an image of its name in {images}", masks[name])
    pages = {path: _pages(path, mistakes) for path in (*masks.values(), *stacks.values())}
    values = set[int]()
    by_page, pairs = [], []
    for name, path in stacks.items():
        mask, count = masks.get(name), len(pages[path])
        if mask is not None and (sizes := {*pages[path], *pages[mask]}) and len(sizes) > 1:
            mistakes.add("a mask has another size than its image", mask)
        elif mask is not None and count == 1 and len(pages[mask]) > 1:
            by_page.append((name, path, mask))
        elif mask is not None and count != len(pages[mask]):
            mistakes.add(f"a mask of {counted(len(pages[mask]), 'page')} for an image of {count}", mask)
        else:
            pairs += [(f"{name}/{page:03}" if count > 1 else name, path, page, mask) for page in range(count)]
            values.update(*(np.unique(_page(mask, page)).tolist() for page in range(count) if mask is not None))
    white = values <= {0, 255} and 255 in values
    highest = 1 if white else max(values - {IGNORE}, default=0)
    names = list(classes or _numbered(max([highest + 1, *(len(pages[mask]) for *_, mask in by_page)])))
    if highest >= len(names):
        mistakes.add(f"the value {highest} is no class of {', '.join(names)}", source)
    for _, _, mask in by_page:
        if len(pages[mask]) > len(names):
            mistakes.add(f"{len(pages[mask])} pages, and {counted(len(names), 'class', 'es')}", mask)
    mistakes.refuse(f"{source} as TIFF files of several pages")
    found = [
        Annotated(name, partial(_png, path, page), ".png", partial(_labels, mask, page, white) if mask else None)
        for name, path, page, mask in pairs
    ]
    found += [Annotated(name, path, path.suffix, partial(_by_page, mask)) for name, path, mask in by_page]
    remarks = [f"the pages of {counted(len(by_page), 'mask')} are taken for classes, in their order"] if by_page else []
    if waiting := sum(item.draw is None for item in found):
        remarks.append(f"{counted(waiting, 'image')} without a mask: unlabeled")
    return Export(names, found, list(masks.values()), [], (), remarks)


def _numbered(count: int) -> list[str]:
    """Names for so many classes, two at least."""
    return [BACKGROUND, "object"] if count <= 2 else [BACKGROUND, *(f"class {number}" for number in range(1, count))]


def _pages(path: Path, mistakes: Mistakes) -> list[tuple[int, int]]:
    """Width and height of each page; none, and a mistake, for what cannot be read."""
    try:
        with Image.open(path) as file:
            return [_turned_to(file, page).size for page in range(getattr(file, "n_frames", 1))]
    except Exception as error:  # Pillow's decoders meet damaged files with a dozen kinds of exceptions
        mistakes.add(f"no readable image ({error})", path)
        return []


def _turned_to(file: Image.Image, page: int) -> Image.Image:
    file.seek(page)
    return file


def _page(path: Path, page: int) -> NDArray[np.int64]:
    """The values of a page, (H, W); the first channel of several. Raises StppError."""
    try:
        with Image.open(path) as file:
            values = np.asarray(_turned_to(file, page)).astype(np.int64)
    except Exception as error:  # as above
        raise StppError(f"{path}: truncated or damaged file ({error}). Copy or download it again") from error
    return values if values.ndim == 2 else values[..., 0]


def _png(path: Path, page: int) -> bytes:
    """A page as a file of its own."""
    content = io.BytesIO()
    with Image.open(path) as file:
        _turned_to(file, page).save(content, format="PNG")
    return content.getvalue()


def _labels(mask: Path, page: int, white: bool) -> NDArray[np.uint8]:
    values = _page(mask, page)
    return (values > 0 if white else values).astype(np.uint8)


def _by_page(mask: Path) -> NDArray[np.uint8]:
    """The mask that pages of classes make."""
    with Image.open(mask) as file:
        count = getattr(file, "n_frames", 1)
    first = _page(mask, 0)
    found = np.full(first.shape, IGNORE, np.uint8)
    for page in range(count):
        found[_page(mask, page) > 0] = page
    return found
