"""The report: one HTML file without anything outside it, from what the stages of all runs left on disk.

It is a stage of its own, beside the table: the table needs neither images nor a network and is there within a second.
"""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stpp.common import disk
from stpp.common.bands import bands_in
from stpp.data.manifest import Row
from stpp.data.reading import image_of
from stpp.report.browser import browser
from stpp.report.facts import Facts, load
from stpp.report.gallery import Confidence, Mask, Pictures, Predict, Read, Votes, gallery
from stpp.report.html import Html, document, element, together
from stpp.report.labeling import Features, label_these_next
from stpp.report.numbers import classes, curves, phases_compared, results, stability
from stpp.report.provenance import costs, lead, reproduction, warnings, what_ran
from stpp.report.script import SCRIPT
from stpp.runtime.job import Job, Runtime
from stpp.store.maps import MapStore, StoredImage, whole_view
from stpp.store.masks import MaskStore

if TYPE_CHECKING:
    import torch

    from stpp.models.network import SegmentationNetwork
    from stpp.store.checkpoint import Model

Seen = Callable[[Row], NDArray[np.uint8] | StoredImage]

CONTENTS = {
    "results": "Results",
    "images": "Images",
    "next": "Label these next",
    "phases": "Phases",
    "classes": "Classes",
    "curves": "Learning curves",
    "stability": "Stability",
    "gallery": "Gallery",
    "setup": "What ran",
    "costs": "Time and memory",
    "reproduce": "Reproduce",
}


def run(job: Job, runtime: Runtime) -> None:
    """Write `report.html` of `job`. StppError if an artifact or an image is missing or damaged."""
    facts, limits, device = load(job), job.settings["report"], prepared(runtime)
    bands = bands_in(job.settings)
    read = lru_cache(maxsize=1)(lambda row: image_of(row, bands))  # all that is made of an image, is made at once
    seen = seen_by_networks(job, read)
    sources = Pictures(
        read=read,
        votes=votes_of(job, seen, device),
        labels=[MaskStore(path) for path in job.inputs("labels")],
        predict=predictor(job.input("model"), seen, facts.prediction, device),
        encoding=job.settings["encoding"],
        bands=bands,
    )
    images = browser(facts, sources, limits)
    following = label_these_next(facts, sources, limits["next"], features_of(job, seen, device))
    with job.writing(disk.REPORT) as path:
        path.write_text(page(facts, images, following, gallery(facts, sources)), encoding="utf-8")
    job.finish()


def page(facts: Facts, images: Html, following: Html, pictures: Html) -> str:
    """The whole document, with the browser of overlays, the images to label next, and the gallery."""
    parts = {
        "results": results(facts),
        "images": images,
        "next": following,
        "phases": phases_compared(facts),
        "classes": classes(facts),
        "curves": curves(facts),
        "stability": stability(facts),
        "gallery": pictures,
        "setup": what_ran(facts),
        "costs": costs(facts),
        "reproduce": reproduction(facts),
    }
    links = [element("a", CONTENTS[anchor], href=f"#{anchor}") for anchor, part in parts.items() if part]
    content = [
        element("header", lead(facts), warnings(facts)),
        element("nav", *links, aria_label="Contents"),
        element("main", *parts.values()),
    ]
    return document(f"{facts.name}: report of stpp", together(content), SCRIPT)


# Torch takes seconds to import, and the parts of the page are tested without: it is imported where it is used.


def prepared(runtime: Runtime) -> "torch.device":
    """The device of the networks."""
    from stpp.engine.inference import pick_device
    from stpp.runtime.lease import lease
    from stpp.runtime.process import prepare_process

    prepare_process(runtime.threads)
    return pick_device(lease(runtime.gpus, runtime.device))


def seen_by_networks(job: Job, read: Read) -> Seen:
    """What gives what networks see of an image: its maps where a frozen encoder's are stored, else its pixels."""
    stores = [MapStore(path) for path in job.inputs("maps")]

    def seen(row: Row) -> NDArray[np.uint8] | StoredImage:
        store = next((store for store in stores if row.id in store), None)
        return store.image(row.id, (row.height, row.width), [whole_view(1.0, False)]) if store else read(row)

    return seen


def predictor(checkpoint: Path, seen: Seen, prediction: Mapping[str, Any], device: "torch.device") -> Predict:
    """What the network of a checkpoint makes of images."""
    from stpp.engine.inference import predict_masks
    from stpp.runtime.faults import explained, prediction_advice

    network, model = applied(checkpoint, prediction, device)
    classes = len(model.classes)

    def predict(row: Row) -> tuple[Mask, Confidence]:
        image = seen(row)
        height, width, *_ = image.shape
        with explained(prediction_advice(height, width, classes, prediction)):
            ((mask, confidence),) = predict_masks(network, [image], device, prediction, confident=True)
        assert confidence is not None
        return mask, confidence

    return predict


def votes_of(job: Job, seen: Seen, device: "torch.device") -> Votes:
    """What the checkpoints make of images: their masks where they are stored, else predicted as those were."""
    stores, prediction = [MaskStore(path) for path in job.inputs("masks")], job.settings["prediction"]

    @cache
    def voters() -> list[Predict]:
        return [predictor(path, seen, prediction, device) for path in job.inputs("checkpoints")]

    def votes(row: Row) -> list[Mask]:
        stored = [store[row.id] for store in stores if row.id in store]
        return stored or [predict(row)[0] for predict in voters()]

    return votes


def features_of(job: Job, seen: Seen, device: "torch.device") -> Features:
    """What gives the features of a row by the teacher's encoder; the teacher is read when it is first asked for."""
    from stpp.engine.features import image_features

    prediction = job.settings["prediction"]

    @cache
    def teacher() -> tuple["SegmentationNetwork", "Model"]:
        return applied(job.input("teacher"), prediction, device)

    def features(row: Row) -> NDArray[np.float32]:
        return image_features(teacher()[0], seen(row), device, prediction)

    return features


def applied(
    checkpoint: Path, prediction: Mapping[str, Any], device: "torch.device"
) -> tuple["SegmentationNetwork", "Model"]:
    """The network of a checkpoint, ready to predict on the device, and the model that it is from."""
    from stpp.models.folding import for_prediction
    from stpp.store.checkpoint import load_checkpoint

    model = load_checkpoint(checkpoint, device)
    return for_prediction(model.network, prediction["precision"]), model
