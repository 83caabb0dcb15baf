"""What an unlabeled image is to become, on four pixels whose values were computed by hand."""

import numpy as np
import pytest
import torch
from toy import TEACHER, batch, moment

from stpp.engine.distributed import Team
from stpp.engine.labelers import entropy, hard_labels, largest_share, note_labels, percentile, sureness
from stpp.engine.losses import average, pixel_cross_entropy

LOGITS = torch.tensor(TEACHER).T.reshape(1, 3, 2, 2).log()
TEAM = moment().team


def test_hard_labels_and_their_confidence() -> None:
    labels, confidence = hard_labels(LOGITS)
    assert labels.tolist() == [[[0, 0], [1, 0]]]
    assert confidence.flatten().tolist() == pytest.approx([0.8, 0.6, 0.8, 0.96])


def test_the_entropy_is_in_nats() -> None:
    assert entropy(LOGITS).flatten().tolist() == pytest.approx([0.639032, 0.897946, 0.639032, 0.195670], abs=1e-6)


def test_how_sure_a_network_is_of_an_image() -> None:
    assert sureness(LOGITS, hard_labels(LOGITS)[1]).tolist() == pytest.approx([0.391984], abs=1e-6)
    nothing = torch.zeros(2, 3, 4, 4)
    assert sureness(nothing, hard_labels(nothing)[1]).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_a_percentile_is_numpys() -> None:
    assert float(percentile(entropy(LOGITS), 80, TEAM)) == pytest.approx(0.742597, abs=1e-6)
    values = torch.rand(3, 7)
    for percent in (0, 12.5, 50, 99.75, 100):
        assert float(percentile(values, percent, TEAM)) == pytest.approx(np.percentile(values, percent), abs=1e-6)


def test_the_share_of_the_most_frequent_class() -> None:
    labels = torch.randint(0, 4, (3, 5, 7))
    labels[0, 0] = 255
    frequent = int(np.bincount(labels[labels != 255]).max())
    assert float(largest_share(labels, TEAM)) == pytest.approx(frequent / (3 * 5 * 7 - 7))
    assert float(largest_share(labels.byte(), TEAM)) == float(largest_share(labels, TEAM))
    assert float(largest_share(torch.full((1, 2, 2), 255), TEAM)) == 0


def test_the_share_is_that_of_the_whole_team() -> None:
    class Pair(Team):
        """The other process has three pixels of class 1."""

        def sum(self, values: torch.Tensor) -> torch.Tensor:
            return values + 3 * (torch.arange(len(values)) == 1)

    pair = Pair(torch.device("cpu"), 0, 2)
    assert float(largest_share(torch.tensor([[[0, 0], [1, 255]]]), pair)) == pytest.approx(4 / 6)


def test_padding_has_no_label_and_true_labels_are_noted_beside() -> None:
    at = moment()
    seen = batch(mask=2, valid=[[False, True], [True, True]])
    seen.masks[0, 0, 0] = 1
    note_labels(seen, hard_labels(LOGITS)[0], at)
    assert {name: float(value) for name, value in at.notes.items()} == pytest.approx(
        {"largest_class": 2 / 3, "largest_true": 3 / 4}
    )


def test_losses_are_divided_by_what_counts() -> None:
    labels, _ = hard_labels(LOGITS)
    losses = pixel_cross_entropy(LOGITS, labels)
    assert losses.flatten().tolist() == pytest.approx([-np.log(p) for p in (0.8, 0.6, 0.8, 0.96)], abs=1e-6)
    labels[0, 0] = 255
    assert pixel_cross_entropy(LOGITS, labels)[0, 0].tolist() == [0, 0]
    kept = torch.tensor([[[True, False], [True, False]]])
    assert float(average(losses * kept, kept, TEAM)) == pytest.approx(-np.log(0.8), abs=1e-6)
    assert float(average(losses * 0, kept & False, TEAM)) == 0
