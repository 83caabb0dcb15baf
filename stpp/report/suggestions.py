"""The page of `stpp next`: which unlabeled images to label next, with what the network makes of them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stpp.report.gallery import class_colours, legend, mask_uri, photo_uri, shares, tile
from stpp.report.html import Html, document, element, together


class Suggestion(NamedTuple):
    """An image, its `score` of stability and its `rank` of `ranked` by it, 1 for the most stable; the predicted mask.

    `pixels` uint8 (H, W, 3), `mask` uint8 (H, W), class 0..C-1.
    """

    id: str
    score: float
    rank: int
    ranked: int
    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def page(name: str, images: Iterable[Suggestion], classes: Sequence[str], palette: Sequence[Sequence[int]]) -> str:
    """The document: each image, the mask that is to be corrected, and both together."""
    colours = class_colours(palette)
    rows = [_row(number, image, classes, colours) for number, image in enumerate(images, 1)]
    about = (
        "The checkpoints of the teacher agree least on such images, and these differ most from the labeled ones and "
        "from each other. The masks are predictions, to be corrected."
    )
    key = legend(classes, colours, stability=False, errors=False)
    head = element("header", element("h1", f"{name}: label these next"), element("p", about, class_="lead"))
    return document(f"{name}: label these next", together([head, element("main", key, *rows)]))


def _row(number: int, image: Suggestion, classes: Sequence[str], colours: NDArray[np.uint8]) -> Html:
    note = f"  score {image.score:.3f}, rank {image.rank} of {image.ranked}"
    blended = ((image.pixels.astype(np.uint16) + colours[image.mask]) // 2).astype(np.uint8)
    tiles = [
        tile("image", f"The image {image.id}", photo_uri(image.pixels)),
        tile(
            "predicted mask",
            f"Predicted mask of {image.id}: {shares(image.mask, classes)}",
            mask_uri(image.mask, colours),
        ),
        tile("both", f"The image {image.id} under its predicted mask", photo_uri(blended)),
    ]
    head = element("h4", f"{number}. {image.id}", element("span", note))
    return element("div", head, element("div", *tiles, class_="tiles"), class_="picture-row")
