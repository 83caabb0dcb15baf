"""How much disk the maps of a frozen encoder take, from its channels and strides; told before they are computed."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stpp.common.errors import StppError
from stpp.common.wording import counted, size
from stpp.data.manifest import manifest_path, read_manifest
from stpp.plan.counts import stored_views
from stpp.plan.graph import Plan, Stage

VALUE = 2
"""Bytes of a float16."""


def said_of_maps(plan: Plan, folders: Iterable[str], results: Path) -> list[str]:
    """A sentence on the stages in `folders` that compute maps, for which torch is imported; none without such."""
    stages = [plan.stages[folder] for folder in folders if plan.stages[folder].kind == "encode"]
    if not stages:
        return []
    total = sum(bytes_of_maps(stage, plan, results) for stage in stages)
    return [f"The feature maps, from {counted(len(stages), 'stage')}, will take about {size(total)} of the disk."]


def bytes_of_maps(stage: Stage, plan: Plan, results: Path) -> int:
    """The bytes of all maps of a stage.

    A whole image is taken for a square with the longest side of a training where its own size is not known yet.
    """
    from stpp.engine.initial import maps_of_encoder

    settings = stage.settings
    shapes = maps_of_encoder(settings["network"])

    def taken(height: float, width: float) -> int:
        of_maps = shapes(int(height), int(width))
        return sum(VALUE * math.prod(of_maps[number]) for number in settings["maps"])

    (subset,) = stage.data
    if "scales" not in settings:
        crop = settings["crop"]
        return plan.images.get(stage.data[subset], 0) * stored_views(settings) * taken(crop, crop)
    total = 0
    for height, width, images in _sizes(stage, plan, results):
        factor = (settings["long_side"] or max(height, width)) / max(height, width)
        sides = [(scale * factor * height, scale * factor * width) for scale in settings["scales"]]
        total += images * (1 + settings["flip"]) * sum(taken(*side) for side in sides)
    return total


def _sizes(stage: Stage, plan: Plan, results: Path) -> list[tuple[int, int, int]]:
    """Height and width of the images of a stage, and how many there are of them."""
    ((subset, fingerprint),) = stage.data.items()
    try:
        rows = read_manifest(manifest_path(results, subset, stage.manifests[subset]), stage.manifests[subset])
        return [(row.height, row.width, 1) for row in rows]
    except StppError:  # it is written when a run starts
        trainings: list[Mapping[str, Any]] = [
            other.settings["training"] for other in plan.stages.values() if other.kind == "train"
        ]
        side = max(training["base_size"] for training in trainings)
        return [(side, side, plan.images.get(fingerprint, 0))]
