"""Our reading of PC2Seg against values that were computed by hand."""

from typing import Any

import pytest
import torch
from toy import STUDENT, TEACHER, Constant, batch, companions, moment

from stpp.methods.pc2seg import METHOD, Settings, step

SQUARED = (0.135 + 0.185 + 0.135 + 0.3174) / 12


def losses(*tables: list[list[float]], **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    nets: dict[str, Any] = {"student": Constant(*tables)}
    nets |= companions(METHOD.online, Settings())  # type: ignore[arg-type]
    return step(batch(0, images=2, times=8, **changes), nets, Settings(), moment()), nets


def test_the_strong_view_is_to_have_the_probabilities_of_the_weak_one() -> None:
    found, nets = losses(STUDENT, TEACHER, STUDENT)
    assert float(found["consistency"]) == pytest.approx(30 * SQUARED, abs=1e-5)
    assert nets["student"].calls == [2, 2, 2]
    assert float(losses(STUDENT, TEACHER, TEACHER)[0]["consistency"]) == 0


def test_the_weak_view_learns_nothing() -> None:
    found, nets = losses(STUDENT, TEACHER, STUDENT)
    (found["consistency"] + found["contrast"]).backward()
    _, weak, strong = (table.grad for table in (nets["student"].tables))
    assert weak is None and bool(strong.any())


def test_padding_takes_no_part() -> None:
    found, _ = losses(STUDENT, TEACHER, STUDENT, valid=[[True, False], [False, False]])
    assert float(found["consistency"]) == pytest.approx(30 * 0.135 / 3, abs=1e-5)


def test_places_of_one_label_have_nothing_to_be_told_from() -> None:
    """All places of constant networks have the same label; the features of their projection are equal."""
    assert float(losses(STUDENT, TEACHER, STUDENT)[0]["contrast"]) == pytest.approx(0, abs=1e-6)


def test_places_of_the_weak_view_are_told_from_surely_other_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def contrast(anchors: Any, positives: Any, labels: Any, negatives: Any, temperature: float) -> torch.Tensor:
        seen.append((labels, negatives[1], temperature))
        return anchors.sum(dim=1) * 0 + 2

    monkeypatch.setattr("stpp.engine.contrast.contrast", contrast)
    # The label of the places is that of the first pixel: sure in one table, not in the other one.
    for table, known in ((TEACHER, {0}), (STUDENT, {255})):
        found, _ = losses(table)
        assert set(seen[-1][1].tolist()) == known and set(seen[-1][0].tolist()) == {0}
        assert float(found["contrast"]) == pytest.approx(0.1 * 2)
