"""The pages that ask for a person's work: images to label next, and labels that are probably wrong."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stpp.report.gallery import legend, mask_uri, photo_uri, shares, tile
from stpp.report.html import Html, document, element, together
from stpp.report.labeling import WHICH
from stpp.scoring.mislabeled import Suspect
from stpp.store.colours import class_colours

SIDE = 400
"""The longest side of a picture in px: people correct masks by these pictures."""


class Suggestion(NamedTuple):
    """An image, what there is to say of its stability, and the predicted mask.

    `pixels` uint8 (H, W, 3), `mask` uint8 (H, W), class 0..C-1.
    """

    id: str
    note: str
    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8]


class Doubt(NamedTuple):
    """A suspect of the image `id`, its `pixels` uint8 (H, W, 3), and both masks uint8 (H, W)."""

    id: str
    suspect: Suspect
    pixels: NDArray[np.uint8]
    labeled: NDArray[np.uint8]
    predicted: NDArray[np.uint8]


def page(name: str, images: Iterable[Suggestion], classes: Sequence[str], palette: Sequence[Sequence[int]]) -> str:
    """The document: each image, the mask that is to be corrected, and both together."""
    colours = class_colours(palette)
    rows = [_suggested(number, image, classes, colours) for number, image in enumerate(images, 1)]
    about = f"{WHICH} The masks are predictions, to be corrected."
    return _page(f"{name}: label these next", about, rows, classes, colours)


def page_of_suspects(
    name: str, doubts: Iterable[Doubt], classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> str:
    """The document: each suspect, in its image and in the masks."""
    colours = class_colours(palette)
    rows = [_doubted(number, doubt, classes, colours) for number, doubt in enumerate(doubts, 1)]
    about = (
        "Networks that have not seen these images contradict their labels with confidence. The largest and surest "
        "contradictions come first, each with a box around it. Either the label is wrong, or the image is a hard one."
    )
    return _page(f"{name}: labels to look at", about, rows, classes, colours)


def _page(title: str, about: str, rows: Sequence[Html], classes: Sequence[str], colours: NDArray[np.uint8]) -> str:
    key = legend(classes, colours)
    head = element("header", element("h1", title), element("p", about, class_="lead"))
    return document(title, together([head, element("main", key, *rows)]))


def _suggested(number: int, image: Suggestion, classes: Sequence[str], colours: NDArray[np.uint8]) -> Html:
    blended = ((image.pixels.astype(np.uint16) + colours[image.mask]) // 2).astype(np.uint8)
    tiles = [
        tile("image", f"The image {image.id}", photo_uri(image.pixels, SIDE)),
        tile(
            "predicted mask",
            f"Predicted mask of {image.id}: {shares(image.mask, classes)}",
            mask_uri(image.mask, colours, SIDE),
        ),
        tile("both", f"The image {image.id} under its predicted mask", photo_uri(blended, SIDE)),
    ]
    return _row(number, image.id, f"  {image.note}", tiles)


def _doubted(number: int, doubt: Doubt, classes: Sequence[str], colours: NDArray[np.uint8]) -> Html:
    labeled, predicted, share, confidence, box = doubt.suspect
    note = f"  labeled {classes[labeled]}, predicted {classes[predicted]}: {100 * share:.1f} % of the image, "
    note += f"confidence {confidence:.2f}"
    tiles = [
        tile(
            "image",
            f"The image {doubt.id} with a box around the doubted region",
            photo_uri(_boxed(doubt.pixels, box), SIDE),
        ),
        *(
            tile(what, f"{what.capitalize()} of {doubt.id}: {shares(mask, classes)}", mask_uri(mask, colours, SIDE))
            for what, mask in (("labels", doubt.labeled), ("prediction", doubt.predicted))
        ),
    ]
    return _row(number, doubt.id, note, tiles)


def _row(number: int, id_: str, note: str, tiles: Sequence[Html]) -> Html:
    """The numbered tiles of one image, under its id and what there is to say of it."""
    head = element("h4", f"{number}. {id_}", element("span", note))
    return element("div", head, element("div", *tiles, class_="tiles large"), class_="picture-row")


def _boxed(pixels: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """A copy of an RGB image with a frame around a box, of black and white lines that show on any image."""
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = box
    width = max(1, max(picture.size) // 112)
    for grown, colour in ((2 * width, "black"), (width, "white")):
        frame = (left - grown, top - grown, right - 1 + grown, bottom - 1 + grown)
        pen.rectangle(frame, outline=colour, width=width)
    return np.asarray(picture)
