"""Classes that differ by left and right are told, and the settings that mirror images named."""

import fabricate
import pytest

from stpp.plan.mirror import doubted_flips, mirrored
from stpp.settings.configfile import load


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["back_left_door", "hood", "back_right_door"], [("back_left_door", "back_right_door")]),
        (["Right Lung", "Left Lung"], [("Right Lung", "Left Lung")]),
        (["l_arm", "r_arm", "l_leg"], [("l_arm", "r_arm")]),
        (["eyeLeft", "eyeRight"], [("eyeLeft", "eyeRight")]),
        (["left", "leftover", "road"], []),
        (["left_door", "right_window"], []),
    ],
)
def test_pairs_that_differ_by_left_and_right(names: list[str], pairs: list[tuple[str, str]]) -> None:
    assert mirrored(names) == pairs


def test_the_flips_that_are_on_are_named() -> None:
    names = ["left door", "right door", "hood"]
    text = doubted_flips(load(fabricate.tiny()), names)
    assert "left door and right door differ by left and right" in text and text.endswith("labeling.flip: false")
    off = {"labeled": {"flip": 0}}
    flips = {
        "augmentation": {"teacher": off, "student": off | {"unlabeled": {"flip": 0.2}}},
        "labeling": {"flip": False},
    }
    text = doubted_flips(load(fabricate.tiny(**flips)), names)
    assert text.endswith("Set augmentation.student.unlabeled.flip: 0")
    flips["augmentation"] = {"teacher": off, "student": off | {"unlabeled": {"flip": 0}}}
    assert doubted_flips(load(fabricate.tiny(**flips)), names) == ""
    assert doubted_flips(load(fabricate.tiny()), ["door", "hood"]) == ""
