"""The stage that scores how stable the K checkpoints' masks of each unlabeled image are."""

import itertools
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stpp.masks import MaskStore
from stpp.progress import Parts, Progress
from stpp.stability import check_alike, compare_masks, pairs, score_table, write_score_table
from stpp.stage import Runtime, Stage


def run(stage: Stage, runtime: Runtime) -> None:
    """Compare the mask stores of `stage`; writes `scores.csv`.

    A stage that was stopped goes on after the images that it saved. Raises Stopped if a signal asked for it.
    """
    first, *others = stage.inputs("masks")
    stores = [MaskStore(first)]
    stores += [MaskStore(path, like=stores[0]) for path in others]
    check_alike(stores)
    definition = stage.settings["definition"]
    with Progress(stage.unfinished, stage.recipe["identity"], runtime.save_minutes) as progress:
        rows = compare_in_parts(stores, pairs(len(stores), definition), progress)
    table = score_table(stores[0].ids, rows, len(stores), definition)
    with stage.writing("scores.csv") as path:
        write_score_table(table, path)
    if len(table) > 1 and table["score"].nunique() == 1:
        stage.warn(f"{stage.folder.name}: all {len(table)} images have the same stability score, so it selects nothing")
    if uniform := int(((table["classes"] == 1) & (table["mean"] == 1)).sum()):
        stage.warn(
            f"{stage.folder.name}: in {uniform} of {len(table)} images all {len(stores)} masks are one and the same "
            "class, which scores highest whether it is right or wrong"
        )
    stage.finish(images=len(table))


def compare_in_parts(
    stores: Sequence[MaskStore], compared: Sequence[tuple[int, int]], progress: Progress
) -> NDArray[np.float64]:
    """`compare_masks` of all images, float64 (N, 1 + len(compared)); a part is closed whenever it is time to save."""
    ids = stores[0].ids
    parts = Parts(progress.folder, "npy", lambda path: len(np.load(path)))
    saved, done = parts.done()
    while done < len(ids) or not saved:
        values = array("d")  # a list of numbers would take four times the memory
        for image in itertools.islice(ids, done, None):
            values.extend(compare_masks(stores, image, compared))
            if progress.due:
                break
        write_rows(parts, done, np.array(values).reshape(-1, 1 + len(compared)))
        saved, done = parts.done()
        progress.saved(f"after {done} of {len(ids)} images")
    return np.concatenate([np.load(path) for path in saved])


def write_rows(parts: Parts, first: int, rows: NDArray[np.float64]) -> None:
    """Close the part that begins with item `first`."""
    with parts.writing(first) as path, path.open("wb") as file:
        np.save(file, rows)
