"""What the jobs of a run ask for, against what the rules ask for."""

import re
from pathlib import Path
from typing import Any

import fabricate
import pytest
import yaml
from conftest import ROOT, Snakemake

from stpp.commands.asked import NAMES, jobs_text
from stpp.commands.cli import main
from stpp.plan.code import MODULES
from stpp.plan.rules import asks
from stpp.plan.targets import NETWORKS, SMALL, SMALL_JOBS, TRAININGS
from stpp.settings.configfile import load

RUNTIME = {
    "shards": 2,
    "train": {"gpu": 2, "threads": 2, "workers": 3, "memory": 90_000, "minutes": 700},
    "predict": {"gpu": 1, "threads": 4, "workers": 2, "memory": 500, "minutes": 20},
}
BY_NAME = ("train", "predict", "encode")
"""The kinds that have several rules, or one by a configuration."""


def rows(text: str) -> dict[str, list[str]]:
    """Job -> the other columns."""
    cells = [re.split(r" {2,}", line) for line in text.splitlines() if re.match(r"\w+ {2,}\d", line)]
    return {first: others for first, *others in cells}


def site(folder: Path, **content: Any) -> Path:
    """A profile in `folder`; what is None stays out."""
    given = {key.replace("_", "-"): value for key, value in content.items() if value}
    (folder / "config.yaml").write_text(yaml.safe_dump(given))
    return folder


def said(profile: Path | None = None) -> str:
    plan = fabricate.plan_of(fabricate.TINY)
    return jobs_text(plan, set(plan.stages), load(fabricate.tiny(runtime=RUNTIME)).runtime.model_dump(), profile)


def test_each_kind_of_job_has_its_line() -> None:
    found = rows(said())
    assert found["train"][1:] == ["10", "2", "90,000 MB", "700 min"]
    assert found["predict_shard"][1:] == found["evaluate"][1:] == ["6", "1", "500 MB", "20 min"]
    assert found["write_report"][1:] == ["4", "1", "500 MB", "20 min"]
    assert found["join_shards"][1:] == found["score"][1:] == ["1", "0", "2,000 MB", "60 min"]
    assert int(found["predict_shard"][0]) == 2 * int(found["join_shards"][0])
    (here,) = re.findall(r"^Run inside Snakemake, not as jobs: (.*)\.$", said(), re.MULTILINE)
    assert sorted(here.split(", ")) == ["chart", "select", "table", "verdict"]


@pytest.mark.parametrize("kind", MODULES)
def test_what_is_said_is_what_the_rules_ask_for(kind: str) -> None:
    text = (ROOT / f"rules/{'predict' if kind == 'encode' else kind}.smk").read_text()
    small = text.count("**asks(),")
    assert kind not in (*NETWORKS, *SMALL_JOBS) or kind in BY_NAME or f"rule {NAMES.get(kind, kind)}:" in text
    assert ("localrule: True" in text) == (kind not in (*NETWORKS, *SMALL_JOBS) or kind == "train")  # its weights
    assert ("**computes(RUNTIME.train)," in text) == (kind == "train")
    assert ("**computes(RUNTIME.predict)," in text) == (kind in NETWORKS and kind not in TRAININGS)
    on_one_gpu = '**computes(RUNTIME.train.model_copy(update={"gpu": min(1, RUNTIME.train.gpu)})),'
    assert (on_one_gpu in text) == (kind == "length")
    assert small == (kind in SMALL_JOBS or kind in ("predict", "encode"))  # the joining of shards
    assert asks()["mem_mb"](None, 2) == 2 * SMALL.memory and asks()["runtime"](None, 1) == SMALL.minutes


@pytest.mark.parametrize(
    ("default", "own", "expected"),
    [
        ({"slurm_partition": "gpu"}, {"score": {"slurm_partition": "cpu"}}, ("gpu", "cpu")),
        (["nodes=1", "slurm_partition=gpu"], ["score:slurm_partition=cpu"], ("gpu", "cpu")),
        ({"nodes": 1}, {"evaluate": {"slurm_partition": "big"}}, ("-", "-")),
        ({"slurm_partition": "'gpu'"}, {"score": {"slurm_partition": None}}, ("gpu", "-")),
        (None, None, ("-", "-")),
    ],
)
def test_the_partition_is_that_of_the_profile(
    default: Any, own: Any, expected: tuple[str, str], tmp_path: Path
) -> None:
    found = rows(said(site(tmp_path, default_resources=default, set_resources=own)))
    assert (found["train"][-1], found["score"][-1]) == expected


BIG = {"slurm_partition": "big", "mem_mb": 200_000, "runtime": 2000, "gpu": 4}
SMALLER = {"slurm_partition": "small", "mem": "16GB", "runtime": "2h"}


@pytest.mark.parametrize("as_list", [False, True])
def test_trainings_that_the_profile_tells_apart_have_their_lines(as_list: bool, tmp_path: Path) -> None:
    own: Any = {"train_teacher_k3_val": BIG, "train_student_val": SMALLER}
    if as_list:
        own = [f"{rule}:{name}={value}" for rule, given in own.items() for name, value in given.items()]
    found = rows(said(site(tmp_path, default_resources={"slurm_partition": "gpu"}, set_resources=own)))
    assert "train" not in found
    assert found["train_teacher_k3_val"] == ["1", "10", "4", "200,000 MB", "2,000 min", "big"]
    assert found["train_student_val"] == ["1", "10", "2", "16GB", "2h", "small"]
    assert found["train_student_phase1_val"] == ["2", "10", "2", "90,000 MB", "700 min", "gpu"]
    assert found["evaluate"][1:] == ["6", "1", "500 MB", "20 min", "gpu"]


def test_resources_go_one_before_the_other_as_in_snakemake(tmp_path: Path) -> None:
    found = rows(
        said(
            site(
                tmp_path,
                default_resources={"mem_mb": 7, "runtime": 7, "gpu": 3},  # only of `gpu`, some rules say nothing
                set_resources={
                    "score": {"mem_mb": "attempt * 8000", "gpu": 0},
                    "write_report": {"mem_mb": 60_000},
                    "report": {"gpu": 5},  # a target, which is no job
                },
                resources={"mem_mb": 50_000, "runtime": 600},
            )
        )
    )
    assert found["train"][1:] == ["10", "2", "50,000 MB", "600 min", "-"]
    assert found["join_shards"][1:] == ["1", "3", "2,000 MB", "60 min", "-"]
    assert found["score"][1:] == ["1", "0", "attempt * 8000", "60 min", "-"]
    assert found["write_report"][1:] == ["4", "1", "50,000 MB", "20 min", "-"]


def test_the_jobs_are_those_that_snakemake_counts(tmp_path: Path, snakemake: Snakemake) -> None:
    fabricate.write_scenes(tmp_path / "my scenes")
    fabricate.write_config(tmp_path, fabricate.tiny(runtime=RUNTIME))
    counted = dict(re.findall(r"^(\w+) +(\d+)$", snakemake(tmp_path, "--dry-run").stdout, re.MULTILINE))
    (profile := tmp_path / "site").mkdir()
    found = rows(said(site(profile, set_resources={"train_student_val": {"gpu": 1}})))
    no_jobs = ("all", "total", "select", "choose", "write_table", "chart")
    assert {job: cells[0] for job, cells in found.items()} == {
        job: n for job, n in counted.items() if job not in no_jobs
    }


def test_a_dry_run_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    fabricate.write_scenes(tmp_path / "my scenes")
    fabricate.write_config(tmp_path, fabricate.tiny(experiments={"suponly": {"method": "suponly"}}))
    assert main(["run", "config.yaml", "teacher", "--dry", "--slurm", str(ROOT / "profiles/slurm")]) == 0
    text = capsys.readouterr().out
    assert rows(text)["train"] == ["1", "1", "0", "500 MB", "240 min", "-"]
    assert "partition" in text and "evaluate" not in rows(text)
