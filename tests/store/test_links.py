"""The folder that people look at: what can be taken elsewhere, and file systems without links."""

import shutil
from pathlib import Path

import fabricate
import pytest

from stpp.commands.diff import side_of
from stpp.commands.gc import garbage, shown_stages
from stpp.store.links import link, share, target_of

OLD = fabricate.tiny(selection={"share": 0.34}, experiments={"st++": {"method": "st++"}})
NEW = fabricate.tiny(experiments={"st": {"method": "st"}})


@pytest.fixture
def without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, where no link can be made."""

    def refuse(self: Path, *given: object, **named: object) -> None:
        raise PermissionError(1, "Operation not permitted", str(self))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    return tmp_path


def test_a_text_file_says_where_the_stage_is(without_links: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link(Path("view/experiments/table.txt"), Path("stages/table/x/table.txt"))
    said = Path("view/experiments/table.txt").read_text()
    assert said.splitlines()[1:] == ["../../stages/table/x/table.txt"]
    assert target_of(Path("view/experiments/table.txt")) == without_links / "stages/table/x/table.txt"
    link(Path("view/experiments/table.txt"), Path("stages/table/y"))
    assert target_of(Path("view/experiments/table.txt")) == without_links / "stages/table/y"
    assert target_of(Path("view")) is None


def test_the_view_is_kept_up_to_date_and_those_who_read_it_understand(without_links: Path) -> None:
    fabricate.pretend(OLD, fabricate.plan_of(OLD))
    results = fabricate.pretend(NEW, fabricate.plan_of(NEW))
    assert not any(path.is_symlink() for path in results.rglob("*"))
    assert shown_stages(results, (results / "stages").resolve()) == set(fabricate.plan_of(NEW).stages)
    unused = set(fabricate.plan_of(OLD).stages) - set(fabricate.plan_of(NEW).stages)
    assert {item.folder for item in garbage(results, [])} == unused
    assert set(side_of(results / "runs/tiny/experiments/st").runs) == {"seed0"}


def test_no_empty_folder_stays_of_experiments_that_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = fabricate.pretend(OLD, fabricate.plan_of(OLD))
    (results / "tiny/mine").mkdir()  # what somebody else made stays
    fabricate.pretend(NEW, fabricate.plan_of(NEW))
    fabricate.pretend(OLD, fabricate.plan_of(OLD))
    shown = [*(results / "tiny").rglob("*"), *(results / "runs/tiny").rglob("*")]
    assert [path for path in shown if path.is_dir() and not any(path.iterdir())] == [results / "tiny/mine"]


def test_links_count_where_their_folder_is_a_link_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = fabricate.pretend(NEW, fabricate.plan_of(NEW))
    (results / "runs/tiny").rename(tmp_path / "elsewhere")
    (results / "runs/tiny").symlink_to(tmp_path / "elsewhere")
    for path in [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_symlink()]:
        stage = path.readlink().parts[-2:]
        path.unlink()
        path.symlink_to((results / "stages").resolve() / Path(*stage))
    assert shown_stages(results, (results / "stages").resolve()) == set(fabricate.plan_of(NEW).stages)


def test_a_chart_that_an_earlier_version_drew_goes_with_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results = fabricate.pretend(OLD, fabricate.plan_of(OLD))
    drawn = {path.name for path in (results / "tiny/charts").iterdir()}
    shutil.move(results / "runs/tiny/comparison", results / "tiny/comparison")
    fabricate.pretend(NEW, fabricate.plan_of(NEW))
    names = {path.name for path in (results / "tiny/charts").iterdir()} if (results / "tiny/charts").exists() else set()
    assert drawn - names and names == {
        file.name for file in (results / "tiny/charts").glob("*") if file.stem in fabricate.plan_of(NEW).charts
    }


def test_links_of_earlier_versions_count_until_they_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = fabricate.plan_of(NEW)
    results = fabricate.pretend(NEW, plan)
    shutil.move(results / "runs/tiny/experiments", results / "tiny/experiments")
    for path in [path for path in (results / "tiny/experiments").rglob("*") if path.is_symlink()]:
        folder = path.readlink().parts[-2:]
        path.unlink()
        link(path, results / "stages" / Path(*folder))
    shown = shown_stages(results, (results / "stages").resolve())
    assert {part.folder for run in plan.runs for part in run.stages.values()} <= shown
    fabricate.pretend(NEW, plan)
    assert not (results / "tiny/experiments").exists()
    assert (results / "runs/tiny/experiments/st/seed0/student/last.pt").is_file()


def test_links_come_where_they_were_not_possible_before(without_links: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link(Path("view/table.txt"), Path("stages/table.txt"))
    monkeypatch.undo()
    path = without_links / "view/table.txt"
    link(path, without_links / "stages/other.txt")
    assert path.is_symlink()
    assert target_of(path) == without_links / "stages/other.txt"


MODEL = ["model.pt", "model-card.md"]


def test_what_people_look_at_can_be_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = fabricate.pretend(NEW, fabricate.plan_of(NEW))
    shutil.copytree(results / "tiny", tmp_path / "elsewhere/tiny", symlinks=True)  # as `cp -r` does
    names = ["table.txt", "table.csv", "runs.csv", "metrics.json", "report.html", "verdict.json", *MODEL]
    for name in [*names, "charts/phases.svg"] if (results / "tiny/charts/phases.svg").exists() else names:
        assert (tmp_path / "elsewhere/tiny" / name).read_bytes() == (results / "tiny" / name).read_bytes()
    assert not [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_symlink()]


def test_files_of_the_stages_go_with_them_and_those_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    charted = OLD | {"experiments": {"st++": {"method": "st++"}}}
    view = fabricate.pretend(charted, fabricate.plan_of(charted)) / "tiny"
    charts = {path.name for path in (view / "charts").iterdir()}
    (view / "charts/mine.svg").write_text("x")
    (view / "notes.txt").write_text("x")
    fabricate.pretend(NEW, fabricate.plan_of(NEW))
    left = {path.name for path in (view / "charts").iterdir()}
    assert "mine.svg" in left and charts - left and (view / "notes.txt").exists()


def test_a_file_is_shared_by_a_hard_link_or_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"x")
    share(tmp_path / "view/a", tmp_path / "a")
    assert (tmp_path / "view/a").samefile(tmp_path / "a")

    def refused(self: Path, target: Path) -> None:
        raise OSError("no links")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    share(tmp_path / "view/b", tmp_path / "a")
    copied = (tmp_path / "view/b").stat()
    assert (tmp_path / "view/b").read_bytes() == b"x" and copied.st_nlink == 1
    share(tmp_path / "view/b", tmp_path / "a")
    assert (tmp_path / "view/b").stat().st_ino == copied.st_ino, "a copy that is still true is not written again"
    (tmp_path / "a").write_bytes(b"yy")
    share(tmp_path / "view/b", tmp_path / "a")
    assert (tmp_path / "view/b").read_bytes() == b"yy"
