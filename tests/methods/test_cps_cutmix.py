"""Cross pseudo supervision with CutMix against values that were computed by hand."""

import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, moment

from stpp.methods.cps_cutmix import Settings, step


def test_each_network_learns_the_labels_of_the_other_on_mixed_images() -> None:
    nets = {"first": Constant(STUDENT), "second": Constant(TEACHER)}
    found = step(batch(images=2), nets, Settings(), moment())
    assert float(found["cross"]) == pytest.approx(1.289204, abs=1e-6)
    assert float(found["supervised"]) == 0, "no pixel is labeled"
    assert nets["first"].calls == nets["second"].calls == [2, 2, 2], "labels, labeled images, mixed images"
    torch.stack(list(found.values())).sum().backward()
    assert all(net.logits.grad is not None and bool(net.logits.grad.any()) for net in nets.values())
