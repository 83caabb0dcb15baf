"""How tables, times, sizes and settings are written for people."""

import pytest

from stpp.common.wording import columns, counted, duration, in_markdown, listed, markdown, repeat_name, size
from stpp.store.inventory import ABSENT, code_shown, settings_by_name, shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (86399, "23 h 59 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_950, "1.0 MB"), (5 * 10**15, "5000.0 TB")],
)
def test_a_size_has_the_largest_decimal_unit(count: int, text: str) -> None:
    assert size(count) == text


def test_things_are_counted_and_listed() -> None:
    assert [counted(n, "stage") for n in (0, 1, 2)] == ["0 stages", "1 stage", "2 stages"]
    assert listed([]) == ""
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert listed(["a", "b"], most=1) == "a and 1 more"


def test_tables_for_the_terminal_and_for_markdown() -> None:
    rows = [["", "n"], ["a|b", "10"], ["c", ""]]
    assert columns(rows) == ["      n", "a|b  10", "c"]
    assert markdown(rows) == ["|  | n |", "| --- | ---: |", "| a\\|b | 10 |", "| c |  |"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (ABSENT, "-"),
        (True, "true"),
        (1e-4, "0.0001"),
        (10 / 3, "3.33333"),
        ([0.5, 1.0], "[0.5, 1]"),
        ({"p": 0.5, "sigma": [0.1, 2.0]}, "p 0.5, sigma [0.1, 2]"),
        ("resnet50", "resnet50"),
    ],
)
def test_settings_are_shown_as_in_the_configuration(value: object, text: str) -> None:
    assert shown(value) == text
    assert len(shown([value] * 50)) <= 60


def test_a_run_of_an_earlier_version_has_no_partition() -> None:
    assert repeat_name({"seed": 1}) == repeat_name({"seed": 1, "partition": 0}) == "seed 1"
    assert repeat_name({"seed": 1, "partition": 2}) == "partition 2, seed 1"


def test_code_is_a_version_or_an_edit() -> None:
    assert (code_shown("v12"), code_shown("0123456789ab")) == ("version 12", "edited (012345)")


def test_a_label_map_is_one_setting_and_the_number_of_classes_none() -> None:
    encoding = {"classes": 3, "ignore": 255, "label_map": {"0": 1}}
    recipe = {"stage": "evaluate", "settings": {"encoding": encoding}, "inputs": {"checkpoint": "train/x/best.pt"}}
    assert settings_by_name(recipe) == {
        "data.ignore": 255,
        "data.label_map": {"0": 1},
        "evaluation.checkpoint": "best",
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("<script>alert(1)</script>", r"\<script\>alert(1)\</script\>"),
        ("`x` **b** _i_ ~~s~~ [l](u)", r"\`x\` \*\*b\*\* \_i\_ \~\~s\~\~ \[l\](u)"),
        ("labeled_repeat", "labeled_repeat"),
        ("&lt; \\", r"\&lt; \\"),
        ("two\n# lines", "two # lines"),
        ("a\x1b[0m", r"a\\x1b\[0m"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text: str, shown: str) -> None:
    assert in_markdown(text) == shown
    assert markdown([[text]])[0] == f"| {shown} |"
