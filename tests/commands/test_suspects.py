"""`stpp suspects`: labels that networks contradict which have not seen them."""

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest

from stpp.commands import suspects as command
from stpp.commands.cli import main
from stpp.commands.suspects import Compared, compared
from stpp.commands.workflow import prepare
from stpp.settings.configfile import read


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration whose outlook is computed."""
    left_out = ("verdict", "table", "chart", "report")
    experiments = {"suponly": {"method": "suponly"}}
    return fabricate.computed(
        tmp_path_factory.mktemp("suspects") / "run", *left_out, outlook=True, experiments=experiments
    )


def ask(folder: Path, *options: str) -> int:
    with contextlib.chdir(folder):
        return main(["suspects", "config.yaml", *options])


def listed(out: Path) -> list[dict[str, str]]:
    with (out / "suspects.csv").open() as file:
        return list(csv.DictReader(file))


def test_each_labeled_image_is_compared_once_with_a_network_that_has_not_seen_it(run: Path) -> None:
    with contextlib.chdir(run):
        found = list(compared(prepare(read(Path("config.yaml")), print), Path("my results")))
    assert sorted(each.row.id for each in found) == [f"images/labeled{number}" for number in range(4)]
    for each in found:
        assert each.true.shape == each.predicted.shape == each.confidence.shape
        assert each.confidence.min() >= 0 and each.confidence.max() <= 1


def test_a_wrong_label_is_found_first(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def right_but_for_one(*arguments: Any) -> Iterator[Compared]:
        for number, each in enumerate(compared(*arguments)):
            predicted = np.where(each.true == 255, 0, each.true)
            if number == 2:
                predicted[:8, :9], predicted[12:20, 2:22] = 1, 2
            yield each._replace(predicted=predicted, confidence=np.full(predicted.shape, 0.9, np.float32))

    monkeypatch.setattr(command, "compared", right_but_for_one)
    assert ask(run, "-n", "3", "--out", str(tmp_path / "out")) == 0
    assert "suspects in 4 labeled images" in capsys.readouterr().out
    first, *others = listed(tmp_path / "out")
    assert {row["id"] for row in (first, *others)} == {first["id"]}
    assert first["predicted"] == "right" and float(first["confidence"]) == pytest.approx(0.9)
    assert [float(row["share"]) for row in (first, *others)] == sorted(
        (float(row["share"]) for row in (first, *others)), reverse=True
    )
    assert (run / first["mask"]).is_file()
    text = (tmp_path / "out/suspects.html").read_text()
    assert text.count("<img") == 3 * len([first, *others]) and "labels to look at" in text


def test_where_there_is_no_outlook_the_reason_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fabricate.planned(tmp_path / "a", outlook=True)
    assert ask(tmp_path / "a") == 1
    assert "the outlook of tiny does not exist yet; make it by `stpp run FILE outlook`" in capsys.readouterr().err
    fabricate.planned(tmp_path / "b")
    assert ask(tmp_path / "b") == 1
    assert "write `outlook: true` into the configuration" in capsys.readouterr().err
