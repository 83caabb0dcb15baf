"""The code of a stage as a part of its identity.

A stage's code is the module that runs it and all modules of the package that this one imports, directly or not, but
for those that cannot change a result (`OUTSIDE`). As long as their syntax trees are those that `stages.lock` records,
the stage counts as its released version, so a release runs again only what it changed; otherwise it counts as the hash
of the trees, so whoever edits the code gets new results beside the old ones. Comments, docstrings and formatting do not
count.

`stages.lock` also records, for the bytes of each module, the hash of its tree and what it imports. That spares parsing
at every start, and makes a release count as itself under a version of Python that parses it otherwise.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from stpp.common.description import NetworkDescription
from stpp.common.registry import DECODERS, ENCODERS, METHODS, PACKAGE, READERS, module_of, modules

LOCK = Path(__file__).with_name("stages.lock")

MODULES = {
    "length": "stpp.stages.length",
    "encode": "stpp.stages.encode",
    "train": "stpp.stages.train",
    "predict": "stpp.stages.predict",
    "score": "stpp.stages.score",
    "select": "stpp.stages.select",
    "pixels": "stpp.stages.pixels",
    "evaluate": "stpp.stages.evaluate",
    "outlook": "stpp.report.outlook",
    "verdict": "stpp.report.verdict",
    "table": "stpp.report.table",
    "chart": "stpp.report.figures",
    "report": "stpp.report.page",
}
"""The module that runs each stage."""
FOLDERS = (ENCODERS, DECODERS, METHODS, READERS)
"""Where the components are that a recipe names."""
SEPARABLE = "stpp.models.separable"
"""The component of networks with separable convolutions."""
OUTSIDE = frozenset(
    {
        "stpp.common.errors",  # messages
        "stpp.common.description",  # whether what describes a network is such; a recipe says all of it
        "stpp.common.section",
        "stpp.runtime.faults",
        "stpp.runtime.job",  # what a job finds and leaves beside its artifacts
        "stpp.plan.recipe",
        "stpp.plan.staleness",
        "stpp.plan.identity",
        "stpp.plan.code",
        "stpp.runtime.progress",  # how far a stage is, and when it saves
        "stpp.runtime.events",
        "stpp.runtime.lease",  # which machine and which GPUs it runs on
        "stpp.runtime.launch",
        "stpp.runtime.lock",  # who else is at work
        "stpp.common.owner",
        "stpp.common.terminal",  # how text reaches a terminal
        "stpp.common.disk",  # what files are called
        "stpp.common.files",  # how bytes reach the disk
    }
)
"""Modules that cannot change the bytes of a result: they stop a stage, or do not touch it."""


def network_modules(network: NetworkDescription) -> tuple[str, ...]:
    """The components of a network: the modules of its encoder, its decoder, and its separable convolutions if any."""
    parts = module_of(ENCODERS, network.backbone), module_of(DECODERS, network.architecture)
    return (*parts, SEPARABLE) if network.separable else parts


def code_identity(stage: str, components: Iterable[str] = ()) -> str:
    """The code of `stage` and of the `components` that it uses, which are modules: `v1 resnet:v2`.

    For each, the version where its code is the recorded one, else the first 12 hex digits of its hash.
    """
    return " ".join([_version(stage), *(f"{module.rpartition('.')[2]}:{_version(module)}" for module in components)])


def _version(part: str) -> str:
    recorded = _lock()["stages"].get(part, {})
    digest = code_hash(part)
    return f"v{recorded['version']}" if recorded.get("code") == digest else digest[:12]


def changed() -> list[str]:
    """The stages and components whose code is not what is recorded."""
    recorded = _lock()["stages"]
    return [part for part in parts() if recorded.get(part, {}).get("code") != code_hash(part)]


def parts() -> list[str]:
    """All that has a version: the stages and the components."""
    components = dict.fromkeys(module for folder in FOLDERS for module in modules(folder).values())
    return [*MODULES, *components, SEPARABLE]


@cache
def code_hash(part: str) -> str:
    """SHA-256 (hex) over the names and syntax trees of all modules of a stage or a component."""
    digest = hashlib.sha256()
    for module in sorted(modules_of(part)):
        digest.update(f"{module} {_module(module)['tree']}\n".encode())
    return digest.hexdigest()


def modules_of(part: str) -> set[str]:
    """The modules of the package that a stage or a component runs: the import closure of its own module."""
    found: set[str] = set()
    waiting = [MODULES.get(part, part)]
    while waiting:
        module = waiting.pop()
        if module not in found and module not in OUTSIDE:
            found.add(module)
            waiting += _module(module)["imports"]
    return found


def stamp(stage: str, same_result: bool) -> int:
    """Record the current code of a stage or a component; its version is kept where the result is the same, else raised.

    Returns the version.
    """
    stages = dict(_lock()["stages"])
    version = stages.get(stage, {"version": 1 if same_result else 0})["version"] + (not same_result)
    stages[stage] = {"version": version, "code": code_hash(stage)}
    known = {module: _module(module) for part in parts() for module in modules_of(part)}
    lock = {"stages": dict(sorted(stages.items())), "modules": dict(sorted(known.items()))}
    LOCK.write_text(json.dumps(lock, indent=1) + "\n")
    _lock.cache_clear()
    return version


@cache
def _lock() -> dict[str, Any]:
    lock: dict[str, Any] = json.loads(LOCK.read_text()) if LOCK.exists() else {"stages": {}, "modules": {}}
    return lock


@cache
def _module(module: str) -> dict[str, Any]:
    """The digest of a module's bytes, that of its syntax tree without docstrings, and the modules that it imports."""
    source = _file(module).read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    recorded: dict[str, Any] = _lock()["modules"].get(module, {})
    if recorded.get("bytes") == digest:
        return recorded
    tree = ast.parse(source)
    imports = sorted(set(_imports(tree)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [child for child in node.body if not _is_text(child)]
    return {"bytes": digest, "tree": hashlib.sha256(_written(tree).encode()).hexdigest(), "imports": imports}


def _written(node: Any) -> str:
    """A syntax tree without its empty fields, of which newer versions of Python have more."""
    if isinstance(node, list):
        return f"[{', '.join(map(_written, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
    return f"{type(node).__name__}({', '.join(f'{name}={_written(value)}' for name, value in fields)})"


def _is_text(node: ast.stmt) -> bool:
    """A docstring, of a function or of the name above it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "stpp" and name != "stpp" and _file(name).exists())


def _file(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
