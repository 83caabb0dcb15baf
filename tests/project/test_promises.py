"""Each promise of docs/promises.md names tests that are there."""

import ast
import re

import pytest
from conftest import ROOT

TEXT = (ROOT / "docs/promises.md").read_text()
NAMED = re.findall(r"`(\w+\.py(?:::\w+)?)`", TEXT)
PROMISED = [line for part in TEXT.split("\n## ")[1:] for line in part.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("name", sorted(set(NAMED)))
def test_each_named_test_exists(name: str) -> None:
    file, _, function = name.partition("::")
    (path,) = (ROOT / "tests").rglob(file)
    if function:
        tree = ast.parse(path.read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_promise_names_a_test() -> None:
    lines = [line for line in PROMISED if not line.endswith(("| test |", "| what holds |"))]
    assert len(lines) >= 40
    assert not [line for line in lines if not re.search(r"`\w+\.py(::\w+)?`[^|]*\|$", line)]
