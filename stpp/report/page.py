"""The report: one HTML file without anything outside it, from what the stages of all runs left on disk.

It is a stage of its own, beside the table: the table needs neither images nor a network and is there within a second.
"""

from collections.abc import Callable

from stpp.common import disk
from stpp.common.bands import bands_in
from stpp.data.manifest import Row
from stpp.data.reading import image_of
from stpp.report.browser import browser
from stpp.report.facts import Facts, load
from stpp.report.gallery import Mask, Pictures, gallery
from stpp.report.html import Html, document, element, together
from stpp.report.numbers import classes, curves, phases_compared, results, stability
from stpp.report.provenance import costs, lead, reproduction, warnings, what_ran
from stpp.report.script import SCRIPT
from stpp.runtime.job import Job, Runtime
from stpp.store.masks import MaskStore

CONTENTS = {
    "results": "Results",
    "images": "Images",
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
    facts = load(job)
    sources = Pictures(
        masks=[MaskStore(path) for path in job.inputs("masks")],
        labels=[MaskStore(path) for path in job.inputs("labels")],
        predict=predictor(job, runtime),
        encoding=job.settings["encoding"],
        bands=bands_in(job.settings),
    )
    with job.writing(disk.REPORT) as path:
        path.write_text(
            page(facts, browser(facts, sources, job.settings["report"]), gallery(facts, sources)), encoding="utf-8"
        )
    job.finish()


def page(facts: Facts, images: Html, pictures: Html) -> str:
    """The whole document, with the browser of overlays and the gallery."""
    parts = {
        "results": results(facts),
        "images": images,
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


def predictor(job: Job, runtime: Runtime) -> Callable[[Row], Mask]:
    """What predicts the mask uint8 (H, W) of a row of a manifest with the last network of the run that is shown."""
    # Here, because torch takes seconds to import, and the parts of the page are tested without.
    from stpp.engine.inference import pick_device, predict_mask
    from stpp.models.folding import for_prediction
    from stpp.runtime.faults import explained, prediction_advice
    from stpp.runtime.lease import lease
    from stpp.runtime.process import prepare_process
    from stpp.store.checkpoint import load_checkpoint

    prepare_process(runtime.threads)
    device = pick_device(lease(runtime.gpus, runtime.device))
    prediction = job.settings["prediction"]
    model = load_checkpoint(job.input("checkpoint"), device)
    network = for_prediction(model.network, prediction["precision"])

    def predict(row: Row) -> Mask:
        image = image_of(row, model.bands)
        height, width, _ = image.shape
        with explained(prediction_advice(height, width, len(model.classes), prediction)):
            return predict_mask(network, image, device, prediction)

    return predict
