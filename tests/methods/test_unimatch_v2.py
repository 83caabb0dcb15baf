"""UniMatch V2 against values that were computed by hand."""

from math import log
from types import SimpleNamespace
from typing import Any

import fabricate
import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, moment

from stpp.engine.networks import Net
from stpp.engine.perturbation import complementary_channels
from stpp.methods import unimatch_v2
from stpp.methods.unimatch_v2 import Settings, step
from stpp.models import build
from stpp.settings.training import Network


def networks() -> dict[str, Any]:
    return {"student": Constant(STUDENT), "teacher": Constant(TEACHER)}


def test_the_loss_is_the_mean_of_both_views_at_half_of_the_weight() -> None:
    nets = networks()
    losses = step(batch(images=2), nets, Settings(cutmix=0), moment())
    # Of the four pixels, the teacher is sure of one.
    assert float(losses["consistency"]) == pytest.approx(log(2) / 4 / 2, abs=1e-6)
    assert nets["student"].calls == [2, 4], "labeled images alone, then both strong views"
    sure = step(batch(mask=0, images=2), networks(), Settings(cutmix=0, threshold=0), moment())
    labels = (log(2) + log(4) + log(2) + log(2)) / 4
    assert float(sure["consistency"]) == pytest.approx(labels / 2, abs=1e-6)
    assert float(sure["supervised"]) == pytest.approx((log(2) + 2 * log(4) + log(2)) / 4 / 2, abs=1e-6)


def test_no_gradient_reaches_the_teacher() -> None:
    nets = networks()
    torch.stack(list(step(batch(mask=0, images=2), nets, Settings(), moment()).values())).sum().backward()
    assert nets["student"].logits.grad is not None
    assert nets["teacher"].logits.grad is None


def test_the_teacher_is_the_student_after_the_first_step_and_then_its_average() -> None:
    followed: list[tuple[float, bool]] = []
    teacher = SimpleNamespace(follow=lambda other, decay, *, buffers: followed.append((decay, buffers)))
    for iteration in (0, 1, 2, 3, 10_000):
        unimatch_v2.after_step({"student": None, "teacher": teacher}, Settings(), moment(iteration))
    decays = [0, 1 / 2, 2 / 3, 3 / 4, 0.996]
    assert followed == [(pytest.approx(decay), True) for decay in decays]


def test_a_channel_is_dropped_in_one_view_and_doubled_in_the_other() -> None:
    class Wide(Constant):
        module = SimpleNamespace(backbone=SimpleNamespace(channels=(4000, 6, 4000)))

    first, narrow, last = complementary_channels(batch(images=8), Wide(STUDENT))  # type: ignore[arg-type]
    assert first.shape == (16, 4000) and narrow.shape == (16, 6)
    assert torch.equal(first, last), "maps of equally many channels share the draw"
    one, other = first.chunk(2)
    assert bool((one + other == 2).all())
    whole = (one == 1).all(dim=1)
    assert torch.equal(whole, (one == 1).any(dim=1)), "an image keeps all of its channels or none"
    assert torch.equal(whole, (narrow[:8] == 1).all(dim=1))
    assert whole.view(4, 2).sum(dim=1).tolist() == [1] * 4, "one of each pair"
    assert set(one[~whole].unique().tolist()) == {0, 2}
    assert one[~whole].mean(dim=1).tolist() == pytest.approx([1] * 4, abs=0.1)
    assert not torch.equal(*one[~whole][:2]), "each image has draws of its own"


def test_the_channels_are_those_of_the_features() -> None:
    module = build(Network(**fabricate.TINY["network"]).model_dump(), 3).eval()
    images = torch.rand(2, 3, 24, 24)
    factors = [torch.full((2, channels), 2.0) for channels in module.backbone.channels]
    found = Net(module, module, "fp32").dropped(images, factors)
    expected = module.classifier([2 * map for map in module.backbone(images)])
    expected = torch.nn.functional.interpolate(expected, (24, 24), mode="bilinear", align_corners=True)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, module(images))
