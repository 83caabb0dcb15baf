"""`stpp next`: the images that are hardest and most different, links to them and masks to correct."""

import contextlib
import csv
import json
import shlex
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stpp.commands.cli import main
from stpp.commands.label_next import files_of
from stpp.commands.segmenter import load
from stpp.commands.workflow import prepare
from stpp.data.manifest import Row
from stpp.report.labeling import least_stable, to_label_next
from stpp.settings.configfile import read
from stpp.store.scores import read_score_table


def ask(folder: Path, *options: str) -> int:
    with contextlib.chdir(folder):
        return main(["next", "config.yaml", "--device", "cpu", "--threads", "1", *options])


@pytest.fixture(scope="module")
def asked(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("next") / "out"
    assert ask(finished, "-n", "2", "--out", str(out)) == 0
    return out


def listed(out: Path) -> list[dict[str, str]]:
    with (out / "next.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_images_asked_for_are_listed_with_their_scores(asked: Path, finished: Path) -> None:
    (table,) = finished.glob("my results/runs/tiny/experiments/st++/seed0/score/scores.csv")
    scores = read_score_table(table).set_index("id")
    rows = listed(asked)
    assert len(rows) == 2 and len({row["id"] for row in rows}) == 2
    for row in rows:
        assert (
            float(row["score"]) == scores.loc[row["id"], "score"] and int(row["rank"]) == scores.loc[row["id"], "rank"]
        )


def test_images_are_links_and_masks_are_of_their_size_and_classes(asked: Path, finished: Path) -> None:
    for row in listed(asked):
        (link,) = asked.glob(f"{row['id']}.*")
        assert link.resolve() == (finished / row["image"]).resolve()
        with Image.open(row["mask"]) as mask, Image.open(link) as image:
            assert mask.size == image.size and mask.mode == "P"
            assert set(np.unique(np.asarray(mask)).tolist()) <= {0, 1, 2}


def test_the_page_shows_each_image_with_its_mask(asked: Path) -> None:
    text = (asked / "next.html").read_text()
    assert text.count("<img") == 3 * 2 and "label these next" in text
    assert all(row["id"] in text for row in listed(asked))


def test_nothing_is_overwritten_unasked(asked: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (asked / "next.csv").read_bytes()
    assert ask(finished, "-n", "2", "--out", str(asked)) == 1
    assert "there already" in capsys.readouterr().err
    assert ask(finished, "-n", "2", "--out", str(asked), "--overwrite") == 0
    assert (asked / "next.csv").read_bytes() == before  # and the same answer
    (command,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  stpp diff "))
    *_, now, then = shlex.split(command)
    assert (finished / now / "seed0").is_dir() and then == now.replace("/tiny/", "/tiny-more/")


def test_val_images_that_are_drawn_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = {"labeled": "labeled.txt", "val": None, "val_split": {"fraction": 0.4}, "test": None}
    data = fabricate.TINY["data"] | split
    left_out = ("evaluate", "verdict", "table", "chart", "report")
    experiments = {"st++": {"method": "st++"}}
    folder = fabricate.computed(tmp_path / "run", *left_out, data=data, experiments=experiments)
    assert ask(folder, "-n", "1", "--out", "my next") == 0
    said = capsys.readouterr().out
    assert "  val: my next/val.txt\n  val_split: null\nand remove the lines of these images from labeled.txt" in said
    kept = data | {"val": "my next/val.txt", "val_split": None}
    (record,) = folder.glob("my results/stages/train/teacher*/recipe.json")
    before = json.loads(record.read_text())["data"]
    lines = (folder / "my scenes/labeled.txt").read_text() + (folder / "my scenes/test.txt").read_text()
    val = (folder / "my next/val.txt").read_text().replace('"', "")
    for changed, more, same in ((kept, lines.replace(val, ""), True), (data, lines, False)):
        (folder / "my scenes/labeled.txt").write_text(more)
        fabricate.write_config(folder, fabricate.tiny(data=changed, experiments=experiments))
        with contextlib.chdir(folder):
            plan = prepare(read(Path("config.yaml")), print)
        (teacher,) = (stage for stage in plan.stages.values() if stage.role == "teacher" and stage.kind == "train")
        assert (teacher.data["val"] == before["val"]) == same and teacher.data["labeled"] != before["labeled"]


def test_without_scores_the_reason_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fabricate.planned(tmp_path / "a")
    assert ask(tmp_path / "a") == 1
    assert (
        "the stability scores of tiny do not exist yet; make them by `stpp run FILE scores`" in capsys.readouterr().err
    )
    fabricate.planned(tmp_path / "b", experiments={"suponly": {"method": "suponly"}})
    assert ask(tmp_path / "b") == 1
    assert "no experiment of tiny scores unlabeled images" in capsys.readouterr().err


def test_the_least_stable_come_first(finished: Path) -> None:
    (stage,) = finished.glob("my results/stages/score/*")
    scores = read_score_table(stage / "scores.csv")
    rows = [Row(id, "unlabeled", id, None, 1, 1, 1) for id in scores["id"]]
    found = least_stable(scores, rows, 3)
    assert [each.rank for each in found] == [6, 5, 4] and all(each.ranked == 6 for each in found)
    assert found[0].score == min(scores["score"])


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp"])
def test_a_copy_of_a_labeled_image_is_not_asked_for(finished: Path, tmp_path: Path, suffix: str) -> None:
    """By what the trained teacher of a run makes of it; without loss, under another name."""
    (path,) = finished.glob("my results/runs/tiny/experiments/st++/seed0/teacher/last.pt")
    model, scenes = load(path, "cpu"), finished / "my scenes/images"
    labeled, others = ([str(each) for each in sorted(scenes.glob(f"{subset}*"))] for subset in ("labeled", "unlabeled"))
    measured = [str(scenes / "val0.png"), str(scenes / "test1.png")]
    copies = [str(tmp_path / f"{number}.{suffix}") for number in range(len(labeled) + len(measured))]
    for original, copy in zip([*labeled, *measured], copies):
        Image.open(original).save(copy, **{"lossless": True} if suffix == "webp" else {})
    rows = [Row(path, "unlabeled", path, None, 1, 1, 1) for path in [*copies, *others]]
    scores = pd.DataFrame({"id": [row.id for row in rows], "score": 0.5, "rank": range(1, len(rows) + 1)})
    known = ([Row(path, "", path, None, 1, 1, 1) for path in paths] for paths in (labeled, measured))
    chosen = to_label_next(scores, rows, *known, len(rows), lambda row: model.features(row.image))
    found = {each.row.id for each in chosen}
    assert found & {*others} and not found & {*copies}


@pytest.mark.parametrize(
    ("data", "id_", "expected"),
    [
        ({"layout": "lists"}, "a/b", "masks/a/b.png"),
        ({}, "images/city/b", "masks/city/b.png"),
        ({"masks": "annotations", "mask_name": "{stem}_mask"}, "images/city/b", "annotations/city/b_mask.png"),
        (
            {"images": "all", "masks": "all", "image_name": "{stem}.jpg", "mask_name": "{stem}.png"},
            "all/b",
            "all/b.png",
        ),
        (
            {"images": "cases", "masks": "cases", "image_name": "t1", "mask_name": "seg"},
            "cases/7/t1",
            "cases/7/seg.png",
        ),
    ],
)
def test_masks_lie_as_below_the_data_root(data: dict[str, Any], id_: str, expected: str) -> None:
    known = {"layout": "folder", "images": "images", "masks": "masks", "image_name": "{stem}", "mask_name": "{stem}"}
    row = Row(id_, "unlabeled", f"data/{id_}.jpg", None, 1, 1, 1)
    image, mask = files_of(known | data, row, Path("out"))
    assert (image, mask) == (Path(f"out/{id_}.jpg"), Path(f"out/{expected}"))
