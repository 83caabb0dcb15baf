"""`stpp gc`: what it lists, what it keeps, and when it removes nothing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import fabricate
import pytest

from stpp.commands import workflow
from stpp.commands.cli import main
from stpp.commands.gc import Garbage, as_text, garbage, shown_stages
from stpp.commands.gc import alone as keep_away
from stpp.common.errors import StppError
from stpp.runtime.lock import hold

OLD = fabricate.tiny(selection={"share": 0.34}, experiments={"st++": {"method": "st++"}})
NEW = fabricate.tiny(experiments={"st++": {"method": "st++"}})


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of OLD and then of NEW, by the same name: the folder that people look at shows NEW."""
    monkeypatch.chdir(tmp_path)
    fabricate.pretend(OLD, fabricate.plan_of(OLD))
    return fabricate.pretend(NEW, fabricate.plan_of(NEW))


def unused() -> set[str]:
    """The stages that only OLD has."""
    return set(fabricate.plan_of(OLD).stages) - set(fabricate.plan_of(NEW).stages)


def folders(results: Path) -> set[str]:
    return {str(path.parent.relative_to(results / "stages")) for path in results.glob("stages/*/*/recipe.json")}


def test_what_neither_a_configuration_nor_a_view_has_is_garbage(results: Path) -> None:
    found = garbage(results, [fabricate.plan_of(NEW)])
    assert {item.folder for item in found} == unused()
    for item in found:
        files = (results / "stages" / item.folder).iterdir()
        assert item.bytes == sum(path.stat().st_size for path in files)
    assert garbage(results, [fabricate.plan_of(NEW), fabricate.plan_of(OLD)]) == []


def test_what_a_view_shows_stays_with_all_that_it_reads(results: Path) -> None:
    other = OLD | {"name": "other"}
    fabricate.pretend(other, fabricate.plan_of(other))
    ends = {folder for folder in unused() if folder.startswith(("verdict/", "table/", "chart/", "report/"))}
    assert {item.folder for item in garbage(results, [])} == ends
    for link in (results / "runs/other").rglob("*"):
        if link.is_symlink() and link.name != "student":
            link.unlink()
    left = {item.folder.split("/")[0] for item in garbage(results, [fabricate.plan_of(NEW)])}
    assert left == {"evaluate", "verdict", "table", "chart", "report"}


def test_the_view_shows_stages_by_links(results: Path) -> None:
    assert shown_stages(results, (results / "stages").resolve()) == set(fabricate.plan_of(NEW).stages)


def test_a_stage_at_which_a_job_works_is_none(results: Path) -> None:
    folder = min(unused())
    for part in ("", "/parts/0-of-2.h5"):
        with hold(results / "stages", folder + part):
            assert {item.folder for item in garbage(results, [fabricate.plan_of(NEW)])} == unused() - {folder}


def test_folders_that_are_no_stages_stay(results: Path) -> None:
    for name in ("train/mine", "train/mine-0123abcd"):
        (results / "stages" / name).mkdir()
    (results / "stages/train/mine/recipe.json").write_text("{}")
    assert {item.folder for item in garbage(results, [fabricate.plan_of(NEW)])} == unused()


def test_the_text(results: Path) -> None:
    found = [Garbage("train/teacher-x", 1_234_567, True), Garbage("score/k3", 80, False)]
    table = "train/teacher-x    1.2 MB\nscore/k3         80 bytes  not finished\n\n"
    assert as_text(results, found, removed=False) == (
        f"{table}my results: 2 stages, 1.2 MB would be removed; --remove does it.\n"
    )
    assert as_text(results, found, removed=True) == f"{table}my results: 2 stages, 1.2 MB removed.\n"
    assert as_text(results, [], removed=True) == "my results: nothing to remove; every stage is in use.\n"


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, set[str]]:
    """Configuration files of real data: `new.yaml`, and the results of an earlier share; the stages of that alone."""
    monkeypatch.chdir(tmp_path)
    fabricate.write_scenes(tmp_path / "my scenes")
    before = workflow.prepare(fabricate.load(OLD), print)
    results = fabricate.pretend(OLD, before)
    fabricate.write_config(tmp_path, NEW).rename("new.yaml")
    after = workflow.prepare(fabricate.load(NEW), print)
    fabricate.pretend(NEW, after)
    alone = set(before.stages) - set(after.stages)
    for folder in alone:
        log = results / "logs" / f"{folder}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("said")
    return results, alone


def test_the_command_lists_and_removes_only_when_told(
    configured: tuple[Path, set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    results, alone = configured
    before = folders(results)
    assert main(["gc", "new.yaml"]) == 0
    out = capsys.readouterr().out
    assert {line.split("  ")[0] for line in out.splitlines()[:-2]} == alone
    assert re.search(rf"{len(alone)} stages, [\d.]+ kB would be removed; --remove does it", out)
    assert folders(results) == before
    assert main(["gc", "new.yaml", "--remove"]) == 0
    assert "removed." in capsys.readouterr().out
    assert folders(results) == before - alone
    assert not list(results.glob("logs/*/*"))
    assert all(link.exists() for link in (results / "runs/tiny").rglob("*"))
    assert main(["gc", "new.yaml"]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_nothing_is_removed_while_a_workflow_is_at_work(
    configured: tuple[Path, set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    results, _ = configured
    before = folders(results)
    with workflow.claim(results):
        assert main(["gc", "new.yaml", "--remove"]) == 1
    assert "the workflow runs in" in capsys.readouterr().err
    assert folders(results) == before


def test_nothing_is_removed_while_a_job_is_in_its_first_second(
    configured: tuple[Path, set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    results, alone = configured
    before = folders(results)
    folder = min(folder for folder in alone if folder.startswith("train/"))
    code = (
        "import sys, time, types\n"
        # which takes its time to be imported, say, and has said nothing
        "module = types.ModuleType('stpp.stages.train')\n"
        "module.run = lambda stage, runtime: (print('begins', flush=True), time.sleep(60))\n"
        "sys.modules['stpp.stages.train'] = module\n"
        "from stpp.commands.cli import main\n"
        "sys.exit(main(['train', sys.argv[1], '--device', 'cpu']))"
    )
    command = [sys.executable, "-c", code, str(results / "stages" / folder)]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    assert job.stdout.readline() == "begins\n"
    assert main(["gc", "new.yaml", "--remove"]) == 1
    said = capsys.readouterr().err
    assert f"a job runs for my results/stages/{folder} (process {job.pid} on " in said
    assert folders(results) == before
    job.kill()
    job.communicate()
    assert main(["gc", "new.yaml", "--remove"]) == 0
    assert folders(results) == before - alone


def test_a_job_and_a_workflow_wait_or_are_refused_while_stages_are_removed(results: Path) -> None:
    with keep_away(results):
        with pytest.raises(StppError, match=r"`stpp gc` is removing stages in my results .*wait until it ends"):
            workflow.claim(results)
        with pytest.raises(StppError, match=r"`stpp gc` already runs in my results .*nothing is removed"):
            keep_away(results)


def test_stages_that_other_results_use_by_a_link_stay(
    configured: tuple[Path, set[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, alone = configured
    before = folders(results)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/stages").symlink_to(tmp_path / results / "stages")
    shutil.copytree(results / "data", tmp_path / "other/data")
    other = fabricate.load(OLD | {"results": "other"})
    plan = workflow.prepare(other, print)
    workflow.write(other, plan)
    (tmp_path / "sub").mkdir()
    fabricate.write_config(tmp_path / "sub", NEW | {"results": "other"})
    # Through the link nothing is removed, for those who own the stages have other configurations.
    assert main(["gc", "sub/config.yaml", "--remove"]) == 1
    assert "other/stages is a link to" in capsys.readouterr().err
    assert folders(results) == before
    # Nor do they remove what is used through the link.
    assert main(["gc", "new.yaml", "--remove"]) == 0
    assert folders(results) == before
    (tmp_path / "other").rename(tmp_path / "moved")
    assert main(["gc", "new.yaml", "--remove"]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path}/other, which uses stages of my results by a link, is not there" in said
    (note,) = (results / "stages" / ".users").iterdir()
    assert f"remove {note}" in said
    note.unlink()
    assert main(["gc", "new.yaml", "--remove"]) == 0
    assert folders(results) == before - alone


def test_a_folder_of_stages_that_is_a_link_is_left_alone(results: Path, tmp_path: Path) -> None:
    (results / "stages/chart").rename(tmp_path / "chart")
    (results / "stages/chart").symlink_to(tmp_path / "chart")
    found = {item.folder for item in garbage(results, [fabricate.plan_of(NEW)])}
    assert found == {folder for folder in unused() if not folder.startswith("chart/")}
    assert found < unused()


def test_configurations_with_other_results_are_refused(
    configured: tuple[Path, set[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fabricate.write_config(tmp_path, NEW | {"results": "elsewhere"})
    assert main(["gc", "new.yaml", "config.yaml"]) == 1
    assert "different folders for results, elsewhere, my results" in capsys.readouterr().err
