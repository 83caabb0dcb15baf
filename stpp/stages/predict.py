"""Masks of unlabeled images from one checkpoint: the stability masks, and the pseudo-labels."""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from stpp.common import disk
from stpp.data.ahead import windows
from stpp.data.manifest import Row
from stpp.engine.inference import WINDOW, WholeImage, pick_device, predict_masks
from stpp.models.folding import for_prediction
from stpp.runtime.faults import explained, prediction_advice
from stpp.runtime.job import Job, Runtime
from stpp.runtime.lease import lease
from stpp.runtime.process import prepare_process
from stpp.runtime.progress import Progress, SavedParts
from stpp.stages.reuse import earlier_masks
from stpp.stages.shards import finish, shard_folder, shard_rows
from stpp.stages.shown import pictures_of
from stpp.store.checkpoint import Model, load_checkpoint
from stpp.store.masks import MaskStore, MaskWriter, assemble, voc_palette


def run(job: Job, runtime: Runtime) -> None:
    """Predict the masks of `job`: all of them, or with several shards the part `runtime.shard`.

    All at once writes `masks.h5` and ends the stage; a shard writes `parts/I-of-N.h5`, for `join`. Masks that another
    stage has predicted already are taken from there. A stage that was stopped goes on after the masks that it saved.
    Raises StppError for too little memory; Stopped if a signal asked for it.
    """
    prepare_process(runtime.threads)
    rows = shard_rows(job, runtime)
    device = pick_device(lease(runtime.gpus, runtime.device))
    model = load_checkpoint(job.input("checkpoint"), device)
    picture = pictures_of(job, model.bands, job.settings["tta"])
    name = disk.MASKS if runtime.shards == 1 else disk.part_of_store(runtime.shard, runtime.shards)
    folder = shard_folder(job, runtime.shard, runtime.shards)
    with Progress(folder, job.basis, runtime.save_minutes) as progress:
        saved = predict_in_parts(job, rows, model, picture, device, progress)
    with job.writing(name) as path:
        if len(saved) == 1:
            shutil.copyfile(saved[0], path)
        else:
            assemble(saved, [row.id for row in rows], path)
    if runtime.shards == 1:
        finish(job, device=str(device), threads=runtime.threads, images=len(rows))


def predict_in_parts(
    job: Job,
    rows: Sequence[Row],
    model: Model,
    picture: Callable[[Row], WholeImage],
    device: torch.device,
    progress: Progress,
) -> list[Path]:
    """Predict the masks of `rows`, closing a part file whenever it is time to save; returns the parts, in order.

    They hold the confidence of each pixel where the stage's settings ask for it.
    """
    prediction, tta = job.settings["prediction"], job.settings["tta"]
    confident = job.settings.get("confidence", False)
    network = for_prediction(model.network, prediction["precision"])
    described = {
        "classes": model.classes,
        "palette": voc_palette(len(model.classes)),
        "producer": job.recipe["identity"],
        "confidence": confident,
    }
    parts = SavedParts(progress.folder, "h5", lambda path: len(MaskStore(path)))
    saved, done = parts.done()
    known = earlier_masks(job, rows[done:])

    def unknown(row: Row) -> WholeImage | None:
        return None if row.id in known else picture(row)

    with tqdm(total=len(rows), initial=done, unit="img", desc=job.folder.name, mininterval=1, maxinterval=30) as bar:
        while done < len(rows) or not saved:
            with parts.writing(done) as path, MaskWriter(path, **described) as writer:
                for window in windows(rows[done:], unknown, WINDOW[device.type]):
                    images = [image for _, image in window if image is not None]
                    height, width = max((image.shape[:2] for image in images), key=math.prod, default=(1, 1))
                    with explained(prediction_advice(height, width, len(model.classes), prediction, tta)):
                        masks = iter(predict_masks(network, images, device, prediction, tta, confident=confident))
                    for row, image in window:
                        if image is not None:
                            writer.add(row.id, *next(masks))
                        else:
                            store = known[row.id]
                            writer.add(row.id, store[row.id], store.confidence(row.id) if confident else None)
                    bar.update(len(window))
                    progress.tell(int(bar.n), len(rows), device=str(device))
                    if progress.due:
                        break
            saved, done = parts.done()
            progress.saved(f"after {done} of {len(rows)} images")
    return saved
