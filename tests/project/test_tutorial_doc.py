"""What docs/tutorial.md shows: its listings against a finished run, and the setting that it changes."""

import re
from pathlib import Path

import yaml
from conftest import ROOT

from stpp.settings.configfile import load

TEXT = (ROOT / "docs/tutorial.md").read_text()


def listed(folder: str) -> set[str]:
    """The names that `ls` shows of a folder in the text."""
    (block,) = re.findall(rf"^    {re.escape(folder)}:\n((?:    .*\n)+)", TEXT, re.MULTILINE)
    return set(block.split())


def test_the_listings_are_those_of_a_run(finished: Path) -> None:
    assert listed("results/demo") == {path.name for path in (finished / "my results/tiny").iterdir()}
    run = finished / "my results/runs/tiny/experiments/st++/seed0"
    assert listed("results/runs/demo/experiments/st++/seed0") == {path.name for path in run.iterdir()}
    columns = (run / "score/scores.csv").read_text().splitlines()[0]
    assert f"\n    {columns}\n" in TEXT


def test_the_sections_of_the_report_are_there(finished: Path) -> None:
    report = (finished / "my results/tiny/report.html").read_text()
    sections = re.findall(r"^- \*\*([A-Z][a-z ]+)\*\*:", TEXT, re.MULTILINE)
    assert len(sections) == 6
    for section in sections:
        assert f"{section}</h2>" in report


def test_the_added_experiment_is_one() -> None:
    (line,) = re.findall(r"^    (  quarter: .*)$", TEXT, re.MULTILINE)
    config = load(yaml.safe_load((ROOT / "config.yaml").read_text() + line))
    assert list(config.experiments)[-1] == "quarter"
