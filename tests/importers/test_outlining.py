"""Polygons of masks, against masks that are drawn from them by two rules, and against their own definition."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stpp.importers.drawing import painted, polygon
from stpp.importers.outlining import area, filled, inset, outlines, parts, simplified, surfaces

CLASSES = ["background", "a", "b", "c"]


def scene(seed: int, noise: float, size: tuple[int, int] = (31, 42)) -> NDArray[np.uint8]:
    """Blobs within blobs, holes, single pixels, pixels that meet at corners, and a corner that is ignored."""
    rng = np.random.default_rng(seed)
    heights = rng.normal(size=size)
    for _ in range(8):
        heights = sum(np.roll(heights, shift, axis) for shift in (-1, 0, 1) for axis in (0, 1)) / 6
    mask = np.digitize(heights, np.quantile(heights, [0.3, 0.6, 0.85])).astype(np.uint8)
    noisy = rng.random(size) < noise
    mask[noisy] = rng.integers(0, 4, noisy.sum())
    mask[:3, :4] = 255
    return mask


SCENES = [scene(seed, noise) for seed, noise in enumerate((0, 0.02, 0.3, 1))]
NUMBERS = {name: number for number, name in enumerate(CLASSES)} | {"__ignore__": 255}


def drawn(mask: NDArray[np.uint8], tolerance: float) -> NDArray[np.uint8]:
    """The mask that its polygons make."""
    found = [part for part in parts(mask, CLASSES, tolerance) if part.outline is not None]
    rings = [[(float(x), float(y)) for x, y in part.outline] for part in found if part.outline is not None]
    return painted(*mask.shape, [(NUMBERS[part.label], polygon([ring])) for part, ring in zip(found, rings)])


@pytest.mark.parametrize("mask", SCENES)
def test_polygons_without_a_tolerance_give_the_mask(mask: NDArray[np.uint8]) -> None:
    assert (drawn(mask, 0) == mask).all()


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools 2.0.11 with numpy 2
@pytest.mark.parametrize("mask", SCENES)
def test_other_tools_draw_the_same_from_them(mask: NDArray[np.uint8]) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    again = np.zeros_like(mask)
    for part in parts(mask, CLASSES, 0):
        assert part.outline is not None
        covered = coco.decode(coco.merge(coco.frPyObjects([part.outline.ravel().tolist()], *mask.shape)))
        again[covered > 0] = NUMBERS[part.label]
    assert (again == mask).all()


@pytest.mark.parametrize("mask", SCENES)
def test_polygons_with_holes_lie_beside_each_other_and_give_the_mask(mask: NDArray[np.uint8]) -> None:
    again, times = np.zeros_like(mask), np.zeros(mask.shape, int)
    for label, border, holes in surfaces(mask, CLASSES, 0):
        rings = [[(float(x), float(y)) for x, y in ring] for ring in (border, *holes)]
        covered = painted(*mask.shape, [(1, polygon(rings[:1], rings[1:]))]) > 0
        times += covered
        again[covered] = NUMBERS[label]
    assert (again == mask).all() and (times == (mask > 0)).all()


def test_a_hole_is_simplified_as_the_part_that_fills_it() -> None:
    mask = np.ones((60, 80), np.uint8)
    rows, columns = np.mgrid[:60, :80]
    mask[(rows - 30) ** 2 + (columns - 40) ** 2 < 400] = 2
    (_, _, (hole,)), (_, border, _) = surfaces(mask, CLASSES, 1.0)
    assert 3 < len(hole) < len(outlines(mask == 2)[0]) / 2
    assert np.array_equal(hole, border)


@pytest.mark.parametrize("mask", SCENES)
def test_pixels_by_class_give_the_mask(mask: NDArray[np.uint8]) -> None:
    again = np.zeros_like(mask)
    for part in parts(mask, CLASSES, None):
        assert part.outline is None and part.label != "background"
        again[part.whole(*mask.shape)] = NUMBERS[part.label]
    assert (again == mask).all()


@pytest.mark.parametrize("tolerance", [0.6, 1, 2])
def test_a_tolerance_moves_borders_by_no_more(tolerance: float) -> None:
    mask = scene(5, 0, (120, 160))
    changed = np.argwhere(drawn(mask, tolerance) != mask)
    assert len(changed) > 0
    padded = np.pad(mask, 1, mode="edge")
    sides = [padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]]
    border = np.argwhere(np.any([side != mask for side in sides], axis=0))
    nearest = np.array([np.linalg.norm(border - pixel, axis=1).min() for pixel in changed])
    assert nearest.max() <= tolerance + 1  # a corner is cut to the pixel that it lies in
    corners = [sum(len(part.outline) for part in parts(mask, CLASSES, t) if part.outline is not None) for t in (0, 1)]
    assert corners[1] < corners[0] / 2


def test_a_background_is_written_only_where_something_lies_below_it_or_nothing_else_is_there() -> None:
    mask = np.zeros((9, 9), np.uint8)
    assert [part.label for part in parts(mask, CLASSES, 0)] == ["background"]
    assert [part.label for part in parts(mask, CLASSES, None)] == ["background"]
    mask[1:8, 1:8] = 1
    assert [part.label for part in parts(mask, CLASSES, 0)] == ["a"]
    mask[3:5, 3:5] = 0
    assert [part.label for part in parts(mask, CLASSES, 0)] == ["a", "background"]
    assert [part.label for part in parts(mask, ["sky", "a"], 0)] == ["sky", "a", "sky"]
    assert [part.label for part in parts(mask, ["sky", "a"], None)] == ["sky", "a"]


def test_the_outline_of_a_figure() -> None:
    figure = np.array([[0, 1, 1], [0, 1, 0], [1, 0, 0]], bool)
    whole, alone = sorted(outlines(figure), key=area, reverse=True)
    assert {tuple(corner) for corner in whole} == {(1, 0), (3, 0), (3, 1), (2, 1), (2, 2), (1, 2)}
    assert area(whole) == 3 and area(alone) == 1
    pixels, left, top = filled(whole)
    assert (left, top) == (1, 0) and pixels.tolist() == [[True, True], [True, False]]
    assert {tuple(corner) for corner in inset(alone)} == {(0.01, 2.01), (0.99, 2.01), (0.99, 2.99), (0.01, 2.99)}


def test_simplified_outlines_stay_near_and_are_never_less_than_a_triangle() -> None:
    stairs = np.tri(40, dtype=bool)
    (outline,) = outlines(stairs)
    fewer = simplified(outline, 1)
    assert len(fewer) == 3 and len(outline) == 82
    assert {tuple(corner) for corner in fewer} <= {tuple(corner) for corner in outline}
    (square,) = outlines(np.ones((1, 1), bool))
    assert (simplified(square, 5) == square).all()
    assert (simplified(outline, 0) == outline).all()
