"""The contrastive term of U2PL against naive loops."""

from dataclasses import replace
from math import exp, log

import pytest
import torch
import torch.nn.functional as F
from toy import batch, moment

from stpp.engine import memory as module
from stpp.engine.memory import Memory, Pixels, at_places, contrast, remember, some, uniform

TEAM = moment().team
N, P, C, D = 4, 30, 5, 6


def pixels() -> Pixels:
    torch.manual_seed(0)
    labels = torch.randint(0, C - 1, (N, P))  # the last class is absent
    labels[0, :5] = 255
    low, high = torch.rand(N, P) < 0.5, torch.rand(N, P) < 0.5
    low[:2], high[:2] = True, True
    features = torch.randn(N, P, D, requires_grad=True)
    return Pixels(features, torch.randn(N, P, D), torch.randn(N, P, C).softmax(dim=2), labels, low, high)


def filled(count: int = 7) -> Memory:
    memory = Memory(C, 10, D)
    for label in range(C):
        memory.add(label, torch.randn(count, D))
    return memory


def test_the_oldest_features_are_forgotten() -> None:
    memory = Memory(2, 4, 1)
    for start, count in ((0, 3), (3, 3), (6, 0), (6, 9)):
        memory.add(1, torch.arange(start, start + count)[:, None].float())
        known = list(range(start + count))[-4:]
        assert set(known) <= set(memory.features[1, :, 0].tolist())
    assert memory.counts.tolist() == [0, 15]
    drawn = memory.drawn(torch.rand(1, 2, 500))
    assert set(drawn[0, 1, :, 0].tolist()) == {11, 12, 13, 14} and drawn.shape == (1, 2, 500, 1)


def test_each_class_draws_its_reliable_pixels_to_their_mean_and_away_from_what_is_not_of_it() -> None:
    seen, given, memory = pixels(), batch(images=2), filled()
    found = contrast(seen, memory, given, anchors=P, negatives=3, team=TEAM)
    numbers = uniform(given, "negatives", C * P * 3).view(N, C, P, 3)
    order = uniform(given, "anchors", P)
    losses = []
    for label in range(C):
        own = [(n, p) for n in range(N) for p in range(P) if seen.labels[n, p] == label and seen.low[n, p]]
        if not own:
            continue
        mean = F.normalize(torch.stack([seen.teacher[place] for place in own]).mean(dim=0), dim=0)
        of_class = []
        for n in range(N):
            mine = [p for m, p in own if m == n and seen.probabilities[n, p, label] > 0.3]
            for rank, p in enumerate(sorted(mine, key=lambda p: -float(order[n, p]))):
                anchor = F.normalize(seen.student[n, p], dim=0)
                drawn = [memory.features[label, int(numbers[n, label, rank, j] * 7)] for j in range(3)]
                others = [float(anchor @ F.normalize(each, dim=0)) / 0.5 for each in drawn]
                alike = float(anchor @ mean) / 0.5
                of_class.append(-log(exp(alike) / (exp(alike) + sum(map(exp, others)))))
        if of_class:
            losses.append(sum(of_class) / len(of_class))
    assert len(losses) > 1
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    found.backward()
    assert seen.student.grad is not None and bool(seen.student.grad.any())


def test_a_memory_without_pixels_of_a_class_teaches_nothing_of_it() -> None:
    assert float(contrast(pixels(), Memory(C, 10, D), batch(images=2), 8, 3, TEAM)) == 0


def test_pixels_are_remembered_for_classes_that_they_are_surely_not_of() -> None:
    seen, memory = pixels(), Memory(C, 1000, D)
    remember(seen, memory, batch(images=2), 2, 3, P, TEAM)
    for label in range(C):
        expected = set()
        for n in range(N):
            for p in range(P):
                rank = int((seen.probabilities[n, p] > seen.probabilities[n, p, label]).sum())
                own = seen.labels[n, p] == label
                if seen.labels[n, p] == 255 or not seen.high[n, p]:
                    continue
                if (n < 2 and rank < 3 and not own) or (n >= 2 and rank >= 3):
                    expected.add(float(seen.teacher[n, p, 0]))
        found = memory.features[label, : int(memory.counts[label]), 0].tolist()
        assert expected and set(found) == expected and len(found) == len(expected)
    assert not memory.features.requires_grad


def test_no_more_of_an_image_than_asked_for() -> None:
    memory = Memory(C, 1000, D)
    remember(pixels(), memory, batch(images=2), 2, 3, 2, TEAM)
    assert int(memory.counts.max()) <= 2 * N
    of, numbers = torch.rand(1, 2, 20) < 0.5, torch.rand(1, 20)
    at, taken = some(of, numbers, 3)
    for label in range(2):
        best = sorted((float(numbers[0, p]), p) for p in range(20) if of[0, label, p])[::-1][:3]
        assert [p for _, p in best] == at[0, label][taken[0, label]].tolist()


def test_places_take_the_nearest_pixel() -> None:
    values = torch.rand(2, 9, 12)
    like = torch.zeros(2, 5, 4, 6)
    expected = F.interpolate(values[:, None], size=(4, 6))[:, 0].flatten(1)
    assert torch.equal(at_places(values, like), expected)


def test_what_is_remembered_is_that_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.rand(2, 3, 4)

    class Pair(type(TEAM)):  # type: ignore[misc]
        def largest(self, *counts: int) -> list[int]:
            return [3 for _ in counts]

        def gather(self, values: torch.Tensor) -> torch.Tensor:
            return torch.stack([values, values + 1])

    found = module.whole(values, Pair(torch.device("cpu"), 0, 2))
    assert found.shape == (6, 3, 4)
    assert torch.equal(found[:2], values) and not found[2].any() and torch.equal(found[3:5], values + 1)
    assert replace(batch(), confidence=None).confidence is None
