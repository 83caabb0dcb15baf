"""Names that shells, Snakemake, CSV, YAML or option parsers could take for something else: they are just names."""

import os
import subprocess
from pathlib import Path
from typing import Any

import fabricate
import forked
import numpy as np
import pytest
import torch
from conftest import ROOT
from hostile import refused
from PIL import Image
from tiny_data import labels, photo, save, settings

from stpp.commands.cli import main
from stpp.data.classes import classes_of
from stpp.data.index import index
from stpp.models import build
from stpp.settings.configfile import load
from stpp.store.masks import MaskStore

EVIL = 'it\'s "$HOME" $(touch pwned) `touch pwned`; touch pwned & * ? [a-z] | <x> !1 #, ~ %s \\n = été e\u0301 東京:'
"""What a shell, an option parser, a pattern or a format could take for something else, all in one name."""
PLAIN = EVIL.replace("<x>", "")
"""The same for paths that Snakemake sees, in which the configuration refuses <, >, { and }."""

NAMES = [
    *("a b", " leads", "trails ", "it's", 'say "hi"', "$HOME", "$(touch pwned)", "`touch pwned`", "; touch pwned"),
    *(
        "*",
        "?[x]",
        "{x}",
        "{{}}",
        "{",
        "-rf",
        "--help",
        "~",
        "~root",
        "#7",
        "%s",
        "a,b",
        "a;b",
        "a\\b",
        "a\tb",
        "a|b&c<d>",
    ),
    *(
        "!1",
        "a=b",
        "a:b",
        "a.png",
        "x.tar.gz",
        "NA",
        "nan",
        "001",
        "1e5",
        "true",
        "\u00e9",
        "e\u0301",
        "E\u0301",
        "東京",
    ),
    *("\u202etxt", "\u2028", "\x07bell", "\U0001f600", "a", "A", "'", '"', "\\"),
]


def write_images(root: Path) -> list[str]:
    """Unlabeled images of all names, and labeled ones of the first four in a folder with a name like these."""
    rng = np.random.default_rng(0)
    ids = [*(f"{EVIL}/{name}" for name in NAMES[:4]), *NAMES]
    for folder in ("images", "masks"):
        (root / folder / EVIL).mkdir(parents=True)
    for id in ids:
        fabricate.write_scene(root, id, rng)
    for name in NAMES:
        (root / "masks" / f"{name}.png").unlink()
    return [f"images/{id}" for id in ids]


def test_the_whole_method_runs_on_images_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ids = write_images(tmp_path / f"-{EVIL}")
    data = {"layout": "folder", "root": f"-{EVIL}", "classes": ["a,b", 'c "d"', "été;\t"]}
    config = fabricate.tiny(data=data, results=PLAIN, experiments={"st++": {"method": "st++"}})
    config["training"]["student"]["epochs"] = 1
    assert main(["plan", "--recipes", str(fabricate.write_config(tmp_path, config))]) == 0
    todo = [line.removeprefix("to do").strip() for line in capsys.readouterr().out.splitlines() if "stages/" in line]
    assert len(todo) > 8
    for stage in todo:
        assert main([Path(stage).parent.name, stage]) == 0, capsys.readouterr().err
    (select,) = Path(PLAIN).glob("stages/select/*")
    chosen = (select / "reliable.txt").read_text() + (select / "unreliable.txt").read_text()
    assert sorted(chosen.split("\n")[:-1]) == sorted(ids[4:])

    store = next(Path(PLAIN).glob("stages/predict/masks-checkpoint1-*/masks.h5"))
    assert main(["masks", str(store), "--out", f"./-{EVIL} pngs"]) == 0
    with MaskStore(store) as masks:
        assert sorted(masks.ids) == sorted(ids[4:])
        for id, mask in masks:
            assert (np.asarray(Image.open(Path(f"./-{EVIL} pngs") / f"{id}.png")) == mask).all()
    assert not list(tmp_path.rglob("pwned"))


def test_the_workflow_runs_in_folders_of_any_name(tmp_path: Path, programs: Path) -> None:
    folder = tmp_path / f"{EVIL} {{x}}"
    write_images(folder / f"-{EVIL} {{y}}")
    (folder / f"{PLAIN} weights").mkdir()
    weights = f"{PLAIN} weights/-{PLAIN}.pth"
    spec = {"output_stride": 8, "dropout": 1.0, "architecture": "deeplabv3plus", **fabricate.TINY["network"]}
    torch.save(build(spec, 3).state_dict(), folder / weights)
    config = fabricate.tiny(
        data={"layout": "folder", "root": f"-{EVIL} {{y}}", "classes": ["a", "b", "c"]},
        results=PLAIN,
        network=fabricate.TINY["network"] | {"weights": f".//{weights}"},
        experiments={"suponly": {"method": "suponly"}},
    )
    fabricate.write_config(folder, config).rename(folder / f"{EVIL} {{z}}.yaml")
    command = [str(programs / "snakemake"), "--cores", "1", "-s", str(ROOT / "Snakefile")]
    command += ["--configfile", f"{EVIL} {{z}}.yaml"]
    done = subprocess.run(command, cwd=folder, env=forked.environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / PLAIN / "tiny/table.txt").is_file()
    assert not list(tmp_path.rglob("pwned"))


def folder_of(root: Path, **extra: Any) -> dict[str, Any]:
    """A data set of folders without faults."""
    for name in ("a", "b", "c"):
        save(root / f"images/{name}.png", photo())
    for name in ("a", "b"):
        save(root / f"masks/{name}.png", labels())
    return settings(root, layout="folder", **extra)


BAD_NAMES = {
    "a line feed": ("x\ny", "a line break in the name"),
    "a carriage return": ("x\ry", "a line break in the name"),
    "a line feed in a folder": ("x\ny/z", "a line break in the name"),
    "a line feed at the end": ("x\n", "a line break in the name"),
    "bytes that are not UTF-8": (os.fsdecode(b"x\xffy"), "a name that is not UTF-8"),
    "bytes in a folder that are not UTF-8": (os.fsdecode(b"x\xffy/z"), "a name that is not UTF-8"),
    "half a letter": (os.fsdecode(b"\xc3"), "a name that is not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_NAMES)
@pytest.mark.parametrize("kind", ["images", "images and masks"])
def test_names_that_no_list_can_hold_are_refused(case: str, kind: str, tmp_path: Path) -> None:
    name, expected = BAD_NAMES[case]
    data = folder_of(tmp_path)
    save(tmp_path / f"images/{name}.png", photo())
    if kind == "images and masks":
        save(tmp_path / f"masks/{name}.png", labels())
    with refused(expected, "Rename the files"):
        index(data, tmp_path / "results", batch_size=2, need_unlabeled=True, log=lambda text: None)


@pytest.mark.parametrize("pair", [("a", "A"), ("\u00e9", "e\u0301"), ("\ufb01", "fi"), ("\u00df", "ss")])
def test_names_that_differ_in_case_or_normalisation_are_two_images(pair: tuple[str, str], tmp_path: Path) -> None:
    """As on Linux: both are there, and each keeps its own mask."""
    data = folder_of(tmp_path)
    for value, name in enumerate(pair):
        save(tmp_path / f"images/{name}.png", photo(value))
        save(tmp_path / f"masks/{name}.png", np.full((8, 8), value, np.uint8))
    found = index(data, tmp_path / "results", batch_size=2, need_unlabeled=True, log=lambda text: None)
    rows = Path(found["subsets"]["labeled"]["manifest"]).read_text(encoding="utf-8").splitlines()
    for name in pair:
        assert any(row.startswith(f"images/{name},") and f"masks/{name}.png" in row for row in rows)


CONTROLS = ["\x1b[31m", "\x07", "\x7f", "\x9b", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u202e", "\r", "\n", "\0"]


@pytest.mark.parametrize("control", CONTROLS)
def test_class_names_with_controls_are_refused(control: str, tmp_path: Path) -> None:
    for name in (f"a{control}b", f"{control}b", f"b{control}"):
        data = {"layout": "folder", "root": "x", "classes": ["a", name]}
        with refused("data.classes.1", "expected"):
            load(fabricate.tiny(data=data))
        if control not in "\r\n":
            (tmp_path / "classes.txt").write_text(f"a #0000ff\n{name} #00ff00\n", encoding="utf-8", newline="")
            found = classes_of(settings(tmp_path, classes=None, classes_file="classes.txt"))
            (problem,) = found.problems
            assert "classes.txt has the control character" in problem
            assert "rename the class" in problem


def test_a_classes_file_of_another_system_has_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes("\ufeffa b\tc #00ff00\r\n\r\n  می\u200cخواهم\t#0000ff \r\n".encode())
    found = classes_of(settings(tmp_path, classes=None, classes_file="classes.txt"))
    assert found.names == ["a b\tc", "می\u200cخواهم"]
    assert found.problems == []


@pytest.mark.parametrize("key", ["results", "published"])
def test_paths_that_snakemake_prints_have_no_controls(key: str) -> None:
    with refused(f"{key}: ", "has the control character"):
        load(fabricate.tiny(**{key: "a\x1b[31m"}))
