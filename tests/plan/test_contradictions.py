"""What the configuration asks and the data cannot give is said before anything runs."""

from typing import Any

import fabricate
import pytest

from stpp.methods import methods
from stpp.plan.contradictions import contradictions
from stpp.settings.configfile import load, resolved


def said(method: str, counts: dict[str, int], **changes: Any) -> list[str]:
    """The problems of a configuration with one experiment on data of these sizes."""
    config = load(fabricate.tiny(experiments={"e": {"method": method}}, **changes))
    index = {"subsets": {subset: {"count": count} for subset, count in counts.items()}}
    return contradictions(resolved(config, "e"), index)


ENOUGH = {"labeled": 4, "unlabeled": 6, "val": 2}


@pytest.mark.parametrize("method", [method.name for method in methods() if not method.truth])
def test_enough_data_is_no_problem(method: str) -> None:
    assert said(method, ENOUGH) == []


@pytest.mark.parametrize(
    ("method", "counts", "changes", "expected"),
    [
        ("st", {"labeled": 4}, {}, "method st needs unlabeled images"),
        ("st++", {"labeled": 4, "unlabeled": 1}, {}, "of 1 the share 0.5 is none"),
        ("suponly", {"labeled": 1}, {}, "an epoch of the teacher has 2 images, too few for one batch of 4"),
        (
            "st++",
            {"labeled": 1, "unlabeled": 2},
            {"training": {"teacher": {"iterations": 8}, "student": {"iterations": 8}, "phase1": {"epochs": 2}}},
            "an epoch of the student has 2 images, too few for one batch of 16",
        ),
        ("st", {"labeled": 2, "unlabeled": 1}, {}, "an epoch of the student has 3 images"),
        ("suponly", {"labeled": 4}, {"evaluation": {"checkpoint": "best"}}, "no val set to choose it"),
        ("pixel", {"labeled": 4}, {}, "method pixel needs unlabeled images"),
        ("supervised", ENOUGH, {}, "true masks of all unlabeled images, but 6 of 6 have none"),
        ("supervised", ENOUGH | {"truth": 5}, {}, "but 1 of 6 have none"),
        ("supervised", {"labeled": 1, "unlabeled": 1, "truth": 1}, {}, "an epoch of the student has 2 images"),
    ],
)
def test_what_does_not_fit_is_said(method: str, counts: dict[str, int], changes: dict[str, Any], expected: str) -> None:
    (problem,) = said(method, counts, **changes)
    assert expected in problem


def test_weights_of_classes_that_the_data_lack_are_refused() -> None:
    training = fabricate.tiny()["training"]
    training["teacher"]["loss"] = {"class_weights": {"left": 2.0, "lift": 3.0}}
    config = load(fabricate.tiny(experiments={"e": {"method": "suponly"}}, training=training))
    index = {"subsets": {"labeled": {"count": 4}}, "classes": ["background", "left", "right"]}
    (problem,) = contradictions(resolved(config, "e"), index)
    assert "training.teacher.loss.class_weights names lift, but the classes are background, left, right" in problem


def test_the_length_of_phase_1_matters_where_there_is_one() -> None:
    lengths = {"training": {"teacher": {"iterations": 8}, "student": {"iterations": 8}, "phase1": {"epochs": 2}}}
    few = {"labeled": 1, "unlabeled": 2, "truth": 2}
    for method in ("st", "supervised"):
        assert said(method, few, **lengths) == []
    for method in ("random", "pixel"):
        assert len(said(method, few, **lengths)) == 1


def test_the_methods_with_a_phase_1_are_those_whose_plan_has_one() -> None:
    for each in methods():
        plan = fabricate.plan_of(fabricate.tiny(experiments={"e": {"method": each.name}}))
        roles = {stage.role for stage in plan.stages.values()}
        assert ("student-phase1" in roles) == each.phase1


def test_labels_alone_need_no_unlabeled_images() -> None:
    assert said("suponly", {"labeled": 4}) == []


def test_full_supervision_needs_their_true_masks() -> None:
    assert said("supervised", ENOUGH | {"truth": 6}) == []


def test_pixels_of_all_images_are_enough_where_a_share_of_them_is_not() -> None:
    few = {"labeled": 4, "unlabeled": 1}
    assert said("pixel", few) == []
    assert said("st++", few) != []


@pytest.mark.parametrize("method", [method.name for method in methods() if method.online])
def test_half_of_each_batch_has_to_be_unlabeled(method: str) -> None:
    (none,), (few,) = said(method, {"labeled": 4}), said(method, {"labeled": 4, "unlabeled": 1})
    assert f"method {method} needs unlabeled images" in none
    assert f"half of each batch of method {method} are unlabeled images, 2, but there are 1 in all" in few
    assert said(method, {"labeled": 1, "unlabeled": 2}) == []


@pytest.mark.parametrize("method", [method.name for method in methods() if method.online and method.online.mixes])
def test_a_method_that_mixes_needs_pairs_in_each_process(method: str) -> None:
    enough = {"labeled": 4, "unlabeled": 9}
    sizes = {"training": {"student": fabricate.TINY["training"]["student"] | {"batch_size": 6}}}
    (odd,) = said(method, enough, **sizes)
    assert f"method {method} mixes pairs" in odd and "a batch has 6" in odd and "to a multiple of 4" in odd
    (spread,) = said(method, enough, runtime={"train": {"gpu": 2}})
    assert "to a multiple of 8" in spread
