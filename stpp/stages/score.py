"""The stage that scores how stable the K checkpoints' masks of each unlabeled image are."""

import io
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.labels import IGNORE
from stpp.runtime.job import Job, Runtime
from stpp.runtime.progress import Progress, SavedParts
from stpp.scoring.metrics import mean_iou
from stpp.scoring.stability import (
    ahead,
    class_ious,
    foreground_iou,
    pair_confusions,
    pairs,
    ranks,
    score_table,
    scores_of,
    soft_iou,
    usual_ious,
)
from stpp.store.alike import check_sizes, masks_in_order
from stpp.store.masks import MaskStore
from stpp.store.scores import write_score_table

if TYPE_CHECKING:
    import pandas as pd

PART = 100_000
"""Numbers that are in memory at once, 800 kB of them: then their part is closed."""
BLOCK = 1000
"""Images whose lines of the table are in memory at once."""

Scores = Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]
"""From rows of `compare_masks` to columns of the table, as `scores_of`."""


def run(job: Job, runtime: Runtime) -> None:
    """Compare the mask stores of `job`; writes `scores.csv`. Memory does not grow with the number of images.

    Each store takes some megabyte while it is open, and all are closed before pandas is loaded, which takes more: the
    peak hardly grows with the number of stores either. A stage that was stopped goes on after the images that it saved.
    Raises Stopped if a signal asked for it.
    """
    stores = [MaskStore(path) for path in job.inputs("masks")]
    count, definition, how = len(stores), job.settings["definition"], job.settings.get("stability", "miou")
    compared, classes = pairs(count, definition), len(stores[0].classes)
    with Progress(job.unfinished, job.basis, runtime.save_minutes) as progress, ExitStack() as opened:
        for store in stores:
            opened.enter_context(store)
        parts = compare_in_parts(stores, compared, progress, how)
    each = (np.load(part)[:, 1 + len(compared) :] for part in parts)
    scores = partial(scores_of, checkpoints=count, definition=definition)
    if how == "per_class":
        scores = partial(scores, usual=usual_ious(each, classes))
    with job.writing(disk.SCORES) as path:
        write_score_table(tables(stores[0], parts, compared, scores), path)
    images = len(stores[0])
    if images > 1 and len({edge for part in parts for edge in edges(part, scores)}) == 1:
        job.warn(f"{job.folder.name}: all {images} images have the same stability score, so it selects nothing")
    if how != "per_class" and (uniform := sum(one_class(np.load(part)) for part in parts)):
        job.warn(
            f"{job.folder.name}: in {uniform} of {images} images all {count} masks are one and the same "
            "class, which scores highest whether it is right or wrong"
        )
    job.finish(images=images)


def compare_in_parts(
    stores: Sequence[MaskStore], compared: Sequence[tuple[int, int]], progress: Progress, how: str = "miou"
) -> list[Path]:
    """`compare_masks` of all images: files of its rows, float64 (N, 1 + pairs) or more.

    One is closed after PART numbers, and whenever it is time to save.
    """
    parts = SavedParts(progress.folder, "npy", lambda path: len(np.load(path, mmap_mode="r")))
    saved, done = parts.done()
    while done < len(stores[0]) or not saved:
        values = array("d")
        for number, (image, masks) in enumerate(masks_in_order(stores, done), done + 1):
            values.extend(row := compare_masks(stores, image, masks, compared, how))
            progress.tell(number, len(stores[0]))
            if progress.due or len(values) >= PART:
                break
        write_rows(parts, done, np.array(values).reshape(-1, len(row) if values else 1 + len(compared)))
        saved, done = parts.done()
        progress.saved(f"after {done} of {len(stores[0])} images")
    return saved


def compare_masks(
    stores: Sequence[MaskStore],
    image: str,
    masks: Sequence[NDArray[np.uint8]],
    compared: Sequence[tuple[int, int]],
    how: str = "miou",
) -> list[float]:
    """How many classes the last checkpoint's mask of `image` has, then how alike each pair of `compared` is.

    `how` they are compared is one of `COMPARISONS`; with "per_class" it is the mean IoU, and the IoU of each class
    follows. `masks` are those of the image in the stores, uint8 (H, W) each. StppError if they differ in size, if two
    of them share no pixel, or if "soft" finds no confidence in a store.
    """
    check_sizes(stores, image, masks)
    confusions, present = pair_confusions(masks, len(stores[0].classes), compared)
    match how:
        case "foreground":
            values = [foreground_iou(confusion) for confusion in confusions]
        case "soft":
            sure = [store.confidence_steps(image) for store in stores]
            values = [
                soft_iou(confusion, (masks[i - 1], masks[j - 1]), (sure[i - 1], sure[j - 1]))
                for confusion, (i, j) in zip(confusions, compared)
            ]
        case _:
            values = [mean_iou(confusion) for confusion in confusions]
    if np.isnan(values).any():
        raise StppError(
            f"Image {image!r} cannot be scored: two of its masks in {', '.join(str(s.path) for s in stores)} have "
            f"no pixel with a class in common (the others are {IGNORE}). Predict them again without ignored pixels."
        )
    return [float(present), *values, *(class_ious(confusions).tolist() if how == "per_class" else [])]


def write_rows(parts: SavedParts, first: int, rows: NDArray[np.float64]) -> None:
    """Close the part that begins with item `first`.

    By way of memory: numpy writes to a file through a buffer of C, and does not see that emptying it fails.
    """
    buffer = io.BytesIO()
    np.save(buffer, rows)
    with parts.writing(first) as path:
        path.write_bytes(buffer.getbuffer())


def tables(
    store: MaskStore, parts: Sequence[Path], compared: Sequence[tuple[int, int]], scores: Scores
) -> Iterator["pd.DataFrame"]:
    """The score table of the images of the store, in pieces."""
    first = 0
    for number, part in enumerate(parts):
        rows = np.load(part)
        rank = ranks_of(parts, number, scores)
        for start in range(0, max(1, len(rows)), BLOCK):
            some = slice(start, start + BLOCK)
            names = store.names(slice(first + start, first + start + len(rows[some])))
            yield score_table(names, rows[some], rank[some], compared, scores(rows[some]))
        first += len(rows)


def ranks_of(parts: Sequence[Path], number: int, scores: Scores) -> NDArray[np.int64]:
    """The rank among the images of all parts of each image of one of them; a second part is in memory at a time."""
    own = part_scores(parts[number], scores)
    rank = ranks(own)
    for other, part in enumerate(parts):
        if other != number:
            rank += ahead(own, part_scores(part, scores), earlier=other < number)
    return rank


def part_scores(part: Path, scores: Scores) -> NDArray[np.float64]:
    """The scores of the images of a part: float64 (N,)."""
    return scores(np.load(part))["score"]


def edges(part: Path, scores: Scores) -> tuple[float, float]:
    """The lowest and the highest score of a part."""
    found = part_scores(part, scores)
    return float(found.min()), float(found.max())


def one_class(rows: NDArray[np.float64]) -> int:
    """Of how many images all masks are one and the same class."""
    return int(((rows[:, 0] == 1) & (rows[:, 1:] == 1).all(axis=1)).sum())
