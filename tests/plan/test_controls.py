"""The experiments that `controls: fair` adds."""

import contextlib
from pathlib import Path
from typing import Any

import fabricate
import pytest
from fabricate import plan_of
from test_computation import STUDENT, TEACHER, TRAINING

from stpp.common.errors import Problems
from stpp.plan.graph import Plan
from stpp.settings.configfile import load

ITERATION = TEACHER // 100
"""What a training on labels alone computes in one iteration."""


def fair(**changes: Any) -> dict[str, Any]:
    experiments = {"st": {"method": "st"}, "suponly": {"method": "suponly"}}
    given = {"controls": "fair", "training": TRAINING, "labeling": {"scales": [1.0]}, "experiments": experiments}
    return fabricate.tiny(**given | changes)


def trainings(plan: Plan) -> dict[str, dict[str, Any]]:
    """The settings of the training of each control."""
    added = [run for run in plan.runs if run.experiment.startswith("suponly-")]
    return {run.experiment: dict(plan.stages[run.stages["teacher"].folder].settings) for run in added}


def lengths(plan: Plan) -> dict[str, int]:
    return {name: settings["training"]["iterations"] for name, settings in trainings(plan).items()}


def test_controls_train_as_long_as_a_student_and_compute_as_much_as_its_whole_method() -> None:
    dearest = TEACHER + 2 * 10 * 32**2 + STUDENT
    least = dearest / ITERATION
    found = lengths(plan_of(fair()))
    assert found["suponly-iterations"] == 200
    assert least <= found["suponly-compute"] < least + 20 and found["suponly-compute"] % 20 == 0


def test_controls_are_trained_like_the_teacher_on_labels_alone() -> None:
    training = TRAINING | {"teacher": TRAINING["teacher"] | {"online": "fixmatch", "weight_decay": 0.5}}
    for settings in trainings(plan_of(fair(training=training))).values():
        assert settings["training"]["weight_decay"] == 0.5 and settings["training"]["batch_size"] == 4
        assert "method" not in settings and set(settings["augmentation"]) == {"labeled"}


def test_controls_are_the_first_rows_and_the_one_of_equal_computation_is_the_baseline() -> None:
    plan = plan_of(fair(seeds=[0, 1]))
    rows = ["suponly-iterations", "suponly-compute", "st", "suponly"]
    assert list(dict.fromkeys(run.experiment for run in plan.runs)) == rows and len(plan.runs) == 8
    assert plan.stages[plan.table].settings["baselines"] == dict.fromkeys(rows, "suponly-compute")
    given = plan_of(fair(baseline="suponly"))
    assert set(given.stages[given.table].settings["baselines"].values()) == {"suponly"}


def test_the_configuration_in_the_report_gives_the_same_results_without_controls() -> None:
    plan = plan_of(fair())
    written = plan.stages[plan.report].settings["config"]
    again = plan_of(fair() | {"controls": "none"} | written)
    assert "controls" not in written and again.stages.keys() == plan.stages.keys()


def test_only_experiments_that_learn_from_unlabeled_images_without_their_masks_set_the_length() -> None:
    longer = {"training": {"teacher": {"iterations": 9000}, "student": {"iterations": 9000}}}
    more = {"supervised": {"method": "supervised"} | longer, "long": {"method": "suponly"} | longer}
    expected = lengths(plan_of(fair()))
    assert lengths(plan_of(fair(experiments={"st": {"method": "st"}} | more))) == expected
    assert lengths(plan_of(fair(experiments={"st": {"method": "st"} | longer}))) != expected


@pytest.mark.parametrize("baseline", [None, "suponly-iterations", "suponly-compute"])
def test_two_controls_of_one_length_are_one(baseline: str | None) -> None:
    """A step of FixMatch on four images computes what a step on six labeled ones does."""
    shared = {"iterations": 200, "crop": 24, "base_size": 32}
    training = {"teacher": shared | {"batch_size": 6}, "student": shared | {"batch_size": 4}}
    plan = plan_of(fair(training=training, experiments={"e": {"method": "fixmatch"}}, baseline=baseline))
    assert lengths(plan) == {"suponly-compute": 200}
    assert set(plan.stages[plan.table].settings["baselines"].values()) == {"suponly-compute"}


def test_people_see_controls_like_other_experiments(tmp_path: Path) -> None:
    folder = fabricate.planned(tmp_path / "f", **{key: fair()[key] for key in ("controls", "training", "experiments")})
    with contextlib.chdir(folder):
        seen = {path.name for path in Path("my results/runs/tiny/experiments").iterdir()}
    assert seen == {"st", "suponly", "suponly-iterations", "suponly-compute"}


EPOCHS = {"teacher": {"epochs": 3}, "student": {"iterations": 200}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"experiments": {"suponly-compute": {"method": "st"}}},
            "adds .* but suponly-compute is given",
        ),
        (
            {"experiments": {"st++": {"method": "st++", "training": {"phase1": {"epochs": 2}}}}},
            "have one in epochs: st.*; set",
        ),
        ({"training": EPOCHS}, "have one in epochs: st, suponly; set training.teacher.iterations and"),
        (
            {"experiments": {"st": {"method": "st", "training": {"student": {"iterations": None}}}}},
            "have one in epochs: st; set",
        ),
        (
            {"experiments": {"st": {"method": "st", "data": {"val": None}}}},
            "but these change one of them: st; give",
        ),
        ({"experiments": {name: {"method": name} for name in ("suponly", "supervised")}}, "but there is none; add one"),
        ({"baseline": "other"}, "must be one of the experiments suponly-iterations, suponly-compute, st, suponly"),
        ({"controls": "none", "baseline": "suponly-compute"}, "must be one of the experiments st, suponly, but is"),
    ],
)
def test_what_cannot_be_compared_fairly_is_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(Problems, match=expected):
        load(fair(**changes))
