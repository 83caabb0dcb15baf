"""mIoU of a network on val or test, and of stored masks against true ones where these are known."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stpp.common import disk
from stpp.common.labels import IGNORE
from stpp.data.manifest import Row
from stpp.data.reading import mask_of
from stpp.runtime.job import Job, Runtime
from stpp.runtime.progress import followed
from stpp.scoring.calibration import empty_counts, pixels_by_confidence
from stpp.scoring.metrics import Confusion, confusion_matrix, iou, mean_iou, pixel_accuracy, total
from stpp.store.idlist import read_list
from stpp.store.masks import MaskStore


def run(job: Job, runtime: Runtime) -> None:
    """Evaluate the checkpoint or the mask stores of `job`; writes `metrics.json` and `images.csv`."""
    if "checkpoint" in job.recipe["inputs"]:
        evaluate_checkpoint(job, runtime)
    else:
        evaluate_labels(job)


def evaluate_checkpoint(job: Job, runtime: Runtime) -> None:
    """mIoU of a network on val or test."""
    # Here, because stored masks are evaluated without torch, which takes seconds to import.
    from stpp.engine.inference import pick_device
    from stpp.engine.validation import evaluate_network
    from stpp.runtime.lease import lease
    from stpp.runtime.process import prepare_process
    from stpp.stages.shown import pictures_of
    from stpp.store.checkpoint import load_checkpoint

    prepare_process(runtime.threads)
    device = pick_device(lease(runtime.gpus, runtime.device))
    model = load_checkpoint(job.input("checkpoint"), device)
    (subset,) = job.recipe["data"]
    settings = job.settings
    rows, picture = followed(job.rows(subset), job.unfinished), pictures_of(job, model.bands)
    how = (settings["encoding"], settings["prediction"], device)
    confusion, images = evaluate_network(model.network, rows, *how, picture=picture)
    if subset == "val" and job.recipe["inputs"]["checkpoint"].endswith(f"/{disk.BEST}"):
        job.warn("the mIoU on val is too high, because val chose the checkpoint; only a test set tells")
    write(job, {"subset": subset, **summary(confusion, model.classes, len(images))}, images, {})
    job.finish(device=str(device), threads=runtime.threads, images=len(images))


def evaluate_labels(job: Job) -> None:
    """mIoU of stored masks, for those images that have a true mask; for unlabeled ones, these happen to exist."""
    stores = [MaskStore(path) for path in job.inputs("masks")]
    classes = stores[0].classes
    (subset,) = job.recipe["data"]
    rows = job.rows(subset)
    images = evaluate_stores(stores, rows, job.settings["encoding"])
    groups = _groups(job, images)
    members = {group: [id for id in images if groups[id] == group] for group in sorted(set(groups.values()))}
    report = {
        "subset": subset,
        **summary(total(images.values(), len(classes)), classes, len(images)),
        "groups": {
            group: summary(total([images[id] for id in ids], len(classes)), classes, len(ids))
            for group, ids in members.items()
        },
    }
    if job.settings.get("confidence"):
        report["confidence"] = by_confidence(stores, rows, job.settings["encoding"])
    write(job, report, images, groups)
    job.finish(images=len(images))


def write(job: Job, report: Mapping[str, Any], images: Mapping[str, Confusion], groups: Mapping[str, str]) -> None:
    """Write `metrics.json` and `images.csv`."""
    with job.writing(disk.METRICS) as path:
        path.write_text(json.dumps({**report, "warnings": job.warnings}, indent=1, allow_nan=False) + "\n")
    with job.writing(disk.IMAGES) as path:
        write_images(images, groups, path)


def evaluate_stores(
    stores: Sequence[MaskStore], rows: Sequence[Row], encoding: Mapping[str, Any]
) -> dict[str, Confusion]:
    """Confusion matrices by image id, for those images of `rows` whose mask is in one of the stores.

    Pixels that a stored mask ignores are not counted.
    """
    found = {}
    for store, row in [(store, row) for store in stores for row in rows if row.id in store]:
        mask, true = store[row.id], mask_of(row, encoding)
        found[row.id] = confusion_matrix(mask, np.where(mask == IGNORE, IGNORE, true), encoding["classes"])
    return found


def by_confidence(
    stores: Sequence[MaskStore], rows: Sequence[Row], encoding: Mapping[str, Any]
) -> dict[str, list[list[int]]]:
    """How many `pixels` of each class each level of confidence has in stored masks, and how many of them are `right`.

    Both are lists by class of `stpp.scoring.calibration.pixels_by_confidence`, over the images of `rows`.
    """
    counts = {"pixels": empty_counts(encoding["classes"]), "right": empty_counts(encoding["classes"])}
    for store, row in [(store, row) for store in stores for row in rows if row.id in store]:
        mask, true, confidence = store[row.id], mask_of(row, encoding), store.confidence_steps(row.id)
        for name, counted in (("pixels", true != IGNORE), ("right", mask == true)):
            left = np.where(counted, mask, IGNORE).astype(np.uint8)
            counts[name] += pixels_by_confidence(left, confidence, encoding["classes"])
    return {name: table.tolist() for name, table in counts.items()}


def summary(confusion: Confusion, classes: Sequence[str], images: int) -> dict[str, Any]:
    """What is reported of a confusion matrix: mIoU over the classes that occur, IoU a class, pixel accuracy; in [0, 1].

    A class that occurs neither in masks nor in predictions has no IoU (null).
    """
    return {
        "images": images,
        "miou": _number(mean_iou(confusion)),
        "pixel_accuracy": _number(pixel_accuracy(confusion)),
        "iou": {name: _number(value) for name, value in zip(classes, iou(confusion))},
        "confusion": confusion.tolist(),
    }


def write_images(images: Mapping[str, Confusion], groups: Mapping[str, str], path: Path) -> None:
    """CSV: id, mIoU of that image alone, and its group where there are groups."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "miou", *(["group"] if groups else [])])
        for id, confusion in images.items():
            value = _number(mean_iou(confusion))
            writer.writerow([id, "" if value is None else repr(value), *([groups[id]] if groups else [])])


def _groups(job: Job, images: Mapping[str, Confusion]) -> dict[str, str]:
    """`reliable` or `unreliable` for each image, where the stage knows the reliable ones."""
    if "reliable" not in job.recipe["inputs"]:
        return {}
    reliable = set(read_list(job.input("reliable")))
    return {id: "reliable" if id in reliable else "unreliable" for id in images}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
