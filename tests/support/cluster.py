"""Run the workflow through profiles/slurm on a real SLURM, disturb it as clusters do, and compare the results.

    python tests/support/cluster.py

SLURM runs on this machine, with two virtual nodes and pretended GPUs (slurm.py). One line is printed for each
check: ok or FAILED. Where SLURM cannot be had, the only line says skipped. Exits non-zero if a check failed.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import slurm
import yaml
from pages import ON_A_CLUSTER
from runs import PROJECT, artifacts, differences, finish, launch, processes_in, small_demo, start

SHARDS = 2
SLURM = (
    *("--workflow-profile", str(PROJECT / "profiles/slurm")),
    *("--default-resources", "nodes=1", "slurm_partition=gpu", "gpu_model=h100"),
    *("--slurm-init-seconds-before-status-checks", "2"),
)
POLLING = """\
import asyncio
import sys

if "snakemake" in " ".join(sys.orig_argv):
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    async def sleep(self):
        await asyncio.sleep(2)

    RemoteExecutor.sleep = sleep
"""
"""A `sitecustomize` that asks for the jobs' states every two seconds: the executor waits ever longer, up to minutes."""


def main() -> int:
    """Run all checks; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--patience", type=float, default=20, help="minutes that a run may take; default: %(default)s")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the runs")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that SLURM is stopped
    try:
        slurm.install()
    except slurm.NoSlurmError as reason:
        print(f"skipped: {reason}")
        return 0
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="stpp-cluster-"))
    folder.chmod(0o755)  # munge asks for it
    checks = Checks()
    try:
        with slurm.running(folder / "slurm"):
            compare(folder, 60 * options.patience, checks)
    finally:
        for process in processes_in(folder):  # a node that went down leaves its processes alone
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{checks.count} checks, {checks.failed or 'none'} failed, in {time.monotonic() - started:.0f} s")
    return 1 if checks.failed else 0


@dataclass
class Checks:
    """Prints a line for each check and counts them."""

    count: int = 0
    failed: int = 0

    def __call__(self, what: str, problems: object) -> None:
        """A check that holds if there are no `problems`."""
        self.count += 1
        self.failed += bool(problems)
        print(f"FAILED  {what}: {problems}" if problems else f"ok      {what}", flush=True)


def compare(folder: Path, seconds: float, checks: Checks) -> None:
    """All checks, in `folder`; a run that takes longer than `seconds` counts as hanging."""
    expected = run_locally(folder / "local", seconds)
    here = folder / "cluster"
    prepare(here)
    checks("the whole workflow runs on the cluster", run(here, seconds))
    checks(f"its {len(expected)} files equal those of a local run", list(differences(expected, artifacts(here))))
    check_records(slurm.jobs(), checks)
    for requeued in (True, False):
        suffer([fault for fault in FAULTS if fault.requeued == requeued], here, expected, seconds, checks)
    follow_the_guide(here, expected, seconds, checks)


def prepare(folder: Path) -> None:
    """A configuration in `folder`: the small demo with two shards, and time to hit phase 2: its labels and training."""
    folder.mkdir()
    config = small_demo()
    config["data"]["demo"] |= {"unlabeled": 24, "val": 4, "test": 0}
    config["training"]["teacher"] |= {"epochs": 20, "validate_every": 20}
    # SLURM looks for jobs past their time limit every 30 seconds.
    config["training"]["student"] |= {"epochs": 72, "validate_every": 36}
    config["selection"] = {"checkpoints": 2}
    config["labeling"]["scales"] = [3.0 + 0.1 * step for step in range(20)]
    asked = {"gpu": 1, "memory": 800, "minutes": 10}
    config["runtime"] |= {"device": "cpu", "shards": SHARDS, "train": asked, "predict": dict(asked)}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def run_locally(folder: Path, seconds: float) -> dict[str, bytes]:
    """The artifacts of a run that SLURM has nothing to do with."""
    prepare(folder)
    workflow = start(folder, "--cores", "2")
    finish(workflow, seconds)
    if workflow.returncode:
        raise SystemExit((folder / "log").read_text()[-3000:])
    return artifacts(folder)


def start_on_cluster(folder: Path, *targets: str) -> "subprocess.Popen[bytes]":
    """Start the workflow with the profile."""
    return start(folder, *SLURM, "--", *targets, environment=polling(folder))


def polling(folder: Path) -> dict[str, str]:
    """The environment in which Snakemake asks often."""
    custom = folder / "polling" / "sitecustomize.py"
    custom.parent.mkdir(exist_ok=True)
    custom.write_text(POLLING)
    return {"PYTHONPATH": str(custom.parent)}


def run(folder: Path, seconds: float) -> str:
    """The whole workflow on the cluster; what went wrong."""
    workflow = start_on_cluster(folder)
    finish(workflow, seconds)
    return (folder / "log").read_text()[-3000:] if workflow.returncode else ""


# --- the scheduler's records ------------------------------------------------------------------------------------------

Job = Mapping[str, str]
LOCAL = {"all", "select", "choose", "write_table", "chart", "weights"}


def rule(job: Job) -> str:
    """The rule of a job, from the comment that the executor gives it."""
    return job.get("Comment", "").removeprefix("rule_").partition("_wildcards_")[0]


def check_records(jobs: list[dict[str, str]], checks: Checks) -> None:
    """What was asked of the scheduler for the jobs of an undisturbed run."""
    networks = ("predict_shard", "evaluate", "write_report")
    gpu = [job for job in jobs if rule(job).startswith("train") or rule(job) in networks]
    cpu = [job for job in jobs if rule(job) in ("join_shards", "score")]
    shards = [job for job in jobs if rule(job) == "predict_shard"]
    wrong = [rule(job) for job in gpu if job.get("TresPerJob") != "gres:gpu:h100:1" or job["NumNodes"] != "1"]
    checks(f"{len(gpu)} GPU jobs asked for one h100 of one node", wrong or not gpu)
    wrong = [rule(job) for job in cpu if "gpu" in job.get("TresPerJob", "")]
    checks(f"{len(cpu)} CPU jobs asked for no GPU", wrong or not cpu)
    tasks = {(job["ArrayJobId"], job["ArrayTaskId"]) for job in shards if "ArrayJobId" in job}
    checks(
        f"{len(shards)} shards ran as {len(tasks)} tasks of arrays",
        len(shards) != 4 * SHARDS or len(tasks) != len(shards),
    )
    checks("trivial rules were not submitted", len(gpu) + len(cpu) != len(jobs) or {rule(job) for job in jobs} & LOCAL)
    nodes = {job["NodeList"] for job in jobs}
    checks(f"the jobs ran on {' and '.join(sorted(nodes))}", nodes != set(slurm.NODES))


# --- faults -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Something that happens to a running job; `requeued`: SLURM itself starts the same job again.

    `late`: SLURM may take half a minute to do it, in which a job could end.
    """

    name: str
    strike: Callable[[Job], object]
    requeued: bool
    repair: Callable[[Job], object] = lambda job: None
    late: bool = False


def preempt(job: Job) -> None:
    """A job of a higher partition needs the whole node."""
    whole = ("--exclusive", f"--gpus-per-node={slurm.GPUS}", "-w", job["BatchHost"])
    command = ["sbatch", "-p", "urgent", *whole, "-o", "/dev/null", "--wrap", "sleep 2"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


FAULTS = (
    Fault("requeued", lambda job: slurm.scontrol("requeue", slurm.name(job)), True),
    Fault(
        "on a node that went down",
        lambda job: slurm.scontrol("update", f"nodename={job['BatchHost']}", "state=down", "reason=test"),
        True,
        lambda job: slurm.scontrol("update", f"nodename={job['BatchHost']}", "state=resume"),
    ),
    Fault("preempted by a higher partition", preempt, True),
    Fault(
        "past its time limit",
        lambda job: slurm.scontrol("update", f"jobid={slurm.name(job)}", "endtime=now"),
        False,
        late=True,
    ),
    Fault("cancelled", lambda job: subprocess.run(["scancel", slurm.name(job)], check=True, timeout=30), False),
)


@dataclass(frozen=True)
class Victim:
    """A stage to be hit: the unfinished work of its jobs to wait for, and the log of one that went on."""

    what: str
    stages: str
    rule: str
    unfinished: str
    went_on: str


VICTIMS = (
    Victim("prediction", "predict/labels-phase1-unreliable-*", "predict_shard", "*/*.h5", r"\A[^|]*\|[^|]*\| [1-9]"),
    Victim(
        "training", "train/student-phase2-*", "train_student_phase2_val", "training.pt", "continues after iteration "
    ),
)


def suffer(
    faults: Sequence[Fault], folder: Path, expected: Mapping[str, bytes], seconds: float, checks: Checks
) -> None:
    """Make the labels of phase 2 and its student anew, with all `faults` in both, one after the other, unaided."""
    names = ", ".join(fault.name for fault in faults)
    stages = {victim: next(folder.glob(f"results/stages/{victim.stages}")) for victim in VICTIMS}
    for stage in stages.values():
        shutil.rmtree(stage)
    before = {job["JobId"] for job in slurm.jobs()}
    workflow = start_on_cluster(folder, *(f"{stage.relative_to(folder)}/stage.json" for stage in stages.values()))
    try:
        for victim, stage in stages.items():
            for fault in faults:
                checks(f"a job {fault.name}, during {victim.what}", hit(fault, victim, stage, seconds, workflow))
    finally:
        finish(workflow, seconds)
    problems = list(differences(expected, artifacts(folder)))
    if workflow.returncode:
        problems.append((folder / "log").read_text()[-3000:])
    checks(f"jobs {names}: the workflow ended by itself, in the same bytes", problems)
    for victim, stage in stages.items():
        checks(f"jobs {names}: the {victim.what} went on where it was", went_on(folder, victim, stage))
    if not any(fault.requeued for fault in faults):
        checks(f"jobs {names}: the next one asked for twice the time and memory", not_grown(before))
    with suppress(TimeoutError):
        slurm.wait(lambda: not slurm.left(), 30, "all jobs to end")
    checks(f"jobs {names}: no job is left at the end, and none holds a GPU", slurm.left())


def hit(fault: Fault, victim: Victim, stage: Path, seconds: float, workflow: "subprocess.Popen[bytes]") -> str:
    """Let `fault` happen to a job of `victim` that has saved some work since it started; what went wrong."""
    since = time.time()

    def wait(condition: Callable[[], object], what: str) -> None:
        """Wait for it, but not for what a workflow that has ended does no more."""
        slurm.wait(lambda: condition() or workflow.poll() is not None, seconds, what)

    def saved() -> Job | None:
        """A job that runs, where work was saved after that job had begun."""
        fresh = [path for path in stage.glob(f"unfinished/{victim.unfinished}") if path.stat().st_mtime > since]
        running = [job for job in slurm.jobs() if rule(job) == victim.rule and job["JobState"] == "RUNNING"]
        return running[0] if running and len(fresh) >= len(running) else None

    def struck() -> bool:
        now = next(other for other in slurm.jobs() if other["JobId"] == job["JobId"])
        return now["Restarts"] != before if fault.requeued else now["JobState"] in ("TIMEOUT", "CANCELLED")

    try:
        wait(lambda: saved() is not None, "saved work")
        with held(stage) if fault.late else nullcontext():
            job = saved()
            if job is None:
                return "the jobs ended before they could be hit"
            before = job["Restarts"]
            fault.strike(job)
            wait(struck, f"job {slurm.name(job)} to be {fault.name}")
            if not struck():
                return f"the workflow ended before job {slurm.name(job)} was {fault.name}"
        fault.repair(job)
    except (TimeoutError, subprocess.SubprocessError) as error:
        return str(error)
    return ""


@contextmanager
def held(stage: Path) -> Iterator[None]:
    """Hold the commands that make a stage, so that they do not end meanwhile."""
    commands = [process for process in processes_in(stage.parents[3]) if makes(process, stage)]
    for command in commands:
        os.kill(command, signal.SIGSTOP)
    try:
        yield
    finally:
        for command in commands:
            with suppress(ProcessLookupError):
                os.kill(command, signal.SIGCONT)


def makes(process: int, stage: Path) -> bool:
    """Whether it is a command that makes a stage, such as `stpp train results/stages/train/student`."""
    with suppress(OSError):  # it has just ended
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
        return stage.parent.name in words and any(
            word.endswith(f"stages/{stage.parent.name}/{stage.name}") for word in words
        )
    return False


def went_on(folder: Path, victim: Victim, stage: Path) -> str:
    """What speaks against it that the stage went on from saved work: the last attempt's logs."""
    logs = list((folder / "results/logs" / stage.parent.name).glob(f"{stage.name}*.log"))
    found = any(re.search(victim.went_on, path.read_text()) for path in logs)
    return "" if found else "\n".join(path.read_text()[:500] for path in logs)


def not_grown(before: set[str]) -> list[str]:
    """The victims' rules whose second jobs did not ask for twice as much.

    The executor asks for a little more memory where the jobs are an array.
    """
    jobs = [job for job in slurm.jobs() if job["JobId"] not in before and job["TimeLimit"] == "00:20:00"]
    grown = {rule(job) for job in jobs if int(job["MinMemoryNode"].removesuffix("M")) >= 1600}
    return [victim.rule for victim in VICTIMS if victim.rule not in grown]


# --- the guide --------------------------------------------------------------------------------------------------------


def follow_the_guide(folder: Path, expected: Mapping[str, bytes], seconds: float, checks: Checks) -> None:
    """Run the commands of docs/cluster.md as they stand there, in a folder that is a clone of the project.

    Snakemake is killed, the job that it leaves is cancelled as the guide says, and the same command goes on.
    """
    for name in ("Snakefile", "rules", "stpp"):
        (folder / name).symlink_to(PROJECT / name)
    shutil.copytree(PROJECT / "profiles", folder / "profiles")
    shutil.copy(folder / "config.yaml", folder / "my.yaml")
    site = yaml.safe_load((folder / "profiles/slurm/config.yaml").read_text())
    site["default-resources"] |= {"slurm_partition": "gpu", "gpu_model": "h100"}
    site["slurm-init-seconds-before-status-checks"] = 2
    (folder / "profiles/ours").mkdir()
    (folder / "profiles/ours/config.yaml").write_text(yaml.safe_dump(site))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**polling(folder), "PATH": path}

    def run_command(command: str) -> subprocess.CompletedProcess[str]:
        where = {"cwd": folder, "env": os.environ | environment}
        return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=seconds, **where)

    submits, begins, runs, starts, cancels, *looks = ON_A_CLUSTER
    for command in [*looks, f"{submits} --dry-run"]:
        done = run_command(command)
        checks(
            f"`{command}` prints {len(done.stdout.splitlines())} lines",
            done.stderr if done.returncode else not done.stdout,
        )

    stage = next(folder.glob(f"results/stages/{VICTIMS[1].stages}"))
    shutil.rmtree(stage)
    workflow = launch(folder, ["bash", "-c", f"exec {submits}"], environment)
    try:
        slurm.wait(lambda: (stage / "unfinished" / VICTIMS[1].unfinished).exists(), seconds, "saved work")
    finally:
        os.killpg(workflow.pid, signal.SIGKILL)
        workflow.wait()
    run_id = re.findall(r"SLURM run ID: (\S+)", (folder / "log").read_text())[-1]
    left = [job for job in slurm.jobs() if job["JobState"] == "RUNNING"]
    done = run_command(cancels.replace("ID", run_id))
    problems = [done.stderr] if done.returncode or not left else []
    try:
        slurm.wait(slurm.idle, 60, "the nodes to be idle")
    except TimeoutError as error:
        problems.append(str(error))
    checks(f"`{cancels}` ended {len(left)} job that a killed Snakemake had left", problems)
    done = run_command(submits)
    problems = [done.stdout[-3000:] + done.stderr[-3000:]] if done.returncode else []
    checks(f"`{submits}` went on, to the same bytes", problems + list(differences(expected, artifacts(folder))))
    checks("the training went on where it was", went_on(folder, VICTIMS[1], stage))
    for command in (begins, starts):
        done = run_command(command)
        checks(f"`{command}` finds the teachers", done.stdout[-3000:] + done.stderr[-3000:] if done.returncode else "")

    for stage in folder.glob("results/stages/score/*"):
        shutil.rmtree(stage)
    done = run_command(runs)
    problems = [done.stdout[-3000:] + done.stderr[-3000:]] if done.returncode else []
    checks(
        f"`{runs}` made what was missing, to the same bytes", problems + list(differences(expected, artifacts(folder)))
    )


if __name__ == "__main__":
    sys.exit(main())
