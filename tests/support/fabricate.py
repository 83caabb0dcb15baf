"""Small data sets and configurations for the tests."""

import contextlib
import copy
import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from stpp.commands.cli import main
from stpp.commands.view import write_view
from stpp.commands.workflow import prepare, write
from stpp.plan.expansion import expand
from stpp.plan.graph import Plan, Stage, flat
from stpp.plan.parts import Part, PartKind
from stpp.plan.staleness import checksum_in
from stpp.settings.configfile import load, read, resolved
from stpp.store.masks import MaskWriter, voc_palette

CLASSES = ("background", "left", "right")

TINY: dict[str, Any] = {
    "name": "tiny",
    "results": "my results",
    "data": {
        "layout": "lists",
        "root": "my scenes",
        "labeled": "labeled.txt",
        "unlabeled": "unlabeled.txt",
        "val": "val.txt",
        "test": "test.txt",
        "classes": list(CLASSES),
    },
    "network": {
        "backbone": "tiny",
        "weights": "none",
        "rates": [1, 2, 3],
        "head_channels": 8,
        "decoder_channels": 8,
        "low_level_channels": 4,
    },
    "training": {
        "teacher": {"epochs": 3, "batch_size": 4, "crop": 24, "base_size": 32, "learning_rate": 0.05},
        "student": {"epochs": 2, "batch_size": 4, "crop": 24, "base_size": 32, "learning_rate": 0.05},
    },
    "labeling": {"scales": [0.5, 1.0]},
    "runtime": {"train": {"gpu": 0, "memory": 500}, "predict": {"gpu": 0, "memory": 500}},
    "experiments": {
        "suponly": {"method": "suponly"},
        "st": {"method": "st"},
        "random": {"method": "random"},
        "st++": {"method": "st++"},
    },
}
"""A configuration that runs in seconds, for the data of `write_scenes`."""

COUNTS = {"labeled": 4, "unlabeled": 6, "val": 2, "test": 2}


def write_scenes(root: Path, counts: Mapping[str, int] = COUNTS, seed: int = 0) -> None:
    """Images of two noisy coloured halves with their masks, of different sizes, and lists in the authors' format."""
    rng = np.random.default_rng(seed)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for subset, count in counts.items():
        for i in range(count):
            write_scene(root, f"{subset}{i}", rng)
        write_list(root, subset, [f"{subset}{i}" for i in range(count)])


def write_scene(root: Path, name: str, rng: np.random.Generator) -> None:
    """One image and its mask."""
    height, width = (int(n) for n in rng.integers(24, 40, 2))
    mask = np.zeros((height, width), np.uint8)
    edge = int(rng.integers(8, width - 8))
    mask[4:, :edge], mask[4:, edge:] = 1, 2
    colours = np.array([[40, 40, 40], [200, 60, 60], [60, 60, 200]])
    image = np.clip(colours[mask] + rng.normal(0, 30, (height, width, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(image).save(root / "images" / f"{name}.png")
    Image.fromarray(mask).save(root / "masks" / f"{name}.png")


def write_list(root: Path, subset: str, names: Sequence[str]) -> None:
    """A list file in the authors' format."""
    lines = [f"images/{name}.png masks/{name}.png" for name in names]
    (root / f"{subset}.txt").write_text("\n".join(lines) + "\n")


def tiny(**changes: Any) -> dict[str, Any]:
    """A copy of TINY with top-level keys replaced."""
    return copy.deepcopy(TINY) | changes


def write_config(folder: Path, config: Mapping[str, Any]) -> Path:
    """`config.yaml` in `folder`."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(dict(config), sort_keys=False))
    return path


def planned(folder: Path, **changes: Any) -> Path:
    """A planned ST++ on small scenes in `folder`, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        write_scenes(folder / "my scenes")
        write_config(folder, tiny(**{"experiments": {"st++": {"method": "st++"}}} | changes))
        config = read(Path("config.yaml"))
        write(config, prepare(config, print))
    return folder


def computed(folder: Path, *left_out: str, **changes: Any) -> Path:
    """The same with its stages computed in this process, but for the kinds that are `left_out`."""
    planned(folder, **changes)
    with contextlib.chdir(folder):
        config = read(Path("config.yaml"))
        plan = prepare(config, print)
        for stage in plan.stages:
            kind = stage.partition("/")[0]
            assert kind in left_out or main([kind, f"my results/stages/{stage}"]) == 0
        write_view(config, plan)
    return folder


def only(folder: Path, pattern: str) -> Path:
    """The one planned stage whose folder matches, relative to `folder`."""
    (stage,) = folder.glob(f"my results/stages/{pattern}")
    return stage.relative_to(folder)


def write_store(path: Path, masks: Mapping[str, NDArray[np.uint8]], classes: Sequence[str] = CLASSES) -> Path:
    """A mask store with these masks by image id."""
    with MaskWriter(path, classes=classes, palette=[[0, 0, 0]] * len(classes), producer="x") as writer:
        for image, mask in masks.items():
            writer.add(image, mask)
    return path


# --- results that nothing computed ------------------------------------------------------------------------------------

SUBSETS = ("labeled", "unlabeled", "val", "test", "truth")


def plan_of(
    raw: Mapping[str, Any],
    fingerprints: Mapping[str, str] | None = None,
    code: str | Callable[..., str] = "v1",
    without: Collection[str] = (),
    readers: Mapping[str, Sequence[str]] | None = None,
    warnings: Sequence[str] = (),
    classes: Sequence[str] = CLASSES,
) -> Plan:
    """The plan of a configuration over a made-up index `without` some subsets; `code` is the identity of all code.

    `readers` are the modules by subset of those readers that its files need beside that of pictures, `warnings` those
    of the look at the data.
    """
    digests = {subset: f"{subset:0<64}" for subset in SUBSETS if subset not in without} | dict(fingerprints or {})
    manifests = {subset: f"{subset}manifest".ljust(64, "0") for subset in digests}
    subsets: dict[str, dict[str, Any]] = {
        subset: {"fingerprint": digest, "count": 10, "sha256": manifests[subset]} for subset, digest in digests.items()
    }
    for subset, modules in (readers or {}).items():
        subsets[subset]["readers"] = list(modules)
    code_of = code if callable(code) else lambda *_: code
    index: dict[str, Any] = {"classes": list(classes), "palette": voc_palette(len(classes)), "subsets": subsets}
    index["warnings"] = list(warnings)
    return expand(load(raw), resolved, lambda _: index, lambda _: {"identity": "none", "path": ""}, code_of)


def parts(**folders: str) -> dict[str, dict[str, Any]]:
    """Parts of a run as a recipe has them, from their folders by name: what a part is, is told by its kind of stage.

    Evaluations are named `of_subset`; the students are counted.
    """
    kinds: dict[str, PartKind] = {"train": "network", "evaluate": "evaluation", "score": "score", "select": "selection"}
    found: dict[str, dict[str, Any]] = {}
    students = itertools.count()
    for name, folder in folders.items():
        kind = kinds.get(folder.partition("/")[0]) or ("masks" if name.startswith("masks") else "labels")
        of, _, subset = name.rpartition("_") if kind == "evaluation" else ("", "", "")
        phase = next(students) if kind == "network" else 0
        part = Part(folder, kind, "final student" if name == "student" else name, phase, of, subset)
        found[name.replace("_", "-")] = asdict(part)
    return found


def pretend(
    raw: Mapping[str, Any],
    plan: Plan,
    folders: Iterable[str] | None = None,
    content: Callable[[Stage], Mapping[str, bytes]] = lambda stage: {},
    **facts: Any,
) -> Path:
    """Write recipes, view and artifacts as if the workflow had run; returns the folder for results.

    `folders` are the stages that are done, default all; `content` gives the bytes of artifacts, the others are made up;
    `facts` go to `stage.json`.
    """
    config = load(raw)
    write(config, plan)
    results = Path(config.results)
    records: dict[str, dict[str, Any]] = {}
    for folder in plan.stages if folders is None else folders:
        stage = plan.stages[folder]
        given = content(stage)
        digests = {}
        for name in stage.outputs:
            if name != "stage.json":
                data = given.get(name, f"{name} of {folder}".encode())
                (results / "stages" / folder / name).write_bytes(data)
                digests[name] = hashlib.sha256(data).hexdigest()
        read = [path.rpartition("/") for path in flat(stage.inputs)]
        records[folder] = {
            **stage.recipe(),
            "warnings": [],
            "seconds": 10.0,
            "started": "2026-01-01",
            "sha256": digests,
            "read": {
                f"{source}/{name}": checksum_in(records[source], name) for source, _, name in read if source in records
            },
            **facts,
        }
        (results / "stages" / folder / "stage.json").write_text(json.dumps(records[folder]))
    write_view(config, plan)
    return results
