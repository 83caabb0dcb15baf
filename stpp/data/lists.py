"""List files: one image a line, `image [mask]`, separated by spaces, a tab, or a comma as in CSV."""

import csv
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from posixpath import expanduser
from typing import NamedTuple

from stpp.common.errors import StppError
from stpp.common.registry import READERS, modules
from stpp.data.annotations import COMMAND, command_for
from stpp.data.record import stamp_or_none

SUFFIXES = tuple(modules(READERS))
HEADERS = (["image"], ["image", "mask"])  # a first line such as pandas writes it
TWO_PATHS = 2 * 4096 + 3  # characters: no file has a longer name, so that no longer line names an image and a mask
AFTER_IMAGE = re.compile(rf"(?:(?<={')|(?<='.join(map(re.escape, SUFFIXES))}))(?: *, *| +)", re.IGNORECASE)


def read_list(path: Path, exists: Callable[[str], bool]) -> Iterator[tuple[int, list[str]]]:
    """The lines of a list file as (line number, fields); blank lines, `#` comments and a header line are left out.

    UTF-8, with or without a byte order mark, lines end in LF or CRLF. `exists` says whether a field names a file; it
    is asked only of lines that can be read in more than one way. Raises OSError and UnicodeDecodeError.
    """
    first = True
    text = path.read_bytes().decode("utf-8-sig")
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        fields = split_line(line, exists)
        if not (first and [field.lower() for field in fields] in HEADERS):
            yield number, fields
        first = False


def foreign_format(path: Path) -> str | None:
    """What a list file is, if annotations in JSON or XML were given for a list; else None. Raises OSError."""
    with path.open("rb") as file:
        start = file.read(200).lstrip(b"\xef\xbb\xbf \t\r\n")
    kind = "JSON" if start[:1] in (b"{", b"[") else "XML" if start[:5].lower() in (b"<?xml", b"<anno") else None
    if kind is None:
        return None
    if (command := command_for(path, path.parent)) is not None:
        return f"{kind} with annotations: {command} makes masks of them"
    return f"{kind}: if it holds annotations, {COMMAND.format('FORMAT', path)} makes masks of them"


def split_line(line: str, exists: Callable[[str], bool]) -> list[str]:
    """The fields of a line.

    A tab always separates. Otherwise a line with spaces, commas or quotes is read in the first of these ways in which
    all its one or two names exist: fields separated by spaces, then by commas, both with optional double quotes; two
    names, the first of which ends in the suffix of an image; one name. Where not all exist, a way counts more in which
    the image does, then one in which its name ends in the suffix of an image.
    """
    if "\t" in line:
        return [re.sub(r'^"(.*)"$', r"\1", field.strip(" ")) for field in line.split("\t")]
    if not re.search(r'[ ,"]', line):
        return [line]
    readings = list(_readings(line))
    possible = [fields for fields in readings if len(fields) <= 2] or readings
    exists = cache(exists)  # readings share names, and asking a file system takes long
    whole = next((fields for fields in possible if all(map(exists, fields))), None)
    return whole or max(possible, key=lambda fields: (exists(fields[0]), is_image(fields[0])))  # the first of equals


def is_image(name: str) -> bool:
    """Whether a name ends in the suffix of a format that is read."""
    return name.lower().endswith(SUFFIXES)


def _readings(line: str) -> Iterator[list[str]]:
    for delimiter in " ,":
        if delimiter not in line and '"' not in line:
            continue
        fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
        yield [field.strip() for field in fields if field.strip()] or [line]
    for separator in AFTER_IMAGE.finditer(line) if len(line) <= TWO_PATHS else ():
        if separator.end() < len(line):
            yield [line[: separator.start()], line[separator.end() :]]
    yield [line]


def exists(path: str) -> bool:
    """Whether there is such a file; an impossible or forbidden path is none."""
    try:
        Path(path).stat()
    except (OSError, ValueError):
        return False
    return True


def absent(path: str) -> bool:
    """Whether there is certainly no such file, nor a link; one that may not be looked at can be there."""
    try:
        Path(path).lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
    return False


class Located(NamedTuple):
    """A text file that a setting names: its `path`, and every `place` where it was looked for, with its stamp."""

    path: Path
    places: dict[str, list[int] | None]


def locate(name: str, root: Path, what: str, setting: str) -> Located:
    """The file `name`, as seen from the working directory or from the data root: it must lie in one of them.

    `what` it is and the `setting` that names it are for messages. Raises StppError if there is none, or if there are
    two, since either may be meant; where both are one file, there is no doubt.
    """
    places = {str(path): stamp_or_none(path) for path in (Path(expanduser(name)), root / name)}
    found = [Path(path) for path in places if Path(path).is_file()]
    if not found:
        raise StppError(
            f"There is no {what} {name}, neither seen from {Path.cwd()} nor from the data root {root}: correct "
            f"`{setting}`."
        )
    if len(found) > 1 and not found[0].samefile(found[1]):
        raise StppError(
            f"There are two files for the {what} {name}: {found[0].absolute()} and {found[1].absolute()}. Give the "
            f"whole path of the one that is meant in `{setting}`, or remove the other one."
        )
    return Located(found[0], places)
