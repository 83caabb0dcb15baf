"""Cross-consistency training against values that were computed by hand."""

from math import exp
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import STUDENT, TEACHER, Constant, batch, companions, moment

from stpp.methods.cct import KINDS, METHOD, Settings, perturbed, step

SQUARED = (0.135 + 0.185 + 0.135 + 0.3174) / 12
ONE = dict.fromkeys(KINDS, 1)


class Decoders:
    """Further decoders that all give the student's probabilities, whatever the features."""

    def __init__(self) -> None:
        self.logits = torch.tensor(STUDENT).T.reshape(1, 3, 2, 2).log().requires_grad_()

    def __call__(self, features: list[Tensor]) -> list[Tensor]:
        return [self.logits.expand(len(each), -1, -1, -1) for each in features]

    def child(self, number: int) -> Any:
        return lambda x: x


def losses(settings: Settings, iteration: int = 40, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    nets: dict[str, Any] = {"student": Constant(TEACHER), "decoders": Decoders()}
    return step(batch(**changes), nets, settings, moment(iteration)), nets


def test_the_consistency_is_a_mean_over_the_decoders() -> None:
    for settings in (Settings(), Settings(**ONE)):
        found, _ = losses(settings)
        assert float(found["consistency"]) == pytest.approx(30 * SQUARED, abs=1e-5)
    assert pytest.approx(1.931, abs=1e-6) == 30 * SQUARED


def test_it_grows_over_the_first_tenth_of_the_training() -> None:
    found = [float(losses(Settings(), at)[0]["consistency"]) / 30 / SQUARED for at in (0, 2, 4, 40)]
    assert found == pytest.approx([exp(-5), exp(-1.25), 1, 1], rel=1e-5)


def test_the_main_decoder_learns_from_labels_alone() -> None:
    found, nets = losses(Settings())
    found["consistency"].backward()
    assert nets["student"].logits.grad is None
    assert bool(nets["decoders"].logits.grad.any())
    assert nets["student"].calls == [1, 1]


def test_padding_takes_no_part() -> None:
    found, _ = losses(Settings(weight=1.0), valid=[[True, False], [False, False]])
    assert float(found["consistency"]) == pytest.approx(0.135 / 3, abs=1e-6)


def test_each_kind_of_decoder_sees_features_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    features, foreground = torch.rand(2, 64, 4, 4) + 0.1, torch.ones(2, 32, 32, dtype=torch.bool)
    foreground[:, :, :8] = False
    monkeypatch.setattr(Constant, "module", SimpleNamespace(backbone=SimpleNamespace(channels=(64,), strides=(8,))))
    beside = companions(METHOD.online, Settings())["decoders"]  # type: ignore[arg-type]
    seen = perturbed(batch(images=2), features, foreground, beside, Settings())
    assert len(seen) == 30
    firsts = [seen[k] for k in (0, 6, 12, 14, 16, 18, 24)]
    assert all(not torch.equal(one, other) for k, one in enumerate(firsts) for other in firsts[:k])
    foreground_alone, background_alone = firsts[3], firsts[4]
    assert torch.equal(foreground_alone + background_alone, features)
    assert not foreground_alone[..., 0].any() and bool(foreground_alone[..., 1:].all())
    logits = beside(seen)
    assert [each.shape for each in logits] == [(2, 3, 32, 32)] * 30
