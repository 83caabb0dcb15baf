"""What networks take to compute, counted by hand."""

from dataclasses import asdict
from fractions import Fraction
from typing import Any

import fabricate
import pytest
from fabricate import plan_of

from stpp.plan.computation import computation, iterations
from stpp.plan.parts import networks, result

UNLABELED = 10
TRAINING = {
    "teacher": {"iterations": 100, "batch_size": 4, "crop": 24, "base_size": 32},
    "student": {"iterations": 200, "batch_size": 8, "crop": 16, "base_size": 40},
}
TEACHER = 100 * 4 * 24**2 * 3
STUDENT = 200 * 8 * 16**2 * 3
TTA = Fraction(25, 16) * 2
"""The scales 0.75 and 1, with the mirror image."""


def computed(method: str, **changes: Any) -> Fraction:
    """The computation of the result of a method."""
    settings = {"training": TRAINING, "labeling": {"scales": [0.75, 1.0]}, "selection": {"share": 0.3}} | changes
    plan = plan_of(fabricate.tiny(experiments={"e": {"method": method}}, **settings))
    run = asdict(plan.runs[0])
    return computation(networks(run)[result(run)], plan.stages, UNLABELED)


def test_labels_alone_are_one_training() -> None:
    assert computed("suponly") == TEACHER


def test_self_training_adds_the_labels_of_all_images_and_a_student() -> None:
    assert computed("st") == TEACHER + UNLABELED * 32**2 * TTA + STUDENT


def test_two_phases_add_the_masks_of_all_checkpoints_and_label_each_image_once() -> None:
    masks = 3 * UNLABELED * 32**2
    labels = 3 * 32**2 * TTA + 7 * 40**2 * TTA
    assert computed("st++") == TEACHER + masks + labels + 2 * STUDENT
    assert computed("random") == TEACHER + labels + 2 * STUDENT


def test_images_have_the_long_side_at_which_they_are_predicted() -> None:
    expected = TEACHER + UNLABELED * 64**2 * TTA / 2 + STUDENT
    labeling = {"scales": [0.75, 1.0], "flip": False}
    assert computed("st", prediction={"long_side": 64}, labeling=labeling) == expected


@pytest.mark.parametrize("moments", [0, 2])
def test_an_online_method_is_what_its_steps_compute_not_what_measures_it(moments: int) -> None:
    """FixMatch learns from a labeled image once, from an unlabeled one in two views."""
    assert computed("fixmatch", evaluation={"moments": moments}) == 200 * 16**2 * (4 * 3 + 4 * 2 * 3)


def test_an_online_teacher_counts_by_its_steps() -> None:
    training = TRAINING | {"teacher": TRAINING["teacher"] | {"online": "mean_teacher"}}
    assert computed("suponly", training=training) == 100 * 24**2 * (2 * 3 + 2 * 4)


def test_the_first_of_two_networks_that_teach_each_other_in_turns_takes_all_but_its_own_last_labels() -> None:
    """DMT with one share: two teachers; the first labels for the second, and that one for the first."""
    labels = UNLABELED * 32**2 + UNLABELED * 40**2
    assert computed("dmt", methods={"dmt": {"shares": [0.5]}}) == 2 * TEACHER + labels + 2 * STUDENT


def test_iterations_are_rounded_up_to_rounds_of_equal_length() -> None:
    assert [iterations({"training": {"iterations": n, "epochs": 20}}) for n in (1, 20, 21)] == [20, 20, 40]
