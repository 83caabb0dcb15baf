"""What a frozen encoder makes of images, computed once: maps of training images' views, or of whole images."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from stpp.common import disk
from stpp.common.bands import RGB_PLACES, bands_in
from stpp.data.ahead import windows
from stpp.data.manifest import Row
from stpp.data.reading import image_of
from stpp.data.views import SEEN, view_pixels
from stpp.engine.inference import (
    WINDOW,
    batches,
    images_at_once,
    network_input,
    pick_device,
    reduced,
    scaled_size,
    scaled_views,
)
from stpp.engine.initial import initial_network
from stpp.models.folding import PRECISIONS, for_prediction
from stpp.models.network import SegmentationNetwork
from stpp.runtime.faults import encoding_advice, explained
from stpp.runtime.job import Job, Runtime
from stpp.runtime.lease import lease
from stpp.runtime.process import prepare_process
from stpp.runtime.progress import Progress, SavedParts
from stpp.stages.shards import shard_folder, shard_rows
from stpp.store.maps import Map, MapStore, MapWriter, join_maps, whole_view


def run(job: Job, runtime: Runtime) -> None:
    """Compute the maps of `job`: all of them, or with several shards the part `runtime.shard`.

    All at once writes `maps.h5` and ends the stage; a shard writes `parts/I-of-N.h5`, for `join`. A stage that was
    stopped goes on after the images that it saved, and ends in the same bytes. Raises StppError for too little memory,
    and for values that are not finite; Stopped if a signal asked for it.
    """
    prepare_process(runtime.threads)
    rows = shard_rows(job, runtime)
    device = pick_device(lease(runtime.gpus, runtime.device))
    name = disk.MAPS if runtime.shards == 1 else disk.part_of_store(runtime.shard, runtime.shards)
    folder = shard_folder(job, runtime.shard, runtime.shards)
    with Progress(folder, job.basis, runtime.save_minutes) as progress:
        saved = encode_in_parts(job, rows, device, progress)
    with job.writing(name) as path:
        join_maps(saved, [row.id for row in rows], path)
    if runtime.shards == 1:
        job.finish(device=str(device), threads=runtime.threads, images=len(rows))


def encode_in_parts(job: Job, rows: Sequence[Row], device: torch.device, progress: Progress) -> list[Path]:
    """Encode the images of `rows`, closing a part file whenever it is time to save; returns the parts, in order."""
    settings = job.settings
    network = frozen_encoder(settings, job.recipe["files"].get("weights"), device)
    read = partial(pixels_of, settings=settings)
    described = {"views": view_names(settings), "producer": job.recipe["identity"]}
    parts = SavedParts(progress.folder, "h5", lambda path: len(MapStore(path)))
    saved, done = parts.done()
    with tqdm(total=len(rows), initial=done, unit="img", desc=job.folder.name, mininterval=1, maxinterval=30) as bar:
        while done < len(rows) or not saved:
            with parts.writing(done) as path, MapWriter(path, **described) as writer:
                for window in windows(rows[done:], read, WINDOW[device.type]):
                    seen = encoded(network, [pixels for _, pixels in window], settings, device)
                    for (row, _), views in zip(window, seen):
                        writer.add(row.id, views)
                    bar.update(len(window))
                    progress.tell(int(bar.n), len(rows), device=str(device))
                    if progress.due:
                        break
            saved, done = parts.done()
            progress.saved(f"after {done} of {len(rows)} images")
    return saved


def frozen_encoder(settings: Mapping[str, Any], weights: str | None, device: torch.device) -> SegmentationNetwork:
    """A network whose encoder is the one of `settings`, ready for prediction; its decoder is not used."""
    described = {**settings["network"], "architecture": "linear"}
    spec = {"network": described, "classes": ["none"], "bands": settings.get("bands")}
    network, loaded = initial_network(spec, weights)
    print(loaded)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return for_prediction(network, settings["precision"])


def view_names(settings: Mapping[str, Any]) -> list[str]:
    """The names of the views in their order: numbers of drawn ones and how they are seen, or scales of the image."""
    if "scales" not in settings:
        seen = settings.get("seen")
        numbers = map(str, range(settings["views"]))
        return [f"{number} {name}" for number in numbers for name in seen] if seen else list(numbers)
    flips = (False, True) if settings["flip"] else (False,)
    return [whole_view(scale, mirrored) for scale in settings["scales"] for mirrored in flips]


def pixels_of(row: Row, settings: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The views of a training image, uint8 (views, crop, crop, bands), or the whole image, uint8 (1, H, W, bands)."""
    bands = bands_in(settings)
    image = image_of(row, bands)
    if "scales" in settings:
        return reduced(image, settings["long_side"])[None]
    (augmentation,) = settings["augmentation"].values()
    how = {
        "crop": settings["crop"],
        "base_size": settings["base_size"],
        "rgb": RGB_PLACES if bands is None else bands.rgb,
        "seen": settings.get("seen", SEEN),
    }
    drawn = (view_pixels(image, augmentation, row.id, number, **how) for number in range(settings["views"]))
    return np.stack([pixels for seen in drawn for pixels in seen])


def encoded(
    network: SegmentationNetwork, images: Sequence[NDArray[np.uint8]], settings: Mapping[str, Any], device: torch.device
) -> list[list[list[Map]]]:
    """The wanted maps of each view of each image, from fine to coarse, float16 (h, w, channels).

    `images` come from `pixels_of`; those of one size go through the encoder together, as do all views of an image.
    """
    found: dict[int, list[list[Map]]] = {}
    for numbers in batches([image.shape[1:] for image in images]):
        pixels = np.concatenate([images[number] for number in numbers])
        with explained(encoding_advice(*images[numbers[0]].shape[:3])):
            x = network_input(torch.from_numpy(pixels), device, network.normalisation)
            if "scales" in settings:
                views = whole_maps(network, x, settings)
            else:
                drawn, count = kept_maps(network, x, settings), len(view_names(settings))
                views = [drawn[first::count] for first in range(count)]
        found |= {number: [view[k] for view in views] for k, number in enumerate(numbers)}
    return [found[number] for number in range(len(images))]


def whole_maps(network: SegmentationNetwork, x: Tensor, settings: Mapping[str, Any]) -> list[list[list[Map]]]:
    """The maps of each view of N whole images, (N, bands, H, W), and of each image in it."""
    views = []
    for scale in settings["scales"]:
        pair = scaled_views(x, scaled_size((x.shape[2], x.shape[3]), scale), settings["flip"])
        maps = kept_maps(network, torch.cat(pair), settings)
        views += [maps[first : first + len(x)] for first in range(0, len(maps), len(x))]
    return views


@torch.inference_mode()
def kept_maps(network: SegmentationNetwork, x: Tensor, settings: Mapping[str, Any]) -> list[list[Map]]:
    """The wanted maps of each of N images, (N, bands, H, W)."""
    found: list[list[Map]] = []
    for some in torch.split(x, images_at_once(*x.shape[2:])):
        maps = network.encoded(some.to(PRECISIONS[settings["precision"]])).maps
        kept = [maps[number].permute(0, 2, 3, 1).half().contiguous().cpu().numpy() for number in settings["maps"]]
        found += [[each[k] for each in kept] for k in range(len(some))]
    return found
