"""`stpp plan`: what would run, why, and how long it takes."""

from pathlib import Path
from typing import Any

import fabricate
import pytest

from stpp.cli import main
from stpp.configfile import load
from stpp.forecast import Forecast, Task, as_text, forecast
from stpp.inventory import role_of, seed_of
from stpp.plan import Plan
from stpp.workflow import prepare


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def changed(*path: str, to: Any) -> dict[str, Any]:
    """The tiny configuration with one setting changed."""
    raw = fabricate.tiny()
    section = raw
    for key in path[:-1]:
        section = section.setdefault(key, {})
    section[path[-1]] = to
    return raw


def after(raw: dict[str, Any], **other: Any) -> dict[str, Task]:
    """What would run of `raw` where all of the tiny configuration is there: role -> task, the first of each role."""
    results = fabricate.pretend(fabricate.TINY, fabricate.plan_of(fabricate.TINY))
    found: dict[str, Task] = {}
    for task in forecast(fabricate.plan_of(raw, **other), results / "stages").tasks:
        found.setdefault(role_of(task.folder), task)
    return found


def test_nothing_would_run_where_all_is_there() -> None:
    assert after(fabricate.TINY) == {}
    assert as_text("demo", Forecast(["a", "b"], [])) == "demo: nothing would run; 2 stages of it are all there.\n"


def test_a_setting_is_named_as_in_the_configuration_with_both_values() -> None:
    tasks = after(changed("training", "student", "epochs", to=4))
    assert tasks["train student"].reasons == ("training.student.epochs: 2 -> 4",)
    assert tasks["train student-phase2"].reasons[0] == "training.student.epochs: 2 -> 4"
    assert tasks["predict labels-phase1-unreliable"].reasons == ("follows from train student-phase1",)
    assert "train teacher" not in tasks


@pytest.mark.parametrize(
    ("path", "value", "role", "reason"),
    [
        (("selection", "share"), 0.34, "select stable", "selection.share: 0.5 -> 0.34"),
        (("labeling", "flip"), False, "predict labels-teacher", "labeling.flip: true -> false"),
        (("seeds",), [1], "train teacher", "seed: 0 -> 1"),
        (("selection", "checkpoints"), 2, "train teacher", "selection.checkpoints: 3 -> 2"),
        (("network", "head_channels"), 16, "train teacher", "network.head_channels: 8 -> 16"),
        (
            ("augmentation", "student", "unlabeled", "blur"),
            None,
            "train student",
            "augmentation.student.unlabeled.blur: p 0.5, sigma [0.1, 2.0] -> none",
        ),
        (
            ("labeling", "teacher"),
            "best",
            "predict labels-teacher",
            "reads best.pt instead of last.pt of train teacher",
        ),
    ],
)
def test_reasons(path: tuple[str, ...], value: Any, role: str, reason: str) -> None:
    assert reason in after(changed(*path, to=value))[role].reasons


def test_data_and_code_are_reasons() -> None:
    tasks = after(fabricate.TINY, fingerprints={"test": "f" * 64})
    assert {role.split()[0] for role in tasks} == {"evaluate", "report"}
    assert tasks["evaluate teacher-test"].reasons == ("the test images or their masks changed",)
    tasks = after(fabricate.TINY, code="v2")
    assert tasks["train teacher"].reasons == ("code of `stpp train`: version 1 -> version 2",)
    assert after(fabricate.TINY, code="0123456789ab")["score"].reasons[0].endswith("-> edited (012345)")


def test_the_nearest_is_the_one_with_the_fewest_differences_then_that_of_the_seed() -> None:
    far, near = changed("training", "student", "epochs", to=9), changed("training", "student", "epochs", to=2)
    far["network"]["dropout"] = near["network"]["dropout"] = 0.3
    results = fabricate.pretend(far, fabricate.plan_of(far), started="2026-02-02")
    fabricate.pretend(near | {"seeds": [0, 1]}, fabricate.plan_of(near | {"seeds": [0, 1]}))
    wanted = fabricate.plan_of(near | {"seeds": [1], "labeling": {"scales": [1.0]}})
    tasks = {role_of(task.folder): task for task in forecast(wanted, results / "stages").tasks}
    assert tasks["predict labels-teacher"].reasons == ("labeling.scales: [0.5, 1.0] -> [1.0]",)
    assert tasks["train student"].reasons == ("follows from predict labels-teacher",)


def test_times_are_the_last_ones_or_estimates() -> None:
    tasks = after(changed("training", "student", "epochs", to=4))
    assert (tasks["train student"].seconds, tasks["train student"].measured) == (20.0, False)
    assert (tasks["evaluate student-val"].seconds, tasks["evaluate student-val"].measured) == (10.0, True)
    plan = fabricate.plan_of(fabricate.TINY)
    nothing = forecast(plan, Path("nowhere"))
    assert [task.seconds for task in nothing.tasks] == [None] * len(plan.stages)
    assert "for an unknown time" in as_text("tiny", nothing)


def test_a_role_that_never_ran_gets_the_median_of_its_kind() -> None:
    suponly = fabricate.tiny(experiments={"suponly": {"method": "suponly"}})
    results = fabricate.pretend(suponly, fabricate.plan_of(suponly), seconds=7.0)
    tasks = {role_of(t.folder): t for t in forecast(fabricate.plan_of(fabricate.TINY), results / "stages").tasks}
    student = tasks["train student"]
    assert (student.reasons, student.seconds, student.measured) == (("none of its kind has been made yet",), 7.0, False)
    assert tasks["score"].seconds is None


def test_an_artifact_that_was_removed_is_a_reason() -> None:
    plan = fabricate.plan_of(fabricate.TINY)
    results = fabricate.pretend(fabricate.TINY, plan)
    (masks,) = (results / "stages/predict").glob("masks-checkpoint1-*/masks.h5")
    masks.unlink()
    (task,) = forecast(plan, results / "stages").tasks
    assert task.reasons == ("masks.h5 is no longer there",)


def test_the_text_joins_stages_of_one_role_and_adds_up_their_times() -> None:
    slow = [Task(f"train/student-val-x-seed{k}-0000000{k}", ("a: 1 -> 2", "b: 3 -> 4"), 100.0, False) for k in (0, 1)]
    lines = as_text("tiny", Forecast([], [*slow, Task("score/k3-seed0-00000003", ("c",), 1.0, True)])).splitlines()
    assert lines[0] == "tiny: 3 of 3 stages would run, ~ 3 min 21 s of work, one after the other."
    assert [line.split() for line in lines[3:6]] == [
        ["train", "student", "2", "x", "~", "3", "min", "20", "s", "a:", "1", "->", "2"],
        ["b:", "3", "->", "4"],
        ["score", "1.0", "s", "c"],
    ]


@pytest.mark.parametrize(
    ("folder", "role", "seed"),
    [
        ("train/teacher-k3-val-deeplabv3plus-tiny-seed0-0123abcd", "train teacher", 0),
        ("train/student-phase2-noval-pspnet-resnet50-seed11-0123abcd", "train student-phase2", 11),
        ("select/stable-0.5-seed0-0123abcd", "select stable", 0),
        ("score/k5-seed3-0123abcd", "score", 3),
        ("report/my-name-seed0-x-0123abcd", "report", None),
    ],
)
def test_roles_and_seeds_are_read_from_the_names(folder: str, role: str, seed: int | None) -> None:
    assert (role_of(folder), seed_of(folder)) == (role, seed)


def test_the_command_writes_recipes_and_leaves_the_view_alone(capsys: pytest.CaptureFixture[str]) -> None:
    fabricate.write_scenes(Path("my scenes"))
    raw = fabricate.tiny(experiments={"suponly": {"method": "suponly"}})
    fabricate.write_config(Path(), raw)
    assert main(["plan", "config.yaml"]) == 0
    assert "4 of 4 stages would run" in capsys.readouterr().out
    assert not Path("my results/tiny").exists()
    assert len(list(Path("my results/stages").glob("*/*/recipe.json"))) == 4
    plan: Plan = prepare(load(raw), print)
    fabricate.pretend(raw, plan)
    assert main(["plan", "config.yaml"]) == 0
    assert "nothing would run" in capsys.readouterr().out
