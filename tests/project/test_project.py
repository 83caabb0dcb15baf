"""The house rules: who may import whom, environments in step with the project, and the code's identity."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stpp.common import disk
from stpp.plan import code

PACKAGE = ROOT / "stpp"
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def imports(module: str) -> set[str]:
    """The package's modules that a module imports anywhere in it, and the top-level names of others."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        names = [name for name in names if name != "stpp"]  # which is imported before whatever lies in it
        found |= {name if name.startswith("stpp") else name.split(".")[0] for name in names}
    return {name for name in found if not name.startswith("stpp") or name in MODULES or f"{name}.__init__" in MODULES}


def own(module: str) -> set[str]:
    """The package's modules that a module imports."""
    return {name for name in imports(module) if name.startswith("stpp.")}


# --- the import law ---------------------------------------------------------------------------------------------------

ABOVE = ["commands", "report", "stages", "engine"]
"""Rooms that may import all rooms below them."""
BESIDE = ["data", "importers", "models", "scoring", "store", "runtime"]
"""Rooms on one floor: they know each other only as `NEIGHBOURS` says."""
BELOW = ["plan", "methods", "settings", "common"]
"""Rooms that those of `BESIDE` stand on, and each of them on those after it."""

FLOORS = [*([room] for room in ABOVE), BESIDE, *([room] for room in BELOW)]
MAY_IMPORT = {
    room: {room, *(other for lower in FLOORS[level + 1 :] for other in lower)}
    for level, floor in enumerate(FLOORS)
    for room in floor
} | {"": set()}
"""Room -> the rooms that its modules may import; "" is what lies at the top of the package."""

NEIGHBOURS = {
    ("data.classes", "store.masks"),  # the palette of the classes that have no colours
    ("data.dataset", "store.maps"),  # what an encoder has made of images is read in their place
    ("data.dataset", "store.masks"),  # pseudo-labels are masks that are trained on
    ("importers.cityscapes_ids", "data.classes"),  # names and colours of Cityscapes and VOC
    ("importers.voc_masks", "data.classes"),
    ("importers.pictures", "data.banded"),
    ("importers.pictures", "data.images"),  # images of exports are read as those of data sets
    ("importers.pictures", "data.lists"),
    ("importers.pictures", "data.readers"),
    ("importers.pictures", "data.record"),
    ("importers.coco", "data.images"),  # and so are masks
    ("importers.pairing", "data.images"),
    ("importers.pairing", "data.readers"),
    ("importers.geotiff_masks", "data.classes"),
    ("importers.geotiff_masks", "store.geotiff"),
    ("importers.geojson", "store.geotiff"),
    ("importers.mapping", "store.geotiff"),
    ("importers.voc_masks", "store.masks"),  # which are written as they are in other places
    ("runtime.job", "data.manifest"),  # a stage reads the manifests that it was planned for
    ("store.checkpoint", "models"),  # a checkpoint gives the network that it holds
    ("store.checkpoint", "models.network"),
    ("store.checkpoint", "runtime.faults"),  # and says what to do where it does not fit into memory
    ("store.usage", "runtime.faults"),  # the smallest sizes at which images are read
}
"""What modules of one floor import of each other; no two modules import each other, directly or not."""
ENTRANCES = {("", "commands.segmenter"), ("__main__", "commands.cli")}
"""What the package itself and `python -m stpp` import: `stpp.load`, and the command line."""
REGISTRY = {("settings.config", "methods"), ("settings.reference", "methods"), ("settings.stored", "methods")}
"""The configuration and its reference ask which methods there are, and for their own settings."""


def room(module: str) -> str:
    """The room of a module below `stpp`, as in `names`; "" for one that lies at the top."""
    return module.partition(".")[0] if (PACKAGE / module.partition(".")[0]).is_dir() and module else ""


def names() -> dict[str, set[str]]:
    """Each module of the package -> those of it that it imports, all without `stpp.`; "" is the package itself."""

    def short(module: str) -> str:
        return module.removesuffix(".__init__").removeprefix("stpp").removeprefix(".")

    return {short(module): {short(name) for name in imports(module) if name.startswith("stpp")} for module in MODULES}


def test_every_module_imports_only_what_lies_below_it() -> None:
    known = names()
    assert {module for module in known if not room(module)} == {"", "__main__"}
    assert {room(module) for module in known} - {""} == {*ABOVE, *BESIDE, *BELOW}
    wrong = {
        (module, name)
        for module, own in known.items()
        for name in own - {""}
        if room(name) not in MAY_IMPORT[room(module)]
    }
    steps = {
        (module, name) for module, name in wrong if room(module) == "methods" and room(name) in ("engine", "models")
    }
    assert wrong - steps == NEIGHBOURS | ENTRANCES | REGISTRY
    # A method imports the engine and models when its step is called; to plan, its file is imported without them.
    assert all(f"stpp.{name}" not in {node.module for node in top_level(module)} for module, name in steps)


def top_level(module: str) -> list[ast.ImportFrom]:
    """The imports of a module below `stpp` that are carried out with its own import."""
    path = MODULES.get(f"stpp.{module}") or MODULES[f"stpp.{module}.__init__"]
    return [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]


def test_only_the_command_line_knows_importers() -> None:
    knows = {room(module) for module, own in names().items() if "importers" in map(room, own)}
    assert knows == {"commands", "importers"}


def test_no_two_modules_import_each_other() -> None:
    known = {module: own - {module} for module, own in names().items()}
    left = dict(known)
    while free := [module for module, own in left.items() if not own & left.keys()]:
        for module in free:
            del left[module]
    assert not left


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=lambda path: path.name)
def test_measurements_import_what_there_is(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stpp"):
            module = import_module(str(node.module))
            names = [alias.name for alias in node.names if f"{node.module}.{alias.name}" not in MODULES]
            assert not [name for name in names if not hasattr(module, name)]


def test_each_name_of_a_module_occurs_once() -> None:
    last = [path.stem for path in MODULES.values() if path.stem != "__init__"]
    assert sorted(last) == sorted(set(last))


def test_each_name_of_a_class_occurs_once() -> None:
    bodies = [ast.parse(path.read_text()).body for path in MODULES.values()]
    classes = [node.name for body in bodies for node in body if isinstance(node, ast.ClassDef)]
    # What a method's own settings are called is the same in each file of a method.
    assert sorted({*classes} - {"Settings"}) == sorted(name for name in classes if name != "Settings")


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES.values()}
    assert not {path: length for path, length in lengths.items() if length > 400}


def test_only_these_know_both_data_and_networks() -> None:
    both = {
        module for module, own in names().items() if {"data", "models"} <= {room(module)} | {room(name) for name in own}
    }
    assert both == {
        "engine.validation",
        "stages.encode",
        "stages.train",
        "stages.predict",
        "report.page",
        "commands.cli",
        "commands.export",
        "commands.segmenter",
    }


def test_networks_and_scores_know_neither_files_nor_settings() -> None:
    for module in MODULES:
        if module.split(".")[1] in ("models", "scoring"):
            assert not imports(module) & {"pathlib", "os", "io", "h5py", "stpp.common.files"}
            assert not {name for name in own(module) if name.startswith("stpp.settings")}


def test_only_the_entrances_know_the_settings() -> None:
    knows = {module for module, own in names().items() if "settings" in map(room, own)}
    assert {module for module in knows if room(module) not in ("settings", "methods", "plan")} == {
        "commands.cli",
        "commands.cli_results",
        "commands.cli_start",
        "commands.fitting",
        "commands.view",
        "commands.workflow",
    }


def test_planning_is_free_of_torch_and_numpy() -> None:
    script = "import sys, stpp.commands.workflow, stpp.plan.rules; "
    script += "print(sorted({'torch', 'numpy', 'PIL', 'pandas', 'h5py'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "stpp.commands.cli, stpp.commands.forecast, stpp.commands.status, stpp.commands.gc",
            {"torch", "numpy", "pandas", "snakemake"},
        ),
        ("stpp.commands.diff", {"torch", "snakemake"}),
    ],
)
def test_looking_at_results_starts_fast(modules: str, heavy: set[str]) -> None:
    script = f"import sys, {modules}; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_names_of_files_and_folders_of_results_stand_in_one_module() -> None:
    artifacts = {name for kind in disk.OUTPUTS for name in disk.outputs(kind).values()}
    files = {*artifacts, *disk.training_outputs(4, True).values(), disk.RECIPE, disk.TRAINING_STATE, disk.PROGRESS}
    files |= {disk.CONFIG, disk.INSPECTED, disk.CHECKED}
    folders = {disk.STAGES, disk.DATA, disk.LOGS, disk.WEIGHTS, disk.UNFINISHED, disk.PARTS, disk.LOCKS}
    folders.add(disk.TENSORBOARD)
    assert list(disk.OUTPUTS) == [kind for kind in code.MODULES if kind != "train"]
    for path in (path for path in MODULES.values() if path != PACKAGE / "common/disk.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        said = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings
        texts = {str(node.value) for node in nodes if isinstance(node, ast.Constant) and id(node) not in said}
        assert not {text for text in texts if " " not in text and text.rpartition("/")[2] in files}, path
        joined = [node.right for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)]
        assert not {node.value for node in joined if isinstance(node, ast.Constant)} & folders, path
    for path in (ROOT / "rules").glob("*.smk"):
        assert not {name for name in files if re.search(rf"(?<![\w.-]){re.escape(name)}", path.read_text())}, path


def test_rules_hold_no_logic() -> None:
    for path in (ROOT / "rules").glob("*.smk"):
        text = path.read_text()
        assert "run:" not in text
        assert "script:" not in text
        for shell in re.findall(r'shell:\s+"(.*?)"', text):
            assert shell.startswith("stpp "), path


# --- environments -----------------------------------------------------------------------------------------------------


REQUIREMENTS = ["requirements.txt", "requirements-dev.txt", "requirements-build.txt"]


def pins(name: str) -> dict[str, str]:
    """Package -> version of a requirements file."""
    lines = (ROOT / "envs" / name).read_text().splitlines()
    return dict(line.split()[0].split("==") for line in lines if not line.startswith(" "))


def test_the_pinned_environments_fit_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, wanted in {
        "requirements.txt": project["dependencies"],
        "requirements-dev.txt": sum(project["optional-dependencies"].values(), project["dependencies"]),
    }.items():
        pinned = pins(name)
        for requirement in map(Requirement, wanted):
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), (
                f"run `make lock`: {name}"
            )


def entries_of(name: str) -> list[str]:
    """The entries of a requirements file: a pin and its hashes."""
    return (ROOT / "envs" / name).read_text().replace("\\\n    ", "").splitlines()


def test_conda_hands_the_entries_of_the_requirements_to_pip() -> None:
    environment = yaml.safe_load((ROOT / "envs/environment.yaml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == entries_of("requirements.txt")


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_each_pin_carries_hashes_and_nothing_else(name: str) -> None:
    entries = entries_of(name)
    hashed = r"[a-z0-9-]+==[^\s;]+( ; platform_system == \"Linux\")?( +--hash=sha256:[0-9a-f]{64})+"
    assert entries and not [entry for entry in entries if not re.fullmatch(hashed, entry)]
    assert len(pins(name)) == len(entries)


def test_the_project_is_built_by_what_is_pinned() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert requires == [f"{name}=={version}" for name, version in pins("requirements-build.txt").items()]
    assert pins("requirements-build.txt").items() <= pins("requirements-dev.txt").items()


def test_setup_installs_nothing_without_a_hash_but_the_project() -> None:
    text = (ROOT / "Makefile").read_text()
    others = re.findall(r"^.*pip install.*$", text, re.MULTILINE)
    assert [line.split()[0] for line in others] == ["INSTALL", ".venv-oldest/bin/python", "$(if"]
    assert "--no-index" in others[-1]  # what `gpu-wheels` fetched, at the recorded versions
    installs = re.findall(r"^\t\$\(INSTALL\) (.*)$", text, re.MULTILINE)
    assert installs == [
        "--require-hashes -r envs/requirements-build.txt",
        "--require-hashes --no-build-isolation -r envs/requirements-dev.txt",
        "--no-build-isolation --no-deps -e .",
    ]


# --- the code's identity ----------------------------------------------------------------------------------------------


def test_the_recorded_code_is_the_code() -> None:
    from stpp.plan.code import changed

    assert not changed(), (
        f"the code of {changed()} changed: `stpp stamp --same-result` if the results are the same byte for byte, else "
        "`--new-version`"
    )


@pytest.mark.parametrize(
    ("edit", "changes"),
    {
        "x = 1": True,
        "# a comment": False,
        '"""A text."""': False,
        "\n\n": False,
        "def f():\n    return 2": True,
        'def _unused() -> None:\n    """Only a docstring, but a new function."""': True,
    }.items(),
)
def test_code_is_what_is_executed(edit: str, changes: bool, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "stpp", ignore=shutil.ignore_patterns("__pycache__"))
    script = "from stpp.plan.code import *; print({stage: code_identity(stage) for stage in MODULES})"

    def identities() -> str:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
        return done.stdout

    before = identities()
    module = tmp_path / "stpp/store/masks.py"
    original = module.read_text()
    module.write_text(f"{original}\n{edit}\n")
    after = identities()
    assert (before != after) == changes
    if changes:
        same = {stage for stage, code in eval(before).items() if eval(after)[stage] == code}
        assert same == {"verdict", "table", "chart"}, "masks.py belongs to all stages but these"
    module.write_text(original)
    assert identities() == before
