"""How stable the prediction for an image is over the checkpoints of one training (ST++, Algorithm 2).

An image whose predicted mask hardly changes between checkpoints is probably labeled well. Its score compares the masks
of the earlier checkpoints with that of the last one, K:

    s = sum over j = 1..K-1 of meanIoU(mask_j, mask_K)

Three definitions of the score are known: "sum" (the paper), "mean" (the same divided by K-1, hence the same ranking)
and "all_pairs" (the mean of meanIoU over all pairs of checkpoints). Checkpoints are counted from 1.
"""

import csv
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stpp.errors import StppError
from stpp.metrics import IGNORE, confusion_matrix, joint_histogram, mean_iou

if TYPE_CHECKING:
    import pandas as pd

    from stpp.masks import MaskStore

DEFINITIONS = ("sum", "mean", "all_pairs")

_MOST_BINS = 2**16
"""Largest joint histogram (3 checkpoints of 39 classes); beyond it, counting pair by pair is faster."""


def mask_mean_iou(a: NDArray[np.uint8], b: NDArray[np.uint8], classes: int) -> float:
    """Mean IoU of two uint8 masks over the classes that are present in either, in [0, 1].

    Pixels that are 255 in either mask are left out; NaN if no pixel remains. Symmetric. ValueError for values outside
    0..classes-1 and for masks of different shape.
    """
    return mean_iou(confusion_matrix(a, np.where(a == IGNORE, a, b), classes))


def pairs(checkpoints: int, definition: str) -> list[tuple[int, int]]:
    """The pairs of checkpoints, counted from 1, that a definition of the score compares.

    "sum" and "mean": (j, K) for every j < K. "all_pairs": (i, j) for every i < j.
    """
    if definition not in DEFINITIONS:
        raise StppError(f"Unknown stability score {definition!r}: use one of {', '.join(DEFINITIONS)}.")
    if checkpoints < 2:
        raise StppError(
            f"A stability score compares checkpoints, so it needs at least 2, and there is {checkpoints}: "
            "let the teacher save more."
        )
    return [
        (earlier, later)
        for earlier in range(1, checkpoints)
        for later in range(earlier + 1, checkpoints + 1)
        if definition == "all_pairs" or later == checkpoints
    ]


def stability_scores(
    masks: Sequence[NDArray[np.uint8]], classes: int, pair_list: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.float64], int]:
    """`mask_mean_iou` of pairs of the K masks (H, W) of one image, float64 (len(pair_list),); classes of the last mask.

    The pixels are counted once, in a joint histogram of all K masks, whose marginals are the confusion matrices of all
    pairs. Values, left-out pixels and errors are those of `mask_mean_iou`.
    """
    if (classes + 1) ** len(masks) <= _MOST_BINS:
        joint = joint_histogram(masks, classes)
        others = [tuple(axis for axis in range(len(masks)) if axis not in (i - 1, j - 1)) for i, j in pair_list]
        histograms = [joint.sum(axis=axes) for axes in others]
    else:
        histograms = [joint_histogram([masks[i - 1], masks[j - 1]], classes) for i, j in pair_list]
    # The last bin is for the pixels that are 255 in a mask. The last pair ends with the last mask.
    scores = [mean_iou(histogram[:classes, :classes]) for histogram in histograms]
    return np.array(scores), int(np.count_nonzero(histograms[-1].sum(axis=0)[:classes]))


def masks_of(stores: Sequence["MaskStore"], image: str) -> list[NDArray[np.uint8]]:
    """The masks of `image` in the stores, uint8 (H, W) each. StppError if they differ in size."""
    masks = [store[image] for store in stores]
    _check_sizes(stores, image, masks)
    return masks


def _check_sizes(stores: Sequence["MaskStore"], image: str, masks: Sequence[NDArray[np.uint8]]) -> None:
    for store, mask in zip(stores, masks):
        if mask.shape != masks[0].shape:
            raise StppError(
                f"The masks of image {image!r} differ in size: {masks[0].shape} in {stores[0].path}, "
                f"{mask.shape} in {store.path}. Predict both again from the same images."
            )


def compare_masks(
    stores: Sequence["MaskStore"],
    image: str,
    masks: Sequence[NDArray[np.uint8]],
    compared: Sequence[tuple[int, int]],
) -> list[float]:
    """How many classes the last checkpoint's mask of `image` has, then `mask_mean_iou` of each pair of `compared`.

    `masks` are those of the image in the stores, uint8 (H, W) each. StppError if they differ in size, or if two of them
    share no pixel.
    """
    _check_sizes(stores, image, masks)
    values, present = stability_scores(masks, len(stores[0].classes), compared)
    if np.isnan(values).any():
        raise StppError(
            f"Image {image!r} cannot be scored: two of its masks in {', '.join(str(s.path) for s in stores)} have "
            f"no pixel with a class in common (the others are {IGNORE}). Predict them again without ignored pixels."
        )
    return [float(present), *values.tolist()]


def scores_of(rows: NDArray[np.float64], checkpoints: int, definition: str) -> dict[str, NDArray[np.float64]]:
    """`sum` and `mean` of the comparisons with the last checkpoint, and `score`: float64 (N,) each.

    `rows` (N, 1 + pairs) are those of `compare_masks`.
    """
    compared = pairs(checkpoints, definition)
    values = rows[:, 1:]
    total = values[:, [column for column, (_, later) in enumerate(compared) if later == checkpoints]].sum(axis=1)
    mean = total / (checkpoints - 1)
    score = {"sum": total, "mean": mean, "all_pairs": values.mean(axis=1)}[definition]
    return {"sum": total, "mean": mean, "score": score}


def score_table(
    ids: Sequence[str], rows: NDArray[np.float64], ranks: NDArray[np.int64], checkpoints: int, definition: str
) -> "pd.DataFrame":
    """The scores of some images, from the rows (N, 1 + pairs) of `compare_masks` and their ranks among all.

    Columns: `id`; `classes`: the number of classes in the last checkpoint's mask; one `iou_{j}_{k}` for each of
    `pairs(K, definition)`; `sum` and `mean` of the comparisons with the last checkpoint, whatever the definition;
    `score`: what the definition says; `rank`: 1 for the most stable image, ties in the order of the list.
    """
    import pandas as pd

    compared = {f"iou_{i}_{j}": rows[:, column] for column, (i, j) in enumerate(pairs(checkpoints, definition), 1)}
    columns = {"classes": rows[:, 0].astype(np.int64)} | compared | scores_of(rows, checkpoints, definition)
    return pd.DataFrame({"id": list(ids)} | columns | {"rank": ranks})


def most_stable_first(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of `scores` (N,) from the highest to the lowest, ties in list order: int64 (N,)."""
    return np.argsort(-scores, kind="stable").astype(np.int64)


def ranks(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank of each of `scores` (N,), from 1 for the highest, ties in list order: int64 (N,)."""
    result = np.empty(len(scores), np.int64)
    result[most_stable_first(scores)] = np.arange(1, len(scores) + 1)
    return result


def ahead(scores: NDArray[np.float64], others: NDArray[np.float64], *, earlier: bool) -> NDArray[np.int64]:
    """How many of `others` (M,) rank before each of `scores` (N,): int64 (N,).

    Those that are higher; and those that are as high, if the others come `earlier` in the list of images.
    """
    lower = np.searchsorted(np.sort(others), scores, side="left" if earlier else "right")
    return len(others) - lower.astype(np.int64)


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


def masks_in_order(stores: Sequence["MaskStore"], start: int) -> Iterator[tuple[str, list[NDArray[np.uint8]]]]:
    """Each image's id and its masks in the stores, uint8 (H, W) each, from image number `start` (from 0) on.

    One image is in memory at a time. StppError if the stores differ in classes or images.
    """
    check_alike(stores)
    for found in zip(*(store.masks(start) for store in stores), strict=True):
        for store, (id, _) in zip(stores, found):
            if id != found[0][0]:
                raise _unlike(stores[0], store, f"{found[0][0]!r} in one is {id!r} in the other")
        yield found[0][0], [mask for _, mask in found]


def check_alike(stores: Sequence["MaskStore"]) -> None:
    """Raise StppError if the stores of the checkpoints differ in classes or in the number of images."""
    first = stores[0]
    for store in stores[1:]:
        if store.classes != first.classes:
            raise StppError(
                f"{first.path} has the classes {', '.join(first.classes)}, {store.path} has "
                f"{', '.join(store.classes)}. Checkpoints of one training share their classes: predict again."
            )
        if len(store) != len(first):
            raise _unlike(first, store, f"{len(first)} in one, {len(store)} in the other")


def _unlike(one: "MaskStore", other: "MaskStore", found: str) -> StppError:
    return StppError(
        f"{one.path} and {other.path} hold different images: {found}. Predict the same list of images with every "
        "checkpoint."
    )
