"""YAML text to plain values, without the parts of YAML that nobody means in a configuration.

Aliases may multiply a few lines into a billion values, a key may stand twice, tags may name Python objects, and a value
may look like a date: PyYAML's safe loader takes all but the third of them without a word. Snakemake, which reads the
file first, takes it for a program where a key asks for that.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from stpp.common.errors import StppError

MOST_VALUES = 100_000
"""Values of a configuration, counted as often as aliases repeat them; the longest ones in use have some hundred."""
DEEPEST = 50
"""Levels of lists and mappings within each other; a configuration has six."""

PLAIN = ("map", "seq", "str", "int", "float", "bool", "null", "merge")
"""Kinds of values that a setting may have."""
PROGRAM = "__use_yte__"
"""The key that makes Snakemake run what stands in a configuration. Merging can bring it from anywhere to the top."""
ODD_NUMBER = re.compile(r"^[-+]?0[0-9_]+$|:")


def read_yaml(path: Path) -> Any:
    """The values in a YAML file. Raises StppError, with the line, for what is no YAML, or no plain one."""
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
        if node is None:
            return None
        refuse_excess(node, _children)
        for found in _nodes(node):
            _refuse_the_unusual(found)
        return loader.construct_document(node)
    except (OSError, UnicodeDecodeError) as error:
        raise StppError(
            f"cannot read the configuration {path}: {error}; expected a text file in UTF-8, as YAML"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise StppError(f"cannot read the configuration {path}: {error}; correct the file, which is YAML") from None
    except KeyError as error:
        raise StppError(f"cannot read the configuration {path}: expected true or false, found {error}") from None
    except RecursionError:
        raise StppError(f"cannot read the configuration {path}: {_TOO_DEEP}") from None


_TOO_DEEP = f"its lists and mappings are nested more than {DEEPEST} levels deep; write them flat"


def refuse_excess(value: Any, children: Callable[[Any], Iterable[Any]]) -> None:
    """Raise ValueError if `value` holds itself, is nested too deep, or repeats its parts too often.

    `children` gives the parts of a part. Each is looked at once, however often it is repeated.
    """
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def size(part: Any, depth: int) -> int:
        if id(part) in open_:
            raise ValueError("an alias (`*name`) stands within what it repeats; write the values out")
        if depth > DEEPEST:
            raise ValueError(_TOO_DEEP)
        if id(part) not in sizes:
            open_.add(id(part))
            sizes[id(part)] = 1 + sum(size(child, depth + 1) for child in children(part))
            open_.remove(id(part))
        return sizes[id(part)]

    if (found := size(value, 0)) > MOST_VALUES:
        raise ValueError(
            f"it has {found:,} values, more than {MOST_VALUES:,}; take out aliases (`*name`) that repeat aliases"
        )


def parts_of(value: Any) -> Iterable[Any]:
    """The parts of a plain value: those of a list, or the values of a mapping."""
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()


def _children(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def _nodes(top: yaml.Node) -> Iterator[yaml.Node]:
    """Every node once."""
    seen: set[int] = set()
    waiting = [top]
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting += _children(node)


def _refuse_the_unusual(node: yaml.Node) -> None:
    """Raise ValueError for a value that YAML reads otherwise than people do, and for a mapping with a key twice."""
    where = f"line {node.start_mark.line + 1}"
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind == "timestamp":
        raise ValueError(f"{where}: YAML takes {node.value} for a date; put it into quotes")
    if kind not in PLAIN:
        raise ValueError(f"{where}: a value with the tag {kind!r}; expected text, a number, a list or a mapping")
    if kind in ("int", "float") and ODD_NUMBER.search(node.value):
        raise ValueError(
            f"{where}: YAML takes {node.value} for a number to the base 8 or 60; write it without a leading 0 or "
            "colons, or, where it is text, in quotes"
        )
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value == PROGRAM:
                raise ValueError(
                    f"line {line}: the key {PROGRAM!r} makes Snakemake run the Python code in this file; expected "
                    "values alone. Do not run a file that somebody else wrote; in your own, take out key and code"
                )
            if key.value in seen:
                raise ValueError(f"line {line}: the key {key.value!r} occurs a second time; keep one of them")
            seen.add(key.value)
