"""Wherever the project shows a command of Snakemake, its target stands before the options.

`--configfile` and `--config` take several words, so a target behind them would be taken for a file or a setting.
"""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT
from pages import ALL, PAGES
from snakemake.cli import get_argument_parser

from stpp.plan.targets import TARGETS

FILES = [ROOT / "Makefile", ROOT / "Snakefile", ROOT / "config.yaml", *PAGES]
FILES += [path for folder in ("config", "experiments", "profiles") for path in (ROOT / folder).rglob("*.yaml")]
FILES += [*(ROOT / "rules").glob("*.smk"), *(ROOT / "stpp").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
COMMAND = re.compile(r"(?:\bsnakemake|\$\(SNAKEMAKE\))((?: +(?:'[^']*'|[^\s`'\",;|]+))+)")
PARTS = {"--configfile": r".*\.ya?ml|[A-Z]+|{\w+}", "--config": r".*=.*"}
"""By options that take several words: what such a word looks like."""


def shown(text: str) -> list[list[str]]:
    """The words behind `snakemake`, of each command in a text."""
    found = COMMAND.findall(re.sub(r"\s*\\\n\s*", " ", text))
    return [re.findall(r"(?:'[^']*'|\S)+", words) for words in found]


def swallowed(words: list[str]) -> list[str]:
    """The words behind an option that takes several files or settings which are neither."""
    found, option = [], ""
    for word in words:
        if word.startswith("-"):
            option = word
        elif option in PARTS and not re.fullmatch(PARTS[option], word):
            found.append(word)
    return found


def test_no_file_shows_a_target_behind_files_or_settings() -> None:
    commands = [(path.name, words) for path in FILES for words in shown(path.read_text())]
    assert len([words for _, words in commands if "--configfile" in words]) >= 8
    assert not [(name, words) for name, words in commands if swallowed(words)]


@pytest.mark.parametrize("command", [command for command in ALL if re.match(r"\S*snakemake ", command)])
def test_snakemake_understands_a_command_as_it_is_meant(command: str) -> None:
    words = shlex.split(command)[1:]
    options = get_argument_parser().parse_args(words)
    leading = words[: next((number for number, word in enumerate(words) if word.startswith("-")), len(words))]
    assert sorted(options.targets) == leading, "write targets first"
    assert not [word for word in leading if word not in TARGETS]
    assert not swallowed(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_is_written_out_and_not_described_by_its_target(page: Path) -> None:
    target = rf"`(?:{'|'.join(TARGETS)})`"
    text = " ".join(page.read_text().split())
    assert not re.findall(rf"(?:with|without|put|append|add|leave) {target} (?:behind|in|after|at the end|away)", text)
    assert not re.findall(rf"same command (?:with|without) {target}", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`snakemake --cores all --configfile my.yaml teacher`", ["teacher"]),
        ("$(SNAKEMAKE) --config 'seeds=[0, 1]' \\\n    'x=1' report --cores 2\n", ["report"]),
        ("snakemake teacher --cores all --configfile a.yaml b.yml --config seeds=[1]", []),
    ],
)
def test_what_is_swallowed(text: str, expected: list[str]) -> None:
    (words,) = shown(text)
    assert swallowed(words) == expected
