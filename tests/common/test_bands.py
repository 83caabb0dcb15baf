"""Which bands images have: what settings say, what recipes and checkpoints keep, and what cannot be."""

from pathlib import Path
from typing import Any

import pytest

from stpp.common.bands import Bands, bands_in, bands_of
from stpp.common.errors import StppError
from stpp.settings.configfile import load

FOUR = Bands((4, 3, 2, 8), scale=((0.0, 3000.0),) * 4, rgb=(1, 2, 0))


@pytest.mark.parametrize(
    ("data", "bands"),
    [
        ({}, None),
        ({"bands": 1}, Bands((1,), of=1)),
        ({"bands": [4, 3, 2, 8], "scale": [0, 3000], "rgb": [3, 2, 4]}, FOUR),
        ({"bands": [2, 1], "scale": [[0, 1], [5, 9]]}, Bands((2, 1), scale=((0.0, 1.0), (5.0, 9.0)))),
        ({"bands": 2, "pages": True, "percentiles": [2, 98]}, Bands((1, 2), 2, True)),
    ],
)
def test_settings_say_which_bands_there_are(data: dict[str, Any], bands: Bands | None) -> None:
    assert bands_of(data) == bands


def test_recipes_and_checkpoints_keep_them() -> None:
    assert bands_in({"bands": FOUR.plain()}) == FOUR
    assert bands_in({}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"numbers": []},
        {"numbers": [0, 1, 2, 3]},
        {"numbers": [1.5, 2, 3, 4]},
        {"scale": [[0, 1]]},
        {"scale": [[1, 0]] * 4},
        {"scale": [[0, float("nan")]] * 4},
        {"rgb": [0, 1]},
        {"rgb": [0, 1, 4]},
        {"rgb": [0, 0, 1]},
        {"pages": 1},
        {"of": "4"},
    ],
)
def test_a_checkpoint_that_says_something_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Bands.said(FOUR.plain() | change)


def test_a_band_that_is_a_colour_takes_its_weights() -> None:
    assert FOUR.colours == (2, 0, 1, None)  # band 4 is blue, 3 red, 2 green
    assert FOUR.shown == (1, 2, 0)
    assert Bands((4, 3, 2)).colours == (0, 1, 2) and Bands((4, 3, 2)).shown == (0, 1, 2)
    assert Bands((7,)).colours == (None,) and Bands((7,)).shown == (0,)
    assert Bands((1, 2)).colours == (None, None) and Bands((1, 2)).shown == (0,)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"scale": [0, 1]}, "scale needs `bands`"),
        ({"rgb": [1, 2, 3]}, "rgb needs `bands`"),
        ({"pages": True}, "pages needs `bands`"),
        ({"bands": []}, "names none"),
        ({"bands": [1, 1]}, "names none, or one twice"),
        ({"bands": 0}, "greater than or equal to 1"),
        ({"bands": 2, "scale": [3000, 0]}, "is no range"),
        ({"bands": 2, "scale": [5, 5]}, "is no range"),
        ({"bands": 2, "scale": [[0, 1], [2, 2]]}, "[2.0, 2.0] is no range"),
        ({"bands": 2, "scale": [[0, 1]]}, "scale has 1 ranges for 2 bands"),
        ({"bands": 2, "scale": [0, 1, 2]}, "is no range"),
        ({"bands": 2, "percentiles": [98, 2]}, "is no range"),
        ({"bands": 2, "percentiles": [-1, 2]}, "greater than or equal to 0"),
        ({"bands": 2, "percentiles": [2, 98], "scale": [0, 1]}, "keep one of them"),
        ({"bands": [4, 3], "rgb": [4, 3, 2]}, "are not three of the bands"),
        ({"bands": [2, 3, 4], "rgb": [4, 3, 2]}, "write bands: [4, 3, 2]"),
        ({"bands": 4, "rgb": [1, 2]}, "are not three of the bands"),
    ],
)
def test_settings_that_cannot_be_are_refused(data: dict[str, Any], said: str, tmp_path: Path) -> None:
    raw = {
        "name": "x",
        "data": {"layout": "folder", "root": str(tmp_path), "classes": ["a", "b"], **data},
        "experiments": {"suponly": {"method": "suponly"}},
    }
    with pytest.raises(StppError) as found:
        load(raw)
    assert said in str(found.value)
