"""Masks of unlabeled images from one checkpoint: the stability masks, and the pseudo-labels."""

import numpy as np
import torch
from tqdm import tqdm

from stpp.checkpoint import load_checkpoint
from stpp.data.images import read_image
from stpp.data.manifest import Row
from stpp.errors import StppError
from stpp.idlist import read_list
from stpp.inference import pick_device, predict_mask
from stpp.masks import MaskWriter, assemble, voc_palette
from stpp.stage import Runtime, Stage


def run(stage: Stage, runtime: Runtime) -> None:
    """Predict the masks of `stage`: all of them, or with several shards the part `runtime.shard`.

    All at once writes `masks.h5` and ends the stage; a part writes `parts/I-of-N.h5`, for `join`.
    """
    torch.set_num_threads(runtime.threads)
    device = pick_device(runtime.device)
    rows = listed_rows(stage)
    first, last = (len(rows) * k // runtime.shards for k in (runtime.shard, runtime.shard + 1))
    model = load_checkpoint(stage.input("checkpoint"), device)
    name = "masks.h5" if runtime.shards == 1 else part_name(runtime.shard, runtime.shards)
    settings = stage.settings
    with (
        stage.writing(name) as path,
        MaskWriter(
            path, classes=model.classes, palette=voc_palette(len(model.classes)), producer=stage.recipe["identity"]
        ) as writer,
    ):
        for row in tqdm(rows[first:last], unit="img", desc=stage.folder.name, mininterval=1, maxinterval=30):
            image = np.asarray(read_image(row.image))
            writer.add(row.id, predict_mask(model.network, image, device, settings["prediction"], settings["tta"]))
    if runtime.shards == 1:
        stage.finish(device=str(device), threads=runtime.threads, images=len(rows))


def join(stage: Stage, runtime: Runtime) -> None:
    """Join the parts that `runtime.shards` jobs wrote into `masks.h5`; the bytes do not depend on their number."""
    rows = listed_rows(stage)
    parts = [stage.folder / part_name(shard, runtime.shards) for shard in range(runtime.shards)]
    with stage.writing("masks.h5") as path:
        assemble(parts, [row.id for row in rows], path)
    stage.finish(shards=runtime.shards, images=len(rows))


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
