"""The gallery: what the checkpoints, the pseudo-labels and `model.pt` make of some images.

Shown are the most and the least reliable images of one run, and those of its val or test set that `model.pt` gets
most wrong. Each is a row of thumbnails inside the page, so their number and size bound the size of the page.
"""

import base64
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stpp.common.bands import Bands
from stpp.common.labels import IGNORE
from stpp.data.manifest import Row
from stpp.data.multiband import shown
from stpp.data.reading import mask_of
from stpp.plan.parts import of_kind, score, score_quality
from stpp.report.facts import Facts
from stpp.report.html import Html, element, section, together
from stpp.report.numbers import number
from stpp.report.table import run_name
from stpp.store.colours import class_colours
from stpp.store.masks import IGNORE_COLOUR, MaskStore

Mask = NDArray[np.uint8]
Confidence = NDArray[np.float32]
"""(H, W), in [0, 1]."""
Read = Callable[[Row], NDArray[np.uint8]]
"""From a row of a manifest to its image as it is on disk, (H, W, bands)."""
Predict = Callable[[Row], tuple[Mask, Confidence]]
"""From a row of a manifest to what a network makes of its image."""
Votes = Callable[[Row], Sequence[Mask]]
"""From a row of a manifest to the masks of its image by the K checkpoints, in their order; none without checkpoints."""

MOST_IMAGES = 4
"""Images of each group."""
MOST_CHECKPOINTS = 4
"""Masks of checkpoints of an image; of more checkpoints these are spread evenly, the last one included."""
SIDE = 224
"""Longest side of a thumbnail in px."""

WRONG = [(190, 196, 204), (220, 38, 127), (255, 255, 255)]
"""Colours of a map of errors: right, wrong, without a true class; none is the colour of a class."""


@dataclass(frozen=True)
class Group:
    """Images that are shown together, with what is known of each."""

    title: str
    about: str
    rows: Mapping[Row, str]


@dataclass(frozen=True)
class Pictures:
    """Where images come from, and their masks: the K checkpoints, stores of pseudo-labels, the network handed over.

    `predict` gives the mask of an image and the confidence of its pixels.

    `bands` are those of the images, where they are not RGB.
    """

    read: Read
    votes: Votes
    labels: Sequence[MaskStore]
    predict: Predict
    encoding: Mapping[str, Any]
    bands: Bands | None = None


def choose(facts: Facts) -> list[Group]:
    """The images to show, most telling first within their group."""
    groups = []
    scored, rated = score(facts.shown), score_quality(facts.shown)
    unlabeled = {row.id: row for row in facts.subsets.get("unlabeled", ())}
    if scored:
        table = facts.scores[scored].sort_values("rank")
        true = dict(facts.image_scores[rated][["id", "miou"]].values) if rated else {}
        size = min(MOST_IMAGES, len(table) // 2)
        for title, about, part in (
            ("Most reliable", "The teacher's checkpoints agree most on these unlabeled images.", table.head(size)),
            (
                "Least reliable",
                "They agree least on these; the least reliable one comes first.",
                table.tail(size)[::-1],
            ),
        ):
            notes = {}
            for record in part.to_dict("records"):
                known = f", true mIoU {number(true[record['id']])} %" if record["id"] in true else ""
                notes[unlabeled[record["id"]]] = (
                    f"score {record['score']:.3f}, rank {record['rank']} of {len(table)}{known}"
                )
            groups.append(Group(title, about, notes))
    elif of_kind(facts.shown, "labels"):
        rows = list(unlabeled.values())
        some = [rows[i * len(rows) // MOST_IMAGES] for i in range(min(MOST_IMAGES, len(rows)))]
        groups.append(Group("Unlabeled images", "Evenly spaced in the list.", dict.fromkeys(some, "")))
    for subset in list(facts.judges)[:1]:
        worst = [(row, miou) for row, miou in facts.judged(subset).items() if not math.isnan(miou)][:MOST_IMAGES]
        about = f"On these images of {subset}, the mIoU of model.pt is lowest."
        notes = {row: f"mIoU of this image {number(miou)} %" for row, miou in worst}
        groups.append(Group("Worst predictions", about, notes))
    return [group for group in groups if group.rows]


def gallery(facts: Facts, sources: Pictures) -> Html:
    """All groups, with a legend of the classes."""
    colours = class_colours(facts.palette)
    chosen = choose(facts)
    groups = [
        together(
            [
                element("h3", group.title),
                element("p", group.about, class_="soft"),
                *(picture_row(row, note, facts, sources, colours) for row, note in group.rows.items()),
            ]
        )
        for group in chosen
    ]
    about = element(
        "p",
        f"Images and masks of {run_name(facts.shown)}, reduced to {SIDE} px where they are larger. The final "
        "predictions are by model.pt.",
    )
    judged = any(judged_by(row, facts) for group in chosen for row in group.rows)
    key = legend(facts.classes, colours, disagreement=len(of_kind(facts.shown, "masks")) > 1, errors=judged)
    return section("gallery", "Gallery", about, key, *groups) if groups else Html("")


def legend(
    classes: Sequence[str],
    colours: NDArray[np.uint8],
    *,
    disagreement: bool = False,
    confidence: bool = False,
    errors: bool = False,
) -> Html:
    """What the colours of masks mean, and those of maps of disagreement, confidence and errors if there are any."""
    ramp = ", ".join(f"rgb({r},{g},{b})" for r, g, b in heat_colours()[::51].tolist())
    scale = element("span", class_="swatch ramp", style=f"background:linear-gradient(90deg, {ramp})")
    parts = [
        ("masks", swatches([*zip(colours[: len(classes)].tolist(), classes), (IGNORE_COLOUR, "left out")])),
        (
            "disagreement",
            [element("span", "all checkpoints agree", scale, "none agrees with the last")] if disagreement else [],
        ),
        ("confidence", [element("span", "none", scale, "full")] if confidence else []),
        ("errors", swatches(zip(WRONG, ("right", "wrong", "left out"))) if errors else []),
    ]
    named = [together([element("dt", name), element("dd", *content)]) for name, content in parts if content]
    return element("dl", *named, class_="legend")


def judged_by(row: Row, facts: Facts) -> Row | None:
    """The row with the true mask of an image that is shown, if there is one.

    That of an unlabeled image serves for nothing else.
    """
    true = next((true for true in facts.subsets.get("truth", ()) if true.id == row.id), row)
    return None if true.mask is None else true


def swatches(entries: Iterable[tuple[Sequence[int], str]]) -> list[Html]:
    """Each colour [r, g, b] with its name."""
    return [
        element("span", element("span", class_="swatch", style=f"background:rgb({r},{g},{b})"), name)
        for (r, g, b), name in entries
    ]


def picture_row(row: Row, note: str, facts: Facts, sources: Pictures, colours: NDArray[np.uint8]) -> Html:
    """The thumbnails of one image."""
    tiles = [tile(caption, alt, uri) for caption, alt, uri in pictures(row, facts, sources, colours)]
    head = element("h4", row.id, element("span", f"  {note}") if note else None)
    return element("div", head, element("div", *tiles, class_="tiles"), class_="picture-row")


def pictures(row: Row, facts: Facts, sources: Pictures, colours: NDArray[np.uint8]) -> Iterator[tuple[str, str, str]]:
    """Caption, description and data URI of each picture of an image."""
    image = shown(sources.read(row), sources.bands)
    yield "image", f"The image {row.id}, {row.width} x {row.height} px", photo_uri(image)

    def of_mask(caption: str, mask: Mask) -> tuple[str, str, str]:
        return caption, f"{caption} of {row.id}: {shares(mask, facts.classes)}", mask_uri(mask, colours)

    masks = sources.votes(row)
    for k in spread(len(masks), MOST_CHECKPOINTS):
        yield of_mask(f"checkpoint {k + 1}", masks[k])
    if len(masks) > 1:
        unstable = instability(masks)
        alt = f"disagreement in {row.id}: checkpoints differ in {100 * (unstable > 0).mean():.0f} % of the pixels"
        yield "disagreement", alt, mask_uri(unstable, heat_colours())
    for store in sources.labels:
        if row.id in store:
            yield of_mask("pseudo-label", store[row.id])
    final, _ = sources.predict(row)
    if (judge := judged_by(row, facts)) is not None:
        true = mask_of(judge, sources.encoding)
        yield of_mask("ground truth", true)
        yield of_mask("final prediction", final)
        errors, meanings = error_map(final, true)
        alt = f"errors of {row.id}: {100 * (errors == 1).mean():.0f} % of the pixels are wrong"
        yield "errors", alt, mask_uri(errors, meanings)
    else:
        yield of_mask("final prediction", final)


def tile(caption: str, alt: str, uri: str) -> Html:
    """One thumbnail; masks keep their sharp edges when they are enlarged."""
    kind = "mask" if uri.startswith("data:image/png") else None
    return element("figure", element("img", src=uri, alt=alt, class_=kind), element("figcaption", caption))


# --- pixels -----------------------------------------------------------------------------------------------------------


def instability(masks: Sequence[Mask]) -> NDArray[np.uint8]:
    """Of K > 1 masks by checkpoints, the share that differs from the last one: uint8 (H, W), 255 for all others."""
    return np.rint(255 * np.mean([mask != masks[-1] for mask in masks[:-1]], axis=0)).astype(np.uint8)


def error_map(predicted: Mask, true: Mask) -> tuple[Mask, NDArray[np.uint8]]:
    """Where a prediction is wrong: uint8 (H, W), 0 for right, 1 for wrong, 2 without a true class; and the colours."""
    return np.where(true == IGNORE, 2, predicted != true).astype(np.uint8), np.array(WRONG, np.uint8)


def heat_colours() -> NDArray[np.uint8]:
    """uint8 (256, 3), from dark (0) to bright (255): cividis, which looks the same to colour-blind readers."""
    return np.rint(255 * mpl.colormaps["cividis"](np.arange(256))[:, :3]).astype(np.uint8)


def photo_uri(image: NDArray[np.uint8], side: int = SIDE) -> str:
    """An RGB image uint8 (H, W, 3) as a JPEG in a data URI, with at most `side` px a side."""
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return data_uri(small, "jpeg", quality=82)


def mask_uri(mask: Mask, colours: NDArray[np.uint8], side: int = SIDE) -> str:
    """A mask uint8 (H, W) as a palette PNG in a data URI, at most `side` px a side; `colours` uint8 (N, 3) by value."""
    height, width = mask.shape
    factor = min(1.0, side / max(height, width))
    small = Image.fromarray(mask).resize(
        (max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.NEAREST
    )
    small.putpalette(colours.tobytes())
    return data_uri(small, "png", optimize=True)


def data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    """An image inside the page."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def shares(mask: Mask, classes: Sequence[str]) -> str:
    """The three largest classes of a mask, in words."""
    counts = np.bincount(mask.reshape(-1), minlength=256)[: len(classes)]
    largest = [i for i in np.argsort(-counts, kind="stable")[:3] if counts[i]]
    return ", ".join(f"{classes[i]} {100 * counts[i] / mask.size:.0f} %" for i in largest) or "no class"


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 .. count - 1, evenly spaced: the first one, and the last one where two fit."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / max(1, most - 1)) for i in range(most)]
