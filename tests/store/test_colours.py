"""The colours of classes."""

import numpy as np

from stpp.store.colours import class_colours
from stpp.store.masks import voc_palette


def test_a_data_sets_own_colours_are_kept() -> None:
    own = [[1, 2, 3], [4, 5, 6]]
    assert class_colours(own)[:2].tolist() == own
    safe = class_colours(voc_palette(21))[:21]
    assert len(np.unique(safe, axis=0)) == 21
    assert safe.tolist() != voc_palette(21)
