"""From masks to what annotation tools hold: pixels by class, or polygons that are drawn over each other.

The polygons of a mask are the outer borders of all its parts, where a part is of one class and its pixels meet at their
sides. They are ordered by the area within the border, the largest first. So what lies in a hole of a part is drawn
after it, and the polygons, drawn in their order, give the mask. Programs for maps expect holes in polygons instead, and
none over another: these are the surfaces of a mask.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

from stpp.common.labels import IGNORE
from stpp.importers import GROUNDS, IGNORED

Outline = NDArray[np.float64]
"""The corners (x, y) of a polygon, (N, 2), in px: pixel (x, y) is the square from there to (x + 1, y + 1)."""


class Patch(NamedTuple):
    """What is drawn of a mask at once.

    `label` is the name of its class, or `__ignore__`. `pixels`, bool (h, w), are those that it covers within its box,
    whose first pixel is at (`left`, `top`). `outline` is their border, where polygons are asked for.
    """

    label: str
    pixels: NDArray[np.bool_]
    left: int
    top: int
    outline: Outline | None

    def whole(self, height: int, width: int) -> NDArray[np.bool_]:
        """The pixels in an image of this size."""
        pixels = np.zeros((height, width), bool)
        pixels[self.top :, self.left :][: self.pixels.shape[0], : self.pixels.shape[1]] = self.pixels
        return pixels


class Surface(NamedTuple):
    """A part of a mask: the name of its class, or `__ignore__`, its outer border, and the borders of its holes."""

    label: str
    border: Outline
    holes: Sequence[Outline]


def parts(mask: NDArray[np.uint8], classes: Sequence[str], tolerance: float | None) -> Iterator[Patch]:
    """What is to be drawn for a mask, uint8 (H, W), in this order, on a ground of class 0.

    Without a `tolerance`, these are the pixels of each class, and no outlines. With one, they are polygons, whose
    outlines may be moved by so many px where `simplified`. Class 0 is left to the ground where it is called a
    background and no polygon lies below it, unless there is nothing else: so an image without anything is told from
    one that nobody annotated.
    """
    ground, labels = _ground(mask, classes), dict(enumerate(classes)) | {IGNORE: IGNORED}
    numbers = np.unique(mask).tolist()
    if tolerance is None:
        for number in numbers:
            if number != ground:
                yield _boxed(labels[number], mask == number)
        return
    found = [(number, outline) for number in numbers for outline in outlines(mask == number)]
    canvas = np.zeros_like(mask)
    for number, outline in sorted(found, key=lambda item: -area(item[1])):
        pixels, left, top = filled(outline)
        below = canvas[top:, left:][: pixels.shape[0], : pixels.shape[1]]
        if number != ground or below[pixels].any():
            below[pixels] = number
            yield Patch(labels[number], pixels, left, top, simplified(inset(outline), tolerance))


def surfaces(mask: NDArray[np.uint8], classes: Sequence[str], tolerance: float) -> Iterator[Surface]:
    """The polygons with holes of a mask, uint8 (H, W), on a ground of class 0; without a tolerance none lies over
    another.

    Borders are `simplified` by so many px. Class 0 is left to the ground as in `parts`.
    """
    ground, labels = _ground(mask, classes), dict(enumerate(classes)) | {IGNORE: IGNORED}
    found = [
        (labels[number], rings)
        for number in np.unique(mask).tolist()
        if number != ground
        for rings in _rings(mask == number)
    ]
    for label, (border, *inner) in sorted(found, key=lambda item: -area(item[1][0])):
        holes = [hole + np.array([left, top]) for pixels, left, top in map(filled, inner) for hole in outlines(pixels)]
        first, *rest = [simplified(inset(_from_first(ring)), tolerance) for ring in (border, *holes)]
        yield Surface(label, first, rest)


def _ground(mask: NDArray[np.uint8], classes: Sequence[str]) -> int | None:
    """The class that need not be drawn: the background, unless there is nothing else."""
    return 0 if classes[0] in GROUNDS and mask.any() else None


def _from_first(outline: Outline) -> Outline:
    """An outline that begins at its first corner from the left: so a hole is `simplified` as the part that fills it."""
    return np.roll(outline, -int(np.lexsort(outline.T[::-1])[0]), axis=0)


def _boxed(label: str, pixels: NDArray[np.bool_]) -> Patch:
    """All pixels, in the smallest box that holds them."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return Patch(label, pixels[top : rows[-1] + 1, left : columns[-1] + 1], left, top, None)


def outlines(pixels: NDArray[np.bool_]) -> list[Outline]:
    """The outer borders of all parts, along the sides of pixels; pixels that meet at a corner alone are two parts."""
    return [border for border, *_ in _rings(pixels)]


def _rings(pixels: NDArray[np.bool_]) -> list[list[Outline]]:
    """Of each part its outer border and those of its holes; parts of a hole that meet at a corner are one hole."""
    # contourpy's borders run through the middles of the sides; it counts from the middle of the first padded pixel.
    padded = np.pad(pixels, 1).astype(float)
    found = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(0.5, np.inf)
    return [
        [_corners(points[first : last - 1] - 0.5) for first, last in pairwise(offsets)]
        for points, offsets in zip(*found)
    ]


def _corners(middles: Outline) -> Outline:
    """The corners of a border of which the middles of all sides are given, (N, 2), in their order around it."""
    after = np.roll(middles, -1, axis=0)
    one, other = (values == np.floor(values) for values in (middles, after))
    # Of a side that stands, x is whole, of one that lies, y; between two that go on, the corner is in the middle.
    corners = np.where(one, middles, np.where(other, after, (middles + after) / 2))
    before, behind = (corners - np.roll(corners, 1, axis=0)), (np.roll(corners, -1, axis=0) - corners)
    return np.ascontiguousarray(corners[(before * behind).sum(axis=1) == 0])


def area(outline: Outline) -> float:
    """The area within an outline, in px (Gauss's formula)."""
    return abs(_signed(outline))


def _signed(outline: Outline) -> float:
    x, y = outline.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def filled(outline: Outline) -> tuple[NDArray[np.bool_], int, int]:
    """What an outline along the sides of pixels encloses, bool (h, w) in its box, and x and y of the box."""
    left, top = outline.min(axis=0).astype(int).tolist()
    right, bottom = outline.max(axis=0).astype(int).tolist()
    crossed = np.zeros((bottom - top, right - left + 1), np.int64)
    for (x, y), (x2, y2) in pairwise([*outline.astype(int).tolist(), outline[0].astype(int).tolist()]):
        if x == x2:
            crossed[min(y, y2) - top : max(y, y2) - top, x - left] += 1
    return crossed.cumsum(axis=1)[:, :-1] % 2 == 1, left, top


def simplified(outline: Outline, tolerance: float) -> Outline:
    """Fewer corners, so that none that is left out lies farther than `tolerance` px from the new outline (Ramer 1972,
    Douglas and Peucker 1973); the outline itself where less than a triangle would stay.
    """
    if tolerance <= 0:
        return outline
    far = int(np.linalg.norm(outline - outline[0], axis=1).argmax())
    ring = np.vstack([outline, outline[:1]])
    keep = np.zeros(len(ring), bool)
    keep[[0, far, len(outline)]] = True
    waiting = [(0, far), (far, len(outline))]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        distances = _distances(ring[first + 1 : last], ring[first], ring[last])
        if distances.max() > tolerance:
            middle = first + 1 + int(distances.argmax())
            keep[middle] = True
            waiting += [(first, middle), (middle, last)]
    fewer = outline[keep[:-1]]
    return fewer if len(fewer) > 2 and area(fewer) > 0 else outline


def _distances(points: Outline, start: Outline, end: Outline) -> NDArray[np.float64]:
    """How far points are from the line between two others, in px."""
    along = end - start
    share = np.clip(((points - start) @ along) / max(float(along @ along), 1e-12), 0, 1)
    return np.linalg.norm(points - (start + share[:, None] * along), axis=1)


def inset(outline: Outline, by: float = 0.01) -> Outline:
    """An outline along the sides of pixels, moved inwards by so many px.

    Where the corners are cut to whole numbers and the border counts, as Pillow draws, it then covers the same pixels as
    where a pixel counts whose middle is within, as in most tools.
    """
    sides = np.roll(outline, -1, axis=0) - outline
    sides /= np.abs(sides).sum(axis=1, keepdims=True)
    inwards = np.stack([-sides[:, 1], sides[:, 0]], axis=1) * np.sign(_signed(outline))
    return np.round(outline + by * (inwards + np.roll(inwards, 1, axis=0)), 2)
