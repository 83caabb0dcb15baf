"""One prediction or encoding spread over several jobs: which images each takes, and how their parts become one store.

The result does not depend on the number of jobs. Free of torch: joining needs none.
"""

import shlex
from pathlib import Path
from typing import Any

from stpp.common import disk
from stpp.common.errors import StppError
from stpp.data.manifest import Row
from stpp.runtime.job import Job, Runtime
from stpp.runtime.progress import progress_of
from stpp.store.idlist import read_list
from stpp.store.maps import join_maps
from stpp.store.masks import MaskStore, assemble


def shard_rows(job: Job, runtime: Runtime) -> list[Row]:
    """The images of one shard: as many as every other has, and those that follow one another."""
    rows = listed_rows(job)
    first, last = (len(rows) * k // runtime.shards for k in (runtime.shard, runtime.shard + 1))
    return rows[first:last]


def join(job: Job, runtime: Runtime) -> None:
    """Join the parts that `runtime.shards` jobs wrote into one store; the bytes do not depend on their number."""
    rows = listed_rows(job)
    for name in ("checkpoint", "maps"):
        if name in job.recipe["inputs"]:
            job.input(name)
    _check_basis(job, runtime.shards)
    parts = [job.folder / disk.part_of_store(shard, runtime.shards) for shard in range(runtime.shards)]
    masks = job.recipe["stage"] == "predict"
    with job.writing(disk.MASKS if masks else disk.MAPS) as path:
        (assemble if masks else join_maps)(parts, [row.id for row in rows], path)
    devices = {str(content["device"]) for content in progress_of(job.unfinished) if "device" in content}
    facts = {"device": ", ".join(sorted(devices, reverse=True)), "shards": runtime.shards, "images": len(rows)}
    (finish if masks else Job.finish)(job, **facts)


def shard_folder(job: Job, shard: int, shards: int) -> Path:
    """Where the unfinished work of one shard lies."""
    return job.unfinished / f"{shard}-of-{shards}"


def _check_basis(job: Job, shards: int) -> None:
    """StppError if a part was made from other bytes of earlier stages than are there now."""
    for shard in range(shards):
        mark = shard_folder(job, shard, shards) / "identity"
        if mark.exists() and mark.read_text() != job.basis:
            part = job.folder / disk.part_of_store(shard, shards)
            raise StppError(
                f"{part} was made from other bytes of {job.recipe['inputs']['checkpoint']} than are there now; "
                f"run the workflow again after `rm {shlex.quote(str(part))}`"
            )


def finish(job: Job, **facts: Any) -> None:
    """End the stage, with a warning where the masks are suspiciously poor."""
    with MaskStore(job.folder / disk.MASKS) as store:
        absent = [name for name, pixels in zip(store.classes, store.class_pixels) if not pixels]
        left = len(store.classes) - len(absent)
        images = len(store)
    if images and left == 1:
        job.warn(f"{job.folder.name}: the network predicts one and the same class in all {images} images")
    elif images and absent and job.settings["tta"]:
        job.warn(f"{job.folder.name}: the pseudo-labels of {images} images have no pixel of {', '.join(absent)}")
    job.finish(**facts)


def listed_rows(job: Job) -> list[Row]:
    """The images that the stage predicts, in the manifest's order: those of its list, or all."""
    (subset,) = job.recipe["data"]
    rows = job.rows(subset)
    if "images" not in job.recipe["inputs"]:
        return rows
    path = job.input("images")
    wanted = set(read_list(path))
    missing = wanted - {row.id for row in rows}
    if missing:
        raise StppError(f"{path} names {len(missing)} images that are not {subset} ones, such as {min(missing)!r}")
    return [row for row in rows if row.id in wanted]
