"""From shapes to masks: polygons, runs of pixels and bitmaps, drawn on a picture by Pillow.

Polygons are drawn as labelme's own conversion draws them, whatever tool they are from: corners are cut to whole
numbers, (x, y) is pixel (x, y), and the border belongs to the polygon. An ellipse is a polygon.
"""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Ring = Sequence[tuple[float, float]]
"""The corners (x, y) of a polygon, in px."""
Stroke = Callable[[Image.Image, int], None]
"""What draws a shape on a picture of mode L: the pixels that it covers get the number."""
LARGEST = 2**30
"""Pixels; no image that is read has more."""
FAR = 1_000_000
"""Px; a corner of a polygon that is farther away is a mistake, and drawing the way there would take long."""
CORNERS = 180
"""Of the polygon that stands for an ellipse: with a radius of 1000 px, it lies within 0.2 px."""


def painted(height: int, width: int, strokes: Iterable[tuple[int, Stroke]]) -> NDArray[np.uint8]:
    """A mask, uint8 (H, W), of 0, on which shapes are drawn with their numbers, over earlier ones."""
    mask = Image.new("L", (width, height))
    for number, stroke in strokes:
        stroke(mask, number)
    return np.array(mask)


# --- shapes -----------------------------------------------------------------------------------------------------------


def in_px(share: float, side: int) -> float:
    """A share of a side (px) in px, to 1/100: shares are rounded, and 37.9999 means 38."""
    return round(share * side, 2)


def ring_of(numbers: Sequence[float]) -> Ring:
    """The corners that are written x, y, x, y, ...; raises ValueError where they are no polygon."""
    if len(numbers) % 2:
        raise ValueError("a polygon with an odd number of coordinates")
    return list(zip(numbers[::2], numbers[1::2]))


def polygon(outer: Sequence[Ring], inner: Sequence[Ring] = ()) -> Stroke:
    """What the outer rings cover together, but for what the inner ones cover. Raises ValueError where one is no
    polygon.
    """
    for ring in (*outer, *inner):
        if len(ring) < 3:
            raise ValueError(f"a polygon with {len(ring)} corners")
        if not all(abs(value) <= FAR for corner in ring for value in corner):  # nor is NaN
            raise ValueError("a corner that is not a number, or far outside")
    return partial(_draw_polygon, outer, inner)


def _draw_polygon(outer: Sequence[Ring], inner: Sequence[Ring], mask: Image.Image, number: int) -> None:
    if not inner:
        pen = ImageDraw.Draw(mask)
        for ring in outer:
            pen.polygon(list(ring), fill=number, outline=number)
        return
    covered = Image.new("1", mask.size)
    _draw_polygon(outer, (), covered, 1)
    _draw_polygon(inner, (), covered, 0)
    mask.paste(number, (0, 0), covered)


def rectangle(left: float, top: float, right: float, bottom: float) -> Ring:
    """The corners of a rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def turned(ring: Ring, degrees: float, around: tuple[float, float]) -> Ring:
    """A ring, turned clockwise as one sees it, to 1/100 px."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    x0, y0 = around
    from_there = [(x - x0, y - y0) for x, y in ring]
    return [(round(x0 + x * cosine - y * sine, 2), round(y0 + x * sine + y * cosine, 2)) for x, y in from_there]


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> Ring:
    """The corners of a polygon that stands for an ellipse around (x, y), turned clockwise. Raises ValueError for no
    ellipse.
    """
    if not all(map(math.isfinite, (x, y, radius_x, radius_y, degrees))) or min(radius_x, radius_y) <= 0:
        raise ValueError(f"an ellipse with radii {radius_x} and {radius_y}")
    angles = [2 * math.pi * corner / CORNERS for corner in range(CORNERS)]
    upright = [(x + radius_x * math.cos(angle), y + radius_y * math.sin(angle)) for angle in angles]
    return turned(upright, degrees, (x, y))


# --- pixels -----------------------------------------------------------------------------------------------------------


Pixels = Callable[[], NDArray[np.bool_]]
"""What gives a picture of pixels, bool (H, W), from what the export has: thousands, unpacked, would fill the memory."""


def bitmap(pixels: Pixels, left: int = 0, top: int = 0) -> Stroke:
    """A picture of pixels, whose first one lies at (left, top); what is outside of the image is cut off.

    It is unpacked now, so that what is wrong with it is raised here, and again whenever it is drawn.
    """
    if max(abs(left), abs(top)) > FAR:
        raise ValueError(f"pixels at {left}, {top}")
    pixels()
    return partial(_paste, pixels, left, top)


def _paste(pixels: Pixels, left: int, top: int, mask: Image.Image, number: int) -> None:
    mask.paste(number, (left, top), Image.fromarray(pixels()))


def from_runs(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels row by row, bool (H, W), from the lengths of runs, of which the first is of pixels that are not covered.

    Raises ValueError where these do not fill the picture.
    """
    if not 0 < height * width <= LARGEST or min(height, width) < 1:
        raise ValueError(f"a picture of {width} x {height} pixels")
    if not all(isinstance(run, int) and 0 <= run <= LARGEST for run in runs) or sum(runs) != height * width:
        raise ValueError(f"runs that do not fill {width} x {height} pixels")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)


def runs_of(pixels: NDArray[np.bool_]) -> list[int]:
    """The lengths that `from_runs` reads."""
    flat = pixels.reshape(-1)
    turns = np.flatnonzero(np.diff(flat, prepend=False))
    lengths: list[int] = np.diff(np.concatenate([[0], turns, [flat.size]])).tolist()
    return lengths


def from_png(content: bytes) -> NDArray[np.bool_]:
    """Which pixels of a picture are covered, bool (H, W): the opaque ones, or where nothing is transparent, those that
    are not 0. Raises ValueError for what is no PNG.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            values = np.asarray(picture)
    except Exception as error:  # Pillow's decoders meet damaged files with a dozen kinds of exceptions
        raise ValueError(f"a mask that is not a PNG ({error})") from None
    if values.ndim == 3:
        values = values[..., -1] if values.shape[2] in (2, 4) else values.max(axis=2)
    return values != 0


def to_png(pixels: NDArray[np.bool_]) -> bytes:
    """A picture of one bit as a PNG, which `from_png` reads."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()
