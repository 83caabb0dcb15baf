"""The house rules: who may import whom, environments in step with the project, and the code's identity."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
        found |= {name if name.startswith("stpp") else name.split(".")[0] for name in names}
    return {name for name in found if not name.startswith("stpp") or name in MODULES or f"{name}.__init__" in MODULES}


def own(module: str) -> set[str]:
    """The package's modules that a module imports."""
    return {name for name in imports(module) if name.startswith("stpp.")}


# --- the import law ---------------------------------------------------------------------------------------------------


def test_config_and_plan_know_nobody() -> None:
    for module in MODULES:
        if module == "stpp.config" or module.startswith("stpp.settings"):
            allowed = ("stpp.settings", "stpp.registry", "stpp.terminal")
            assert all(name.startswith(allowed) for name in own(module))
    assert own("stpp.plan") == {"stpp.config", "stpp.identity", "stpp.registry", "stpp.settings.training"}
    assert own("stpp.identity") == own("stpp.terminal") == own("stpp.registry") == set()


def test_networks_and_metrics_know_neither_files_nor_config() -> None:
    for module in MODULES:
        if module.startswith("stpp.models") or module == "stpp.metrics":
            assert not imports(module) & {"pathlib", "os", "io", "h5py", "stpp.config", "stpp.stage", "stpp.files"}
            assert not {name for name in own(module) if name.startswith("stpp.data")}


def test_data_does_not_know_networks() -> None:
    for module in MODULES:
        if module.startswith("stpp.data"):
            assert not {name for name in own(module) if name.startswith("stpp.models")}


def test_only_the_entrances_know_the_config() -> None:
    entrances = {"stpp.config", "stpp.configfile", "stpp.settings.training"}
    knows = {module for module in MODULES if own(module) & entrances} - entrances
    pure = {"stpp.plan", "stpp.expansion", "stpp.comparisons"}
    assert knows == pure | {"stpp.configdoc", "stpp.workflow", "stpp.rules", "stpp.cli", "stpp.cli_results"}


def test_only_what_is_run_imports_the_command_line() -> None:
    assert {module for module in MODULES if "stpp.cli" in own(module)} == {"stpp.__main__", "stpp.member"}
    assert {module for module in MODULES if "stpp.cli_results" in own(module)} == {"stpp.cli"}


def test_planning_is_free_of_torch_and_numpy() -> None:
    script = "import sys, stpp.workflow; print(sorted({'torch', 'numpy', 'PIL', 'pandas', 'h5py'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("stpp.cli, stpp.forecast, stpp.status, stpp.gc", {"torch", "numpy", "pandas", "snakemake"}),
        ("stpp.diff", {"torch", "snakemake"}),
    ],
)
def test_looking_at_results_starts_fast(modules: str, heavy: set[str]) -> None:
    script = f"import sys, {modules}; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


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


def test_conda_has_the_same_pins_as_pip() -> None:
    environment = yaml.safe_load((ROOT / "envs/environment.yaml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    accelerator = re.compile("nvidia-|cuda-|triton")  # which torch brings itself
    wanted = {name: version for name, version in pins("requirements.txt").items() if not accelerator.match(name)}
    assert dict(line.split("==") for line in pip) == wanted


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_each_pin_carries_hashes_and_nothing_else(name: str) -> None:
    entries = (ROOT / "envs" / name).read_text().replace("\\\n", " ").splitlines()
    hashed = r"[a-z0-9-]+==[^\s;]+( ; platform_system == \"Linux\")?( +--hash=sha256:[0-9a-f]{64})+"
    assert entries and not [entry for entry in entries if not re.fullmatch(hashed, entry)]
    assert len(pins(name)) == len(entries)


def test_the_project_is_built_by_what_is_pinned() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert requires == [f"{name}=={version}" for name, version in pins("requirements-build.txt").items()]
    assert pins("requirements-build.txt").items() <= pins("requirements-dev.txt").items()


def test_setup_installs_nothing_without_a_hash_but_the_project() -> None:
    text = (ROOT / "Makefile").read_text()
    assert len(re.findall(r"pip install", text)) == 1
    installs = re.findall(r"^\t\$\(INSTALL\) (.*)$", text, re.MULTILINE)
    assert installs == [
        "--require-hashes -r envs/requirements-build.txt",
        "--require-hashes --no-build-isolation -r envs/requirements-dev.txt",
        "--no-build-isolation --no-deps -e .",
    ]


# --- the code's identity ----------------------------------------------------------------------------------------------


def test_the_recorded_code_is_the_code() -> None:
    from stpp.code import changed

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
    script = "from stpp.code import *; print({stage: code_identity(stage) for stage in MODULES})"

    def identities() -> str:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
        return done.stdout

    before = identities()
    module = tmp_path / "stpp/masks.py"
    original = module.read_text()
    module.write_text(f"{original}\n{edit}\n")
    after = identities()
    assert (before != after) == changes
    if changes:
        same = {stage for stage, code in eval(before).items() if eval(after)[stage] == code}
        assert same == {"table", "chart"}, "masks.py belongs to all stages but these"
    module.write_text(original)
    assert identities() == before
