"""`stpp next`: which unlabeled images to label next, with masks that are drawn already."""

import csv
import posixpath
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stpp.commands.output import Outputs
from stpp.commands.segmenter import load
from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.labels import STEM
from stpp.data.encoded import encoded
from stpp.data.manifest import Row, manifest_path, read_manifest
from stpp.data.multiband import shown
from stpp.data.naming import stem_of
from stpp.data.reading import image_of
from stpp.plan.graph import Plan, Run, Stage
from stpp.plan.parts import networks, of_kind, score
from stpp.report.labeling import to_label_next
from stpp.report.suggestions import Suggestion, page
from stpp.runtime.job import verified
from stpp.store.colours import class_colours
from stpp.store.masks import write_palette_png
from stpp.store.scores import read_score_table

LIST, PAGE, VAL = "next.csv", "next.html", "val.txt"


def label_next(
    plan: Plan, results: Path, data: Mapping[str, Any], count: int, out: Path, outputs: Outputs, device: str
) -> str:
    """Write what to label next below `out`, and return what to say of it.

    The images are those of `to_label_next` by the first score of the plan. `next.html` shows them, `next.csv` lists
    them; links to the images and predicted masks lie as they would below the data root, the masks in the encoding of
    the data, whose settings are `data`. Where the val images are drawn, `val.txt` lists them, because more labels draw
    others. Raises StppError where there are no scores yet, and what `outputs` raises.
    """
    stages = results / disk.STAGES
    record, report = scored_run(plan, stages).record(), plan.stages[plan.report]
    teacher, scored = plan.stages[networks(record)["teacher"]], plan.stages[score(record) or ""]
    masks = plan.stages[next(iter(of_kind(record, "masks").values()))]
    unlabeled, labeled = _rows(results, masks, "unlabeled"), _rows(results, teacher, "labeled")
    scores = read_score_table(verified(stages / scored.folder / disk.SCORES))
    model = load(verified(stages / teacher.folder / disk.LAST), device)
    measured = [
        row for subset in ("val", "test") if subset in report.manifests for row in _rows(results, report, subset)
    ]
    chosen = to_label_next(scores, unlabeled, labeled, measured, count, lambda row: model.features(row.image))
    files = [files_of(data, each.row, out) for each in chosen]
    outputs.spare(Path(each.row.image) for each in chosen)
    links = [image for each, (image, _) in zip(chosen, files) if not _leads_to(image, Path(each.row.image))]
    val = _rows(results, teacher, "val") if data["val_split"] and "val" in teacher.manifests else []
    lists = [out / LIST, out / PAGE, *([out / VAL] if val else [])]
    outputs.claim([*lists, *links, *(mask for _, mask in files)])
    suggestions = []
    for each, (image, mask) in zip(chosen, files):
        pixels = image_of(each.row, model.bands)
        predicted = model.mask_of(pixels)
        if image in links:
            with outputs.writing(image) as path:
                path.unlink(missing_ok=True)
                path.symlink_to(Path(each.row.image).resolve())
        with outputs.writing(mask) as path:
            _write_mask(predicted, teacher.settings["encoding"], report.settings["palette"], path)
        suggestions.append(Suggestion(each.row.id, each.note, shown(pixels, model.bands), predicted))
    with outputs.writing(out / LIST) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "score", "rank", "image", "mask"])
        writer.writerows([e.row.id, repr(e.score), e.rank, e.row.image, mask] for e, (_, mask) in zip(chosen, files))
    with outputs.writing(out / PAGE) as path:
        path.write_text(page(plan.name, suggestions, model.classes, report.settings["palette"]), encoding="utf-8")
    if val:
        with outputs.writing(out / VAL) as path:
            path.write_text("".join(f"{_line(row, data['root'])}\n" for row in val), encoding="utf-8")
    found = f"{len(chosen)} of {len(unlabeled):,}"
    for_tools = _for_tools(stages / teacher.folder / disk.LAST, data, out)
    return "\n".join(
        [*_summary(found, data, out, bool(val)), *for_tools, *_to_compare(results, plan.name, record["experiment"])]
    )


def scored_run(plan: Plan, stages: Path) -> Run:
    """The first run whose stability scores are there, below `stages`. Raises StppError where there is none."""
    scored = [(run, folder) for run in plan.runs if (folder := score(run.record()))]
    if not scored:
        raise StppError(
            f"no experiment of {plan.name} scores unlabeled images; add one that does, such as `st++: {{method: st++}}`"
        )
    for run, folder in scored:
        if (stages / folder / disk.RECORD).exists():
            return run
    raise StppError(
        f"the stability scores of {plan.name} do not exist yet; make them by `stpp run FILE scores`, or wait until the "
        "run ends"
    )


def files_of(data: Mapping[str, Any], row: Row, out: Path) -> tuple[Path, Path]:
    """Where below `out` the link to an image and its mask lie: as they would below the data root.

    With another layout than `folder`, that is masks/ID.png for the mask.
    """
    image = f"{row.id}{PurePosixPath(row.image).suffix}"
    if data["layout"] != "folder":
        return out / image, out / "masks" / f"{row.id}.png"
    within, masks = (posixpath.normpath(data[key]) for key in ("images", "masks"))
    stem = stem_of(posixpath.relpath(image, within), data["image_name"]) or ""
    folder, base = posixpath.split(stem) if STEM in data["mask_name"] else (stem, "")
    name = data["mask_name"].replace(STEM, base)
    suffix = "" if PurePosixPath(name).suffix == ".png" else ".png"
    return out / image, out / posixpath.normpath(f"{masks}/{folder}/{name}{suffix}")


def _leads_to(place: Path, image: Path) -> bool:
    """Whether an image is at a place already, by a link or itself."""
    return place.exists() and place.samefile(image)


def _rows(results: Path, stage: Stage, subset: str) -> list[Row]:
    digest = stage.manifests[subset]
    return read_manifest(manifest_path(results, subset, digest), digest)


def _write_mask(mask: NDArray[np.uint8], encoding: Mapping[str, Any], palette: Any, path: Path) -> None:
    """A mask as PNG in the encoding of the data; in colours where its values are the classes."""
    values = encoded(mask, encoding)
    if values.ndim == 2 and np.array_equal(values, mask):
        write_palette_png(mask, class_colours(palette).tolist(), path)
    else:
        Image.fromarray(values).save(path, format="PNG")


def _line(row: Row, root: str) -> str:
    """The line of a list for an image with its mask, whose names are in quotes."""
    return " ".join(f'"{posixpath.relpath(path, root)}"' for path in (row.image, row.true_mask))


def _summary(found: str, data: Mapping[str, Any], out: Path, val: bool) -> list[str]:
    lines = [f"{found} unlabeled images to label next: {out / PAGE} shows them, {out / LIST} lists them"]
    if data["layout"] == "folder":
        lines += [
            f"correct the masks in {out}, which are predictions; then put them into the data set, and run it again:",
            f"  cp -r {shlex.quote(str(out / data['masks']))} {shlex.quote(data['root'])}/",
        ]
    else:
        lines.append(
            f"correct the masks in {out / 'masks'}, which are predictions, and add lines `image mask` to the list"
        )
    if val:
        lines += [
            "with more labels, data.val_split draws other val images; to keep these, so that results before and after "
            "can be compared, set in data:",
            f"  val: {out / VAL}",
            "  val_split: null",
        ]
        lines += [f"and remove the lines of these images from {data['labeled']}"] if data["labeled"] else []
    return lines


def _for_tools(model: Path, data: Mapping[str, Any], out: Path) -> list[str]:
    images = out / data["images"] if data["layout"] == "folder" else out
    segmented = out.with_name(f"{out.name}-segmented")
    segment = ["stpp", "segment", "--model", model, images, "--out", segmented]
    export = ["stpp", "export-labels", segmented, "--format", "coco", "--out", out.with_name(f"{out.name}-coco")]
    return [
        "to correct them in an annotation tool, export them in its format, such as COCO's:",
        *(f"  {shlex.join(map(str, command))}" for command in (segment, export)),
    ]


def _to_compare(results: Path, name: str, experiment: str) -> list[str]:
    now, then = (results / disk.LINKS / each / disk.EXPERIMENTS / experiment for each in (name, f"{name}-more"))
    return [
        f"to see what the labels bring, set `name: {name}-more` before that run, then run:",
        f"  stpp diff {shlex.quote(str(now))} {shlex.quote(str(then))}",
    ]
