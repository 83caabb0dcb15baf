"""The graph: which stages experiments share, and what a stage's identity depends on."""

from typing import Any

import fabricate
import pytest
from fabricate import plan_of

from stpp.plan.graph import Plan


def roles(plan: Plan, experiment: str, seed: int = 0) -> dict[str, str]:
    """Name -> folder of the parts of one run."""
    (run,) = [run for run in plan.runs if (run.experiment, run.seed) == (experiment, seed)]
    return {name: part.folder for name, part in run.stages.items()}


def kinds(plan: Plan, kind: str) -> list[str]:
    """The folders of one kind of stage."""
    return [folder for folder in plan.stages if folder.startswith(f"{kind}/")]


def test_methods_are_graphs_over_the_same_stages() -> None:
    experiments = {m: {"method": m} for m in ("suponly", "plain", "st", "random", "st++")}
    plan = plan_of(fabricate.tiny(experiments=experiments))
    teachers = {roles(plan, method)["teacher"] for method in experiments}
    assert len(teachers) == 1
    # plain and st differ in the student alone
    assert roles(plan, "plain")["labels"] == roles(plan, "st")["labels"]
    assert roles(plan, "plain")["student"] != roles(plan, "st")["student"]
    # one teacher; students of plain and st; two phases of random and of st++
    assert len(kinds(plan, "train")) == 1 + 2 + 2 + 2
    # K masks; labels of all images; two label sets of random and of st++
    assert len(kinds(plan, "predict")) == 3 + 1 + 2 + 2
    assert len(kinds(plan, "score")) == 1
    assert len(kinds(plan, "select")) == 2


def test_stpp_is_algorithm_2() -> None:
    plan = plan_of(fabricate.tiny(experiments={"st++": {"method": "st++"}}))
    run = roles(plan, "st++")
    stage = {role: plan.stages[folder] for role, folder in run.items()}
    teacher = run["teacher"]
    assert plan.stages[teacher].outputs[:2] == ("checkpoint-1.pt", "checkpoint-2.pt")
    assert stage["masks1"].inputs["checkpoint"] == f"{teacher}/checkpoint-1.pt"
    assert stage["masks3"].inputs["checkpoint"] == f"{teacher}/last.pt"
    assert all(stage[f"masks{k}"].settings["tta"] is None for k in (1, 2, 3))
    assert stage["score"].inputs["masks"] == [f"{run[f'masks{k}']}/masks.h5" for k in (1, 2, 3)]
    assert stage["select"].inputs == {"scores": f"{run['score']}/scores.csv"}
    assert stage["labels1"].inputs == {
        "checkpoint": f"{teacher}/last.pt",
        "images": f"{run['select']}/reliable.txt",
    }
    assert stage["labels1"].settings["tta"] == {"scales": [0.5, 1.0], "flip": True}
    assert stage["phase1"].inputs == {"labels": [f"{run['labels1']}/masks.h5"]}
    assert stage["labels2"].inputs == {
        "checkpoint": f"{run['phase1']}/last.pt",
        "images": f"{run['select']}/unreliable.txt",
    }
    assert stage["student"].inputs == {"labels": [f"{run['labels1']}/masks.h5", f"{run['labels2']}/masks.h5"]}


def test_plain_self_training_has_no_strong_augmentation() -> None:
    plan = plan_of(fabricate.tiny(experiments={m: {"method": m} for m in ("plain", "st")}))
    weak, strong = (
        plan.stages[roles(plan, m)["student"]].settings["augmentation"]["unlabeled"] for m in ("plain", "st")
    )
    assert all(weak[part] is None and strong[part] is not None for part in ("jitter", "grayscale", "blur", "cutout"))
    assert weak["scale"] == strong["scale"]


def test_the_labeling_teacher_may_be_the_best_on_val() -> None:
    plan = plan_of(fabricate.tiny(labeling={"teacher": "best", "student": "best"}))
    run = roles(plan, "st++")
    assert plan.stages[run["labels1"]].inputs["checkpoint"] == f"{run['teacher']}/best.pt"
    assert plan.stages[run["labels2"]].inputs["checkpoint"] == f"{run['phase1']}/best.pt"
    assert plan.stages[run["masks3"]].inputs["checkpoint"] == f"{run['teacher']}/last.pt"


def test_without_val_there_is_no_best_and_no_dependence_on_val() -> None:
    data = {key: value for key, value in fabricate.TINY["data"].items() if key not in ("val", "test")}
    plan = plan_of(fabricate.tiny(data=data), without=("val", "test", "truth"))
    for folder in kinds(plan, "train"):
        assert "best.pt" not in plan.stages[folder].outputs
        assert "val" not in plan.stages[folder].data
    assert not kinds(plan, "evaluate")


def test_seeds_share_nothing_that_is_random() -> None:
    plan = plan_of(fabricate.tiny(seeds=[0, 1]))
    assert not set(roles(plan, "st++", 0).values()) & set(roles(plan, "st++", 1).values())


def test_speed_settings_are_in_no_identity() -> None:
    fast = {"device": "cpu", "shards": 7, "train": {"threads": 3, "workers": 5}, "predict": {"threads": 2}}
    assert set(plan_of(fabricate.tiny(runtime=fast)).stages) == set(plan_of(fabricate.tiny()).stages)


def test_every_fingerprint_reaches_exactly_the_stages_that_read_it() -> None:
    before = plan_of(fabricate.tiny())
    for subset, unaffected in {
        "labeled": (),
        "unlabeled": ("teacher", "teacher-val", "teacher-test"),
        "val": ("teacher-test-none",),
        "test": ("teacher", "masks1", "score", "select", "labels1", "phase1", "labels2", "student", "student-val"),
        "truth": ("teacher", "masks1", "score", "select", "labels1", "phase1", "labels2", "student", "student-test"),
    }.items():
        after = plan_of(fabricate.tiny(), {subset: "f" * 64})
        same = {role for role, folder in roles(before, "st++").items() if roles(after, "st++")[role] == folder}
        assert same >= {role for role in unaffected if role in roles(before, "st++")}, subset
        assert len(same) < len(roles(before, "st++")), subset


def test_readers_are_components_of_the_stages_that_read_their_files() -> None:
    reader = "stpp.data.readers.scan"
    after = plan_of(fabricate.tiny(), readers={"unlabeled": [reader]})
    reading = {folder for folder, stage in after.stages.items() if "unlabeled" in stage.data}
    assert {folder for folder, stage in after.stages.items() if reader in stage.components} == reading
    assert kinds(after, "predict") and set(kinds(after, "predict")) <= reading


def test_identities_depend_on_the_code() -> None:
    assert not set(plan_of(fabricate.tiny()).stages) & set(plan_of(fabricate.tiny(), code="v2").stages)


@pytest.mark.parametrize("checkpoints", [2, 5])
def test_checkpoints_are_a_setting(checkpoints: int) -> None:
    training = fabricate.tiny()["training"]
    training["teacher"]["epochs"] = 10
    plan = plan_of(fabricate.tiny(selection={"checkpoints": checkpoints}, training=training))
    run = roles(plan, "st++")
    assert sum(role.startswith("masks") for role in run) == checkpoints
    assert len(plan.stages[run["score"]].inputs["masks"]) == checkpoints


# --- the methods beside ST++ ------------------------------------------------------------------------------------------


def planned(**experiments: dict[str, Any]) -> Plan:
    """The plan of experiments with these overrides; each is ST++ unless it names another method."""
    return plan_of(fabricate.tiny(experiments={name: {"method": "st++"} | one for name, one in experiments.items()}))


def test_a_further_phase_relabels_all_images_with_the_last_student_and_shares_what_came_before() -> None:
    plan = planned(two={}, four={"training": {"further_phases": 2}})
    two, four = roles(plan, "two"), roles(plan, "four")
    for before, after in (("phase1", "phase1"), ("student", "phase2")):
        assert two[before] == four[after]
        assert {two[f"{before}-{subset}"] for subset in ("val", "test")} == {
            four[f"{after}-{subset}"] for subset in ("val", "test")
        }
    for labels, labeler, student in (("labels3", "phase2", "phase3"), ("labels4", "phase3", "student")):
        assert plan.stages[four[labels]].inputs == {"checkpoint": f"{four[labeler]}/last.pt"}
        assert plan.stages[four[student]].inputs == {"labels": [f"{four[labels]}/masks.h5"]}
    assert len(kinds(plan, "train")) == 1 + 4
    assert len(set(four.values())) == len(four)


@pytest.mark.parametrize(("length", "epochs"), [({"epochs": 7}, 7), ({"iterations": 100}, 20)])
def test_phase_1_may_have_a_length_of_its_own(length: dict[str, int], epochs: int) -> None:
    plan = planned(usual={}, own={"training": {"phase1": length}})
    usual, own = (
        {role: plan.stages[folder] for role, folder in roles(plan, name).items()} for name in ("usual", "own")
    )
    first, before = own["phase1"].settings["training"], usual["phase1"].settings["training"]
    assert first["epochs"] == epochs and first["iterations"] == length.get("iterations")
    assert {key: value for key, value in first.items() if before[key] != value}.keys() <= {"epochs", "iterations"}
    assert own["student"].settings == usual["student"].settings
    assert own["teacher"] is usual["teacher"] and own["phase1"] is not usual["phase1"]


def test_three_phases_are_shared_by_four() -> None:
    plan = planned(three={"training": {"further_phases": 1}}, four={"training": {"further_phases": 2}})
    three, four = roles(plan, "three"), roles(plan, "four")
    assert (three["student"], three["student-val"]) == (four["phase3"], four["phase3-val"])
    assert set(three.values()) < set(four.values())


@pytest.mark.parametrize("method", ["plain", "st"])
def test_self_training_in_one_phase_may_go_on_as_well(method: str) -> None:
    plan = planned(one={"method": method}, two={"method": method, "training": {"further_phases": 1}})
    one, two = roles(plan, "one"), roles(plan, "two")
    assert (one["student"], one["labels"], one["labels-truth"]) == (two["phase1"], two["labels"], two["labels-truth"])
    assert plan.stages[two["labels2"]].inputs == {"checkpoint": f"{one['student']}/last.pt"}
    strong = plan.stages[two["student"]].settings["augmentation"]["unlabeled"]["jitter"]
    assert (strong is None) == (method == "plain")


@pytest.mark.parametrize("method", ["st++", "random"])
def test_the_student_may_label_the_reliable_images_anew(method: str) -> None:
    plan = planned(
        teachers={"method": method},
        students={"method": method, "labeling": {"reliable": "student"}},
    )
    teachers, students = roles(plan, "teachers"), roles(plan, "students")
    assert teachers["phase1"] == students["phase1"]
    assert plan.stages[students["labels2"]].inputs == {"checkpoint": f"{students['phase1']}/last.pt"}
    assert plan.stages[students["student"]].inputs == {"labels": [f"{students['labels2']}/masks.h5"]}


def test_pixels_are_selected_from_the_labels_of_all_images() -> None:
    plan = planned(st={"method": "st"}, images={}, pixels={"method": "pixel"})
    st, images, pixels = (roles(plan, name) for name in ("st", "images", "pixels"))
    assert pixels["labels"] == st["labels"]
    assert [pixels[f"masks{k}"] for k in (1, 2, 3)] == [images[f"masks{k}"] for k in (1, 2, 3)]
    select = plan.stages[pixels["select"]]
    assert select.inputs == {
        "labels": f"{pixels['labels']}/masks.h5",
        "masks": [f"{pixels[f'masks{k}']}/masks.h5" for k in (1, 2, 3)],
    }
    assert plan.stages[pixels["phase1"]].inputs == {"labels": [f"{pixels['select']}/masks.h5"]}
    assert plan.stages[pixels["labels2"]].inputs == {"checkpoint": f"{pixels['phase1']}/last.pt"}
    stores = [f"{pixels[role]}/masks.h5" for role in ("select", "labels2")]
    assert plan.stages[pixels["student"]].inputs == {"labels": stores}


def test_confidence_needs_no_checkpoints_but_the_labeling_one() -> None:
    confident = {"method": "pixel", "selection": {"pixels": "confidence", "confidence": 0.75}}
    plan = planned(confident=confident, students=confident | {"labeling": {"reliable": "student"}})
    run = roles(plan, "confident")
    assert not any(role.startswith("masks") for role in run)
    assert plan.stages[run["labels"]].settings["confidence"] is True
    assert plan.stages[run["select"]].inputs == {"labels": f"{run['labels']}/masks.h5"}
    assert plan.stages[run["select"]].settings == {"by": "confidence", "confidence": 0.75}
    students = roles(plan, "students")
    assert students["labels2"] == run["labels2"]
    assert plan.stages[students["student"]].inputs == {"labels": [f"{run['labels2']}/masks.h5"]}


def test_what_the_selection_asks_for_moves_no_more_than_it_reads() -> None:
    asked = {
        "paper": {"stability": "miou", "constant": "scored", "balanced": False},
        "foreground": {"stability": "foreground"},
        "soft": {"stability": "soft"},
        "last": {"constant": "last"},
        "balanced": {"balanced": True},
    }
    plan = planned(plain={}, **{name: {"selection": selection} for name, selection in asked.items()})
    runs = {name: roles(plan, name) for name in ("plain", *asked)}
    assert runs["paper"] == runs["plain"]
    plain = runs["plain"]
    assert "stability" not in plan.stages[plain["score"]].settings
    assert set(plan.stages[plain["select"]].settings) == {"by", "share"}
    score = plan.stages[runs["foreground"]["score"]]
    assert score.settings["stability"] == "foreground"
    assert score.inputs == plan.stages[plain["score"]].inputs
    soft = plan.stages[runs["soft"]["masks1"]]
    assert soft.settings == plan.stages[plain["masks1"]].settings | {"confidence": True}
    assert runs["last"]["score"] == runs["balanced"]["score"] == plain["score"]
    for name, subsets in (("last", {"labeled"}), ("balanced", set())):
        select = plan.stages[runs[name]["select"]]
        assert select.inputs == plan.stages[plain["select"]].inputs | {"masks": f"{plain['masks3']}/masks.h5"}
        assert set(select.data) == subsets
        assert ("encoding" in select.settings) == (name == "last")


def test_pixels_are_selected_by_class_from_labels_with_confidence() -> None:
    kinds = ("confidence", "share", "aligned")
    plan = planned(**{kind: {"method": "pixel", "selection": {"pixels": kind, "share": 0.25}} for kind in kinds})
    select = {kind: plan.stages[roles(plan, kind)["select"]] for kind in kinds}
    assert len({roles(plan, kind)["labels"] for kind in kinds}) == 1
    assert select["share"].settings == {"by": "share", "share": 0.25}
    assert set(select["aligned"].settings) == {"by", "share", "seed", "encoding"}
    assert [set(stage.data) for stage in select.values()] == [set(), set(), {"labeled"}]


@pytest.mark.parametrize("method", ["st", "random", "st++"])
def test_students_may_learn_some_pixels_of_the_labels(method: str) -> None:
    kept = {name: {"method": method, "labeling": {"kept": name, "share": 0.25}} for name in ("all", "share", "aligned")}
    plan = planned(plain={"method": method}, **kept)
    plain = roles(plan, "plain")
    assert roles(plan, "all") == plain
    for name in ("share", "aligned"):
        run = roles(plan, name)
        parts = [part for part in run if part.startswith("labels") and not part.endswith("truth")]
        assert parts
        for part in parts:
            stage = plan.stages[run[part]]
            assert (stage.kind, stage.settings["by"], stage.settings["share"]) == ("pixels", name, 0.25)
            predicted = plan.stages[str(stage.inputs["labels"]).rpartition("/")[0]]
            assert predicted.settings == plan.stages[plain[part]].settings | {"confidence": True}
            assert "keep_confidence" not in stage.settings
        stores = [f"{run[part]}/masks.h5" for part in parts]
        assert plan.stages[run["student"]].inputs == {"labels": stores}


def test_soft_labels_come_with_confidence() -> None:
    soft = {"training": {"student": {"loss": {"soft": True}}}}
    dice = {"training": {"student": {"loss": {"dice": 1.0}}}}
    methods = {name: {"method": name} for name in ("st", "pixel")}
    plan = planned(
        **methods, **{f"soft-{name}": soft | one for name, one in methods.items()}, dice=dice | methods["st"]
    )
    for name in methods:
        hard, run = roles(plan, name), roles(plan, f"soft-{name}")
        assert run["teacher"] == hard["teacher"]
        assert all(plan.stages[run[part]].settings["confidence"] for part in run if part in ("labels", "labels2"))
    assert plan.stages[roles(plan, "soft-pixel")["select"]].settings == {"by": "agreement", "keep_confidence": True}
    assert roles(plan, "dice")["labels"] == roles(plan, "st")["labels"]
    assert roles(plan, "dice")["student"] != roles(plan, "st")["student"]


def test_full_supervision_is_one_weakly_augmented_training_on_true_masks() -> None:
    plan = planned(supervised={"method": "supervised"})
    run = roles(plan, "supervised")
    assert set(run) == {"supervised", "supervised-val", "supervised-test"}
    stage = plan.stages[run["supervised"]]
    assert set(stage.data) == {"labeled", "truth", "val"}
    assert stage.inputs == {}
    assert stage.settings["training"]["labeled_repeat"] == 1
    assert list(stage.settings["augmentation"]) == ["labeled"]


def test_no_setting_of_a_method_touches_the_others() -> None:
    others = {method: {"method": method} for method in ("suponly", "plain", "st", "random", "st++")}
    changed = fabricate.tiny(
        experiments=others, selection={"pixels": "confidence", "confidence": 0.5}, labeling={"scales": [0.5, 1.0]}
    )
    before, after = (plan_of(config) for config in (fabricate.tiny(experiments=others), changed))
    assert set(before.stages) ^ set(after.stages) == {before.report, after.report}, "the report shows all settings"


def test_the_limits_of_the_report_are_for_the_report_alone() -> None:
    before, after = plan_of(fabricate.tiny()), plan_of(fabricate.tiny(report={"size": 20, "unlabeled": 0}))
    assert set(before.stages) ^ set(after.stages) == {before.report, after.report}
    assert after.stages[after.report].settings["report"] == {"size": 20.0, "judged": 500, "unlabeled": 0, "next": 8}


def test_what_the_look_at_the_data_warned_of_is_for_the_report_alone() -> None:
    classes = ["background", "road", "tree"]
    plan = plan_of(fabricate.tiny(), classes=classes)
    warned = plan_of(fabricate.tiny(), classes=classes, warnings=["two images are alike", "one class is rare"])
    assert warned.stages[warned.report].settings["data_warnings"] == ["two images are alike", "one class is rare"]
    assert set(warned.stages) - set(plan.stages) == {warned.report}
    assert "data_warnings" not in plan.stages[plan.report].settings


def test_the_report_is_told_of_classes_that_flips_confuse() -> None:
    plan = plan_of(fabricate.tiny(), classes=["background", "left_door", "right_door"])
    (doubt,) = plan.stages[plan.report].settings["data_warnings"]
    assert "left_door and right_door" in doubt
