"""How many distinct bad inputs the tests try: the cases of parametrized tests, whatever Hypothesis adds to them."""

import importlib
import sys
from collections.abc import Callable
from math import prod
from types import ModuleType
from typing import Any

from conftest import ROOT


def module(name: str) -> ModuleType:
    """The tests of this name, whatever folder they lie in."""
    (path,) = (ROOT / "tests").rglob(f"{name}.py")
    sys.path.append(str(path.parent))
    return importlib.import_module(name)


test_config = module("test_config")
test_contradictions = module("test_contradictions")
test_hostile_artifacts = module("test_hostile_artifacts")
test_hostile_config = module("test_hostile_config")
test_hostile_data = module("test_hostile_data")
test_hostile_names = module("test_hostile_names")
test_hostile_stores = module("test_hostile_stores")
test_images = module("test_images")
test_index = module("test_index")
test_lint = module("test_lint")
test_masks = module("test_masks")
test_weights = module("test_weights")

REFUSALS: list[Callable[..., Any]] = [
    test_config.test_faults_are_refused_with_a_sentence,
    test_contradictions.test_what_does_not_fit_is_said,
    test_hostile_artifacts.test_a_cache_that_lies_is_passed_over,
    test_hostile_artifacts.test_a_recipe_that_lies_is_refused,
    test_hostile_artifacts.test_a_record_of_a_stage_that_lies_is_refused,
    test_hostile_artifacts.test_a_text_file_that_lies_is_refused,
    test_hostile_artifacts.test_an_index_that_lies_is_made_anew,
    test_hostile_config.test_a_text_that_is_no_configuration_is_refused,
    test_hostile_data.test_a_data_set_that_lies_is_refused,
    test_hostile_data.test_a_file_that_is_no_image_is_refused_by_index_and_by_stages,
    test_hostile_data.test_a_mask_without_its_last_rows_is_refused,
    test_hostile_names.test_names_that_no_list_can_hold_are_refused,
    test_hostile_stores.test_a_checkpoint_that_lies_is_refused,
    test_hostile_stores.test_a_mask_store_that_lies_is_refused,
    test_hostile_stores.test_a_store_writes_no_picture_outside_of_the_folder,
    test_hostile_stores.test_a_truncated_checkpoint_is_refused,
    test_hostile_stores.test_what_is_no_checkpoint_is_refused_and_never_run,
    test_hostile_stores.test_what_is_no_file_is_no_store,
    test_images.test_a_truncated_file_is_refused,
    test_images.test_files_that_cannot_hold_labels_are_refused,
    test_images.test_other_files_are_refused_by_name,
    test_index.test_a_malformed_manifest_is_refused,
    test_lint.test_a_fault_is_named_and_nothing_is_written,
    test_masks.test_a_truncated_file_is_refused,
    test_masks.test_an_index_that_does_not_fit_the_pixels_is_refused,
    test_masks.test_what_is_no_confidence_is_refused,
    test_masks.test_what_is_no_mask_is_refused,
    test_weights.test_what_is_no_state_dict_is_refused,
]
"""Each tries one bad input a case, and fails if it is taken, or is refused otherwise than by a message."""


def cases(test: Callable[..., Any]) -> int:
    """The number of cases of a parametrized test."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    return prod(len(list(mark.args[1])) for mark in marks)


def test_at_least_200_distinct_bad_inputs_are_tried() -> None:
    counts = {f"{test.__module__}.{test.__name__}": cases(test) for test in REFUSALS}
    print(*(f"{count:4} {name}" for name, count in counts.items()), f"{sum(counts.values()):4} in all", sep="\n")
    assert len(counts) == len(REFUSALS)
    assert min(counts.values()) > 1
    assert sum(counts.values()) >= 200
