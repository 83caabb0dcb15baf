"""The outputs that docs/results.md and docs/tutorial.md show have the form of today's: stages, reasons, labels.

Times and metrics are those of one run, and nothing checks them.
"""

import re
from pathlib import Path
from typing import Any

import fabricate
import pytest
import yaml
from conftest import ROOT
from pages import output
from runs import small_demo

from stpp.commands.diff import as_text as diff_text
from stpp.commands.diff import compare, side_of
from stpp.commands.forecast import as_text as plan_text
from stpp.commands.forecast import forecast
from stpp.commands.status import STATES
from stpp.data.demo import CLASSES

RESULTS, TUTORIAL = ROOT / "docs/results.md", ROOT / "docs/tutorial.md"
DEMO = yaml.safe_load((ROOT / "config.yaml").read_text())
SMALL = small_demo() | {"seeds": [0, 1], "experiments": {name: {"method": name} for name in ("suponly", "st", "st++")}}


def longer(raw: dict[str, Any]) -> dict[str, Any]:
    """The two changes of docs/results.md."""
    training = raw["training"]
    student = training["student"] | {"epochs": 9}
    return raw | {"selection": {"share": 0.25}, "training": training | {"student": student}}


def another(raw: dict[str, Any]) -> dict[str, Any]:
    """The experiment that docs/tutorial.md adds."""
    (line,) = re.findall(r"^    (  quarter: .*)$", TUTORIAL.read_text(), re.MULTILINE)
    return raw | {"experiments": raw["experiments"] | yaml.safe_load(line)}


def without_times(text: str) -> list[str]:
    """The lines of a forecast without its times, and without the width of its columns."""
    time = r"(~ )?(\d[\d.]* (h|min|s) ?)+"
    return [re.sub(r" {2,}", "  ", re.sub(rf"(, |  ){time}( of work|  )", r"\1", line)) for line in text.splitlines()]


@pytest.mark.parametrize(("page", "before", "change"), [(RESULTS, SMALL, longer), (TUTORIAL, DEMO, another)])
def test_what_would_run_and_why(
    page: Path, before: dict[str, Any], change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results = fabricate.pretend(before, fabricate.plan_of(before))
    after = change(before)
    said = without_times(plan_text(after["name"], forecast(fabricate.plan_of(after), results / "stages")))
    shown = without_times("\n".join(output(page, r"demo: \d+ of")))
    left_out = shown.index("...")
    assert said[:left_out] == shown[:left_out]
    last = shown[left_out + 1 :]
    goes_on = said.index(last[0], left_out)
    assert said[goes_on : goes_on + len(last)] == last


@pytest.mark.parametrize(("page", "raw"), [(RESULTS, SMALL), (TUTORIAL, DEMO)])
def test_how_far_it_is(page: Path, raw: dict[str, Any]) -> None:
    *lines, _, summary = output(page, f"({'|'.join(STATES)}) +[a-z]+/")
    planned = {folder.rpartition("-")[0] for folder in fabricate.plan_of(raw).stages}
    for line in lines:
        state, folder, *_ = line.split()
        assert state in STATES
        assert folder.rpartition("-")[0] in planned
    total = re.match(rf"demo: {len(fabricate.plan_of(raw).stages)} stages: ", summary)
    assert total, summary
    counts = dict(part.split()[::-1] for part in summary[total.end() :].partition(";")[0].split(", "))
    assert counts.keys() <= set(STATES)
    assert sum(map(int, counts.values())) == len(fabricate.plan_of(raw).stages)


def test_the_states_are_all() -> None:
    assert set(re.findall(r"^\| (\w+) \|", RESULTS.read_text(), re.MULTILINE)) == {"state", *STATES}


def test_how_two_experiments_differ(finished: Path) -> None:
    experiments = finished / "my results/runs/tiny/experiments"
    said = diff_text(compare(side_of(experiments / "st"), side_of(experiments / "st++"))).splitlines()
    labels = {label_of(line) for line in said}
    for line in output(RESULTS, " +experiment +runs"):
        assert label_of(line) in labels | {*CLASSES, "..."}, line


def label_of(line: str) -> str:
    """What stands at the left of a line, before numbers, paths and what depends on the number of seeds."""
    return re.split(r"[ (]{2,}| \(| *[\d]", line.strip())[0]
