"""Components that are found by their names: a folder of the package with a file for each, or for some of one family.

A file says on lines of its own, as plain values, what is to be known without importing it: `NAMES = ("resnet18", ...)`
and what else its folder's users ask for. So settings are checked without torch, a new component is one new file, and
it is part of the code of those stages alone whose recipes name it.
"""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = Path(__file__).parent.parent
ENCODERS, DECODERS, METHODS = "models/encoders", "models/decoders", "methods"
LAYOUTS, READERS, IMPORTERS = "data/layouts", "data/readers", "importers"


@cache
def modules(folder: str) -> dict[str, str]:
    """The modules in `folder`, by the names of the components that they hold, in alphabetical order of the files."""
    found: dict[str, str] = {}
    for path in sorted((PACKAGE / folder).glob("[a-z]*.py")):
        module = f"stpp.{folder.replace('/', '.')}.{path.stem}"
        found |= dict.fromkeys(constant(module, "NAMES"), module)
    return found


def module_of(folder: str, name: str) -> str:
    """The module in `folder` that holds the component `name`. Raises KeyError for an unknown one.

    Where a file's `NAMES` end in a slash, as in `timm/`, it holds all components whose names begin with that.
    """
    known = modules(folder)
    return known[name] if name in known else known[name.partition("/")[0] + "/"]


@cache
def constant(module: str, name: str, default: Any = ()) -> Any:
    """The value that the line `name = value` gives in the source of `module`, read and not run; else `default`."""
    source = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py").read_text(encoding="utf-8")
    line = re.search(rf"^{name} = (.*)$", source, re.MULTILINE)
    return default if line is None else ast.literal_eval(line[1])


def component(folder: str, name: str) -> ModuleType:
    """The module that holds the component `name` of `folder`, imported. Raises KeyError for an unknown one."""
    return import_module(module_of(folder, name))
