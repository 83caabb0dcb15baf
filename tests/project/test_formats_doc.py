"""The tables of docs/formats.md against the files of a finished run: no column and no key may be missing in either."""

import contextlib
import csv
import json
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import fabricate
import h5py
import numpy as np
import pytest
import torch
from conftest import ROOT

from stpp.commands.cli import main
from stpp.common.bands import Bands
from stpp.data.manifest import read_manifest
from stpp.plan.code import MODULES
from stpp.report.outlook import Signs
from stpp.scoring.calibration import LEVELS
from stpp.store.maps import MapWriter
from stpp.store.masks import MaskStore, MaskWriter

TEXT = (ROOT / "docs/formats.md").read_text()
GENERAL = [
    (r"iou_\d+_\d+", "iou_J_K"),
    (r"(teacher|phase\d+|student)_(val|test)", r"MODEL_\2"),
    (r"labels\d+", "labelsN"),
]
"""How the text writes names that have a number or a network in them."""


def tables(heading: str) -> list[list[str]]:
    """The names in the first column of each table of a section."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    found = re.findall(r"^\|---.*\n((?:\|.*\n)+)", section, re.MULTILINE)
    return [re.findall(r"`([^`]+)`", "".join(re.findall(r"^\|([^|]*)\|", rows, re.MULTILINE))) for rows in found]


def named(heading: str, number: int = 0) -> list[str]:
    """The names in one of these tables."""
    return tables(heading)[number]


def as_in_the_text(names: Iterable[str]) -> set[str]:
    """Names of a file as the text writes them."""
    found = set()
    for name in names:
        for pattern, text in GENERAL:
            name = re.sub(rf"^{pattern}$", text, name)
        found.add(name)
    return found


def header(path: Path) -> list[str]:
    """The columns of a CSV file."""
    with path.open(newline="") as file:
        return next(csv.reader(file))


def content(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
def results(finished: Path) -> Path:
    return finished / "my results"


@pytest.fixture
def run(results: Path) -> Path:
    """The stages of the run of ST++."""
    return results / "runs/tiny/experiments/st++/seed0"


def test_manifests_and_the_index(results: Path) -> None:
    manifests = list(results.glob("data/*.csv"))
    assert len(manifests) == 5
    for path in manifests:
        assert header(path) == named("Manifest")
    (index,) = results.glob("data/index-*.json")
    assert list(content(index)) == named("Index")


def test_recipes(results: Path) -> None:
    for path in results.glob("stages/*/*/recipe.json"):
        assert set(content(path)) == set(named("Recipe")), path
    (said,) = re.findall(r"^\| `stage` \| the command: (.*) \|$", TEXT, re.MULTILINE)
    assert re.findall(r"`(\w+)`", said) == list(MODULES)


def test_records_of_stages(results: Path) -> None:
    everywhere, facts = {*named("Recipe"), *named("Stage record")}, set(named("Stage record", 1))
    found = set()
    for path in results.glob("stages/*/*/stage.json"):
        keys = set(content(path))
        assert everywhere <= keys, path
        found |= keys - everywhere
    # Of predictions by several jobs, and of the selection of pixels, which the run does not have.
    assert facts - found == {"shards", "reliable_pixels", "pixels"}
    assert found <= facts


def test_checkpoints_and_learning_curves(run: Path, results: Path) -> None:
    keys, told = named("Checkpoint")[:-2], ["prediction", "palette"]
    assert list(torch.load(results / "tiny/model.pt", weights_only=True)) == named("Checkpoint") == keys + told
    for name in ("teacher/checkpoint-1.pt", "student/last.pt", "student/best.pt"):
        assert list(torch.load(run / name, weights_only=True)) == keys, name
    assert list(Bands((1,)).plain()) == named("Checkpoint", 1)
    assert header(run / "student/metrics.csv") == named("Learning curve")


def test_mask_stores(run: Path, tmp_path: Path) -> None:
    with MaskWriter(tmp_path / "masks.h5", classes=["a"], palette=[[0, 0, 0]], producer="x", confidence=True) as writer:
        writer.add("1", np.zeros((2, 3), np.uint8), np.ones((2, 3), np.float32))
    for path, left_out in ((run / "labels1/masks.h5", {"confidence"}), (tmp_path / "masks.h5", set())):
        with h5py.File(path) as file:
            assert set(named("Mask store")) - left_out == set(file)
            assert set(named("Mask store", 1)) == set(file.attrs)


def test_map_stores(tmp_path: Path) -> None:
    with MapWriter(tmp_path / "maps.h5", views=["0"], producer="x") as writer:
        writer.add("1", [[np.zeros((2, 3, 4), np.float16)]])
    with h5py.File(tmp_path / "maps.h5") as file:
        assert set(named("Map store")) == set(file)
        assert set(named("Map store", 1)) == set(file.attrs)


def test_the_lines_that_read_a_mask_without_the_package(run: Path) -> None:
    (code,) = re.findall(r"^    import h5py\n(?:(?:    .*)?\n)+?(?=\S)", TEXT, re.MULTILINE)
    found: dict[str, Any] = {}
    exec("\n".join(line.removeprefix("    ") for line in code.splitlines()), found)
    path = run / "labels2/masks.h5"
    images = (run / "select/unreliable.txt").read_text().splitlines()[:5]
    masks = {image: found["read_mask"](path, image) for image in images}
    assert len(masks) > 1
    # Opened afterwards: HDF5 opens no file twice with different settings for locks.
    store = MaskStore(path)
    for image, mask in masks.items():
        assert np.array_equal(mask, store[image])


def test_scores_and_lists(results: Path, run: Path) -> None:
    columns = header(run / "score/scores.csv")
    assert as_in_the_text(columns) == set(named("Score table"))
    assert {"iou_1_3", "iou_2_3"} <= set(columns)
    lists = [(run / f"select/{name}").read_text().splitlines() for name in ("reliable.txt", "unreliable.txt")]
    (manifest,) = results.glob("data/unlabeled-*.csv")
    ids = [row.id for row in read_manifest(manifest)]
    assert lists == [[id for id in ids if id in part] for part in lists]
    assert sorted(lists[0] + lists[1]) == sorted(ids)


def test_evaluations(run: Path) -> None:
    keys = named("Evaluation")
    labels, network = content(run / "stability-truth/metrics.json"), content(run / "student-val/metrics.json")
    assert list(labels) == [key for key in keys if key != "confidence"]
    assert list(network) == [key for key in keys if key not in ("confidence", "groups")]
    assert str(list(LEVELS[1:-1])).strip("[]") in TEXT and f"and {LEVELS[-1]} |" in TEXT
    first, *_, last = [key for key in keys if key in labels["groups"]["reliable"]]
    assert f"`{first}` to `{last}` again" in TEXT
    assert header(run / "stability-truth/images.csv") == named("Images")
    assert header(run / "student-val/images.csv") == [name for name in named("Images") if name != "group"]


def test_the_length(tmp_path: Path) -> None:
    auto = {"training": {**fabricate.TINY["training"], "length": "auto"}}
    folder = fabricate.planned(tmp_path, experiments={"suponly": {"method": "suponly"}}, **auto)
    stage = fabricate.only(folder, "length/*")
    with contextlib.chdir(folder):
        assert main(["length", str(stage)]) == 0
    told = content(folder / stage / "length.json")
    assert list(told) == named("Length")
    assert all(f"`{key}`" in TEXT for key in told["tried"][0])


def test_the_outlook() -> None:
    assert named("Outlook") == ["pays", *(field.name for field in fields(Signs)), "labels_for_a_point", "sentences"]


def test_the_verdict(results: Path) -> None:
    told = content(results / "tiny/verdict.json")
    assert list(told) == named("Verdict")
    (text,) = re.findall(r"^## Verdict\n(.*?)^## ", TEXT, re.MULTILINE | re.DOTALL)
    for key in {*told["model"], *told["candidates"][0]}:
        assert f"`{key}`" in text


def test_the_table(results: Path) -> None:
    view = results / "tiny"
    assert as_in_the_text(header(view / "runs.csv")) == set(named("Runs"))
    # No numbers were published of this run.
    assert set(header(view / "table.csv")) == set(named("Experiments")) - {"published"}
    numbers = content(view / "metrics.json")
    assert set(numbers) == set(named("All numbers")) - {"published"}
    assert set(numbers["experiments"][0]) == set(header(view / "table.csv")) - {"cpu_hours", "gpu_hours"}
    assert set(numbers["runs"][0]) == set(header(view / "runs.csv"))


def test_the_list_of_files_names_every_artifact_and_every_section(results: Path) -> None:
    listed = TEXT.partition("\n\n**")[0].partition("A stage is the folder")[0]
    for kind in ("train", "predict", "score", "select", "evaluate", "table"):
        for path in results.glob(f"stages/{kind}/*/*"):
            if path.name not in ("table.txt", "checkpoint-2.pt") and path.is_file():
                assert f"`{path.name}`" in listed, path
    linked = re.findall(r"\]\(#([\w-]+)\)", TEXT)
    headings = [title.lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", TEXT, re.MULTILINE)]
    assert set(linked) == set(headings) - {"not-for-reading"}
