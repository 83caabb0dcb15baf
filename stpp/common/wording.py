"""How tables, times and sizes are written for people."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stpp.common.terminal import escaped


def columns(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """The rows as lines with aligned columns, two spaces apart; the columns numbered `left` are flush left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def markdown(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """The same as a Markdown table, of which the first row is the header."""
    header, *body = [[in_markdown(cell) for cell in row] for row in rows]
    rule = ["---" if column in left else "---:" for column in range(len(header))]
    return [f"| {' | '.join(row)} |" for row in (header, rule, *body)]


def in_markdown(text: str) -> str:
    """Text that Markdown shows as it is: in one line, without markup or HTML."""
    return re.sub(r"[\\`*\[\]<>&|~$]|(?<!\w)_|_(?!\w)", r"\\\g<0>", escaped(text).replace("\n", " "))


def counted(count: int, noun: str, plural: str = "s") -> str:
    """`1 stage`, `2 stages`."""
    return f"{count} {noun}{'' if count == 1 else plural}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first names with commas, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def repeat_name(run: Mapping[Any, Any]) -> str:
    """What tells a run from the others of its experiment. Tables of earlier versions have no partitions."""
    return (f"partition {run['partition']}, " if run.get("partition") else "") + f"seed {run['seed']}"


def network_name(title: str) -> str:
    """What the network with this title in a run is called: `student of phase 1` for `phase 1`."""
    if title == "supervised":
        return "supervised network"
    return f"student of {title}" if title.startswith("phase ") else title


def duration(seconds: float) -> str:
    """A time in its two largest units, such as `3 min 20 s`; below ten seconds with one decimal."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if not minutes:
        return f"{whole} s"
    if not hours:
        return f"{minutes} min {whole % 60} s"
    return f"{hours} h {minutes % 60} min" if not days else f"{days} d {hours % 24} h"


def size(count: int) -> str:
    """Bytes in the largest decimal unit, such as `1.2 GB`."""
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.95:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
