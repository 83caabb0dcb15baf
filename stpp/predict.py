"""Masks of unlabeled images from one checkpoint: the stability masks, and the pseudo-labels."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from stpp.checkpoint import Model, load_checkpoint
from stpp.data.images import read_image
from stpp.data.manifest import Row
from stpp.errors import StppError
from stpp.faults import explained, prediction_advice
from stpp.idlist import read_list
from stpp.inference import pick_device, predict_mask
from stpp.lease import lease
from stpp.masks import MaskStore, MaskWriter, assemble, voc_palette
from stpp.progress import Parts, Progress
from stpp.stage import Runtime, Stage


def run(stage: Stage, runtime: Runtime) -> None:
    """Predict the masks of `stage`: all of them, or with several shards the part `runtime.shard`.

    All at once writes `masks.h5` and ends the stage; a shard writes `parts/I-of-N.h5`, for `join`. A stage that was
    stopped goes on after the masks that it saved. Raises StppError for too little memory; Stopped if a signal asked for
    it.
    """
    torch.set_num_threads(runtime.threads)
    rows = listed_rows(stage)
    first, last = (len(rows) * k // runtime.shards for k in (runtime.shard, runtime.shard + 1))
    rows = rows[first:last]
    device = pick_device(lease(runtime.gpus, runtime.device))
    model = load_checkpoint(stage.input("checkpoint"), device)
    name = "masks.h5" if runtime.shards == 1 else part_name(runtime.shard, runtime.shards)
    folder = stage.unfinished / f"{runtime.shard}-of-{runtime.shards}"
    with Progress(folder, stage.recipe["identity"], runtime.save_minutes) as progress:
        saved = predict_in_parts(stage, rows, model, device, progress)
    with stage.writing(name) as path:
        if len(saved) == 1:
            shutil.copyfile(saved[0], path)
        else:
            assemble(saved, [row.id for row in rows], path)
    if runtime.shards == 1:
        finish(stage, device=str(device), threads=runtime.threads, images=len(rows))


def predict_in_parts(
    stage: Stage, rows: Sequence[Row], model: Model, device: torch.device, progress: Progress
) -> list[Path]:
    """Predict the masks of `rows`, closing a part file whenever it is time to save; returns the parts, in order."""
    prediction, tta = stage.settings["prediction"], stage.settings["tta"]
    store = {
        "classes": model.classes,
        "palette": voc_palette(len(model.classes)),
        "producer": stage.recipe["identity"],
    }
    parts = Parts(progress.folder, "h5", lambda path: len(MaskStore(path)))
    saved, done = parts.done()
    with tqdm(total=len(rows), initial=done, unit="img", desc=stage.folder.name, mininterval=1, maxinterval=30) as bar:
        while done < len(rows) or not saved:
            with parts.writing(done) as path, MaskWriter(path, **store) as writer:
                for row in rows[done:]:
                    image = np.asarray(read_image(row.image))
                    with explained(prediction_advice(image.shape[0], image.shape[1], prediction["tile"])):
                        writer.add(row.id, predict_mask(model.network, image, device, prediction, tta))
                    bar.update()
                    if progress.due:
                        break
            saved, done = parts.done()
            progress.saved(f"after {done} of {len(rows)} images")
    return saved


def join(stage: Stage, runtime: Runtime) -> None:
    """Join the parts that `runtime.shards` jobs wrote into `masks.h5`; the bytes do not depend on their number."""
    rows = listed_rows(stage)
    parts = [stage.folder / part_name(shard, runtime.shards) for shard in range(runtime.shards)]
    with stage.writing("masks.h5") as path:
        assemble(parts, [row.id for row in rows], path)
    finish(stage, shards=runtime.shards, images=len(rows))


def finish(stage: Stage, **facts: Any) -> None:
    """End the stage, with a warning where the masks are suspiciously poor."""
    with MaskStore(stage.folder / "masks.h5") as store:
        absent = [name for name, pixels in zip(store.classes, store.class_pixels) if not pixels]
        left = len(store.classes) - len(absent)
        images = len(store)
    if images and left == 1:
        stage.warn(f"{stage.folder.name}: the network predicts one and the same class in all {images} images")
    elif images and absent and stage.settings["tta"]:
        stage.warn(f"{stage.folder.name}: the pseudo-labels of {images} images lost the class {', '.join(absent)}")
    stage.finish(**facts)


def part_name(shard: int, shards: int) -> str:
    """File of one shard's masks, within the stage's folder."""
    return f"parts/{shard}-of-{shards}.h5"


def listed_rows(stage: Stage) -> list[Row]:
    """The unlabeled images that the stage predicts, in the manifest's order: those of its list, or all."""
    rows = stage.rows("unlabeled")
    if "images" not in stage.recipe["inputs"]:
        return rows
    path = stage.input("images")
    wanted = set(read_list(path))
    missing = wanted - {row.id for row in rows}
    if missing:
        raise StppError(f"{path} names {len(missing)} images that are not unlabeled ones, such as {min(missing)!r}")
    return [row for row in rows if row.id in wanted]
