"""Methods put together: students that start from the teacher, and phases that an online method trains."""

import contextlib
import json
from pathlib import Path
from typing import Any

import fabricate
import pandas as pd
import pytest
import torch

from stpp.common.errors import StppError
from stpp.engine.distributed import Team
from stpp.engine.networks import networks_of
from stpp.methods import methods, step_of
from stpp.runtime.job import Job
from stpp.settings.configfile import read

EXPERIMENTS: dict[str, Any] = {
    "suponly": {"method": "suponly"},
    "from-teacher": {"method": "st", "training": {"student": {"start": "teacher"}}},
    "online-from-teacher": {"method": "cps", "training": {"student": {"start": "teacher"}}},
    "consistent": {"method": "st++", "training": {"student": {"online": "mean_teacher"}}},
    "online-teacher": {"method": "st++", "training": {"teacher": {"online": "mean_teacher"}}},
    "then-self-training": {"method": "mean_teacher", "training": {"further_phases": 1}},
    "watched": {"method": "mean_teacher", "evaluation": {"moments": 2}},
    "long": {
        "method": "st++",
        "training": {role: {"iterations": n, "validate_every": 20} for role, n in (("teacher", 20), ("student", 38))},
    },
}

DATA = {key: value for key, value in fabricate.TINY["data"].items() if key not in ("val", "test")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all experiments are computed, without val and test."""
    return fabricate.computed(tmp_path_factory.mktemp("composition"), experiments=EXPERIMENTS, data=DATA)


def part(place: Path, experiment: str, name: str) -> Path:
    return place / "my results/runs/tiny/experiments" / experiment / "seed0" / name


def settings(place: Path, experiment: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((part(place, experiment, name) / "recipe.json").read_text())["settings"]
    return found


def state(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


def beginning(place: Path, experiment: str, name: str) -> dict[str, dict[str, torch.Tensor]]:
    """The weights with which a training begins, by the names of its networks."""
    with contextlib.chdir(place):
        job = Job(part(place, experiment, name).resolve(), "train")
        online = step_of(job.settings)
        assert online is not None
        nets = networks_of(
            online[0].networks,
            job.settings,
            None,
            job.input("start"),
            Team(torch.device("cpu")),
            lambda part: len(part),
            compile=False,
        )
    return {name: net.module.state_dict() for name, net in nets.items()}


def test_all_experiments_share_one_teacher_but_for_the_one_that_is_trained_otherwise(place: Path) -> None:
    without = ("then-self-training", "watched", "long")
    teachers = {name: part(place, name, "teacher").resolve() for name in EXPERIMENTS if name not in without}
    own = teachers.pop("online-teacher")
    assert len(set(teachers.values())) == 1 and own not in teachers.values()
    assert not part(place, "then-self-training", "teacher").exists()


def test_a_student_from_the_teacher_begins_with_its_weights_alone(place: Path) -> None:
    teacher = state(part(place, "online-from-teacher", "teacher") / "last.pt")
    begun = beginning(place, "online-from-teacher", "student")
    heads = [key for key in teacher if not key.startswith("backbone.")]
    encoder = [key for key in teacher if key.startswith("backbone.")]
    assert all(torch.equal(begun["first"][key], value) for key, value in teacher.items())
    assert all(torch.equal(begun["second"][key], teacher[key]) for key in encoder)
    assert not all(torch.equal(begun["second"][key], teacher[key]) for key in heads), "two equal networks teach nothing"


def test_where_a_student_starts_decides_its_result(place: Path) -> None:
    recipe = json.loads((part(place, "from-teacher", "student") / "recipe.json").read_text())
    assert recipe["inputs"]["start"].startswith("train/teacher-") and recipe["inputs"]["start"].endswith("/last.pt")
    assert "start" not in recipe["settings"]["training"], "an input says it"
    assert recipe["files"] == {}


def test_an_online_method_trains_both_phases_of_st_plus_plus(place: Path) -> None:
    for name in ("phase1", "student"):
        assert list(settings(place, "consistent", name)["method"]) == ["mean_teacher"]
        history = pd.read_csv(part(place, "consistent", name) / "metrics.csv")
        assert {"loss_supervised", "loss_consistency"} <= set(history)
    # Both phases run through all unlabeled images; what they learn from with labels is more in the second one.
    facts = [json.loads((part(place, "consistent", name) / "stage.json").read_text()) for name in ("phase1", "student")]
    assert facts[0]["iterations"] == facts[1]["iterations"] > 0
    stores = [
        json.loads((part(place, "consistent", n) / "recipe.json").read_text())["inputs"] for n in ("phase1", "student")
    ]
    assert [len(inputs["labels"]) for inputs in stores] == [1, 2]


def test_an_online_teacher_saves_the_checkpoints_whose_masks_are_scored(place: Path) -> None:
    assert list(settings(place, "online-teacher", "teacher")["method"]) == ["mean_teacher"]
    assert "method" not in settings(place, "online-teacher", "student")
    scores = pd.read_csv(part(place, "online-teacher", "score") / "scores.csv")
    assert len(scores) == fabricate.COUNTS["unlabeled"]


def test_an_online_student_labels_for_a_further_phase(place: Path, tmp_path: Path) -> None:
    assert part(place, "then-self-training", "labels2").exists()
    assert list(settings(place, "then-self-training", "phase1")["method"]) == ["mean_teacher"]
    assert "method" not in settings(place, "then-self-training", "student")
    alone = fabricate.planned(tmp_path, experiments={"e": {"method": "mean_teacher"}}, data=DATA)
    training = fabricate.only(alone, "train/*")
    assert part(place, "then-self-training", "phase1").resolve().name == training.name, "it is the same stage"


def test_the_labels_of_an_online_method_are_measured_over_time(place: Path) -> None:
    measured = []
    for k, file in ((1, "checkpoint-1.pt"), (2, "last.pt")):
        masks = json.loads((part(place, "watched", f"masks{k}") / "recipe.json").read_text())
        training = part(place, "watched", "student").resolve().name
        assert masks["inputs"]["checkpoint"] == f"train/{training}/{file}"
        measured.append(json.loads((part(place, "watched", f"masks{k}-truth") / "metrics.json").read_text())["miou"])
    page = (place / "my results/tiny/report.html").read_text()
    told = ", ".join(f"{100 * miou:.1f}" for miou in measured)
    assert "Labels over time" in page and f"over its training. seed 0: {told}." in page
    watched = state(part(place, "watched", "student") / "last.pt")
    plain = state(part(place, "then-self-training", "phase1") / "last.pt")
    assert all(torch.equal(value, watched[key]) for key, value in plain.items()), "to be looked at changes nothing"


def test_trainings_of_so_many_iterations_are_as_long_whatever_their_images(place: Path) -> None:
    for name, iterations in (("teacher", 20), ("phase1", 40), ("student", 40)):
        history = pd.read_csv(part(place, "long", name) / "metrics.csv")
        assert list(history["epoch"]) == [*range(1, 21)] and history["iterations"].iloc[-1] == iterations
    checkpoints = [torch.load(part(place, "long", "teacher") / f"checkpoint-{k}.pt", weights_only=True) for k in (1, 2)]
    assert [checkpoint["epoch"] for checkpoint in checkpoints] == [6, 13]


@pytest.mark.parametrize("name", [method.name for method in methods() if method.online])
def test_every_online_method_trains_any_role_and_starts_from_a_teacher(name: str) -> None:
    for training in (
        {"student": {"online": name}},
        {"student": {"online": name, "start": "teacher"}},
        {"teacher": {"online": name}},
    ):
        plan = fabricate.plan_of(fabricate.tiny(experiments={"e": {"method": "st++", "training": training}}))
        trained = [stage for stage in plan.stages.values() if "method" in stage.settings]
        assert len(trained) == len(plan.runs) * (1 if "teacher" in training else 2)
        assert all(list(stage.settings["method"]) == [name] for stage in trained)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"student": {"online": "st"}}, "training.student.online must be one of advsemiseg, augseg"),
        ({"teacher": {"online": "unimtach"}}, "training.teacher.online must be one of .* but is 'unimtach'"),
        ({"teacher": {"start": "teacher"}}, "teacher.start must be `scratch`: no network is trained before"),
    ],
)
def test_what_cannot_be_put_together_is_refused(tmp_path: Path, training: dict[str, Any], message: str) -> None:
    config = fabricate.tiny(experiments={"e": {"method": "st++"}})
    for role, changes in training.items():
        config["training"][role] = config["training"][role] | changes
    path = fabricate.write_config(tmp_path, config)
    with pytest.raises(StppError, match=message):
        read(path)


def test_a_batch_that_the_method_of_a_phase_cannot_pair_is_refused_before_anything_runs(tmp_path: Path) -> None:
    training = {"student": {"online": "classmix", "batch_size": 6}}
    with pytest.raises(StppError, match=r"method classmix mixes pairs .* set training.student.batch_size to"):
        fabricate.planned(tmp_path, experiments={"e": {"method": "st++", "training": training}})


def test_more_moments_than_epochs_are_refused(tmp_path: Path) -> None:
    path = fabricate.write_config(tmp_path, fabricate.tiny(evaluation={"moments": 3}))
    with pytest.raises(StppError, match=r"3 checkpoints \(evaluation.moments\) cannot be saved in 2 epochs"):
        read(path)
