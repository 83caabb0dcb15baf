"""The score table on disk: one CSV file with the stability scores of all unlabeled images."""

import csv
import math
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stpp.common.errors import StppError
from stpp.common.labels import IGNORE

if TYPE_CHECKING:
    import pandas as pd


def write_score_table(tables: Iterable["pd.DataFrame"], path: Path) -> None:
    """Write a score table that comes in parts as CSV. Numbers are written so that they are read back exactly."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for number, table in enumerate(tables):
            table.to_csv(file, index=False, header=number == 0, lineterminator="\n")


def read_score_table(path: Path) -> "pd.DataFrame":
    """Read what `write_score_table` wrote, with the same columns, dtypes and values; further columns are kept, as text.

    StppError if the file is missing or no table, a column is missing, an id occurs twice, a number is missing or out of
    its range, or `rank` is not 1..N.
    """
    import pandas as pd

    remedy = "Delete the file and run the scoring stage again."
    try:
        # Not by pandas, which guesses types (an image may be called "NA" or "001"), pads short rows and, in some
        # versions, does not read every float exactly.
        with path.open(encoding="utf-8", newline="") as file:
            columns = _columns(csv.reader(file, strict=True))
    except FileNotFoundError:
        raise StppError(f"There is no score table at {path}: run the scoring stage first.") from None
    except (OSError, ValueError, csv.Error) as error:  # a folder, no header, not UTF-8, or as raised by `_columns`
        raise StppError(f"{path} cannot be read as a score table: {error}. {remedy}") from error
    table = pd.DataFrame(
        {
            name: pd.Series(values, dtype=str) if isinstance(values, list) else np.array(values)
            for name, values in columns.items()
        }
    )
    if table["id"].duplicated().any():
        twice = table["id"][table["id"].duplicated()].iloc[0]
        raise StppError(f"{path} holds image {twice!r} more than once; every image needs one score. {remedy}")
    if (np.sort(table["rank"]) != np.arange(1, len(table) + 1)).any():
        raise StppError(f"{path}: the ranks are not 1 to {len(table)}, each once: rows were lost or edited. {remedy}")
    whole = {name: np.int64 for name in ("classes", "rank") if name in table}
    return table.astype(whole)


def _columns(rows: Iterator[list[str]]) -> dict[str, "list[str] | array[float]"]:
    """The columns of a score table from the rows of its file; numbers as such, which spares memory.

    Raises ValueError for what is no score table.
    """
    header = next(rows, [])
    if len(set(header)) < len(header):
        raise ValueError(f"two columns have the same name: {', '.join(header)}")
    compared = [name for name in header if name.startswith("iou_")]
    missing = [name for name in ("id", "sum", "mean", "score", "rank") if name not in header]
    if missing or not compared:
        raise ValueError(
            f"it lacks the column {', '.join(missing) or 'iou_1_2 (or another pair)'}; its columns are "
            f"{', '.join(header)}"
        )
    highest = dict.fromkeys([*compared, "mean"], 1.0) | dict.fromkeys(["sum", "score"], float(len(compared)))
    highest |= {"classes": float(IGNORE), "rank": math.inf}
    columns: dict[str, list[str] | array[float]] = {name: array("d") if name in highest else [] for name in header}
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} values, the header has {len(header)}")
        for (name, column), text in zip(columns.items(), row):
            if isinstance(column, list):
                column.append(text)
            elif 0 <= (value := _number(text)) <= highest[name] or name == "rank":
                column.append(value)
            else:
                image, limit = row[header.index("id")], highest[name]
                raise ValueError(f"{name} of image {image!r} is {text!r}, expected a number from 0 to {limit:g}")
    return columns


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
