"""Masks written in the encoding of a data set are read back as they were."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stpp.common.errors import StppError
from stpp.common.labels import encoding_of
from stpp.data.encoded import encoded
from stpp.data.images import read_mask

MASK = np.array([[0, 1, 2], [2, 0, 255]], np.uint8)
WAYS: dict[str, dict[str, Any]] = {
    "numbers": {},
    "first label": {"first_label": 1, "ignore_value": None},
    "label map": {"label_map": {10: 0, "20-30": 1, "default": 2, 7: "ignore"}},
    "colours": {"palette_map": {"#FF0000": 0, "#00ff00": 1, "#0000ff": 2, "#000000": "ignore"}},
}


@pytest.mark.parametrize("data", WAYS.values(), ids=WAYS.keys())
def test_what_is_written_is_read_back(data: dict[str, Any], tmp_path: Path) -> None:
    encoding = encoding_of({"ignore_value": 255} | data, 3)
    Image.fromarray(encoded(MASK, encoding)).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", encoding), MASK)


def test_black_and_white_are_written_as_such(tmp_path: Path) -> None:
    encoding = encoding_of({"ignore_value": None, "threshold": 128}, 2)
    assert encoded(np.array([[0, 1]], np.uint8), encoding).tolist() == [[0, 255]]


def test_a_class_without_a_value_is_refused() -> None:
    with pytest.raises(
        StppError, match="no mask value or colour stands for a pixel of class 1: expected the values of label"
    ):
        encoded(MASK, encoding_of({"label_map": {0: 0, 5: 2}}, 3))
    with pytest.raises(StppError, match="stands for a pixel left out"):
        encoded(MASK, encoding_of({"ignore_value": None}, 3))
