"""Overlapping crops: the places that both have are the same places of the image."""

from dataclasses import replace

import torch
from toy import batch

from stpp.engine.crops import cut, pairs, shared

IMAGES = 40


def test_both_crops_have_the_same_content_where_they_overlap() -> None:
    side = 67
    pixels = torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side).expand(IMAGES, -1, -1, -1)
    seen = replace(batch(images=IMAGES), views={"strong": pixels})
    found = pairs(seen, 0.75, "x")
    assert found == pairs(seen, 0.75, "x") and len({pair.corners for pair in found}) > IMAGES // 2
    crops = [cut(pixels, found, number) for number in (0, 1)]
    assert all(crop.shape == (IMAGES, 1, 48, 48) for crop in crops)
    # The least value of each place tells where it is.
    places = [-torch.nn.functional.max_pool2d(-crop, 8)[:, 0] for crop in crops]
    one, other = shared((places[0], places[1]), found)
    assert torch.equal(one, other)
    count = 0
    for pair in found:
        (y, x), (top, left) = pair.corners
        assert (y - top) % 8 == (x - left) % 8 == 0
        both = (48 - abs(y - top)) * (48 - abs(x - left))
        assert both / (2 * 48**2 - both) >= 0.1
        assert all(0 <= corner <= side - 48 for corners in pair.corners for corner in corners)
        count += both // 64
    assert len(one) == count
    assert {pair.mirrored for pair in found} == {(a, b) for a in (True, False) for b in (True, False)}


def test_what_places_have_more_of_is_shared_alike() -> None:
    found = pairs(replace(batch(images=3), views={"strong": torch.zeros(3, 3, 24, 24)}), 0.7, "x")
    assert found[0].side == 16
    several = torch.rand(3, 2, 2, 5)
    one, other = shared((several, several), found)
    assert one.shape == other.shape and one.shape[1] == 5
