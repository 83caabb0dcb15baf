"""mIoU of any model on any list of images with masks, outside of a workflow."""

import csv
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stpp.commands.output import Outputs
from stpp.commands.segmenter import Segmenter
from stpp.common import disk
from stpp.common.errors import Problems, StppError
from stpp.common.wording import counted
from stpp.data.inspection import Inspector, image_kind, mask_kind
from stpp.data.lint import lint
from stpp.data.lists import exists, read_list
from stpp.data.manifest import Row
from stpp.data.reading import image_of
from stpp.data.sources import resolve
from stpp.engine.validation import evaluate_network
from stpp.runtime.faults import COMMAND
from stpp.stages.evaluate import summary, write_images


def evaluate(
    model: Segmenter, list_file: Path, root: Path | None, out: Path | None, outputs: Outputs
) -> dict[str, Any]:
    """The report on the images of `list_file`, lines `image mask` with paths from `root`, that `summary` makes.

    Without a `root`, paths start from the working directory; where all are absolute, `root` is the folder that holds
    all of them.

    The values of masks mean what they meant to the model's training where that is known, else the classes 0..C-1, and
    255 for pixels that are left out. With `out`, `metrics.json` and `images.csv` are written there. Raises Problems,
    with all of them, for images and masks that cannot be used, and what `outputs` raises.
    """
    files = [] if out is None else [out / disk.METRICS, out / disk.IMAGES]
    outputs.claim(files)
    classes = len(model.classes)
    plain = {"classes": classes, "ignore_value": 255, "label_map": None, "palette_map": None}
    encoding = model.provenance.encoding or plain
    rows = _rows(model, list_file, root, encoding)
    outputs.spare(Path(path) for row in rows for path in (row.image, row.mask) if path is not None)
    confusion, images = evaluate_network(
        model.model.network,
        tqdm(rows, unit="img", desc="evaluate", mininterval=1),
        encoding,
        model.prediction,
        model.device,
        COMMAND,
        partial(image_of, bands=model.bands),
    )
    report = {"list": str(list_file), **summary(confusion, model.classes, len(images))}
    if files:
        with outputs.writing(files[0]) as metrics, outputs.writing(files[1]) as table:
            metrics.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            write_images(images, {}, table)
    return report


def as_text(report: Mapping[str, Any]) -> str:
    """A table for people: mIoU, pixel accuracy and the IoU of each class, in %."""
    rows = {"mIoU": report["miou"], "pixel accuracy": report["pixel_accuracy"], **report["iou"]}
    width = max(len(name) for name in rows)
    lines = [f"{counted(report['images'], 'image')} of {report['list']}, in %"]
    lines += [f"{name:{width}}  {'-' if value is None else f'{100 * value:.2f}':>6}" for name, value in rows.items()]
    return "\n".join(lines) + "\n"


OPTIONS = {"`root`": "`--root`", "`test`": "`--list`", "test list": "list"}
"""What the settings in messages on data sets are called here."""


def _rows(model: Segmenter, list_file: Path, root: Path | None, encoding: Mapping[str, Any]) -> list[Row]:
    place = _common_folder(list_file) if root is None else root
    sources = resolve({"layout": "lists", "root": str(place), "test": str(list_file)}, lambda masks: {})
    inspector = Inspector(None)
    masks = [entry.mask for entry in sources.entries if entry.mask is not None]
    image_looks = inspector.look(
        image_kind(model.bands, has_scale=True), [entry.image for entry in sources.entries], content=True
    )
    mask_looks = inspector.look(mask_kind(encoding), masks, content=True)
    found = lint(sources.entries, image_looks, mask_looks, encoding, model.classes, model.palette)
    if problems := [*sources.problems, *found.problems]:
        for setting, option in OPTIONS.items():
            problems = [problem.replace(setting, option) for problem in problems]
        raise Problems(f"The list {list_file} cannot be evaluated", problems)
    if not sources.entries:
        raise StppError(f"the list {list_file} names no image")
    return [Row(entry.id, "test", entry.image, entry.mask, 0, 0, 0) for entry in sources.entries]


def _common_folder(list_file: Path) -> Path:
    """The folder that holds all files of a list of absolute paths; of another list, the working directory."""
    try:
        paths = [field for _, fields in read_list(list_file, exists) for field in fields]
    except (OSError, UnicodeDecodeError, csv.Error):
        return Path()  # which is told when the list is read
    absolute = bool(paths) and all(map(os.path.isabs, paths))
    return Path(os.path.commonpath([Path(path).parent for path in paths])) if absolute else Path()
