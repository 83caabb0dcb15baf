"""`make gpu`: what is measured once is not measured again, the time of a part ends, and every table is printed."""

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import ROOT

from stpp.models import build

GPU = ROOT / "benchmarks/gpu"
NAMES = ["tests", "floor", "reference", "encoders", "augmentation", "camvid", "beds"]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """The modules of the folder by name."""
    monkeypatch.syspath_prepend(str(GPU))

    def load(name: str) -> ModuleType:
        if name != "__main__":
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location("make_gpu", GPU / "__main__.py")
        assert spec and spec.loader
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        return made

    return load


def run(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GPU), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


def options(out: Path, seconds: float = 60.0, **more: Any) -> argparse.Namespace:
    return argparse.Namespace(out=out, seconds=seconds, device="cpu", tiny=True, **more)


def made_up(module: Callable[[str], ModuleType], **rows: Any) -> dict[str, Any]:
    """A part of the rows whose measurements are given."""
    columns = {"a": ("first", ".1f"), "b": ("second", "d")}
    return {"floor": module("parts").part("Made up", "row", columns, rows, "speed.md")}


def test_without_a_gpu_all_tables_say_that_nothing_is_measured(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run("--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n**") == len(NAMES)
    assert not (tmp_path / "gpu.json").exists() and (tmp_path / "gpu.md").read_text() in done.stdout
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    body = [row for row in rows if set(row[1:]) == {"not measured"}]
    assert len(rows) - len(body) == 2 * len(NAMES)  # a head and a rule each


def test_what_is_not_installed_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    script = f"""
import runpy, sys
sys.modules["pydantic"] = None
sys.argv = ["gpu", "--device", "cpu", "--tiny", "--out", {str(tmp_path)!r}]
sys.path.insert(0, {str(GPU)!r})
runpy.run_path({str(GPU / "__main__.py")!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == int(torch.cuda.is_available()), done.stderr
    assert done.stdout.startswith("Not installed here, so nothing is measured: pydantic. `make gpu-wheels`")
    assert done.stdout.count("\n**") == len(NAMES) and not (tmp_path / "gpu.json").exists()


def test_an_unknown_part_is_refused_with_those_that_there_are() -> None:
    done = run("flor")
    assert done.returncode == 2 and f"no such part: flor; there are {', '.join(NAMES)}" in done.stderr


def test_what_is_there_is_not_measured_again_and_what_failed_is(
    tmp_path: Path, module: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    record, running = module("record"), module("running")
    asked: list[str] = []

    def good(run: Any) -> dict[str, float]:
        asked.append("good")
        return {"a": 1.25, "b": 3}

    def bad(run: Any) -> dict[str, float]:
        asked.append("bad")
        raise running.Unmeasured("failed: no luck")

    parts, file = made_up(module, good=good, bad=bad), tmp_path / "gpu.json"
    for commit in ("one", "one", "two"):
        records = record.read(file)
        current = record.of(records, commit, "a device", "torch")
        save = lambda records=records: record.write(file, records)  # noqa: E731
        module("__main__").measure(parts, current, options(tmp_path), save)
    assert asked == ["good", "bad", "bad", "good", "bad"]
    assert [each.commit for each in record.read(file)] == ["one", "two"]
    lines = parts["floor"].table.lines(record.read(file)[0].parts["floor"])
    assert lines[2:] == ["| good | 1.2 | 3 |", "| bad | failed: no luck |  |"]


def test_the_record_of_before_comes_back_and_is_the_latest(module: Callable[[str], ModuleType]) -> None:
    record = module("record")
    records = [record.Record("one", "x", "t", {"floor": {"r": {"a": 1}}}), record.Record("two", "x", "t")]
    again = record.of(records, "one", "x", "t")
    assert again.done("floor", "r") and records[-1] is again and len(records) == 2
    assert not record.of(records, "one", "y", "t").done("floor", "r") and len(records) == 3


def test_a_part_ends_with_its_time(tmp_path: Path, module: Callable[[str], ModuleType]) -> None:
    asked: list[str] = []

    def slow(run: Any) -> dict[str, float]:
        asked.append("slow")
        time.sleep(0.2)
        return {"a": 1.0}

    current = module("record").Record("one", "x", "t")
    parts = made_up(module, first=slow, second=slow)
    for _ in range(2):
        module("__main__").measure(parts, current, options(tmp_path, 0.1), lambda: None)
    assert asked == ["slow", "slow"] and set(current.parts["floor"]) == {"first", "second"}


def test_a_command_is_asked_to_save_when_its_time_is_up(tmp_path: Path, module: Callable[[str], ModuleType]) -> None:
    running = module("running")
    script = "trap 'echo saved > saved; exit 143' TERM; echo begun; sleep 30 & wait"
    with pytest.raises(running.Unmeasured, match="the next run measures it"):
        running.finish(["sh", "-c", script], tmp_path, tmp_path / "log.txt", running.Clock(0.5))
    assert (tmp_path / "saved").read_text() == "saved\n"
    with pytest.raises(running.Unmeasured, match=r"failed: no good \(see log.txt\)"):
        running.finish(["sh", "-c", "echo no good; exit 3"], tmp_path, tmp_path / "log.txt", running.Clock(30))


def test_numbers_of_tests_come_from_their_report(module: Callable[[str], ModuleType]) -> None:
    report = '<testsuites><testsuite tests="9" failures="1" errors="1" skipped="2" time="3.5"/></testsuites>'
    found = module("parts").counted(report)
    assert found == {"passed": 5, "failed": 2, "skipped": 2, "seconds": 3.5}


def test_tests_are_run_and_one_that_fails_is_a_result(tmp_path: Path, module: Callable[[str], ModuleType]) -> None:
    tests = "import pytest\npytestmark = pytest.mark.cuda\ndef test_a(): pass\ndef test_b(): assert False\n"
    (tmp_path / "test_made_up.py").write_text(tests)
    parts, running = module("parts"), module("running")
    run_of_it = parts.Run(options(tmp_path), tmp_path / "out", running.Clock(60))
    found = parts.tested([str(tmp_path / "test_made_up.py"), "--rootdir", str(tmp_path)], run_of_it)
    assert {key: found[key] for key in ("passed", "failed", "skipped")} == {"passed": 1, "failed": 1, "skipped": 0}
    with pytest.raises(running.Unmeasured, match="no test was found"):
        parts.tested(
            [str(tmp_path / "nowhere.py")], parts.Run(options(tmp_path), tmp_path / "other", running.Clock(60))
        )


def test_a_part_runs_on_a_processor_at_tiny_sizes(tmp_path: Path) -> None:
    done = run("augmentation", "--device", "cpu", "--tiny", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((tmp_path / "gpu.json").read_text())
    assert record["parts"]["augmentation"] and "problem" not in str(record["parts"])


def test_a_part_ends_in_ten_minutes_even_where_a_command_takes_long_to_save(
    module: Callable[[str], ModuleType],
) -> None:
    assert module("__main__").LIMIT + 2 * module("running").GRACE < 600


def test_each_test_that_is_named_is_there(module: Callable[[str], ModuleType]) -> None:
    for path, *chosen in module("parts").TESTS.values():
        text = (ROOT / path).read_text()
        assert "cuda" in text and all(
            name in text for words in chosen if words != "-k" for name in words.split(" and ")
        )


@pytest.mark.parametrize("bed", ["camvid", "cars", "nuclei", "steel"])
def test_whole_trainings_are_valid_configurations_for_a_gpu(
    bed: str, tmp_path: Path, module: Callable[[str], ModuleType]
) -> None:
    from stpp.settings.configfile import load

    parts = module("parts")
    for folder in ("camvid", "car-parts", "nuclei", "steel"):
        (tmp_path / folder).mkdir()
    given = options(tmp_path, camvid=tmp_path / "camvid", beds=tmp_path, weights=tmp_path / "none.pth")
    for tiny in (True, False):
        given.tiny, given.device = tiny, "cpu" if tiny else "cuda"
        config = load(parts.configuration(bed, given))
        assert set(config.experiments) == {"suponly", "st++", "best"} and config.network.weights == "none"
        assert config.controls == "fair"
        assert config.runtime.train.gpu == int(not tiny) and bool(config.runtime.train.workers) == (not tiny)
    with pytest.raises(module("running").Unmeasured, match="a frozen encoder needs weights"):
        parts.configuration(bed, given, frozen=True)
    given.weights.write_bytes(b"")
    for given.tiny in (True, False):
        config = load(parts.configuration(bed, given, frozen=True))
        assert config.features.views and config.training.teacher.tune == config.training.student.tune == "none"
    given.beds = given.camvid = tmp_path / "nowhere"
    with pytest.raises(module("running").Unmeasured, match="no folder"):
        parts.configuration(bed, given)


def test_the_pages_show_what_was_measured(module: Callable[[str], ModuleType]) -> None:
    record, main = module("record"), module("__main__")
    (latest,) = record.read(main.ADOPTED) or [None]
    tables = {name: part.table for name, part in main.PARTS.items()}
    assert list(tables) == NAMES
    for page in {table.page for table in tables.values()}:
        text = (ROOT / "docs" / page).read_text()
        assert text.count(record.BEGIN) == text.count(record.END) == 1
        assert record.in_page(text, page, latest, tables) == text


def test_what_another_device_or_commit_has_computed_is_not_taken(module: Callable[[str], ModuleType]) -> None:
    records: list[Any] = []
    keys = [("a", "X", "torch 2"), ("b", "X", "torch 2"), ("a", "CPU", "torch 2"), ("a", "X", "torch 3")]
    found = [module("record").of(records, *key) for key in keys]
    assert len({record.folder for record in found}) == len(records) == 4
    assert module("record").of(records, *keys[0]) is found[0]


def test_tables_of_a_processor_do_not_go_into_the_documentation(
    tmp_path: Path,
    module: Callable[[str], ModuleType],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record, main = module("record"), module("__main__")
    record.write(tmp_path / "gpu.json", [record.Record("abc", "CPU, tiny sizes", "torch 2")])
    monkeypatch.setattr(sys, "argv", ["gpu", "--docs", "--out", str(tmp_path)])
    monkeypatch.setattr(main, "write_text", lambda *given: pytest.fail("a page was written"))
    assert main.main() == 1
    assert record.NOTHING in capsys.readouterr().err


def test_a_page_gets_the_tables_of_what_was_measured_alone(module: Callable[[str], ModuleType]) -> None:
    record, main = module("record"), module("__main__")
    tables = {name: part.table for name, part in main.PARTS.items()}
    (row, *_) = tables["floor"].rows
    found = record.Record("abc", "A Device", "torch 2", {"floor": {row: {"share": 0.961}}})
    page = f"before\n\n{record.BEGIN}\n\nold\n\n{record.END}\n\nafter\n"
    text = record.in_page(page, "speed.md", found, tables)
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "A Device, torch 2, commit abc." in text and "96.1%" in text and "Encoders" not in text
    assert record.NOTHING in record.in_page(page, "experiments.md", found, tables)


def test_costs_are_those_of_each_stage_once_and_each_view_is_an_image(module: Callable[[str], ModuleType]) -> None:
    gpu = {"device": "cuda:0", "processes": 1, "cpu_seconds": 5}
    views, whole = {"views": 8}, {"scales": [0.5, 1.0], "flip": True}
    records = {
        "train/a": {"stage": "train", "seconds": 1800, **gpu},
        "encode/v": {"stage": "encode", "seconds": 20, "images": 100, "settings": views, **gpu},
        "encode/w": {"stage": "encode", "seconds": 10, "images": 50, "settings": whole, **gpu},
        "select/s": {"stage": "select", "seconds": 9, "cpu_seconds": 1},
    }
    found = module("parts").costs(records)
    assert found == {"hours": pytest.approx(1830 / 3600), "encoded": (100 * 8 + 50 * 4) / 30}
    del records["encode/v"], records["encode/w"]
    assert module("parts").costs(records) == {"hours": 0.5}


@pytest.mark.manual
@pytest.mark.parametrize("frozen", [False, True], ids=["tuned", "frozen"])
@pytest.mark.parametrize("with_snakemake", [True, False], ids=["Snakemake", "one by one"])
def test_a_bed_runs_with_snakemake_and_without(
    with_snakemake: bool,
    frozen: bool,
    tmp_path: Path,
    module: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import numpy as np
    import yaml
    from PIL import Image

    parts, rng = module("parts"), np.random.default_rng(0)
    for folder, shape, suffix in (("images", (48, 56, 3), "jpg"), ("masks", (48, 56), "png")):
        (tmp_path / "nuclei" / folder).mkdir(parents=True)
        for number in range(24):
            pixels = rng.integers(2 if shape[2:] == () else 256, size=shape, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "nuclei" / folder / f"{number}.{suffix}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: with_snakemake or None)
    weights = tmp_path / ("mobilenet_v2.pth" if frozen else "none.pth")
    if frozen:
        torch.save(build({"backbone": "mobilenet_v2", "output_stride": 16}, 2).backbone.state_dict(), weights)
    given = options(tmp_path, camvid=tmp_path, beds=tmp_path, weights=weights)
    counts = {"test_split": {"count": 4}, "val_split": {"count": 4}, "partition": {"count": 8}}
    raw = parts.configuration("nuclei", given, frozen)
    raw["data"] |= counts
    monkeypatch.setattr(parts, "configuration", lambda name, options, frozen: yaml.safe_load(yaml.safe_dump(raw)))
    found = parts.bed("nuclei", parts.Run(given, tmp_path / "out", module("running").Clock(900)), frozen)
    rate = {found.pop("encoded")} if frozen else {1.0}
    assert min(rate) > 0
    assert set(found) == {"suponly", "st++", "best", "suponly-compute", "hours"}
    assert all(0 <= value <= 100 for value in found.values())


@pytest.mark.manual
def test_parts_run_on_a_processor_at_tiny_sizes(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for folder, shape, suffix in (("JPEGImages", (60, 80, 3), "jpg"), ("SegmentationClass", (60, 80), "png")):
        (tmp_path / "camvid" / folder).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(11, size=shape, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "camvid" / folder / f"{number}.{suffix}")
    given = ["--device", "cpu", "--tiny", "--out", tmp_path / "out", "--camvid", tmp_path / "camvid"]
    done = run("floor", "encoders", "augmentation", "reference", *given)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((tmp_path / "out/gpu.json").read_text())
    rows = {
        row: values for name in ("floor", "encoders", "augmentation") for row, values in record["parts"][name].items()
    }
    assert len(rows) > 10 and not [row for row, values in rows.items() if "problem" in values]
    assert "no checkout of the authors' code" in done.stdout
