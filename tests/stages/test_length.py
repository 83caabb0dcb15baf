"""How long trainings have to be: found by longer and longer ones, once, and taken by all others."""

import contextlib
import json
from math import ceil
from pathlib import Path
from typing import Any

import fabricate
import pandas as pd
import pytest

from stpp.commands.cli import main
from stpp.commands.workflow import prepare
from stpp.plan.counts import GROWTH
from stpp.report.provenance import length_found
from stpp.runtime.job import Job
from stpp.settings.configfile import read
from stpp.stages.length import MOST, STILL_GAINING, Attempt, chosen, long_enough, measured


class Killed(BaseException):
    """What nothing catches."""


AUTO: dict[str, Any] = {
    "training": {**fabricate.TINY["training"], "length": "auto"},
    "experiments": {"st": {"method": "st"}},
}


@pytest.mark.parametrize(
    ("mious", "factor"),
    [
        ([0.4, 0.409], 1.0),
        ([0.4, 0.3], 1.0),
        ([0.4, 0.42, 0.429], 1.5),
        ([0.1, 0.2, 0.3, 0.4, 0.405], GROWTH**3),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], GROWTH**5),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.501], GROWTH**4),
    ],
)
def test_the_training_to_take_is_the_last_that_gained_a_point(mious: list[float], factor: float) -> None:
    ends = [number for number in range(1, len(mious) + 1) if long_enough(mious[:number])]
    assert ends == [len(mious)]
    assert chosen(mious) == pytest.approx(factor)


def test_so_many_are_tried_at_most() -> None:
    assert round(GROWTH ** (MOST - 1), 1) == 7.6  # as the reference of settings says


def planned(folder: Path, **changes: Any) -> tuple[Path, Path]:
    folder = fabricate.planned(folder, **{**AUTO, **changes})
    return folder, fabricate.only(folder, "length/*")


def run(folder: Path, *words: str) -> int:
    with contextlib.chdir(folder):
        return main([*words])


def test_trainings_are_lengthened_until_that_brings_little(tmp_path: Path) -> None:
    folder, stage = planned(tmp_path)
    assert run(folder, "length", str(stage)) == 0
    told = json.loads((folder / stage / "length.json").read_text())
    assert [each["factor"] for each in told["tried"]] == [GROWTH**number for number in range(len(told["tried"]))]
    mious = [each["miou"] for each in told["tried"]]
    assert long_enough(mious) and told["factor"] == chosen(mious)
    assert sorted(path.name for path in (folder / stage).iterdir()) == ["length.json", "recipe.json", "stage.json"]
    # Each is the training that the workflow would make of a teacher of that length.
    for each in told["tried"]:
        teacher = {**fabricate.TINY["training"]["teacher"], "epochs": ceil(3 * each["factor"])}
        alone = {"training": {"teacher": teacher}, "experiments": {"suponly": {"method": "suponly"}}}
        other = fabricate.planned(tmp_path / f"{each['factor']:g}", **alone)
        training = fabricate.only(other, "train/*")
        assert run(other, "train", str(training)) == 0
        history = pd.read_csv(other / training / "metrics.csv")
        assert history["val_miou"].iloc[-1] == each["miou"] and history["iterations"].iloc[-1] == each["iterations"]


def test_all_trainings_take_the_length_that_was_found(tmp_path: Path) -> None:
    folder = fabricate.computed(tmp_path, "chart", "report", **AUTO)
    stage = fabricate.only(folder, "length/*")
    told = json.loads((folder / stage / "length.json").read_text())
    lengths = {}
    for record in folder.glob("my results/stages/train/*/stage.json"):
        content = json.loads(record.read_text())
        given = content["settings"]["training"]["epochs"]
        history = pd.read_csv(record.parent / "metrics.csv")
        lengths[content["role"]] = (given, len(history))
    assert lengths == {role: (given, ceil(given * told["factor"])) for role, (given, _) in lengths.items()}
    assert {"teacher", "student"} <= set(lengths)


def test_a_search_that_was_stopped_goes_on_and_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, stage = planned(tmp_path / "a")
    assert run(folder, "length", str(stage)) == 0
    expected = (folder / stage / "length.json").read_bytes()
    other, stage = planned(tmp_path / "b")
    calls: list[Any] = []

    def dies(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise Killed
        return measured(*arguments)

    monkeypatch.setattr("stpp.stages.length.measured", dies)
    with pytest.raises(Killed):
        run(other, "length", str(stage))
    first = json.loads((other / stage / "parts/1/stage.json").read_text())
    assert run(other, "length", str(stage)) == 0
    assert (other / stage / "length.json").read_bytes() == expected
    record = json.loads((other / stage / "stage.json").read_text())
    assert record["cpu_seconds"] > first["cpu_seconds"]


def test_without_a_val_set_half_of_the_labeled_images_measures(tmp_path: Path) -> None:
    data = {**fabricate.TINY["data"], "val": None}
    folder, stage = planned(tmp_path, data=data)
    with contextlib.chdir(folder):
        whole = Job(stage, "length")
        attempt = Attempt(whole, 1.0)
        seen = {subset: {row.id for row in attempt.rows(subset)} for subset in ("labeled", "val")}
        everything = {row.id for row in whole.rows("labeled")}
    assert len(seen["labeled"]) == len(seen["val"]) == 2
    assert seen["labeled"] | seen["val"] == everything and not seen["labeled"] & seen["val"]
    assert run(folder, "length", str(stage)) == 0


def test_one_search_serves_all_experiments_and_seeds(tmp_path: Path) -> None:
    experiments = {
        "suponly": {"method": "suponly", "training": {"teacher": {"epochs": 6}}},
        "as given": {"method": "st", "training": {"length": "given"}},
        "st++": {"method": "st++"},
    }
    experiments = {name.replace(" ", "-"): each for name, each in experiments.items()}
    folder = fabricate.planned(tmp_path, **{**AUTO, "experiments": experiments, "seeds": [3, 4]})
    with contextlib.chdir(folder):
        plan = prepare(read(Path("config.yaml")), print)
    (found,) = [stage for stage in plan.stages.values() if stage.kind == "length"]
    assert found.settings["seed"] == 3 and found.settings["training"]["epochs"] == 3
    for each in plan.runs:
        trained = [part.folder for part in each.stages.values() if part.folder.startswith("train/")]
        reads = {"length" in plan.stages[folder].inputs for folder in trained}
        assert reads == {each.experiment != "as-given"}


def test_the_report_says_what_was_found() -> None:
    tried = [{"factor": 1.0, "iterations": 1200, "miou": 0.5}, {"factor": 1.5, "iterations": 1800, "miou": 0.504}]
    said = length_found({"factor": 1.0, "tried": tried})
    assert said.startswith("All trainings took 1 times as long") and "1,800 iterations 50.4 %" in said
    assert "still gaining" in length_found({"factor": 1.5, "tried": tried})


def test_where_the_longest_training_still_gains_a_warning_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = {"training": {**fabricate.TINY["training"], "length": "auto"}}
    folder = fabricate.planned(tmp_path, experiments={"suponly": {"method": "suponly"}}, **auto)
    stage = folder / fabricate.only(folder, "length/*")
    monkeypatch.setattr("stpp.stages.length.MOST", 2)
    monkeypatch.setattr("stpp.stages.length.LEAST", -1.0)
    monkeypatch.chdir(folder)
    assert main(["length", str(stage.relative_to(folder))]) == 0
    assert json.loads((stage / "stage.json").read_text())["warnings"] == [STILL_GAINING]
