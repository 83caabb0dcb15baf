"""The charts: the numbers behind them, their bytes, and what they show."""

from pathlib import Path
from xml.etree import ElementTree

import fabricate
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stpp.commands.cli import main
from stpp.common.files import sha256

STRONG = {key: {} for key in ("jitter", "grayscale", "blur", "cutout")}
EXPERIMENTS = {
    "suponly": {"method": "suponly"},
    "plain": {"method": "plain"},
    "st": {"method": "st"},
    "no-blur": {"method": "st", "augmentation": {"student": {"unlabeled": {"blur": None}}}},
    "st++": {"method": "st++"},
    "three": {"method": "st++", "training": {"further_phases": 1}},
}
CHARTS = {"augmentations", "pseudo-labels", "phases", "iterations", "stability"}


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the charts of a small run; every stage ran in this process."""
    strong = {"student": {"unlabeled": STRONG}}
    place = tmp_path_factory.mktemp("charts")
    folder = fabricate.computed(place, "report", experiments=EXPERIMENTS, augmentation=strong, seeds=[0, 1])
    return folder / "my results/tiny/charts"


def test_each_chart_is_there_as_png_svg_and_csv(charts: Path) -> None:
    assert {path.name for path in charts.iterdir()} == {
        f"{name}.{end}" for name in CHARTS for end in ("png", "svg", "csv")
    }
    for name in CHARTS:
        assert np.asarray(Image.open(charts / f"{name}.png").convert("L")).std() > 5
        assert ElementTree.parse(charts / f"{name}.svg").getroot().tag.endswith("svg")


def test_the_same_numbers_give_the_same_bytes(charts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(charts.parent.parent.parent)
    for name in CHARTS:
        folder = (charts.parents[1] / "runs/tiny/comparison" / f"chart-{name}").resolve()
        files = [folder / file for file in ("chart.png", "chart.svg", "data.csv")]
        before = [sha256(path) for path in files]
        assert before == [sha256(charts / f"{name}.{end}") for end in ("png", "svg", "csv")]
        for path in files:
            path.unlink()
        assert main(["chart", str(folder.relative_to(Path.cwd().resolve()))]) == 0
        assert [sha256(path) for path in files] == before
        assert "<dc:date>" not in files[1].read_text()


def test_the_numbers_of_the_charts_are_those_of_the_runs(charts: Path) -> None:
    runs = pd.read_csv(charts.parent / "runs.csv").set_index(["experiment", "seed"])
    strong = pd.read_csv(charts / "augmentations.csv")
    assert list(strong["strong_augmentation"].unique()) == ["none", "all but blur", "all four"]
    for row in strong.to_dict("records"):
        assert row["miou"] == runs.loc[(row["experiment"], row["seed"]), "miou"]
    phases = pd.read_csv(charts / "phases.csv")
    assert set(phases["experiment"]) == {"st++"}
    for row in phases.to_dict("records"):
        run = runs.loc[(row["experiment"], row["seed"])]
        assert [row[name] for name in ("teacher", "phase1", "student")] == [
            run[f"{name}_test"] for name in ("teacher", "phase1", "student")
        ]
    labels = pd.read_csv(charts / "pseudo-labels.csv").set_index(["experiment", "seed"])
    assert labels["reliable"].to_dict() == {key: runs["reliable"][key] for key in labels.index}


def test_iterations_begin_with_the_teacher_and_end_with_the_last_student(charts: Path) -> None:
    runs = pd.read_csv(charts.parent / "runs.csv").set_index(["experiment", "seed"])
    for (name, seed), group in pd.read_csv(charts / "iterations.csv").groupby(["experiment", "seed"]):
        run = runs.loc[(name, seed)]
        expected = [run[f"{network}_test"] for network in ("teacher", "phase1", "phase2", "student")]
        assert group.sort_values("phase")["miou"].tolist() == expected


def test_every_unlabeled_image_is_a_dot(charts: Path) -> None:
    dots = pd.read_csv(charts / "stability.csv")
    assert len(dots) == 2 * fabricate.COUNTS["unlabeled"]
    runs = pd.read_csv(charts.parent / "runs.csv").set_index(["experiment", "seed"])
    for (name, seed), group in dots.groupby(["experiment", "seed"]):
        rho = group["score"].corr(group["miou"], method=lambda a, b: np.corrcoef(ranks(a), ranks(b))[0, 1])
        assert runs.loc[(name, seed), "spearman"] == pytest.approx(rho)
        assert (group["group"] == "reliable").sum() == 3


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, of ties the mean."""
    return np.array([((values < value).sum() + (values <= value).sum() - 1) / 2 for value in values])
