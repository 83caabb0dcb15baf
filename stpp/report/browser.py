"""The browser of overlays: images with masks as layers, which the script of the page compares, filters and sorts.

Shown are the images that the result was measured on, and a sample of the unlabeled ones. Without the script, each is a
thumbnail under its prediction.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stpp.common.labels import IGNORE
from stpp.common.wording import counted, network_name, size
from stpp.data.manifest import Row
from stpp.data.multiband import shown
from stpp.data.reading import mask_of
from stpp.plan.counts import UNLABELED_SHOWN
from stpp.plan.parts import score
from stpp.report.facts import Facts
from stpp.report.gallery import (
    Mask,
    Pictures,
    error_map,
    heat_colours,
    instability,
    judged_by,
    legend,
    mask_uri,
    photo_uri,
    spread,
)
from stpp.report.html import Html, csv_link, details, element, section, table, together
from stpp.report.table import percent, run_name
from stpp.scoring.metrics import confusion_matrix, iou, mean_iou, pixel_accuracy
from stpp.store.colours import class_colours

SIDES = (224, 640)
"""Bounds of the longest side of an image in px; the fewer images there are, the larger they may be."""
PIXEL = 1.1
"""About how many bytes a pixel of an image takes in the page, with its layers."""
MOST_HARD = 4
"""Hard examples of a class."""
LAYERS = ("truth", "prediction", "errors", "confidence", "pseudo-label", "disagreement")
"""What may lie over an image."""
ORDERS = {
    "": "as listed",
    "errors -1": "most errors first",
    "errors 1": "fewest errors first",
    "iou 1": "lowest IoU of the class first",
    "miou 1": "lowest mIoU first",
    "score 1": "lowest score first",
    "score -1": "highest score first",
}
"""How images are sorted: what by, and 1 where the smallest comes first."""


@dataclass(frozen=True)
class Shot:
    """An image of a subset, its `layers` as data URIs by name, and what is known of it.

    `areas` has the share of each class in its prediction, `true_areas` that in its true mask, `iou` the IoU of each
    class, NaN where it occurs in neither; `score` is that of stability. `miou` and `errors`, the share of wrong pixels,
    are of the pixels that count. All are in [0, 1], and None where there is no true mask, or no score.
    """

    id: str
    subset: str
    image: str
    layers: Mapping[str, str]
    areas: Sequence[float]
    true_areas: Sequence[float] | None = None
    iou: Sequence[float] | None = None
    miou: float | None = None
    errors: float | None = None
    score: float | None = None

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return len(self.image) + sum(map(len, self.layers.values()))


def browser(facts: Facts, sources: Pictures, limits: Mapping[str, Any]) -> Html:
    """The part of the page; nothing where there are no images to show.

    `limits` are the settings `report`: the `size` in MB that all images and layers take in the page, and how many
    `judged` and `unlabeled` images there are at most, whatever they take: each is predicted.
    """
    colours = class_colours(facts.palette)
    most_bytes = round(1_000_000 * limits["size"])
    val_first = list(facts.judges)[::-1]
    judged = [row for subset in val_first for row in facts.judged(subset)]
    wanted = {"unlabeled": unlabeled(facts, limits["unlabeled"]), "judged": judged[: limits["judged"]]}
    side = side_of(sum(map(len, wanted.values())), most_bytes)
    shots: dict[str, list[Shot]] = {}
    for kind, share in (("unlabeled", UNLABELED_SHOWN), ("judged", 1.0)):
        spent = sum(shot.size for found in shots.values() for shot in found)
        taken = (taken_of(row, facts, sources, colours, side) for row in wanted[kind])
        shots[kind] = list(within(taken, share * most_bytes - spent))
    shown = [*shots["judged"], *shots["unlabeled"]]
    if not shown:
        return Html("")
    said = []
    for subset in val_first:
        count = sum(shot.subset == subset for shot in shots["judged"])
        said.append(part_of(count, len(facts.subsets[subset]), subset, "those with the lowest mIoU"))
    if wanted["unlabeled"]:
        how = "evenly spread over the list" if not score(facts.shown) else "evenly spread over the stability score"
        said.append(part_of(len(shots["unlabeled"]), len(facts.subsets["unlabeled"]), "unlabeled", how))
    about = (
        f"Predictions by model.pt, the {network_name(facts.model['title'])} of {run_name(facts.model)}: "
        f"{'; '.join(said)}. The images are reduced to {side} px where they are larger, and take at most "
        f"{size(most_bytes)} of the page. Pseudo-labels, and where checkpoints disagree, are those of "
        f"{run_name(facts.shown)}."
    )
    layers = [name for name in LAYERS if any(name in shot.layers for shot in shown)]
    subsets = list(dict.fromkeys(shot.subset for shot in shown))
    tiles = [thumbnail(at, shot) for at, shot in enumerate(shown)]
    return section(
        "images",
        "Images",
        element("p", about, " ", numbers_link(shown, facts.classes)),
        legend(facts.classes, colours, **{name: name in layers for name in ("disagreement", "confidence", "errors")}),
        viewer(facts.classes, layers, subsets),
        element("div", *tiles, class_="shots"),
        hard_examples(shown, facts.classes),
        areas(shown, facts.classes),
    )


def unlabeled(facts: Facts, most: int) -> list[Row]:
    """At most `most` of the unlabeled images: evenly spread, the least stable first where there are scores."""
    rows = list(facts.subsets.get("unlabeled", ()))
    if scored := score(facts.shown):
        known = {row.id: row for row in rows}
        rows = [known[id] for id in facts.scores[scored].sort_values("rank", ascending=False)["id"]]
    return [rows[at] for at in spread(len(rows), most)]


def within(shots: Iterator[Shot], size: float) -> Iterator[Shot]:
    """The first ones that take no more than `size` bytes together."""
    for shot in shots:
        size -= shot.size
        if size < 0:
            return
        yield shot


def part_of(count: int, whole: int, subset: str, which: str) -> str:
    """How many images of a subset there are, and which if not all."""
    if count == whole:
        return f"all {counted(whole, f'{subset} image')}"
    return f"{count:,} of {whole:,} {subset} images, {which} ({whole - count:,} are left out)"


def side_of(count: int, most_bytes: int) -> int:
    """The longest side in px at which so many square images take about `most_bytes`, within `SIDES`."""
    least, most = SIDES
    return min(most, max(least, math.isqrt(int(most_bytes / PIXEL / max(1, count)))))


def taken_of(row: Row, facts: Facts, sources: Pictures, colours: NDArray[np.uint8], side: int) -> Shot:
    """An image, `side` px at most, with all that is known of it."""
    count = len(facts.classes)
    mask, probabilities = sources.predict(row)
    confidence = np.rint(255 * probabilities).astype(np.uint8)
    layers = {"prediction": mask_uri(mask, colours, side), "confidence": mask_uri(confidence, heat_colours(), side)}
    if labels := next((store for store in reversed(sources.labels) if row.id in store), None):
        layers["pseudo-label"] = mask_uri(labels[row.id], colours, side)
    known: dict[str, Any] = {}
    if (judge := judged_by(row, facts)) is not None:
        true = mask_of(judge, sources.encoding)
        confusion = confusion_matrix(mask, np.where(mask == IGNORE, IGNORE, true).astype(np.uint8), count)
        known = {"iou": iou(confusion).tolist(), "true_areas": shares_of(true, count)}
        if confusion.any():
            known |= {"miou": mean_iou(confusion), "errors": 1 - pixel_accuracy(confusion)}
        wrong, meanings = error_map(mask, true)
        layers |= {"truth": mask_uri(true, colours, side), "errors": mask_uri(wrong, meanings, side)}
    if len(votes := sources.votes(row)) > 1:
        layers["disagreement"] = mask_uri(instability(votes), heat_colours(), side)
    if (scored := score(facts.shown)) and row.subset == "unlabeled":
        scores = facts.scores[scored]
        known["score"] = float(scores.loc[scores["id"] == row.id, "score"].iloc[0])
    return Shot(
        row.id,
        row.subset,
        photo_uri(shown(sources.read(row), sources.bands), side),
        layers,
        shares_of(mask, count),
        **known,
    )


def shares_of(mask: Mask, classes: int) -> list[float]:
    """The share of each class in all pixels of a mask, in [0, 1]."""
    counts: list[float] = (np.bincount(mask.reshape(-1), minlength=256)[:classes] / mask.size).tolist()
    return counts


# --- markup -----------------------------------------------------------------------------------------------------------


def thumbnail(at: int, shot: Shot) -> Html:
    """An image under its layers, of which the style shows the prediction; a link, so that the keyboard reaches it."""
    layers = [
        element("img", src=uri, alt=f"{name} over {shot.id}", class_="layer", data_layer=name)
        for name, uri in shot.layers.items()
    ]
    known = {name: getattr(shot, name) for name in ("id", "subset", "areas", "true_areas", "iou")}
    known |= {name: getattr(shot, name) for name in ("miou", "errors", "score")}
    note = [f"score {shot.score:.3f}"] if shot.score is not None else []
    note += [f"{100 * shot.errors:.0f} % wrong"] if shot.errors is not None else []
    return element(
        "a",
        element("span", element("img", src=shot.image, alt=f"the image {shot.id}"), *layers, class_="stack"),
        element("span", shot.id, class_="name"),
        element("span", ", ".join(note), class_="soft"),
        id=f"image-{at}",
        href=f"#image-{at}",
        class_="shot",
        data_facts=json.dumps(rounded(known), ensure_ascii=False, separators=(",", ":")),
    )


def rounded(value: Any) -> Any:
    """Numbers with four digits behind the point, and null for NaN, in whatever holds them."""
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 4)
    return value


def viewer(classes: Sequence[str], layers: Sequence[str], subsets: Sequence[str]) -> Html:
    """What the script fills: filters, an image under two layers with a divider, and its numbers. Hidden without it."""
    sides = {"image": "image alone", **{name: name for name in layers}}
    left = "truth" if "truth" in layers else "image"
    filters = [
        choice("subset", "Images", {"": "all", **{name: name for name in subsets}}),
        choice("class", "With class", {"": "any", **{str(at): name for at, name in enumerate(classes)}}),
        bound("errors", "Wrong at least (%)", "100", "1"),
        bound("score", "Score at most", "1", "0.01"),
        choice("order", "Order", ORDERS),
    ]
    layout = [
        choice("left", "Left", sides, left),
        choice("right", "Right", sides, "prediction"),
        labeled("Divider", element("input", name="divider", type="range", min="0", max="100", value="50")),
        labeled("Opacity", element("input", name="opacity", type="range", min="0", max="100", value="50")),
        labeled("Zoom", element("input", name="zoom", type="range", min="1", max="8", step="0.5", value="1")),
    ]
    side = [element("img", alt="", class_=f"layer {name}") for name in ("left", "right")]
    stage = element(
        "div",
        element("div", element("img", alt="", class_="photo"), *side, element("span", class_="handle"), class_="sheet"),
        class_="stage",
        tabindex="0",
        role="group",
        aria_label="The image; arrow keys show the next image, or move an enlarged one",
    )
    step = [element("button", text, name=name, type="button") for name, text in (("previous", "←"), ("next", "→"))]
    keys = (
        "On the image: ← and → show the previous and the next image, or move an enlarged one; + and - zoom; the "
        "comma and the full stop move the divider; o hides and shows the layers."
    )
    return element(
        "div",
        element("div", *filters, class_="bar"),
        element("div", *layout, class_="bar"),
        element("div", *step, element("span", class_="count", role="status"), class_="bar"),
        element(
            "div",
            element("div", element("p", class_="name"), stage, element("p", keys, class_="soft")),
            element("div", class_="facts"),
            class_="desk",
        ),
        class_="viewer",
        hidden="",
    )


def choice(name: str, title: str, options: Mapping[str, str], chosen: str = "") -> Html:
    """A list to choose from."""
    entries = [
        element("option", text, value=value, selected="" if value == chosen else None)
        for value, text in options.items()
    ]
    return labeled(title, element("select", *entries, name=name))


def bound(name: str, title: str, most: str, step: str) -> Html:
    """A number, which bounds nothing where it is empty."""
    return labeled(title, element("input", name=name, type="number", min="0", max=most, step=step))


def labeled(title: str, control: Html) -> Html:
    """A control under its title."""
    return element("label", title, control)


def hard_examples(shots: Sequence[Shot], classes: Sequence[str]) -> Html | None:
    """For each class, the images with a true mask that have it and on which its IoU is lowest."""
    rows = []
    for at, name in enumerate(classes):
        having = [
            (shot.iou[at], -shot.true_areas[at], place, shot)
            for place, shot in enumerate(shots)
            if shot.iou and shot.true_areas and shot.true_areas[at] > 0 and not np.isnan(shot.iou[at])
        ]
        hard = sorted(having, key=lambda entry: entry[:3])[:MOST_HARD]
        links = [
            element("span", element("a", shot.id, href=f"#image-{place}"), f" {percent(value)} ", class_="example")
            for value, _, place, shot in hard
        ]
        if links:
            rows.append([name, together(links)])
    caption = "Hard examples: for each class, the images above with its lowest IoU (%), large areas first"
    return table(["class", "images"], rows, caption, text_columns=2) if rows else None


def areas(shots: Sequence[Shot], classes: Sequence[str]) -> Html:
    """The mean share of each class in the images of each subset: true, and as predicted."""
    columns: dict[str, Any] = {}
    for subset in dict.fromkeys(shot.subset for shot in shots):
        some = [shot for shot in shots if shot.subset == subset]
        if true := [shot.true_areas for shot in some if shot.true_areas]:
            columns[f"{subset}, true"] = np.mean(true, axis=0)
        columns[f"{subset}, predicted"] = np.mean([shot.areas for shot in some], axis=0)
    rows = [[name, *(percent(float(values[at])) for values in columns.values())] for at, name in enumerate(classes)]
    caption = "Area of each class: % of the pixels of an image, mean over the images above"
    return details("Area of each class", table(["class", *columns], rows, caption))


def numbers_link(shots: Sequence[Shot], classes: Sequence[str]) -> Html:
    """What is known of each image, as a CSV file inside the page."""

    def cells(values: Sequence[float | None] | None) -> list[str]:
        known = rounded(list(values)) if values else [None] * len(classes)
        return ["" if value is None else str(value) for value in known]

    kinds = ("area", "true area", "IoU")
    header = ["image", "subset", "score", "mIoU", "errors"]
    header += [f"{kind} of {name}" for kind in kinds for name in classes]
    rows = []
    for shot in shots:
        values = (shot.areas, shot.true_areas, shot.iou)
        alone = ["" if one is None else str(round(one, 4)) for one in (shot.score, shot.miou, shot.errors)]
        rows.append([shot.id, shot.subset, *alone, *(cell for some in values for cell in cells(some))])
    return csv_link(header, rows, "images", "Their numbers as CSV")
