"""Files that a command writes where a person says: nothing there is replaced unasked, and an input never is.

Files are written aside and renamed. So where `--overwrite` replaces a link, the link itself is replaced, and the file
that it leads to keeps its bytes.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stpp.common import disk
from stpp.common.errors import Problems, StppError
from stpp.common.files import replacing


class Outputs:
    """What one call of a command writes.

    `inputs` are files that it reads, and `overwrite` says whether files that are there may be replaced; else the
    message names `remedy` as well. A command claims its files before it computes anything, and writes each of them by
    `writing`.
    """

    def __init__(self, inputs: Iterable[Path] = (), overwrite: bool = False, remedy: str = "") -> None:
        self._overwrite = overwrite
        self._remedy = f", {remedy}" if remedy else ""
        self._files: list[Path] = []
        self._inputs: set[tuple[int, int]] = set()
        self.spare(inputs)

    def claim(self, files: Iterable[Path]) -> None:
        """Say which files will be written. Writes nothing.

        Raises StppError or Problems where two of them have one place, where one would replace an input, the artifact of
        a stage, what is no file, or, without `overwrite`, anything; and where a folder cannot hold it.
        """
        self._files = list(files)
        _refuse_collisions(self._files)
        self._check(self._files)

    def spare(self, inputs: Iterable[Path]) -> None:
        """Name more inputs. Raises Problems where a file that is claimed is one of them, also by a link."""
        self._inputs |= {identity for path in inputs if (identity := _identity(path)) is not None}
        self._refuse_inputs(self._files)

    @contextmanager
    def writing(self, file: Path) -> Iterator[Path]:
        """A temporary path that becomes `file`, one of those claimed, when the block ends well.

        What `claim` raises is raised, too, where the file came to be there since then.
        """
        with replacing(file) as temporary:
            yield temporary
            self._check([file])

    def _check(self, files: Iterable[Path]) -> None:
        there = [file for file in files if os.path.lexists(file)]
        self._refuse_inputs(there)
        if others := [str(file) for file in there if file.exists() and not file.is_file()]:
            raise Problems("these are not files, and only files are replaced; choose another place", others)
        if kept := [str(file) for file in there if not file.is_symlink() and (file.parent / disk.RECIPE).is_file()]:
            raise Problems("this would overwrite artifacts of a stage of the workflow; choose another place", kept)
        if there and not self._overwrite:
            found = (
                f"{there[0]} is" if len(there) == 1 else f"{len(there)} files to be written, such as {there[0]}, are"
            )
            raise StppError(
                f"{found} there already; choose another place, or replace what is there with --overwrite{self._remedy}"
            )
        for folder in dict.fromkeys(file.parent for file in files):
            nearest = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
            if not nearest.is_dir():
                raise StppError(f"{folder} cannot hold files, because {nearest} is not a folder; choose another place")
            if not os.access(nearest, os.W_OK | os.X_OK):
                raise StppError(
                    f"you may not write to the folder {nearest}; choose another place, or change its permissions"
                )

    def _refuse_inputs(self, files: Iterable[Path]) -> None:
        if same := [str(file) for file in files if _identity(file) in self._inputs]:
            raise Problems("this would overwrite inputs, directly or through a link; choose another place", same)


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of the file that a path leads to, through links; None where there is none."""
    with suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _refuse_collisions(files: Iterable[Path]) -> None:
    """Raises Problems where files have one place, whatever links lead there, or where one is a folder of another."""
    real = {folder: os.path.realpath(folder) for folder in {file.parent for file in files}}
    places = defaultdict(list)
    for file in files:
        places[f"{real[file.parent]}/{file.name}"].append(str(file))
    problems = [" and ".join(same) for same in places.values() if len(same) > 1]
    above = {str(path) for folder in real.values() for path in (Path(folder), *Path(folder).parents)}
    problems += [f"{places[path][0]}, which is a folder of others" for path in sorted(above & places.keys())]
    if problems:
        raise Problems("several results would be written to the same file; rename their inputs", problems)
