"""Shapes against masks that are drawn pixel by pixel."""

from collections.abc import Callable
from typing import Any

import annotated
import numpy as np
import pytest
from PIL import Image

from stpp.importers.drawing import (
    bitmap,
    ellipse,
    from_png,
    from_runs,
    in_px,
    painted,
    polygon,
    rectangle,
    ring_of,
    runs_of,
    to_png,
    turned,
)


def test_later_shapes_lie_over_earlier_ones() -> None:
    strokes = [(1, polygon([annotated.TREE])), (2, polygon([annotated.HOUSE]))]
    assert (painted(*annotated.SIZE, strokes) == annotated.mask()).all()
    assert (painted(*annotated.SIZE, strokes[::-1])[2:4, 4:7] == 1).all()


def test_rings_are_united_and_holes_left_out() -> None:
    strokes = [(9, polygon([])), (1, polygon([annotated.TREE], [[(2, 2), (3, 2), (3, 3), (2, 3)]]))]
    covered = annotated.tree_pixels()
    covered[2:4, 2:4] = False
    assert (painted(*annotated.SIZE, strokes) == covered).all()
    both = painted(*annotated.SIZE, [(1, polygon([annotated.TREE, annotated.HOUSE]))])
    assert (both == (annotated.mask() > 0)).all()


def test_what_is_outside_is_cut_off() -> None:
    mask = painted(4, 5, [(1, polygon([rectangle(-7, -7, 1, 99)])), (2, bitmap(lambda: np.ones((2, 3), bool), 4, -1))])
    expected = np.zeros((4, 5))
    expected[:, :2], expected[0, 4] = 1, 2
    assert (mask == expected).all()


@pytest.mark.parametrize(
    "ring",
    [
        [(0, 0), (1, 1)],
        [(0, 0), (1, 1), (3e6, 0)],
        [(0, 0), (1, 1), (2, float("nan"))],
        [(0, 0), (1, 1), (2, float("inf"))],
    ],
)
def test_what_is_no_polygon_is_refused(ring: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match=r"a polygon with 2 corners|not a number"):
        polygon([ring])


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools 2.0.11 with numpy 2
def test_pycocotools_draws_no_more_than_the_border_otherwise() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(20):
        angles = np.sort(rng.random(9)) * 2 * np.pi
        radii = rng.uniform(15, 40, 9)
        ring = np.stack([50 + radii * np.cos(angles), 45 + radii * np.sin(angles)], axis=1)
        ours = painted(90, 100, [(1, polygon([[(x, y) for x, y in ring.tolist()]]))])
        theirs = coco.decode(coco.merge(coco.frPyObjects([ring.ravel().tolist()], 90, 100)))
        ends = np.linspace(ring, np.roll(ring, -1, axis=0), 200).reshape(-1, 2)
        for row, column in np.argwhere(ours != theirs):
            assert np.linalg.norm(ends - (column + 0.5, row + 0.5), axis=1).min() < 1.8


def test_coordinates_in_pairs() -> None:
    assert ring_of([1, 2, 3, 4]) == [(1, 2), (3, 4)]
    with pytest.raises(ValueError, match="odd number"):
        ring_of([1, 2, 3])
    assert in_px(0.263888, 144) == 38  # 38 / 144, cut to six digits


def test_an_ellipse_covers_the_pixels_within_it() -> None:
    mask = painted(60, 80, [(1, polygon([ellipse(40, 30, 25, 10, 30)]))])
    y, x = np.mgrid[:60, :80]
    angle = np.radians(30)
    along = (x - 40) * np.cos(angle) + (y - 30) * np.sin(angle)
    across = (y - 30) * np.cos(angle) - (x - 40) * np.sin(angle)
    assert (mask[np.hypot(along / 23.5, across / 8.5) < 1] == 1).all()
    assert (mask[np.hypot(along / 26.5, across / 11.5) > 1] == 0).all()
    with pytest.raises(ValueError, match="radii 0 and 3"):
        ellipse(1, 1, 0, 3)


def test_a_quarter_turn_is_clockwise() -> None:
    assert np.allclose(turned([(2, 0)], 90, (0, 0)), [(0, 2)])


def test_runs_come_back() -> None:
    rng = np.random.default_rng(0)
    for share in (0, 0.1, 0.5, 1):
        pixels = rng.random((7, 9)) < share
        assert (from_runs(runs_of(pixels), 7, 9) == pixels).all()
    assert from_runs([2, 3, 1], 2, 3).tolist() == [[False, False, True], [True, True, False]]
    assert runs_of(np.array([[True, False]])) == [0, 1, 1]


@pytest.mark.parametrize("runs", [[5], [7], [-1, 7], [2.0, 4], ["6"], [2**62, 2**62]])
def test_runs_that_do_not_fill_the_picture_are_refused(runs: list[Any]) -> None:
    with pytest.raises(ValueError, match="do not fill"):
        from_runs(runs, 2, 3)


PNGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "numbers": lambda pixels: pixels * np.uint8(3),
    "white": lambda pixels: pixels * np.uint8(255),
    "transparent": lambda pixels: np.stack([np.full(pixels.shape, 9, np.uint8)] * 3 + [pixels * np.uint8(200)], axis=2),
    "colours": lambda pixels: np.stack([pixels * np.uint8(7), *[np.zeros(pixels.shape, np.uint8)] * 2], axis=2),
}


@pytest.mark.parametrize("kind", PNGS)
def test_a_png_covers_what_is_not_0_or_not_transparent(kind: str, tmp_path: Any) -> None:
    Image.fromarray(PNGS[kind](annotated.tree_pixels())).save(tmp_path / "a.png")
    assert (from_png((tmp_path / "a.png").read_bytes()) == annotated.tree_pixels()).all()
    assert (from_png(to_png(annotated.tree_pixels())) == annotated.tree_pixels()).all()
    with pytest.raises(ValueError, match="not a PNG"):
        from_png(b"GIF89a")
