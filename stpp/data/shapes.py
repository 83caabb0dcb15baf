"""The shapes of the demo's scenes: signed distances, negative inside, of about unit radius.

Each maps coordinates u and v, float64 of one shape, to distances of that shape. See `stpp.data.demo` for the operations
that are allowed here.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]
Shape = Callable[[Plane, Plane], Plane]

# Unit normals of the regular triangle and pentagon, in decimals: no library's sine is asked.
TRIANGLE = ((0.0, 1.0), (0.8660254037844386, -0.5), (-0.8660254037844386, -0.5))
PENTAGON = (
    (0.0, 1.0),
    (0.9510565162951535, 0.3090169943749474),
    (0.5877852522924731, -0.8090169943749475),
    (-0.5877852522924731, -0.8090169943749475),
    (-0.9510565162951535, 0.3090169943749474),
)


def radius(u: Plane, v: Plane) -> Plane:
    return np.sqrt(u * u + v * v)


def disc(u: Plane, v: Plane) -> Plane:
    return radius(u, v) - 0.92


def ring(u: Plane, v: Plane) -> Plane:
    return np.abs(radius(u, v) - 0.70) - 0.28


def square(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u), np.abs(v)) - 0.80


def cross(u: Plane, v: Plane) -> Plane:
    a, b = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(a - 1.0, b - 0.40), np.maximum(a - 0.40, b - 1.0))


def triangle(u: Plane, v: Plane) -> Plane:
    return np.max([u * x + v * y for x, y in TRIANGLE], axis=0) - 0.62


def star(u: Plane, v: Plane) -> Plane:
    # A pentagram is where at most one of the five half planes of its pentagon is left: the second largest distance.
    return np.partition([u * x + v * y for x, y in PENTAGON], 3, axis=0)[3] - 0.42


def bar(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u) - 1.4, np.abs(v) - 0.17)


def crescent(u: Plane, v: Plane) -> Plane:
    return np.maximum(radius(u, v) - 0.9, 0.85 - radius(u - 0.45, v))


def corner(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.maximum(np.abs(u), np.abs(v)) - 0.80, np.minimum(u, v) + 0.40)


SHAPES: tuple[Shape, ...] = (disc, ring, square, cross, triangle, star)
CLUTTER: tuple[Shape, ...] = (bar, crescent, corner)
