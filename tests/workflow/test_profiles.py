"""The profile for SLURM without SLURM: a stand-in for `sbatch` records what would be submitted, and refuses it."""

import base64
import json
import os
import re
import shutil
import sys
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fabricate
import pytest
import yaml
from conftest import ROOT, Snakemake
from snakemake.scheduling.job_scheduler import JobScheduler

from stpp.plan.rules import look_once_a_second, run_own_task

DEFAULT, SLURM = (yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text()) for name in ("default", "slurm"))
ATTEMPTS = range(1, SLURM["retries"] + 2)
SBATCH = """\
#!{python}
import json, os, sys
with open({records!r}, "ab", buffering=0) as file:  # a line is one write, since others write meanwhile
    file.write(json.dumps([sys.argv[1:], dict(os.environ)]).encode() + b"\\n")
sys.exit("no cluster here")
"""
RUNTIME = {
    "shards": 3,
    "train": {"gpu": 0, "threads": 2, "workers": 3, "memory": 100_000, "minutes": 700},
    "predict": {"gpu": 1, "memory": 500, "minutes": 20},
}
MISSING = ("train/student-phase1-*", "predict/masks-checkpoint*", "evaluate/teacher-val-*")


@dataclass(frozen=True)
class Submitted:
    """A call of `sbatch`: its options, the job's command, and the environment that the job inherits."""

    options: str
    command: str
    environment: dict[str, str]

    @property
    def rule(self) -> str:
        """The rule of the job."""
        return self.options.partition("--comment rule_")[2].partition("_wildcards_")[0]

    def option(self, pattern: str) -> str:
        """The value of an option."""
        found = re.search(rf"{pattern}[ =](\S+)", self.options)
        assert found, self.options
        return found[1]


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> list[Submitted]:
    """What is submitted when a job of each kind is to do: training, shards of predictions, joining, evaluation."""
    folder, commands = tmp_path_factory.mktemp("cluster"), tmp_path_factory.mktemp("commands")
    fabricate.planned(folder, runtime=RUNTIME)
    for recipe in folder.glob("my results/stages/*/*/recipe.json"):  # all is there
        for output in json.loads(recipe.read_text())["outputs"]:
            (recipe.parent / output).touch()
    for pattern in MISSING:
        for stage in folder.glob(f"my results/stages/{pattern}"):
            shutil.rmtree(stage)
            if stage.name.startswith("masks-checkpoint2"):
                (stage / "parts").mkdir(parents=True)
                for shard in range(3):
                    (stage / f"parts/{shard}-of-3.h5").touch()

    records = commands / "records"
    (commands / "sbatch").write_text(SBATCH.format(python=sys.executable, records=str(records)))
    for name in ("sacct", "scontrol", "sinfo", "squeue"):
        (commands / name).write_text("#!/bin/sh\n")  # knows nothing
    for command in commands.iterdir():
        command.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
        site = ("--default-resources", "nodes=1", "slurm_partition=big", "gpu_model=h100")
        waiting = ("--slurm-init-seconds-before-status-checks", "1")
        profile = ("--workflow-profile", str(ROOT / "profiles/slurm"))
        done = snakemake(folder, *profile, *site, *waiting, check=False, cores=(), program="snakemake")
    assert "no cluster here" in done.stderr
    calls = [json.loads(line) for line in records.read_text().splitlines()]
    return [Submitted(" ".join(words[:-1]), words[-1], environment) for words, environment in calls]


def of(rule: str, submitted: list[Submitted]) -> list[Submitted]:
    """The submissions of a rule, in their order."""
    return [job for job in submitted if job.rule == rule]


def test_jobs_of_all_kinds_are_submitted_and_trivial_ones_are_not(submitted: list[Submitted]) -> None:
    assert {job.rule for job in submitted} == {"train_student_phase1_val", "predict_shard", "join_shards", "evaluate"}


def test_gpus_are_asked_for_where_the_configuration_says_so(submitted: list[Submitted]) -> None:
    for job in submitted:
        if job.rule in ("predict_shard", "evaluate"):
            assert job.option("--gpus") == "h100:1"
            assert job.option("--nodes") == "1"
        else:
            assert "gpu" not in job.options
        assert job.option("-p") == "big"


def test_every_attempt_asks_for_more_up_to_what_the_cluster_has(submitted: list[Submitted]) -> None:
    limits = SLURM["resources"]
    for rule, memory, minutes in (
        ("train_student_phase1_val", 100_000, 700),
        ("evaluate", 500, 20),
        ("join_shards", 2000, 60),
    ):
        jobs = of(rule, submitted)
        assert [int(job.option("--mem")) for job in jobs] == [min(memory * n, limits["mem_mb"]) for n in ATTEMPTS]
        assert [int(job.option("-t")) for job in jobs] == [min(minutes * n, limits["runtime"]) for n in ATTEMPTS]


def test_shards_are_one_array(submitted: list[Submitted]) -> None:
    assert of("predict_shard", submitted)[0].option("--array") == "1-6"
    assert not any("--array" in job.options for job in submitted if job.rule != "predict_shard")


def test_jobs_run_this_code_with_this_interpreter(submitted: list[Submitted]) -> None:
    for job in submitted:
        assert job.option("--export") == "ALL"
        assert job.environment["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
        assert job.environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
        assert re.match(rf"--wrap={re.escape(str(Path(sys.executable).parent))}/python\S* -m snakemake ", job.command)
        assert str(ROOT / "Snakefile") in job.command


def test_no_setting_of_the_submit_host_reaches_a_job(submitted: list[Submitted]) -> None:
    cpus = {"train_student_phase1_val": "5"}
    for job in submitted:
        assert job.option("--cpus-per-task") == cpus.get(job.rule, "1")
        assert "profile" not in job.command
        assert not {"--keep-going", "--resources", "--slurm-array-jobs", "unlimited"} & {*job.command.split()}
        assert re.findall(r"--(?:cores|jobs|retries) \S+", job.command) == ["--cores 'all'", "--retries 0", "--jobs 1"]
        assert "--no-hooks" in job.command  # the lock on the results belongs to the process that submits


def test_the_profile_has_what_the_default_one_has() -> None:
    assert {key: SLURM[key] for key in DEFAULT} == DEFAULT


@pytest.mark.parametrize(("task", "expected"), {"3": ["sh", "-c", "echo three"], "1": None, None: None}.items())
def test_a_task_of_an_array_becomes_its_own_job(
    task: str | None, expected: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = {str(n): zlib.compress(f"echo {word}".encode()).hex() for n, word in ((2, "two"), (3, "three"))}
    payload = base64.b64encode(json.dumps(commands).encode()).decode()
    monkeypatch.setattr(sys, "argv", ["snakemake", f"--slurm-jobstep-array-execs={payload}"])
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    if task:
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: called.append(words))
    run_own_task()
    assert called == ([expected] if expected else [])


def test_each_job_that_ends_does_not_add_a_look_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = JobScheduler.__new__(JobScheduler)
    scheduler._open_jobs = threading.Semaphore(0)
    # In Snakemake alone, so that this test tells when there is nothing left to mend.
    assert looks(scheduler, JobScheduler._schedule_reevalutation) == 20
    monkeypatch.setattr(JobScheduler, "_schedule_reevalutation", JobScheduler._schedule_reevalutation)
    look_once_a_second()
    assert looks(scheduler, JobScheduler._schedule_reevalutation) == 1
    assert looks(scheduler, JobScheduler._schedule_reevalutation) == 1  # and the next one is called for


def looks(scheduler: JobScheduler, call: Callable[[JobScheduler, float], None]) -> int:
    """How often the scheduler looks after 20 calls for a look."""
    for _ in range(20):
        call(scheduler, 0.3)
    time.sleep(0.6)
    return sum(scheduler._open_jobs.acquire(blocking=False) for _ in range(30))
