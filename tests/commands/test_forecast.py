"""`stpp plan`: what would run, why, and how long it takes."""

import re
from pathlib import Path
from typing import Any

import fabricate
import pytest

from stpp.commands.cli import main
from stpp.commands.estimate import START, Speeds, Work, steps, work_of
from stpp.commands.forecast import Forecast, Task, as_text, forecast, times_as_much
from stpp.commands.workflow import prepare
from stpp.plan.graph import Plan, Stage
from stpp.settings.configfile import load
from stpp.store.inventory import KnownStage


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, on a machine that belongs to no cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stpp.commands.forecast.shutil.which", lambda name: None)


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
        found.setdefault(task.role, task)
    return found


def test_nothing_would_run_where_all_is_there() -> None:
    assert after(fabricate.TINY) == {}
    assert as_text("demo", Forecast(["a", "b"], [], {})) == "demo: nothing would run; all 2 stages are there.\n"


def test_a_setting_is_named_as_in_the_configuration_with_both_values() -> None:
    tasks = after(changed("training", "student", "epochs", to=4))
    assert tasks["train student"].reasons == ("training.student.epochs: 2 -> 4",)
    assert tasks["train student-phase2"].reasons == ("training.student.epochs: 2 -> 4",)
    assert tasks["train student-phase2"].sources == ("predict labels-phase1-unreliable",)
    assert tasks["predict labels-phase1-unreliable"].reasons == ()
    assert tasks["predict labels-phase1-unreliable"].sources == ("train student-phase1",)
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
            ("labeling", "teacher"),
            "best",
            "predict labels-teacher",
            "labeling.teacher: last -> best",
        ),
        (("labeling", "student"), "best", "predict labels-phase1-unreliable", "labeling.student: last -> best"),
        (("evaluation", "checkpoint"), "best", "evaluate student-test", "evaluation.checkpoint: last -> best"),
    ],
)
def test_reasons(path: tuple[str, ...], value: Any, role: str, reason: str) -> None:
    assert after(changed(*path, to=value))[role].reasons == (reason,)


def test_a_section_that_is_switched_off_is_one_reason() -> None:
    reasons = after(changed("augmentation", "student", "unlabeled", "blur", to=None))["train student"].reasons
    assert "augmentation.student.unlabeled.blur: p 0.5, sigma [0.1, 2] -> none" in reasons


def test_data_and_code_are_reasons() -> None:
    tasks = after(fabricate.TINY, fingerprints={"test": "f" * 64})
    assert {role.split()[0] for role in tasks} == {"evaluate", "verdict", "table", "chart", "report"}
    assert tasks["evaluate teacher-test"].reasons == ("the test images or their masks changed",)
    tasks = after(fabricate.TINY, code="v2")
    assert tasks["train teacher"].reasons == ("code of stpp train: version 1 -> version 2",)
    assert after(fabricate.TINY, code="0123456789ab")["score"].reasons[0].endswith("-> edited (012345)")


def test_the_nearest_is_the_one_with_the_fewest_differences_then_that_of_the_seed() -> None:
    far, near = changed("training", "student", "epochs", to=9), changed("training", "student", "epochs", to=2)
    far["network"]["dropout"] = near["network"]["dropout"] = 0.3
    results = fabricate.pretend(far, fabricate.plan_of(far), started="2026-02-02")
    fabricate.pretend(near | {"seeds": [0, 1]}, fabricate.plan_of(near | {"seeds": [0, 1]}))
    wanted = fabricate.plan_of(near | {"seeds": [1], "labeling": {"scales": [1.0]}})
    tasks = {task.role: task for task in forecast(wanted, results / "stages").tasks}
    assert tasks["predict labels-teacher"].reasons == ("labeling.scales: [0.5, 1] -> [1]",)
    assert (tasks["train student"].reasons, tasks["train student"].sources) == ((), ("predict labels-teacher",))


def test_the_table_says_which_runs_are_new_and_which_are_no_longer_wanted() -> None:
    tasks = after(fabricate.tiny(seeds=[0, 1, 2], experiments={"st": {"method": "st"}, "mine": {"method": "plain"}}))
    assert tasks["table"].reasons == (
        "new: st seed 1, st seed 2, mine seed 0 and 2 more",
        "no longer wanted: suponly seed 0, random seed 0, st++ seed 0",
    )
    # The teachers are those of the first experiment.
    assert tasks["verdict"].reasons == (
        "new: st seed 1, st seed 2, mine seed 0 and 2 more",
        "no longer wanted: suponly seed 0, random seed 0, st++ seed 0",
    )
    assert len(tasks["table"].sources) > 3
    tasks = after(changed("training", "student", "epochs", to=4))
    assert tasks["table"].reasons == ()


def test_times_are_the_last_ones_or_estimates() -> None:
    tasks = after(changed("training", "student", "epochs", to=4))
    assert (tasks["train student"].seconds, tasks["train student"].measured) == (20.0, False)
    assert (tasks["evaluate student-val"].seconds, tasks["evaluate student-val"].measured) == (10.0, True)
    plan = fabricate.plan_of(fabricate.TINY)
    nothing = forecast(plan, Path("nowhere"))
    n = len(plan.stages)
    assert [task.seconds for task in nothing.tasks] == [None] * n
    head = as_text("tiny", nothing).partition("\n")[0]
    assert head.startswith(f"tiny: {n} of {n} stages would run, for an unknown time; ")
    assert "`stpp status`" in head


def test_a_role_that_never_ran_gets_the_median_of_its_kind() -> None:
    suponly = fabricate.tiny(experiments={"suponly": {"method": "suponly"}})
    results = fabricate.pretend(suponly, fabricate.plan_of(suponly), seconds=7.0)
    tasks = {t.role: t for t in forecast(fabricate.plan_of(fabricate.TINY), results / "stages").tasks}
    student = tasks["train student"]
    assert (student.reasons, student.seconds, student.measured) == (("the first of its kind",), 7.0, False)
    assert tasks["score"].seconds is None


@pytest.fixture
def prepared() -> Plan:
    """The plan of the tiny configuration, whose images were counted: 4 labeled, 6 unlabeled, 2 val, 2 test."""
    fabricate.write_scenes(Path("my scenes"))
    return prepare(load(fabricate.TINY), lambda line: None)


def folder_of(plan: Plan, beginning: str) -> str:
    (folder,) = [folder for folder in plan.stages if folder.startswith(beginning)]
    return folder


def task_of(plan: Plan, beginning: str, results: Path, trial: Speeds | None = None) -> Task:
    folder = folder_of(plan, beginning)
    (task,) = [task for task in forecast(plan, results / "stages", trial).tasks if task.folder == folder]
    return task


def test_a_time_grows_with_images_and_iterations(prepared: Plan) -> None:
    # Another student ran for 10 iterations of the same batches, and masks of 3 images were predicted.
    short = changed("training", "student", "epochs", to=1)
    other = prepare(load(short), lambda line: None)
    results = fabricate.pretend(short, other, seconds=5.0, iterations=10, images=3)
    (student,) = [stage for stage in prepared.stages.values() if stage.role == "student"]
    task = task_of(prepared, "train/student-val", results)
    assert task.seconds == pytest.approx(5.0 * steps(student, prepared) / 10)
    assert (task.measured, task.untimed) == (False, False)
    tasks = forecast(prepared, results / "stages").tasks
    labels = next(task for task in tasks if task.role == "predict labels-phase1-unreliable")
    assert labels.seconds == pytest.approx(5.0 * 3 / 3)  # half of the six images


def test_a_time_grows_with_the_stored_masks(prepared: Plan) -> None:
    """Not with the labeled images, of which the alignment of classes reads the true masks."""
    raw = changed("labeling", "kept", to="aligned") | {"experiments": {"st": {"method": "st"}, "st++": {}}}
    raw["experiments"]["st++"] = {"method": "st++"}
    plan = prepare(load(raw), lambda line: None)
    results = fabricate.pretend(raw, plan, seconds=5.0, images=2)
    for file in (*(results / "stages/score").glob("*/scores.csv"), *(results / "stages/pixels").glob("*/masks.h5")):
        file.unlink()
    seconds = {task.role: task.seconds for task in forecast(plan, results / "stages").tasks}
    assert seconds["score"] == pytest.approx(5.0 * 6 / 2)
    assert seconds["pixels teacher-aligned"] == pytest.approx(5.0 * 6 / 2)
    assert seconds["pixels teacher-reliable-aligned"] == pytest.approx(5.0 * 3 / 2)


def test_a_time_of_a_report_grows_with_the_images_that_it_shows(prepared: Plan) -> None:
    few = changed("report", to={"judged": 1})
    results = fabricate.pretend(few, prepare(load(few), lambda line: None), seconds=5.0)
    # 6 unlabeled images, 6 to label next, 14 that are encoded; each judged one passes through 4 networks.
    task = task_of(prepared, "report", results)
    assert (task.seconds, task.measured) == (pytest.approx(5.0 * (26 + 4 * 4) / (26 + 4)), False)
    again = changed("report", to={"judged": 4})
    assert task_of(prepare(load(again), lambda line: None), "report", results).seconds == task.seconds
    wide = changed("report", to={"judged": 1}) | {"prediction": {"long_side": 64}}
    factor = times_as_much(*reports(wide, few), prepared)
    assert factor == pytest.approx(4)


def reports(raw: dict[str, Any], before: dict[str, Any]) -> tuple[Stage, KnownStage]:
    """The report of a configuration, and that of another one, as if it were there."""
    stages = [plan.stages[plan.report] for plan in (prepare(load(each), lambda line: None) for each in (raw, before))]
    return stages[0], KnownStage(stages[1].folder, stages[1].recipe())


def test_a_report_of_an_earlier_version_is_a_measure(prepared: Plan) -> None:
    """It had neither these settings nor masks by all checkpoints, and the images of val were others."""
    stage, known = reports(fabricate.TINY, fabricate.TINY)
    assert times_as_much(stage, known, prepared) == 1
    for name in ("report", "prediction"):
        del known.recipe["settings"][name]
    del known.recipe["inputs"]["checkpoints"]
    known.recipe["data"]["val"] = "0" * 64
    assert times_as_much(stage, known, prepared) == pytest.approx((26 + 4 * 4) / (26 + 4))


def test_a_time_grows_with_the_pixels_that_a_network_sees(prepared: Plan) -> None:
    """Twice as long a side has four times the pixels; with four scales instead of one, and flips, there are more."""
    raw = changed("prediction", to={"long_side": 16}) | {"labeling": {"scales": [1.0], "flip": False}}
    small = prepare(load(raw), lambda line: None)
    results = fabricate.pretend(raw, small, seconds=5.0, images=1)
    raw = changed("prediction", to={"long_side": 32}) | {"labeling": {"scales": [1.0, 0.5], "flip": True}}
    tasks = forecast(prepare(load(raw), lambda line: None), results / "stages").tasks
    seconds = {task.role: task.seconds for task in reversed(tasks)}
    assert seconds["evaluate teacher-val"] == pytest.approx(4 * 2 * 5.0)  # and 2 images instead of 1
    assert seconds["predict masks-checkpoint1"] == pytest.approx(4 * 6 * 5.0)
    assert seconds["predict labels-teacher-reliable"] == pytest.approx(4 * (1 + 0.25) * 2 * 3 * 5.0)


def test_times_of_another_network_or_precision_are_no_measure(prepared: Plan) -> None:
    results = fabricate.pretend(fabricate.TINY, prepared, seconds=5.0)
    wider = prepare(load(changed("network", "decoder_channels", to=12)), lambda line: None)
    precise = prepare(load(changed("prediction", to={"precision": "bf16"})), lambda line: None)
    assert task_of(wider, "train/teacher", results).untimed
    assert task_of(precise, "predict/masks-checkpoint1", results).untimed
    assert not task_of(
        prepare(load(changed("training", "student", "epochs", to=4)), lambda line: None), "train/student-val", results
    ).untimed


def test_times_of_another_machine_give_way_to_a_trial(prepared: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    results = fabricate.pretend(changed("seeds", to=[7]), fabricate.plan_of(changed("seeds", to=[7])), host="elsewhere")
    task = task_of(prepared, "train/student-val", results)
    assert task.untimed and task.seconds is not None
    trial = Speeds()
    trial.add("train", Work(trained=1000.0), 2.0)
    work = work_of(prepared.stages[task.folder], prepared)
    timed = task_of(prepared, "train/student-val", results, trial)
    assert timed.seconds == pytest.approx(START + (work.trained + work.predicted) / 500)
    # On the submit host of a cluster, jobs run where the scheduler sends them.
    monkeypatch.setattr("stpp.commands.forecast.shutil.which", lambda name: "/usr/bin/sbatch")
    assert not task_of(prepared, "train/student-val", results).untimed


def test_a_role_that_never_ran_is_told_by_the_speed_of_others(prepared: Plan) -> None:
    teacher = folder_of(prepared, "train/teacher")
    results = fabricate.pretend(fabricate.TINY, prepared, [teacher], seconds=30.0)
    student = folder_of(prepared, "train/student-val")
    a, b = (work_of(prepared.stages[folder], prepared) for folder in (teacher, student))
    expected = START + 30.0 * (b.trained + b.predicted) / (a.trained + a.predicted)
    assert task_of(prepared, "train/student-val", results).seconds == pytest.approx(expected)
    report = work_of(prepared.stages[prepared.report], prepared).predicted
    expected = START + 30.0 * report / (a.trained + a.predicted)
    assert report and task_of(prepared, "report", results).seconds == pytest.approx(expected)


def test_an_artifact_that_was_removed_is_a_reason() -> None:
    plan = fabricate.plan_of(fabricate.TINY)
    results = fabricate.pretend(fabricate.TINY, plan)
    (masks,) = (results / "stages/predict").glob("masks-checkpoint1-*/masks.h5")
    masks.unlink()
    (task,) = forecast(plan, results / "stages").tasks
    assert task.reasons == ("masks.h5 is no longer there",)


def test_the_text_has_a_block_for_each_role() -> None:
    students = [
        Task(f"train/student-val-x-seed{k}-0000000{k}", "train student", ("a: 1 -> 2", *more), ("x",), 100.0, False)
        for k, more in enumerate([(), ("b: 3 -> 4",)])
    ]
    masks = [
        Task(f"predict/masks-seed{k}-0000000{k}", "predict masks", (), ("train student", "train b", "c", "d"), 1, True)
        for k in "01"
    ]
    unknown = Task("select/stable-0.5-seed0-00000003", "select stable", ("the first of its kind",), (), None, False)
    table = [
        Task("report/x-00000004", "report", (), (), 3.0, True),
        Task("report/x-00000005", "report", ("new: st seed 1",), (), 3.0, True),
    ]
    assert (
        as_text("tiny", Forecast(["done"], [*students, *masks, unknown, *table], {}))
        == """\
tiny: 7 of 8 stages would run, ~ 3 min 28 s of work, one after the other, and 1 stage of unknown length.

would run                   time  why
train student  2 x  ~ 3 min 20 s  a: 1 -> 2
                                  b: 3 -> 4 (1 of 2)
predict masks  2 x         2.0 s  follows from train student, train b, c and 1 more
select stable                     the first of its kind
report         2 x         6.0 s  new: st seed 1 (1 of 2)
                                  other settings of the report (1 of 2)

why: what differs from the nearest stage of the same role that is there, old -> new.
time: what that stage took; ~ where it is an estimate.
"""
    )


def test_the_command_is_a_question_unless_recipes_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    fabricate.write_scenes(Path("my scenes"))
    raw = fabricate.tiny(experiments={"suponly": {"method": "suponly"}})
    fabricate.write_config(Path(), raw)
    assert main(["plan", "config.yaml"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^tiny: 6 of 6 stages would run, ~ [\d.]+ s of work, one after the other\.$", said, re.MULTILINE)
    assert re.search(
        r"a step was timed, on the CPU with 1 thread: [\d.]+ s for 4 images, deeplabv3plus with tiny", said
    )
    assert re.search(r"^Disk: about [\d.]+ [kM]B of results; [\d.]+ \wB are free\.$", said, re.MULTILINE)
    assert re.search(r"^Memory: about [\d.]+ [MG]B for a training; runtime.train.memory asks for 500.0 MB", said, re.M)
    assert not Path("my results").exists()
    plan = prepare(load(raw), print)
    capsys.readouterr()
    assert main(["plan", "config.yaml", "--recipes"]) == 0
    listed = "".join(f"to do  my results/stages/{folder}\n" for folder in plan.stages)
    assert capsys.readouterr().out == listed
    written = {str(path.parent.relative_to("my results/stages")) for path in Path("my results/stages").rglob("*.json")}
    assert written == set(plan.stages)
    assert not Path("my results/tiny").exists()
    fabricate.pretend(raw, plan)
    assert main(["plan", "config.yaml"]) == 0
    assert capsys.readouterr().out == "tiny: nothing would run; all 6 stages are there.\n"
