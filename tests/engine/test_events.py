"""TensorBoard events beside the metrics of a training."""

from pathlib import Path
from typing import Any

import fabricate
import pytest

from stpp.commands.cli import main
from stpp.runtime import events
from stpp.runtime.events import SCALARS, Events

pytest.importorskip("tensorboard")


def row(epoch: int, miou: float | None = None) -> dict[str, Any]:
    return {"epoch": epoch, "iterations": 10 * epoch, "loss": 1 / epoch, "learning_rate": 0.1, "val_miou": miou}


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself finds: (epoch, value) by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_a_training_that_goes_on_has_each_epoch_once(tmp_path: Path) -> None:
    first = Events(tmp_path / "run", [])
    for epoch in (1, 2, 3):
        first.add(row(epoch))
    again = Events(tmp_path / "run", [row(1)])  # the state was saved after epoch 1
    again.add(row(2, miou=0.25))
    assert len(list((tmp_path / "run").iterdir())) == 1
    assert read(tmp_path / "run") == {
        "loss": [(1, 1.0), (2, 0.5)],
        "learning rate": [(1, pytest.approx(0.1)), (2, pytest.approx(0.1))],
        "val mIoU": [(2, 0.25)],
    }


def test_without_the_extra_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    Events(tmp_path / "run", [row(1)]).add(row(2))
    assert not (tmp_path / "run").exists()


def test_a_training_shows_its_metrics_and_has_the_same_outputs_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas

    weights = []
    for extra in (True, False):
        folder = fabricate.planned(tmp_path / str(extra), experiments={"suponly": {"method": "suponly"}})
        monkeypatch.chdir(folder)
        if not extra:
            monkeypatch.setattr(events, "find_spec", lambda name: None)
        stage = fabricate.only(folder, "train/*")
        assert main(["train", str(stage), "--gpus", "0"]) == 0
        weights.append((stage / "last.pt").read_bytes())
        shown = folder / "my results/logs/tensorboard" / stage.name
        assert shown.exists() == extra
        if extra:
            history = pandas.read_csv(stage / "metrics.csv")
            found = read(shown)
            assert set(found) == set(SCALARS.values())
            for column, tag in SCALARS.items():
                expected = history[["epoch", column]].dropna()
                assert [step for step, _ in found[tag]] == expected["epoch"].tolist()
                assert [value for _, value in found[tag]] == pytest.approx(expected[column].tolist(), rel=1e-6)
    assert weights[0] == weights[1]
