"""The simulations on a bed, on tiny scenes: labels that are hidden and given in rounds, and labels that are wrong."""

import sys
from pathlib import Path
from typing import Any

import fabricate
import forked
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import label_errors
import labeling
import simulation

CLASSES = list(fabricate.CLASSES)


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: Path) -> Path:
    """A bed of 14 labeled scenes, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, value in forked.environment().items():
        monkeypatch.setenv(name, value)
    command = [str(programs / "snakemake"), *simulation.SNAKEMAKE[-2:]]
    monkeypatch.setattr(simulation, "SNAKEMAKE", command)
    fabricate.write_scenes(tmp_path / "scenes", {"scene": 14})
    data = {"layout": "folder", "root": "elsewhere", "classes": CLASSES}
    data |= {"val_split": {"count": 2}, "test_split": {"count": 3}, "partition": {"count": 5}}
    config = fabricate.tiny(name="bed", data=data, controls="fair", outlook=True, seeds=[7])
    for role in ("teacher", "student"):
        config["training"][role] = {**config["training"][role], "iterations": 20}
        del config["training"][role]["epochs"]
    path = tmp_path / "bed.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def asked(program: Any, bed: Path, *options: str) -> int:
    return program.main([str(bed), "--root", "scenes", "--iterations", "20", "--cores", "2", *options])


def finished_at(results: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in results.glob("stages/*/*/stage.json")}


def test_labels_are_given_in_rounds(bed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--start", "2", "--number", "2", "--rounds", "1", "--seeds", "0", "1")
    assert asked(labeling, bed, *options) == 0
    printed = capsys.readouterr().out
    head, before, after = printed.splitlines()[2:]
    assert head.split() == ["round", "labels", "next", "random", "difference"]
    assert before.split()[:2] == ["0", "2"] and before.split()[-3:] == ["+0.00", "[+0.00,", "+0.00]"]
    assert after.split()[:2] == ["1", "4"] and len(after.split()) == 2 + 3 * 3
    folder = Path("results/simulations/labeling-bed")
    held = {line for name in ("val", "test") for line in (folder / f"{name}.txt").read_text().splitlines()}
    for seed in (0, 1):
        first, second = ({way: labeled(folder / f"round{n}/{way}{seed}") for way in labeling.WAYS} for n in (0, 1))
        assert first["next"] == first["random"] and len(first["next"]) == 2
        for way in labeling.WAYS:
            assert first[way] < second[way] and len(second[way]) == 4 and not second[way] & held
            hidden = (folder / f"round1/{way}{seed}/unlabeled.txt").read_text().splitlines()
            assert {line.partition("\t")[0] for line in second[way] | held}.isdisjoint(hidden) and len(hidden) == 5
    before_again = finished_at(Path("results"))
    assert asked(labeling, bed, *options) == 0
    assert capsys.readouterr().out == printed and finished_at(Path("results")) == before_again


def labeled(lists: Path) -> set[str]:
    return {*(lists / "labeled.txt").read_text().splitlines()}


def test_more_labels_than_there_are_images_are_refused(bed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(labeling, bed, "--start", "3", "--number", "3", "--rounds", "2") == 1
    assert "9 images can be labeled, and 9 would be" in capsys.readouterr().err


def test_the_table_of_labels_has_the_paired_differences() -> None:
    values = {"next": [0.5, 0.6, 0.7], "random": [0.4, 0.6, 0.5]}
    rows = [[1, 40, way, seed, each[seed]] for way, each in values.items() for seed in range(3)]
    _, (*cells, difference) = labeling.table(pd.DataFrame(rows, columns=["round", "labeled", "way", "seed", "miou"]))
    # sd of (0.1, 0, 0.2) is 0.1, and t of 2 degrees of freedom 4.3027
    half = 4.3027 * 10 / np.sqrt(3)
    assert difference == f"+10.00 [{10 - half:+.2f}, {10 + half:+.2f}]"
    assert cells[:2] == ["1", "40"] and cells[2].startswith("60.00 [") and cells[3].startswith("50.00 [")


def test_labels_are_made_wrong_and_suspected(bed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--labeled", "6", "--share", "0.2", "--area", "30", "--number", "5", "--seeds", "3")
    assert asked(label_errors, bed, *options) == 0
    printed = capsys.readouterr().out
    head, row, mean = (line.split() for line in printed.splitlines()[2:])
    assert head[0] == "seed" and mean[:2] == ["mean", "16.67"]
    assert row[:4] == ["3", "12", "2", "16.67"]  # each scene has a left and a right region
    assert int(row[5]) <= int(row[4]) <= 5 and int(row[7]) <= 2
    listed = pd.read_csv(next(Path("results/simulations").glob("*/seed3/suspects/suspects.csv")))
    assert len(listed) >= int(row[4]) and 0 <= float(row[8]) <= 100
    before = finished_at(Path("results"))
    assert asked(label_errors, bed, *options) == 0
    assert capsys.readouterr().out == printed and finished_at(Path("results")) == before


def test_the_table_of_errors_has_the_share_of_flipped_regions_and_what_chance_would_give() -> None:
    rows = [[0, 200, 10, 50, 30, 9, 20], [1, 100, 5, 50, 20, 4, 20], [2, 400, 20, 100, 50, 19, 40]]
    names = ["seed", "regions", "flipped", "suspects", "hits", "found", "sure"]
    _, first, *_, mean = label_errors.table(pd.DataFrame(rows, columns=names))
    assert first == ["0", "200", "10", "5.00", "50", "30", "60.00", "9", "40.00"]
    half = 4.3027 * 10 / np.sqrt(3)  # of 60, 40 and 50 %
    assert mean[8] == "40.00 [40.00, 40.00]"
    assert mean[3] == "5.00" and mean[6] == f"50.00 [{50 - half:.2f}, {50 + half:.2f}]"


def test_flipped_regions_are_whole_and_no_other_pixel_changes() -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[:2, :3], mask[4:, 5:], mask[0, 7] = 1, 2, 1
    flipped = label_errors.flip({"a": mask, "b": mask}, 3, 0.5, 6, seed=3)
    assert (flipped.regions, flipped.count) == (4, 2)  # the single pixel is too small, and 0 is no region
    numbers = set()
    for id_ in ("a", "b"):
        wrong = flipped.wrong[id_]
        assert np.array_equal(flipped.masks[id_] != mask, wrong > 0)
        for number in {*wrong.ravel().tolist()} - {0}:
            region = wrong == number
            assert np.count_nonzero(region) == 6 and len({*mask[region].tolist()}) == 1
            assert len({*flipped.masks[id_][region].tolist()}) == 1
            numbers.add(number)
    assert numbers == {1, 2}
    again = label_errors.flip({"a": mask, "b": mask}, 3, 0.5, 6, seed=3)
    assert all(np.array_equal(again.masks[id_], flipped.masks[id_]) for id_ in ("a", "b"))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (17, 23), (40, 40)])
def test_components_are_those_of_a_flood(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(shape[1]).integers(0, 2, shape, np.uint8)
    mask[-1] = 1
    expected = np.full(shape, -1)
    for start in np.ndindex(shape):
        waiting = [start] if expected[start] < 0 else []
        while waiting:
            row, column = waiting.pop()
            if expected[row, column] < 0:
                expected[row, column] = np.ravel_multi_index(start, shape)
                near = [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
                inside = [(r, c) for r, c in near if 0 <= r < shape[0] and 0 <= c < shape[1]]
                waiting += [place for place in inside if mask[place] == mask[start]]
    assert np.array_equal(label_errors.components(mask), expected)


@pytest.mark.parametrize(("right", "expected"), [(5, {1}), (8, {1}), (9, set())])
def test_a_suspect_counts_where_half_of_its_label_was_given_here(right: int, expected: set[int]) -> None:
    mask = np.full((4, 10), 1, np.uint8)
    mask[:, 9] = 0
    wrong = np.zeros((4, 10), np.int64)
    wrong[:, :4] = 1
    flipped = label_errors.Flipped({"a": mask}, {"a": wrong}, 1, 1)
    suspect = {"id": "a", "labeled": "left", "top": 0, "bottom": 4, "left": 0, "right": right}
    assert label_errors.pointed_at(suspect, flipped, CLASSES) == expected


def test_a_bed_without_val_images_is_refused(bed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load(bed.read_text())
    del config["data"]["val_split"]
    bed.write_text(yaml.safe_dump(config))
    for program in (labeling, label_errors):
        options = ("--start", "2", "--number", "1") if program is labeling else ("--labeled", "4")
        assert asked(program, bed, *options) == 1
        assert "the bed has no val images" in capsys.readouterr().err
