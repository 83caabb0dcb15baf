"""The page of all methods side by side: what was measured, against its own numbers, and what others have published."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT

from stpp.methods import methods
from stpp.report.statistics import experiment_table

SCRIPT = ROOT / "benchmarks/side_by_side.py"
spec = importlib.util.spec_from_file_location("side_by_side", SCRIPT)
assert spec is not None and spec.loader is not None
sys.modules["side_by_side"] = side_by_side = importlib.util.module_from_spec(spec)
spec.loader.exec_module(side_by_side)

MIOU = {
    "suponly": [0.50, 0.52, 0.54],
    "cct": [0.56, 0.56, 0.56],
    "cct-off": [0.55, 0.55, 0.55],
    "lonely-off": [0.51, 0.53, 0.55],
}
CONFIG = {
    "name": "small",
    "data": {"layout": "demo", "root": "data/demo", "demo": {"labeled": 4, "unlabeled": 24}},
    "network": {"architecture": "deeplabv3plus", "backbone": "tiny", "output_stride": 8, "weights": "none"},
    "training": {"student": {"batch_size": 8, "crop": 64}},
}


def results(device: str = "cpu") -> Any:
    """Three runs of each experiment; `cct` and its control have two trainings each, one of them of the other's run."""
    table = [
        {"experiment": name, "method": name.partition("-")[0], "partition": None, "seed": seed, "miou": value}
        | {"subset": "test", "images": 8}
        for name, values in MIOU.items()
        for seed, value in enumerate(values)
    ]
    runs, records = [], {}
    for number, row in enumerate(table):
        own, shared = f"train/{number}", f"train/shared{row['seed']}"
        parts = {"teacher": shared, "student": own} if "cct" in row["experiment"] else {"teacher": own}
        described = {key: {"kind": "network", "folder": folder} for key, folder in parts.items()}
        runs.append({"experiment": row["experiment"], "seed": row["seed"], "stages": described})
        record = {"device": device, "processes": 1, "threads": 1, "versions": {"torch": "2.0"}, "iterations": 30}
        records[own] = {
            **record,
            "cpu_seconds": 60.0 * (1 + row["seed"]),
            "seconds": 6.0,
            "peak_memory_mb": 100 + number,
        }
        records[shared] = record | {"cpu_seconds": 30.0, "seconds": 3.0, "peak_memory_mb": 50, "iterations": 7}
    frame = pd.DataFrame(table).astype({"partition": "string"})
    experiments = experiment_table(frame.assign(partition=""), dict.fromkeys(MIOU, "suponly"))
    metrics = {"experiments": experiments.to_dict("records"), "runs": frame.assign(partition="").to_dict("records")}
    return side_by_side.Results(CONFIG, metrics, runs, records)


def rows(text: str) -> dict[str, list[str]]:
    """The cells of the first table, by the first one."""
    lines = [line for line in text.partition("## Published")[0].splitlines() if line.startswith("| `")]
    return {cells[0]: cells[1:] for line in lines for cells in [[cell.strip() for cell in line.split("|")[1:-1]]]}


def test_gains_have_the_interval_of_the_same_seeds() -> None:
    found = rows(side_by_side.page([results()], side_by_side.published()))
    # 6, 4 and 2 points over labels alone: sd 2, so 4 -+ 4.3027 * 2 / sqrt(3); a point over the control, always.
    gains = ["+4.00", "-0.97 to +8.97", "+1.00", "+1.00 to +1.00"]
    assert found["`cct`"] == ["3", "56.00", "0.00", *gains, "7 + 30", "2.5 CPU-min", "105 MB"]
    assert found["`suponly`"] == ["3", "52.00", "2.00", "", "", "", "", "30", "2.0 CPU-min", "102 MB"]
    assert "`cct-off`" not in found and "`lonely-off`" in found, "a control without its method is an experiment"


def test_what_was_not_measured_is_said() -> None:
    numbers = side_by_side.published()
    text = side_by_side.page([results()], numbers)
    (missing,) = (line for line in text.splitlines() if line.startswith("Not measured: "))
    assert "`cct`" not in missing and "`suponly`" not in missing and "`gct`" in missing
    assert "Nothing was measured on the images of the published numbers." in text
    assert "Nothing was measured on a GPU." in text
    assert "Nothing was measured on a GPU." not in side_by_side.page([results("cuda")], numbers)
    assert all(f"`{method.name}`" in side_by_side.page([], numbers) for method in methods())


def test_it_says_at_which_size() -> None:
    text = side_by_side.page([results("cuda:0")], side_by_side.published())
    assert "4 labeled and 24 unlabeled scenes" in text and "8 test images" in text
    assert "`deeplabv3plus` with `tiny`, output stride 8" in text
    assert "cuda:0, 1 process of 1 thread, torch 2.0" in text
    assert "0.1 GPU-min" in text, "the time of its GPUs where it has some"


def test_each_published_number_has_its_list_and_its_network() -> None:
    numbers = side_by_side.published()
    lines = side_by_side.compared(numbers)
    expected = "| `gct` | GCT | Pascal, lists of ST++ | DeepLabv2 ResNet-101 | 1/16: 65.2, 1/8: 70.6, 1/4: 71.5 |"
    assert any(line.startswith(expected) for line in lines)
    assert any(line.startswith("| `dmt` | DMT | Cityscapes |") for line in lines), "a number without an experiment"
    table = pd.read_csv(ROOT / "experiments/paper/published.csv", dtype=str, keep_default_na=False)
    ours = table[(table["experiment"] != "") & (table["config"] != "paper-ablations")]
    assert sum(line.count(": ") for line in lines) >= len(ours)


@pytest.fixture
def command() -> list[str]:
    return [sys.executable, str(SCRIPT)]


def test_a_finished_run_becomes_a_page_the_same_one_each_time(
    command: list[str], finished: Path, tmp_path: Path
) -> None:
    pages = [tmp_path / "one.md", tmp_path / "two.md"]
    for path in pages:
        subprocess.run([*command, str(finished / "my results/tiny"), "--page", str(path)], check=True)
    assert pages[0].read_bytes() == pages[1].read_bytes()
    table = pd.read_csv(finished / "my results/tiny/table.csv").set_index("experiment")
    found = rows(pages[0].read_text())
    assert list(found) == [f"`{name}`" for name in table.index]
    for name, row in table.iterrows():
        assert found[f"`{name}`"][1] == f"{100 * row['miou_mean']:.2f}"


def test_a_folder_without_results_leaves_the_page_as_it_is(command: list[str], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("as it is")
    done = subprocess.run([*command, str(tmp_path), "--page", str(page)], capture_output=True, text=True)
    assert done.returncode == 1 and "run `make methods` first" in done.stderr and page.read_text() == "as it is"


def test_the_documentation_has_the_published_numbers_of_the_file() -> None:
    found, expected = (
        text.partition("## Published")
        for text in ((ROOT / "docs/side-by-side.md").read_text(), side_by_side.page([], side_by_side.published()))
    )
    assert found[0].startswith(side_by_side.HEAD) and found[2] == expected[2], "run `make side-by-side`"
