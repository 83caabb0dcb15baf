"""ClassMix against values that were computed by hand."""

from math import log

import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, moment

from stpp.methods.classmix import Settings, step


@pytest.mark.parametrize(("threshold", "expected"), [(0.95, 5 * log(2) / 4 / 4), (0.968, 0), (0.0, 5 * log(2) / 4)])
def test_the_share_of_sure_pixels_weighs_the_mean(threshold: float, expected: float) -> None:
    nets = {"student": Constant(STUDENT), "teacher": Constant(TEACHER)}
    found = step(batch(images=2), nets, Settings(threshold=threshold), moment())
    assert float(found["consistency"]) == pytest.approx(expected, abs=1e-6)
    torch.stack(list(found.values())).sum().backward()
    assert nets["teacher"].logits.grad is None
    assert nets["student"].calls == [2, 2], "labeled and unlabeled images go apart"


def test_half_of_the_classes_of_an_image_are_kept_and_the_rest_is_the_partners() -> None:
    """The first image has the classes 0 and 1, the second one 2 alone, of which none is kept."""
    seen = {}

    class Seeing(Constant):
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            seen["images"] = images
            return super().__call__(images)

    small = batch(images=2)
    small.views["weak"][1] += 1  # an image of its own
    second = torch.tensor([[0.0, 0.0, 9.0]] * 4).T.reshape(1, 3, 2, 2)
    first = torch.tensor(TEACHER).T.reshape(1, 3, 2, 2).log()
    nets = {"student": Seeing(STUDENT), "teacher": lambda images: torch.cat([first, second])}
    step(small, nets, Settings(), moment())
    own = (seen["images"][0, 0] == 0).tolist()
    assert own in ([[True, True], [False, True]], [[False, False], [True, False]]), "the pixels of class 0, or of 1"
    assert (seen["images"][1] == 0).all(), "nothing of the second image is kept in it"
