"""What an addition to the package costs: which identities move when a copy of it is edited.

A setting at its default, a message, a new component move none; an edited component moves the stages that use it.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

SCRIPT = """
import json, sys
sys.path.insert(0, "tests/support")
import fabricate
from stpp.plan.code import code_identity

experiments = {
    "small": {"method": "st++"},
    "online": {"method": "drift"},
    "mobile": {"method": "st", "network": {"backbone": "mobilenet_v2", "architecture": "pspnet", "rates": None}},
}
raw = fabricate.tiny(experiments=experiments)
plan = fabricate.plan_of(raw, code=code_identity)
print(json.dumps({f"{run.experiment} {name}": part.folder for run in plan.runs for name, part in run.stages.items()}))
"""
DRIFT = """
from stpp.methods import Method, Step
from stpp.settings import Section, setting

NAMES = ("drift",)

class Settings(Section):
    weight: float = setting(1.0, "Weight of the drift.", ge=0)

def plan(graph):
    return graph.online(METHOD)

def step(batch, nets, settings, at):
    from stpp.engine.losses import cross_entropy
    return {"supervised": cross_entropy(nets["student"](batch.images), batch.masks, at.team)}

METHOD = Method(
    "drift", "a method of this test", plan, settings=Settings, online=Step(step, lambda settings: ("weak",))
)
"""
"""A method whose training sees unlabeled images in every step."""


LAYOUT = """
from stpp.data.sources import Entry, Place

NAMES = ("beside",)

def scan(place: Place) -> tuple[list[Entry], list[Entry]]:
    names = place.names("") or []
    masks = {name[:-4]: name for name in names if name.endswith(".png")}
    return [place.made(name, masks.get(name[:-4])) for name in names if name.endswith(".jpg")], []
"""
"""A layout where a mask lies beside its image."""


READER = """
import json
from pathlib import Path

import numpy as np

from stpp.data.readers import ImageError, Picture

NAMES = (".toy",)

def labels(path, content=None, by_colour=False, noisy=False):
    try:
        return np.array(json.loads(content or Path(path).read_bytes()), np.uint16)
    except (OSError, ValueError) as error:
        raise ImageError(path, "no file of toys", "Write it again", str(error)) from None

def image(path, content=None):
    grey = labels(path, content).astype(np.uint8)
    return Picture(np.stack([grey] * 3, axis=2))

def image_size(path, content=None):
    return *labels(path, content).shape, ""

def mask_size(path, content=None, noisy=False):
    return labels(path, content).shape
"""
"""A reader of files that hold their pixels as a JSON list of rows."""


def copied(folder: Path) -> None:
    """A copy of the package and of its tests, with one more method."""
    for name in ("stpp", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "stpp/methods/drift.py").write_text(DRIFT)


def planned(folder: Path) -> dict[str, str]:
    """Role -> folder of some experiments, as the copy of the package in `folder` plans them."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, env={"PYTHONPATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folders as a copy plans them that nobody edits."""
    folder = tmp_path_factory.mktemp("unedited")
    copied(folder)
    return planned(folder)


@pytest.fixture
def identities(tmp_path: Path) -> Callable[[], dict[str, str]]:
    """Role -> folder, as the copy of the package in `tmp_path` plans them once it is edited."""
    copied(tmp_path)
    return lambda: planned(tmp_path)


def moved(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The roles whose stage is another one."""
    return {role for role, folder in before.items() if after[role] != folder}


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} no longer has {old!r}"
    path.write_text(text.replace(old, new))


def test_a_setting_at_its_default_moves_nothing(
    tmp_path: Path, before: dict[str, str], identities: Callable[[], dict[str, str]]
) -> None:
    settings = tmp_path / "stpp/settings/training.py"
    replaced(
        settings,
        "    poly_power:",
        '    clip: float | None = setting(None, "Longest gradient.", gt=0)\n    poly_power:',
    )
    unsaid = tmp_path / "stpp/plan/unsaid.json"
    unsaid.write_text(json.dumps(json.loads(unsaid.read_text()) | {"training.clip": None}))
    assert moved(before, identities()) == set()


def test_a_part_of_the_network_at_its_default_moves_nothing(
    tmp_path: Path, before: dict[str, str], identities: Callable[[], dict[str, str]]
) -> None:
    replaced(
        tmp_path / "stpp/common/description.py",
        "    dropout: float",
        '    width: float = setting(1.0, "Factor on the width.", gt=0)\n    dropout: float',
    )
    unsaid = tmp_path / "stpp/plan/unsaid.json"
    unsaid.write_text(json.dumps(json.loads(unsaid.read_text()) | {"network.width": 1.0}))
    assert moved(before, identities()) == set()


def test_a_message_moves_nothing(
    tmp_path: Path, before: dict[str, str], identities: Callable[[], dict[str, str]]
) -> None:
    replaced(tmp_path / "stpp/common/errors.py", "no space is left on the disk", "the disk is full")
    assert moved(before, identities()) == set()


@pytest.mark.parametrize("kind", ["encoders", "decoders"])
def test_a_new_component_moves_nothing_and_can_be_chosen(
    kind: str, tmp_path: Path, before: dict[str, str], identities: Callable[[], dict[str, str]]
) -> None:
    original = {"encoders": "tiny", "decoders": "deeplabv3plus"}[kind]
    text = (tmp_path / f"stpp/models/{kind}/{original}.py").read_text()
    (tmp_path / f"stpp/models/{kind}/another.py").write_text(
        text.replace(f'NAMES = ("{original}",)', 'NAMES = ("another",)')
    )
    assert moved(before, identities()) == set()
    setting = {"encoders": "backbone", "decoders": "architecture"}[kind]
    script = (
        f'from stpp.settings.training import Network; print(Network({setting}="another", weights="none").{setting})'
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "another"


def test_a_new_method_moves_nothing_and_can_be_chosen(
    tmp_path: Path, before: dict[str, str], identities: Callable[[], dict[str, str]]
) -> None:
    (tmp_path / "stpp/methods/another.py").write_text(DRIFT.replace('"drift"', '"another"'))
    assert moved(before, identities()) == set()
    script = (
        "from stpp.settings.config import Experiment, Methods; print(Experiment(method='another').method, Methods())"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("another ") and " another=Settings(weight=1.0) " in done.stdout


def test_a_new_layout_moves_nothing_and_can_be_chosen(
    tmp_path: Path, before: dict[str, str], identities: Callable[[], dict[str, str]]
) -> None:
    (tmp_path / "stpp/data/layouts/beside.py").write_text(LAYOUT)
    assert moved(before, identities()) == set()
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "a.png", "b.jpg"):
        (tmp_path / "photos" / name).touch()
    script = """
from stpp.data.sources import resolve
from stpp.settings.data import Data

data = Data(layout="beside", root="photos", classes=["sky", "sea"])
for entry in sorted(resolve(data.model_dump(), lambda masks: {}).entries):
    print(entry.id, entry.subset, entry.mask)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "a labeled photos/a.png\nb unlabeled None\n"


def test_a_new_importer_moves_nothing_and_can_be_chosen(
    before: dict[str, str], tmp_path: Path, identities: Callable[[], dict[str, str]]
) -> None:
    (tmp_path / "stpp/importers/toybox.py").write_text(
        'from stpp.common.errors import StppError\n\nNAMES = ("toybox",)\nSUMMARY = "a box of toys"\n\n'
        'def find(source, classes, images):\n    raise StppError(f"{source} is an empty box")\n'
    )
    assert moved(before, identities()) == set()
    words = [sys.executable, "-m", "stpp", "import"]
    said = subprocess.run([*words, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "toybox: a box of toys" in " ".join(said.split())
    words += ["toybox", "stpp", "--out", "out"]
    assert "stpp is an empty box" in subprocess.run(words, cwd=tmp_path, capture_output=True, text=True).stderr


def test_a_new_reader_moves_nothing_and_reads_its_files(
    before: dict[str, str], tmp_path: Path, identities: Callable[[], dict[str, str]]
) -> None:
    (tmp_path / "stpp/data/readers/toy.py").write_text(READER)
    assert moved(before, identities()) == set()
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.TOY").write_text(json.dumps([[7, 300], [0, 5]] if name == "b" else [[0, 1], [1, 0]]))
    Image.new("RGB", (2, 2)).save(tmp_path / "d.png")
    (tmp_path / "labeled.txt").write_text("a.TOY c.TOY\n")
    (tmp_path / "unlabeled.txt").write_text("b.TOY\nd.png\n")
    script = """
from pathlib import Path
from stpp.data.images import read_image, read_mask
from stpp.data.index import index
from stpp.settings.data import Data

data = Data(layout="lists", root=".", classes=["sky", "sea"], labeled="labeled.txt", unlabeled="unlabeled.txt")
how = {"batch_size": 1, "need_unlabeled": True, "log": lambda line: None}
record = index(data.model_dump(), Path("results"), **how)
print({subset: (known["count"], known["readers"]) for subset, known in record["subsets"].items()})
print(read_image("b.TOY")[..., 0].tolist(), read_mask("c.TOY", {"classes": 2}).tolist())
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "{'labeled': (1, ['stpp.data.readers.toy']), 'unlabeled': (2, ['stpp.data.readers.toy'])}",
        "[[7, 44], [0, 5]] [[0, 1], [1, 0]]",
    ]


@pytest.mark.parametrize(
    ("module", "experiments"),
    [
        ("models/encoders/mobilenet", ["mobile"]),
        ("models/decoders/deeplabv3plus", ["small", "online"]),
        ("methods/drift", ["online"]),
        ("methods/st", []),  # the stages that it puts together are all of it
    ],
)
def test_an_edited_component_moves_the_stages_that_use_it(
    module: str,
    experiments: list[str],
    tmp_path: Path,
    before: dict[str, str],
    identities: Callable[[], dict[str, str]],
) -> None:
    path = tmp_path / f"stpp/{module}.py"
    path.write_text(f"{path.read_text()}\nCHANGED = 1\n")
    assert moved(before, identities()) == {role for role in before if role.split()[0] in experiments}


def test_a_methods_own_setting_moves_its_own_stages_alone(
    tmp_path: Path, before: dict[str, str], identities: Callable[[], dict[str, str]]
) -> None:
    replaced(
        tmp_path / "tests/support/fabricate.py",
        '    "labeling":',
        '    "methods": {"drift": {"weight": 7.0}},\n    "labeling":',
    )
    assert moved(before, identities()) == {role for role in before if role.startswith("online ")}


def test_edited_training_code_moves_what_follows_a_training(
    tmp_path: Path, before: dict[str, str], identities: Callable[[], dict[str, str]]
) -> None:
    path = tmp_path / "stpp/stages/score.py"
    path.write_text(f"{path.read_text()}\nCHANGED = 1\n")
    assert moved(before, identities()) == {f"small {role}" for role in (
        "score", "select", "stability-truth", "labels1", "labels1-truth", "phase1", "phase1-val", "phase1-test",
        "labels2", "labels2-truth", "student", "student-val", "student-test")}  # fmt: skip
