"""No text of a user's is ever run: what the code calls, read from its syntax trees."""

import ast
import re
from collections.abc import Iterator

import pytest
from conftest import ROOT

MODULES = {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "stpp").rglob("*.py"))}
RULES = {path.name: path.read_text() for path in [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]}

NEVER = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput"),
    *("subprocess.getstatusoutput", "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"),
    *("pd.read_pickle", "pandas.read_pickle", "torch.jit.load", "torch.hub.load", "np.fromregex"),
}
NEVER_IMPORTED = {
    "pickle",
    "cPickle",
    "_pickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "pty",
    "commands",
}


def dotted(node: ast.expr) -> str:
    """The name of what is called, "" where it has none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def calls(source: str) -> Iterator[tuple[str, dict[str | None, object], ast.Call]]:
    """Every call: its name, its named arguments (the value where it is a constant), and the node."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            named = {word.arg: getattr(word.value, "value", word.value) for word in node.keywords}
            yield dotted(node.func), named, node


def faults(source: str) -> list[str]:
    """The calls and imports that could run what a user wrote."""
    found = []
    for name, named, node in calls(source):
        found += [name] if name in NEVER else []
        found += [name] if name == "torch.load" and named.get("weights_only") is not True else []
        found += [name] if name.endswith(".load") and named.get("allow_pickle", False) is not False else []
        found += [name] if named.get("shell", False) is not False else []
        found += (
            [name] if name.startswith("subprocess.") and node.args and isinstance(node.args[0], ast.JoinedStr) else []
        )
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.split(".")[0] in NEVER_IMPORTED]
        if isinstance(node, ast.Attribute) and dotted(node).startswith("yaml."):
            found += [dotted(node)] if node.attr in ("Loader", "FullLoader", "UnsafeLoader", "CLoader") else []
    return found


@pytest.mark.parametrize("module", MODULES)
def test_no_module_runs_what_a_user_wrote(module: str) -> None:
    assert faults(MODULES[module]) == []


@pytest.mark.parametrize(
    "line",
    [
        *(
            "torch.load(path)",
            "torch.load(path, weights_only=False)",
            "torch.load(path, weights_only=flag)",
            "eval(text)",
        ),
        *("np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=flag)", "yaml.load(text)", "os.system(text)"),
        *(
            "subprocess.run(text, shell=True)",
            "subprocess.run(f'rm {path}')",
            "import pickle",
            "from pickle import loads",
        ),
        *("yaml.load(text, Loader=yaml.UnsafeLoader)", "exec(text)", "yaml.UnsafeLoader(text)"),
    ],
)
def test_the_check_itself_finds_them(line: str) -> None:
    assert faults(line)


def test_there_is_something_to_check() -> None:
    assert sum(name == "torch.load" for source in MODULES.values() for name, *_ in calls(source)) >= 2


def test_rules_quote_every_path() -> None:
    """Options are numbers and words that the configuration checks; wildcards come from names that the plan makes."""
    unquoted = {
        "params.kind",
        "params.options",
        "params.shards",
        "wildcards.shard",
        "wildcards.shards",
        "wildcards.backbone",
    }
    for name, text in RULES.items():
        for shell in re.findall(r"shell:\n((?:\s+\".*\"\n)+)", text):
            placeholders = re.findall(r"\{([^}]*)\}", shell)
            assert placeholders, name
            assert {word for word in placeholders if not word.endswith(":q")} <= unquoted, name
