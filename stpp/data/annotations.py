"""Which annotation tool wrote a file, by a short look at it, and the command that makes masks of it."""

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from stpp.common.registry import IMPORTERS, constant, modules

SUFFIXES = (".json", ".geojson", ".xml", ".txt", ".csv", ".jsonl", ".ndjson")
"""Of files that may hold annotations."""
LOOK = 65536
"""Bytes at the start and at the end of a file that are looked at."""
TRIED = 3
"""Files of one suffix in one folder that are looked at."""
COMMAND = "`stpp import {} {} --out my-images`"


def format_of(path: Path) -> str | None:
    """The name of the importer that reads a file; None where none knows it, or it cannot be read.

    An importer's `SIGNS` have, by suffix, patterns that all occur in its files.
    """
    try:
        with path.open("rb") as file:
            start = file.read(LOOK)
            file.seek(max(len(start), path.stat().st_size - LOOK))
            text = (start + b"\n" + file.read(LOOK)).decode("utf-8-sig", "replace")
    except (OSError, ValueError):
        return None
    for name, module in modules(IMPORTERS).items():
        patterns = (constant(module, "SIGNS") or {}).get(path.suffix.lower())
        if patterns and all(re.search(pattern, text, re.MULTILINE) for pattern in patterns):
            return name
    return None


def command_for(path: Path, folder: Path) -> str | None:
    """The command that reads a file of annotations, or the `folder` where a file is only a part; None for others."""
    if (name := format_of(path)) is None:
        return None
    alone = constant(modules(IMPORTERS)[name], "FILE", False)
    return COMMAND.format(name, quote(f"{path if alone else folder}"))


def of_parts(root: Path) -> str:
    """The command that makes one mask of several, where an image has one for each class or object."""
    return COMMAND.format("part-masks", quote(str(root)))


def advice(folder: Path, names: Iterable[str]) -> str:
    """What to do about the files of some names below a folder that may be annotations; "" where there are none."""
    by_place: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        if (suffix := posixpath.splitext(name)[1].lower()) in SUFFIXES:
            by_place.setdefault((posixpath.dirname(name), suffix), []).append(name)
    commands: dict[str, str] = {}
    for members in by_place.values():
        for name in members[:TRIED]:
            if (command := command_for(folder / name, folder)) is not None:
                commands.setdefault(command, name)
    if commands:
        found = ", ".join(f"{command} makes masks of {name}" for command, name in list(commands.items())[:TRIED])
        return f"{found}."
    if not by_place:
        return ""
    kinds = " and ".join(sorted({suffix for _, suffix in by_place}))
    return (
        f"If {kinds} files hold annotations: {COMMAND.format('FORMAT', 'SOURCE')} makes masks of them, and "
        "`stpp import --help` has the formats."
    )


def advice_for_masks(masks: Path, images: Path, names: Iterable[str]) -> str:
    """What to do about masks whose names an annotation tool gives, as an importer's `MASKS_NAMED` says; else ""."""
    for name in sorted(names)[:TRIED]:
        for tool, module in modules(IMPORTERS).items():
            if (pattern := constant(module, "MASKS_NAMED", "")) and re.match(pattern, posixpath.basename(name)):
                command = COMMAND.format(tool, f"{quote(str(masks))} --images {quote(str(images))}")
                return f"{name} is a name that {tool} gives: {command} makes masks of these files."
    return ""


def advice_beside(root: Path) -> str:
    """The same for the files in a data root, down to the third level."""
    try:
        found = [
            path
            for pattern in ("*.*", "*/*.*", "*/*/*.*")
            for path in root.glob(pattern)
            if path.suffix.lower() in SUFFIXES
        ]
    except OSError:
        return ""
    text = advice(root, [path.relative_to(root).as_posix() for path in found])
    return "" if text.startswith("If ") else text
