"""The stage that scores how stable the K checkpoints' masks of each unlabeled image are."""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stpp.masks import MaskStore
from stpp.progress import Parts, Progress
from stpp.stability import compare_masks, masks_in_order, pairs, ranks, score_table, scores_of, write_score_table
from stpp.stage import Runtime, Stage

if TYPE_CHECKING:
    import pandas as pd

BLOCK = 1000
"""Images whose scores are in memory at once."""


def run(stage: Stage, runtime: Runtime) -> None:
    """Compare the mask stores of `stage`; writes `scores.csv`. Of an image, no more than its score stays in memory.

    A stage that was stopped goes on after the images that it saved. Raises Stopped if a signal asked for it.
    """
    stores = [MaskStore(path) for path in stage.inputs("masks")]
    count, definition = len(stores), stage.settings["definition"]
    with Progress(stage.unfinished, stage.recipe["identity"], runtime.save_minutes) as progress:
        parts = compare_in_parts(stores, pairs(count, definition), progress)
    scores = np.concatenate([scores_of(np.load(part), count, definition)["score"] for part in parts])
    with stage.writing("scores.csv") as path:
        write_score_table(tables(stores[0], parts, ranks(scores), count, definition), path)
    if len(scores) > 1 and scores.min() == scores.max():
        stage.warn(
            f"{stage.folder.name}: all {len(scores)} images have the same stability score, so it selects nothing"
        )
    if uniform := sum(one_class(np.load(part)) for part in parts):
        stage.warn(
            f"{stage.folder.name}: in {uniform} of {len(scores)} images all {count} masks are one and the same "
            "class, which scores highest whether it is right or wrong"
        )
    stage.finish(images=len(scores))


def compare_in_parts(
    stores: Sequence[MaskStore], compared: Sequence[tuple[int, int]], progress: Progress
) -> list[Path]:
    """`compare_masks` of all images: files of float64 (N, 1 + pairs), one closed whenever it is time to save."""
    parts = Parts(progress.folder, "npy", lambda path: len(np.load(path, mmap_mode="r")))
    saved, done = parts.done()
    while done < len(stores[0]) or not saved:
        values = array("d")
        for number, (image, masks) in enumerate(masks_in_order(stores, done), done + 1):
            values.extend(compare_masks(stores, image, masks, compared))
            progress.tell(number, len(stores[0]))
            if progress.due:
                break
        write_rows(parts, done, np.array(values).reshape(-1, 1 + len(compared)))
        saved, done = parts.done()
        progress.saved(f"after {done} of {len(stores[0])} images")
    return saved


def write_rows(parts: Parts, first: int, rows: NDArray[np.float64]) -> None:
    """Close the part that begins with item `first`."""
    with parts.writing(first) as path, path.open("wb") as file:
        np.save(file, rows)


def tables(
    store: MaskStore, parts: Sequence[Path], rank: NDArray[np.int64], checkpoints: int, definition: str
) -> Iterator["pd.DataFrame"]:
    """The score table in pieces; `rank` (N,) is that of each image of the store."""
    first = 0
    for part in parts:
        rows = np.load(part, mmap_mode="r")
        for start in range(0, max(1, len(rows)), BLOCK):
            some = rows[start : start + BLOCK]
            block = slice(first, first + len(some))
            yield score_table(store.names(block), some, rank[block], checkpoints, definition)
            first += len(some)


def one_class(rows: NDArray[np.float64]) -> int:
    """Of how many images all masks are one and the same class."""
    return int(((rows[:, 0] == 1) & (rows[:, 1:] == 1).all(axis=1)).sum())
