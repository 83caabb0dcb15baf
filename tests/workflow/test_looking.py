"""Looking must not touch: what a dry run, `plan`, `status`, `gc` and `diff` leave as it was, and what a run writes."""

import shutil
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import fabricate
import pytest
from conftest import Snakemake

from stpp.commands.cli import main
from stpp.commands.workflow import prepare, write, write_recipes
from stpp.common.errors import StppError
from stpp.data import demo
from stpp.settings.configfile import read

COUNTS = {"labeled": 4, "unlabeled": 5, "val": 1, "test": 1, "seed": 0}
LOOKS = (["plan"], ["status"], ["gc"])
QUESTIONS = ("--dry-run", "--summary", "--dag", "--list-rules")
CACHES = ("cache.json", "index-*.json")
"""What was seen of the data: a look may write it where there are results, since no job reads it."""


def tree(folder: Path = Path()) -> dict[str, Any]:
    """Every file, folder and link in a folder but Snakemake's own: what it holds and when it was changed."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not name.startswith(".snakemake"):
            content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[name] = (content, path.lstat().st_mtime_ns)
    return found


def read_by_jobs(folder: Path = Path()) -> dict[str, Any]:
    """The files of `tree` but the caches."""
    return {
        name: (content, time)
        for name, (content, time) in tree(folder).items()
        if content is not None and not any(Path(name).match(cache) for cache in CACHES)
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scenes(here: Path) -> Path:
    """A folder with a configuration of the demo, and nothing else."""
    data = {"layout": "demo", "root": "data/scenes", "demo": COUNTS}
    fabricate.write_config(here, fabricate.tiny(data=data, experiments={"st": {"method": "st"}}))
    return here


@pytest.fixture
def copy(finished: Path, here: Path) -> Path:
    """A copy of the finished run, to the last time stamp."""
    shutil.copytree(finished, "copy", symlinks=True)
    return here / "copy"


# --- where nothing ran ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_leaves_a_folder_without_results_as_it_was(scenes: Path, look: list[str]) -> None:
    before = tree()
    assert main([*look, "config.yaml"]) == 0
    assert tree() == before


def test_a_question_to_snakemake_leaves_a_folder_without_results_as_it_was(scenes: Path, snakemake: Snakemake) -> None:
    before = tree()
    for question in QUESTIONS:
        said = snakemake(scenes, question)
        assert tree() == before, question
        assert question != "--dry-run" or "train_student" in said.stdout


def test_scenes_that_are_not_drawn_yet_are_planned_as_they_will_be(scenes: Path) -> None:
    config = read(Path("config.yaml"))
    planned = prepare(config, print)
    write(config, planned)
    assert set(prepare(config, print).stages) == set(planned.stages)
    demo.generate(Path("again"), **COUNTS)
    assert {name: content for name, (content, _) in tree(Path("again")).items()} == {
        name: content for name, (content, _) in tree(Path("data/scenes")).items()
    }
    assert stat.S_IMODE(Path("data/scenes").stat().st_mode) == stat.S_IMODE(Path("again").stat().st_mode)


def test_a_run_draws_each_scene_once(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: Counter[tuple[int, int]] = Counter()
    scene = demo.scene

    def counting(seed: int, index: int, size: int = 96) -> Any:
        drawn[seed, index] += 1
        return scene(seed, index, size)

    monkeypatch.setattr(demo, "scene", counting)
    config = read(Path("config.yaml"))
    write(config, prepare(config, print))
    assert set(drawn.values()) == {1}
    assert drawn.total() == sum(COUNTS.values())


def test_a_list_of_ones_own_may_be_one_of_the_demos(here: Path) -> None:
    data = {"layout": "demo", "root": "scenes", "demo": COUNTS, "val": "scenes/test.txt", "test": "val.txt"}
    fabricate.write_config(here, fabricate.tiny(data=data, experiments={"st": {"method": "st"}}))
    config = read(Path("config.yaml"))
    planned = prepare(config, print)
    write(config, planned)
    (manifest,) = here.glob("my results/data/val-*.csv")
    assert "test-00000" in manifest.read_text()
    assert set(prepare(config, print).stages) == set(planned.stages)


def test_scenes_of_other_settings_are_refused_by_a_look(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.generate(Path("data/scenes"), **COUNTS | {"seed": 1})
    assert main(["plan", "config.yaml"]) == 1
    assert "other settings" in capsys.readouterr().err


# --- beside a run -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two(here: Path) -> Path:
    """a.yaml, whose run has started, and b.yaml, whose data have the same names and sizes in another root."""
    fabricate.write_scenes(here / "my scenes")
    shutil.copytree("my scenes", "others")
    for path in Path("others/images").glob("unlabeled*"):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # what decides nothing in a PNG file
    raw = fabricate.tiny(experiments={"st": {"method": "st"}})
    fabricate.write_config(here, raw).rename("a.yaml")
    fabricate.write_config(here, raw | {"data": raw["data"] | {"root": "others"}}).rename("b.yaml")
    config = read(Path("a.yaml"))
    write(config, prepare(config, print))
    return here


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_another_configuration_leaves_what_jobs_read(two: Path, look: list[str]) -> None:
    before = read_by_jobs()
    assert main([*look, "b.yaml"]) == 0
    assert read_by_jobs() == before


def test_a_dry_run_of_another_configuration_leaves_what_jobs_read(two: Path, snakemake: Snakemake) -> None:
    before = read_by_jobs()
    Path("b.yaml").rename("config.yaml")
    snakemake(two, "--dry-run")
    Path("config.yaml").rename("b.yaml")
    assert read_by_jobs() == before


def test_a_look_writes_no_manifest_and_the_run_after_it_does(two: Path) -> None:
    manifests = {path: path.read_bytes() for path in Path("my results/data").glob("*.csv")}
    shutil.rmtree("my results")
    Path("my results").mkdir()
    assert main(["plan", "a.yaml"]) == 0
    assert [path.name for path in Path("my results").iterdir()] == ["data"]
    assert not list(Path("my results/data").glob("*.csv"))
    assert main(["plan", "a.yaml", "--recipes"]) == 0
    assert {path: path.read_bytes() for path in Path("my results/data").glob("*.csv")} == manifests


def test_a_manifest_that_was_edited_is_written_anew_by_a_run_alone(two: Path) -> None:
    (manifest,) = Path("my results/data").glob("labeled-*.csv")
    whole = manifest.read_bytes()
    manifest.write_bytes(whole.replace(b"masks/labeled0", b"masks/labeled1"))
    before = tree()
    assert main(["status", "a.yaml"]) == 0
    assert tree() == before
    assert main(["plan", "a.yaml", "--recipes"]) == 0
    assert manifest.read_bytes() == whole


def test_results_that_cannot_be_written_can_be_looked_at(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stpp.data import index

    def refuse(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied", "my results/data")

    monkeypatch.setattr(index, "remember", refuse)
    assert main(["status", "b.yaml"]) == 0


def test_data_that_change_between_plan_and_start_are_refused(two: Path) -> None:
    config = read(Path("a.yaml"))
    plan = prepare(config, print)
    mask = Path("my scenes/masks/labeled0.png")
    mask.write_bytes((mask.parent / "labeled1.png").read_bytes())
    shutil.copy("my scenes/images/labeled1.png", "my scenes/images/labeled0.png")
    for manifest in Path("my results/data").glob("*.csv"):
        manifest.unlink()
    with pytest.raises(StppError, match="changed after the plan was made; run the same command again"):
        write_recipes(config, plan)


# --- beside a finished run --------------------------------------------------------------------------------------------


def test_no_look_touches_a_finished_run(copy: Path, monkeypatch: pytest.MonkeyPatch, snakemake: Snakemake) -> None:
    monkeypatch.chdir(copy)
    assert main(["index", "config.yaml"]) == 0  # the files of a copy are others, which are looked at once
    next(Path("my results/data").glob("truth-*.csv")).unlink()  # what a look could restore
    Path("my results/tiny/report.html").unlink()
    before = tree()
    for look in LOOKS:
        assert main([*look, "config.yaml"]) == 0
        assert tree() == before, look
    assert main(["diff", "my results/runs/tiny/experiments/st", "my results/runs/tiny/experiments/st++"]) == 0
    assert tree() == before
    for question in QUESTIONS:
        snakemake(copy, question)
        assert tree() == before, question
    done = snakemake(copy)
    assert "Nothing to be done" in done.stdout + done.stderr
    (page,) = Path("my results/stages/report").glob("*/report.html")
    assert Path("my results/tiny/report.html").samefile(page)


def test_a_part_of_a_run_leaves_no_link_to_nothing(scenes: Path, snakemake: Snakemake) -> None:
    """The links are made when a run starts, and when it ends there is more to lead to."""
    snakemake(scenes, "teacher")
    view, linked = scenes / "my results/tiny", scenes / "my results/runs/tiny"
    links = [path for path in linked.rglob("*") if path.is_symlink()]
    assert links and all(path.exists() for path in links)
    assert (linked / "experiments/st/seed0/teacher/last.pt").is_file() and not (view / "report.html").exists()
    snakemake(scenes, "table")
    assert (view / "table.csv").is_file() and not (view / "report.html").exists()
    shown = [*view.rglob("*"), *linked.rglob("*")]
    assert all(path.exists() for path in shown)
    assert not [path for path in shown if path.is_dir() and not any(path.iterdir())]
