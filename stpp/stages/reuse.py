"""Masks that another stage has predicted already: those of images that a changed list still has."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from stpp.common import disk
from stpp.common.errors import StppError
from stpp.data.manifest import Row
from stpp.plan.recipe import read_recipe
from stpp.runtime.job import Job, verified
from stpp.store.masks import MaskStore


def earlier_masks(job: Job, rows: Sequence[Row]) -> dict[str, MaskStore]:
    """By image id, a store with the mask that `job` would predict for an image of `rows`.

    A mask depends on the image, the checkpoint, the settings of the prediction and its code, and on no other image. So
    the stores of finished stages that agree on these hold it, whatever other images their lists have. An image is the
    same if name, size of the picture and size of the file are. A stage that cannot be read is passed over with a note.
    """
    found: dict[str, MaskStore] = {}
    for record in sorted(job.folder.parent.glob(f"*/{disk.RECORD}")):
        folder = record.parent
        if folder == job.folder:
            continue
        try:
            if _decides(read_recipe(folder / disk.RECIPE)) != _decides(job.recipe):
                continue
            seen = {row.id: row for row in Job(folder, "predict").rows("unlabeled")}
            store = MaskStore(verified(folder / disk.MASKS))
            ids = [row.id for row in rows if row.id in store and row.id not in found and _same(row, seen.get(row.id))]
        except StppError as error:
            print(f"{folder} is skipped: {error}", file=sys.stderr)
            continue
        found |= dict.fromkeys(ids, store)
        print(f"{len(ids)} of {len(rows)} masks exist already, in {folder}", file=sys.stderr)
    return found


def _decides(recipe: Mapping[str, Any]) -> tuple[Any, ...]:
    return recipe["settings"], recipe["inputs"]["checkpoint"], recipe["code"]


def _same(row: Row, other: Row | None) -> bool:
    return other is not None and (row.height, row.width, row.bytes) == (other.height, other.width, other.bytes)
