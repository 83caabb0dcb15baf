"""What the jobs of a run ask for, against what the rules ask for."""

import re
from pathlib import Path
from typing import Any

import fabricate
import pytest
import yaml
from conftest import ROOT

from stpp.commands.asked import jobs_text
from stpp.commands.cli import main
from stpp.plan.code import MODULES
from stpp.plan.rules import asks
from stpp.plan.targets import NETWORKS, SMALL, SMALL_JOBS, TRAININGS
from stpp.settings.configfile import load

RUNTIME = {
    "shards": 2,
    "train": {"gpu": 2, "threads": 2, "workers": 3, "memory": 90_000, "minutes": 700},
    "predict": {"gpu": 1, "threads": 4, "memory": 500, "minutes": 20},
}


def rows(text: str) -> dict[str, list[str]]:
    """Job -> the other columns."""
    cells = [re.split(r" {2,}", line) for line in text.splitlines() if re.search(r" {2,}\d", line)]
    return {first: others for first, *others in cells}


def said(profile: Path | None = None) -> str:
    plan = fabricate.plan_of(fabricate.TINY)
    return jobs_text(plan, set(plan.stages), load(fabricate.tiny(runtime=RUNTIME)).runtime.model_dump(), profile)


def test_each_kind_of_job_has_its_line() -> None:
    found = rows(said())
    assert found["train"][1:] == ["10", "2", "90,000 MB", "700 min"]
    assert found["predict_shard"][1:] == found["evaluate"][1:] == ["4", "1", "500 MB", "20 min"]
    assert found["join_shards"][1:] == found["score"][1:] == ["1", "0", "2,000 MB", "60 min"]
    assert int(found["predict_shard"][0]) == 2 * int(found["join_shards"][0])
    (here,) = re.findall(r"^Run inside Snakemake, not as jobs: (.*)\.$", said(), re.MULTILINE)
    assert sorted(here.split(", ")) == ["chart", "select", "table", "verdict"]


@pytest.mark.parametrize("kind", MODULES)
def test_what_is_said_is_what_the_rules_ask_for(kind: str) -> None:
    text = (ROOT / f"rules/{'predict' if kind == 'encode' else kind}.smk").read_text()
    small = text.count("**asks(),")
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
        ({"nodes": 1}, {"train_teacher_k3_val": {"slurm_partition": "big"}}, ("big", "-")),
        (None, None, ("-", "-")),
    ],
)
def test_the_partition_is_that_of_the_profile(
    default: Any, own: Any, expected: tuple[str, str], tmp_path: Path
) -> None:
    content = {"default-resources": default, "set-resources": own}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({key: value for key, value in content.items() if value}))
    found = rows(said(tmp_path))
    assert (found["train"][-1], found["score"][-1]) == expected


def test_a_dry_run_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    fabricate.write_scenes(tmp_path / "my scenes")
    fabricate.write_config(tmp_path, fabricate.tiny(experiments={"suponly": {"method": "suponly"}}))
    assert main(["run", "config.yaml", "teacher", "--dry", "--slurm", str(ROOT / "profiles/slurm")]) == 0
    text = capsys.readouterr().out
    assert rows(text)["train"] == ["1", "1", "0", "500 MB", "240 min", "-"]
    assert "partition" in text and "evaluate" not in rows(text)
