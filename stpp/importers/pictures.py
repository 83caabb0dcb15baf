"""The images that an export speaks of: found by their names below one folder, and nowhere else."""

import posixpath
import re
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from stpp.common.errors import StppError
from stpp.data.banded import stored_as
from stpp.data.images import reader_of
from stpp.data.lists import is_image
from stpp.data.readers import ImageError
from stpp.data.record import listing
from stpp.importers.parsing import Mistakes


def within(name: str) -> str:
    """A name from an export as a path below a folder: "/" between its parts, no drive, no beginning in the root.

    Of an absolute path, which is that of another machine, the file name is left. Raises ValueError for one that leads
    out of the folder, and for none.
    """
    path = name.replace("\\", "/")
    if path.startswith("/") or re.match("[A-Za-z]:", path) or "://" in path:
        path = posixpath.basename(path)
    path = posixpath.normpath(path)
    if path in ("", ".") or path.split("/")[0] == ".." or not path.isprintable():
        raise ValueError("a name that is not that of a file in a folder")
    return path


def stem(name: str) -> str:
    """A name without the suffix of an image."""
    return posixpath.splitext(name)[0] if is_image(name) else name


class ImageFiles:
    """The images below a folder, or of an export: below `source`, or beside it where it is a file."""

    def __init__(self, source: Path, images: Path | None = None) -> None:
        if images is not None and not images.is_dir():
            raise StppError(f"there is no folder {images}; give the folder of the images")
        self.folder = images or (source if source.is_dir() else source.parent)
        self.own = images is None
        """Whether these are the images of the export itself."""
        self._read()
        if not self.names and images is None and source.is_file():  # as in annotations/all.json beside images/
            self.folder = self.folder.parent
            self._read()

    def _read(self) -> None:
        self.names = sorted(name for name in listing(self.folder).names if is_image(name))
        """The paths of the images below the folder."""
        self._paths = {*self.names}
        self._by_base: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.names:
            base = posixpath.basename(name)
            self._by_base[base].append(name)
            self._by_base[posixpath.splitext(base)[0]].append(name)

    def has(self, base: str) -> bool:
        """Whether an image has this file name."""
        return base in self._by_base

    def find(self, name: str, mistakes: Mistakes, exact: bool = False) -> Path | None:
        """The image that an export calls so; the suffix may be left out.

        It has this path below the folder, else is the only one whose path ends so, else, unless it is to be `exact`,
        the only one of its file name. None, and a mistake, where there is none, or several.
        """
        try:
            path = within(name)
        except ValueError as error:
            mistakes.add(str(error), f"{name!a}")
            return None
        if path in self._paths:
            return self.folder / path
        found = self._by_base.get(posixpath.basename(path), [])
        ending = [other for other in found if f"/{other}".endswith((f"/{path}", f"/{path}{Path(other).suffix}"))]
        found = ending if exact or len(ending) == 1 else found
        if len(found) == 1:
            return self.folder / found[0]
        if found:
            mistakes.add(f"several images below {self.folder} have the name {path}", found[0])
        else:
            mistakes.add(f"an image that is not below {self.folder}; name its folder with --images", path)
        return None


def size_of(image: Path, mistakes: Mistakes) -> tuple[int, int] | None:
    """Height and width of an image, upright, of any number of bands; None, and a mistake, where it cannot be read."""
    try:
        height, width, _ = reader_of(image).image_size(image)
    except ImageError as error:
        with suppress(ImageError):
            found = stored_as(image, pages=True)
            return found.height, found.width
        mistakes.add(f"{error.what}. {error.remedy}", image)
        return None
    return height, width
