"""Kill the workflow at random moments, start it again, and compare every artifact with those of an undisturbed run.

    python tests/support/durability.py --kills 50

Snakemake, the job's process or the whole process group gets SIGKILL or SIGTERM while a stage runs; the same command
then goes on. When a run ends before all kills are spent, the results are compared and thrown away, and the next run
begins. Exits non-zero on any difference, and if more work than one interval of saving was ever lost.
"""

import argparse
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from runs import artifacts, differences, finish, processes_in, small_demo, start

from stpp.common.disk import PROGRESS

INTERVAL = 1.5
"""Seconds between saves of `small_demo`."""
SLACK = 1.0
"""Seconds of processor time that a save may come late: an iteration, a validation, and the writing itself."""
VICTIMS = ("snakemake", "job", "group")
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
CORES = ("--cores", "2")
DEADLINE = 600
"""Seconds after which a run that does not end counts as hanging."""


@dataclass(frozen=True)
class Kill:
    """One kill: who got which signal, what ran, and the work since it was saved last, in seconds of processor time."""

    victim: str
    signal: signal.Signals
    stage: str
    lost: float


def main() -> int:
    """Run the harness; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="how often to kill; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments; default: %(default)s")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the runs")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stpp-durability-"))
    print(f"The runs are in {folder}")
    try:
        return torment(folder, options.kills, random.Random(options.seed))
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


def torment(folder: Path, kills: int, rng: random.Random) -> int:
    """An undisturbed run in `folder`, and runs with `kills` kills; prints what was found, returns the exit code."""
    (folder / "config.yaml").write_text(yaml.safe_dump(small_demo()))
    started = time.monotonic()
    seconds_of = undisturbed(folder)
    seconds = time.monotonic() - started
    expected = artifacts(folder)
    print(f"undisturbed: {seconds:.0f} s, {len(expected)} artifacts, {sum(map(len, expected.values())):,} bytes")
    for name in expected:
        if "unfinished" in name or name.endswith(".tmp"):
            print(f"left over: {name}")
            return 1

    spent: list[Kill] = []
    runs = different = 0
    while len(spent) < kills:
        shutil.rmtree(folder / "results")
        shutil.rmtree(folder / ".snakemake", ignore_errors=True)
        runs += 1
        while more := run_and_kill(folder, targets(seconds_of, spent, kills, runs), rng):
            for kill in more:
                spent.append(kill)
                print(f"{len(spent):3}: {kill.signal.name} to {kill.victim} in {kill.stage}", flush=True)
        for line in differences(expected, artifacts(folder)):
            different += 1
            print(f"DIFFERENT: {line}")
    return report(spent, runs, different, len(expected), list(seconds_of))


def report(spent: list[Kill], runs: int, different: int, count: int, kinds: list[str]) -> int:
    """Print the figures; returns the exit code."""
    print(f"{len(spent)} kills in {runs} runs")
    for what, number in sorted(Counter(f"{kill.signal.name} to {kill.victim}" for kill in spent).items()):
        print(f"  {number:3} {what}")
    hit = Counter(kill.stage for kill in spent)
    for kind in kinds:
        lost = [kill.lost for kill in spent if kill.stage == kind]
        print(f"  {hit[kind]:3} in {kind:28} work lost at most {max(lost, default=0):.1f} s")
    worst = max((kill.lost for kill in spent), default=0.0)
    late = worst > INTERVAL + SLACK
    print(
        f"work redone after a kill: at most {worst:.1f} s, the interval is {INTERVAL} s{' : TOO MUCH' if late else ''}"
    )
    print(f"{count} artifacts compared after each of {runs} runs: {different or 'no'} differences")
    return 1 if different or late else 0


def targets(seconds_of: dict[str, float], spent: list[Kill], kills: int, runs: int) -> dict[str, tuple[float, float]]:
    """For each kind of stage its usual time and the probability that it is killed; nothing once all kills are spent.

    Every second stage that starts, and from the second run on all that were never hit, so that the kills are spread
    over all of them; these early, since a run may be faster than the undisturbed one was.
    """
    hit = {kill.stage for kill in spent}
    sure = {kind for kind in seconds_of if runs > 1 and kind not in hit}
    chosen = seconds_of if len(spent) < kills else {}
    return {kind: (seconds / 3, 1.0) if kind in sure else (seconds, 0.5) for kind, seconds in chosen.items()}


def run_and_kill(folder: Path, targets: dict[str, tuple[float, float]], rng: random.Random) -> list[Kill]:
    """Start the workflow and kill it in the stages of `targets` until it ends; no kills if it ended well.

    The moment is drawn from the stage's usual time, the start of its process included. When only a job is killed,
    Snakemake goes on with what does not need it, and so does this.
    """
    workflow = start(folder, *CORES)
    kills: list[Kill] = []
    moments: dict[int, float] = {}
    saved: dict[int, tuple[int, float]] = {}
    for job, kind, path in watch(workflow, folder):
        if job not in moments:
            seconds, chance = targets.get(kind, (0.0, 0.0))
            after = rng.uniform(0, seconds) if rng.random() < chance else math.inf
            moments[job] = time.monotonic() + after
        at, used = last_saved(path), processor_time(job)
        if saved.setdefault(job, (at, math.inf))[0] != at:
            saved[job] = at, used
        if time.monotonic() < moments[job]:
            continue
        victim, number = rng.choice(VICTIMS), rng.choice(SIGNALS)
        # Infinity: this process has not begun to work.
        kill = Kill(victim, number, kind, max(0.0, used - saved[job][1]))
        moments[job] = math.inf
        if send(victim, number, workflow.pid, job):
            kills.append(kill)
            if victim != "job":
                # After SIGKILL to Snakemake alone, its job goes on beside the one that takes its place.
                finish(workflow, DEADLINE)
                return kills
    if not kills:
        must_have_ended_well(workflow, folder)
    return kills


def undisturbed(folder: Path) -> dict[str, float]:
    """Run the workflow; how long a process of each kind of stage was seen at most, its start included, in seconds."""
    workflow = start(folder, *CORES)
    first: dict[int, float] = {}
    seconds_of: dict[str, float] = {}
    for job, kind, _ in watch(workflow, folder):
        now = time.monotonic()
        seconds_of[kind] = max(seconds_of.get(kind, 0.0), now - first.setdefault(job, now))
    must_have_ended_well(workflow, folder)
    return seconds_of


def watch(workflow: "subprocess.Popen[bytes]", folder: Path) -> Iterator[tuple[int, str, Path]]:
    """The stages that run, as `jobs` gives them, again and again until the workflow has ended."""
    deadline = time.monotonic() + DEADLINE
    while workflow.poll() is None and time.monotonic() < deadline:
        yield from jobs(folder)
        time.sleep(0.02)
    finish(workflow, 1)


def must_have_ended_well(workflow: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Raises `SystemExit` if the workflow failed."""
    if workflow.returncode:
        print((folder / "log").read_text()[-3000:])
        raise SystemExit("a run failed that nobody killed")


def send(victim: str, number: signal.Signals, workflow: int, job: int) -> bool:
    """Send the signal; False if the victim has just ended by itself."""
    try:
        if victim == "group":
            os.killpg(workflow, number)
        else:
            os.kill(workflow if victim == "snakemake" else job, number)
    except ProcessLookupError:
        return False
    return True


def jobs(folder: Path) -> Iterator[tuple[int, str, Path]]:
    """The stages that run now: process, kind, folder."""
    for process in processes_in(folder):
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if len(words) > 3 and words[1].endswith("bin/stpp") and "stages/" in words[3]:
            yield process, kind_of(words[3]), folder / words[3]


def kind_of(path: str) -> str:
    """Kind and role of the stage of a path, such as `train/student-phase1`."""
    kind, name = path.partition("stages/")[2].split("/")[:2]
    return f"{kind}/{'-'.join(name[:-9].partition('-seed')[0].split('-')[:2])}"


def last_saved(stage: Path) -> int:
    """When the unfinished work of a stage was saved last, or went on, in ns; 0 where there is none.

    Stages that are too short to save anything have no such work: they begin again.
    """
    times = [0]
    for folder, _, names in os.walk(stage / "unfinished"):  # which passes over what vanishes meanwhile
        for name in set(names) - {PROGRESS}:  # which only says how far it is
            with suppress(FileNotFoundError):
                times.append(Path(folder, name).stat().st_mtime_ns)
    return max(times)


def processor_time(job: int) -> float:
    """Seconds of processor time that a process has used; 0 if it has just ended."""
    try:
        fields = Path(f"/proc/{job}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
