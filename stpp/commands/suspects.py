"""`stpp suspects`: labels that are probably wrong, because networks that have not seen them contradict them."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stpp.commands.output import Outputs
from stpp.common import disk
from stpp.common.bands import bands_in
from stpp.common.errors import StppError
from stpp.data.manifest import Row, manifest_path, read_manifest
from stpp.data.multiband import shown
from stpp.data.reading import image_of, mask_of
from stpp.plan.graph import Plan
from stpp.report.suggestions import Doubt, page_of_suspects
from stpp.runtime.job import verified
from stpp.scoring.mislabeled import Suspect, confidence_sums, sure_from, suspects
from stpp.store.masks import MaskStore

LIST, PAGE = "suspects.csv", "suspects.html"


class Compared(NamedTuple):
    """A labeled image: its mask, and its prediction with the confidence by a network that has not seen it.

    Masks uint8 (H, W), confidence float32 (H, W) in [0, 1].
    """

    row: Row
    true: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    confidence: NDArray[np.float32]


def list_suspects(plan: Plan, results: Path, count: int, out: Path, outputs: Outputs) -> str:
    """Write the `count` weightiest suspects among the labels below `out`, and return what to say of them.

    `suspects.html` shows them, `suspects.csv` lists them. The predictions are those of the outlook. Raises StppError
    where there is none yet, and what `outputs` raises.
    """
    outputs.claim([out / LIST, out / PAGE])
    classes, palette = (plan.stages[plan.report].settings[key] for key in ("classes", "palette"))
    sums, counts, images = np.zeros(len(classes)), np.zeros(len(classes), np.int64), 0
    for each in compared(plan, results):
        found = confidence_sums(each.true, each.predicted, each.confidence, len(classes))
        sums, counts, images = sums + found[0], counts + found[1], images + 1
    sure = sure_from(sums, counts)
    ranked: list[tuple[str, Suspect]] = []
    for each in compared(plan, results):
        ranked += [(each.row.id, found) for found in suspects(each.true, each.predicted, each.confidence, sure)]
    ranked = sorted(ranked, key=lambda pair: -pair[1].weight)
    first = ranked[:count]
    wanted = {id for id, _ in first}
    by_id = {each.row.id: each for each in compared(plan, results) if each.row.id in wanted}
    with outputs.writing(out / LIST) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "labeled", "predicted", "share", "confidence", "left", "top", "right", "bottom", "mask"])
        for id, (labeled, predicted, share, confidence, box) in first:
            names = classes[labeled], classes[predicted]
            writer.writerow([id, *names, repr(share), repr(confidence), *box, by_id[id].row.true_mask])
    doubts = ((id, suspect, by_id[id]) for id, suspect in first)
    bands = bands_in(plan.stages[plan.report].settings)

    def picture(row: Row) -> NDArray[np.uint8]:
        return shown(image_of(row, bands), bands)

    rows = [Doubt(id, suspect, picture(its.row), its.true, its.predicted) for id, suspect, its in doubts]
    with outputs.writing(out / PAGE) as path:
        path.write_text(page_of_suspects(plan.name, rows, classes, palette), encoding="utf-8")
    return (
        f"{len(first)} of {len(ranked):,} suspects in {images:,} labeled images: {out / PAGE} shows them, {out / LIST} "
        "lists them"
    )


def compared(plan: Plan, results: Path) -> Iterator[Compared]:
    """The labeled images of the outlook. Raises StppError where it is not asked for or not there."""
    if not plan.outlook:
        raise StppError(
            "labels are compared with the predictions of the outlook: write `outlook: true` into the configuration, "
            "then type `stpp run FILE outlook`"
        )
    stages = results / disk.STAGES
    if not (stages / plan.outlook / disk.RECORD).exists():
        raise StppError(
            f"the outlook of {plan.name} does not exist yet; make it by `stpp run FILE outlook`, or wait until "
            "the run ends"
        )
    for path in plan.stages[plan.outlook].inputs["held"]:
        stage = plan.stages[path.rpartition("/")[0]]
        digest = stage.manifests["test"]
        rows = read_manifest(manifest_path(results, "test", digest), digest)
        with MaskStore(verified(stages / stage.inputs["masks"][0])) as store:
            for row in rows:
                true = mask_of(row, stage.settings["encoding"])
                yield Compared(row, true, store[row.id], store.confidence(row.id))
