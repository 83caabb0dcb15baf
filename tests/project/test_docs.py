"""What the documentation quotes, links and names is there: messages, pages and files."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pages import PAGES

QUOTED = re.findall(r"^    (.*)$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
LEAST = 12
"""Fewer characters than these, without placeholders, are found in any code."""


def texts(tree: ast.AST) -> list[str]:
    """The strings of some code, `\\0` for what an f-string fills in; no docstrings, which nobody is told."""
    nodes = list(ast.walk(tree))
    elsewhere = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    elsewhere |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in elsewhere:
            found.append(node.value)
    return found


def is_said(message: str, said: list[str]) -> bool:
    """Whether one of the texts has all parts of `message` that stand between its `...`, in this order."""
    pattern = re.compile(".*".join(re.escape(part.strip(" ")) for part in message.split("...")), re.DOTALL)
    return any(pattern.search(text) for text in said)


TREES = [ast.parse(path.read_text()) for path in (ROOT / "stpp").rglob("*.py")]
SAID = [text for tree in TREES for text in texts(tree)]


@pytest.mark.parametrize("message", QUOTED)
def test_each_quoted_message_is_in_the_code(message: str) -> None:
    assert len(message.replace("...", "").strip()) >= LEAST, "too short to tell whether it is there"
    assert is_said(message, SAID), "no text of the code is like this; correct docs/troubleshooting.md"


def test_messages_are_told_apart() -> None:
    tree = ast.parse('def f(x, n):\n    """Like no other."""\n    return f"{x} has {n} images" f" of {x!r}: too few"')
    said = texts(tree)
    assert is_said("... has ... images of ...: too few", said)
    assert is_said("... images of ...", said)
    assert not is_said("... has ... masks of ...: too few", said)
    assert not is_said("too few ... images", said)
    assert not is_said("Like no other.", said)


def test_each_warning_about_results_is_explained() -> None:
    calls = [node for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.Call)]
    warned = [text for call in calls if ast.unparse(call.func) == "job.warn" for text in texts(call)]
    warned = [text for text in warned if len(text) > LEAST]
    assert len(warned) >= 6
    unexplained = [text for text in warned if not any(is_said(message, [text]) for message in QUOTED)]
    assert not unexplained, "explain these in docs/troubleshooting.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    assert not [target for target in targets if not (page.parent / target).exists()]


def test_each_file_that_contributors_are_shown_is_there() -> None:
    named = set(re.findall(r"`([\w/]+(?:/|\.(?:py|smk|lock|json)))`", (ROOT / "CONTRIBUTING.md").read_text()))
    # In a list, a folder stands before the first file only.
    folders = [ROOT, ROOT / "stpp", ROOT / "tests", *(ROOT / "stpp").glob("*/"), *(ROOT / "tests").glob("*/")]
    assert {"stpp/plan/", "plan/stagegraph.py"} <= named
    assert not [name for name in sorted(named) if not any((folder / name).exists() for folder in folders)]


# --- the README -------------------------------------------------------------------------------------------------------

README = (ROOT / "README.md").read_text()


def test_the_readme_is_short() -> None:
    assert len(README.split()) < 1200


def test_the_readme_begins_with_the_promise_and_two_commands_that_do_all_setup() -> None:
    first, *_ = re.findall(r"(?:^    .*\n)+", README, re.MULTILINE)
    assert first.split("\n    ") == ["    make demo", "make test\n"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}: setup( |$)", makefile, re.MULTILINE) for target in ("demo", "test"))
    assert re.search(r"\bmake test$", (ROOT / ".ci/run").read_text(), re.MULTILINE)


def test_each_dependency_has_its_place_in_one_line_of_the_readme() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {extra: own for extra, own in project["optional-dependencies"].items() if extra != "dev"}
    wanted = [canonicalize_name(Requirement(text).name) for text in sum(extras.values(), project["dependencies"])]
    rows = re.findall(r"^\| ([\w, -]+) \| (.+) \|$", README.partition("## Dependencies")[2], re.MULTILINE)
    named = [name for names, _ in rows[1:] for name in names.split(", ")]
    assert sorted(named) == sorted(wanted)


def test_each_page_of_the_documentation_is_one_or_two_steps_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", README))
    linked |= {page for name in linked for page in re.findall(r"\]\(([\w-]+\.md)", (ROOT / "docs" / name).read_text())}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - linked == {"index.md"}
