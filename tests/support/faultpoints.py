"""Stop each command of the workflow at every file operation, run it again, and compare every byte.

    python tests/support/faultpoints.py --points 100
    python tests/support/faultpoints.py --only "score: EIO at 17"

A command runs once undisturbed, and its operations on files are counted: opening for writing, writing, syncing,
renaming, making and removing. Then it runs again and again from the same beginning; each time one operation fares as
one of `syscalls.MODES` says. Snakemake's part is played: what a failed job was to write is deleted, and the command
runs once more. Exits non-zero if that ends in other bytes or leaves anything behind, if anything half-written or a
`stage.json` over other artifacts is ever there, or if an error is not one message.
"""

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # a fork has the thread that forked alone

import argparse
import contextlib
import json
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import fabricate
import syscalls
import torch
from runs import artifacts, differences

from stpp.commands import workflow
from stpp.commands.cli import main as stpp_main
from stpp.common.files import sha256
from stpp.models import weights
from stpp.plan.code import MODULES
from stpp.plan.rules import refusing
from stpp.runtime import progress
from stpp.settings.configfile import read

CONFIG = fabricate.tiny(
    results="results",
    experiments={"st++": {"method": "st++"}, "pixel": {"method": "pixel"}},
)
DEMO = CONFIG | {
    "data": {"layout": "demo", "root": "scenes", "demo": {"labeled": 4, "unlabeled": 2, "val": 1, "test": 1}}
}
DISTURBED = (
    *("train teacher", "train student-phase2", "predict masks-checkpoint1", "predict labels-teacher-reliable", "score"),
    *(
        "select stable",
        "pixels agreement",
        "evaluate stability-truth",
        "evaluate labels1-truth",
        "evaluate student-test",
    ),
    *("table", "chart stability", "report"),
)
"""Of stages that are made alike, one."""
SHARDED = ("predict masks-checkpoint1", "predict --shard", "predict --join")
ALWAYS = ("--save-minutes", "1e-9")
"""Save after each unit of work."""
LINES = 4
"""Most lines about one point."""

for module in {*MODULES.values(), "stpp.stages.shards", "stpp.data.index", "stpp.data.demo", "stpp.commands.forecast"}:
    import_module(module)  # once, here, instead of in each fork
progress.TELL_EVERY = 0.0  # each time, so that the operations are the same in every run


@dataclass(frozen=True)
class Command:
    """A command that is disturbed; it begins in a copy of the folder `base`.

    `stage` is the folder of its stage, if it is that of one; nothing but the recipe is there yet. `outputs` are deleted
    after it failed. `before` prepares it, `rest` follows: what is compared is what all end in.
    """

    name: str
    base: str
    run: Callable[[], int]
    stage: str = ""
    outputs: tuple[str, ...] = ()
    before: tuple[Callable[[], int], ...] = ()
    rest: tuple[Callable[[], int], ...] = ()


@dataclass(frozen=True)
class Point:
    """One operation of a command, and what becomes of it."""

    command: Command
    number: int
    kind: str
    path: str
    mode: str

    @property
    def name(self) -> str:
        path = re.sub("[0-9a-f]{32}", "*", self.path)  # of a temporary file, which never has the same name
        return f"{self.command.name}: {self.mode} at {self.number}, {self.kind} {path}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the harness; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--points", default="100", help="how many, or `all`; default: %(default)s")
    parser.add_argument("--only", default="", metavar="TEXT", help="only points that have this in their name")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample; default: %(default)s")
    options = parser.parse_args(arguments)
    if not syscalls.works_here():
        print("The fault points need Linux on x86-64, where a process can be traced")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="stpp-faultpoints-"))
    try:
        return explore(folder, options.only, options.points, options.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def explore(folder: Path, only: str, wanted: str, seed: int) -> int:
    """Try points in `folder`; prints what was found, returns the exit code."""
    started = time.monotonic()
    points: list[Point] = []
    # All at first: the folder that they begin in is that of the last one.
    for command in list(commands(folder, only.partition(":")[0])):
        points += points_of(command, folder)
    points = [point for point in points if only in point.name]
    chosen = points if wanted == "all" else sample(points, int(wanted), random.Random(seed))
    print(f"{len(points)} points, {len(chosen)} of them to try; {time.monotonic() - started:.0f} s so far", flush=True)
    wrong: Counter[tuple[str, str]] = Counter()
    unreached = 0
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("fork")) as pool:
        for point, (reached, found) in zip(chosen, pool.map(partial(tried, folder=folder), chosen)):
            unreached += not reached
            for line in found[:LINES]:
                print(f"WRONG: {point.name}: {line}", flush=True)
            if len(found) > LINES:
                print(f"WRONG: {point.name}: and {len(found) - LINES} more")
            wrong[group_of(point)] += bool(found)
    print(table(points, chosen, wrong))
    if unreached:
        print(f"{unreached} runs ended before their point: how often a command writes depends on its speed a little")
    print(
        f"{len(chosen)} of {len(points)} points tried in {time.monotonic() - started:.0f} s: {wrong.total()} are wrong"
    )
    return 1 if wrong.total() or not chosen else 0


def group_of(point: Point) -> tuple[str, str]:
    return point.command.name, point.kind


def table(points: Sequence[Point], chosen: Sequence[Point], wrong: Mapping[tuple[str, str], int]) -> str:
    """The figures by command and kind of operation."""
    there, done = Counter(map(group_of, points)), Counter(map(group_of, chosen))
    rows = [f"{'command':31} {'operation':9} {'points':>7} {'tried':>7} {'wrong':>7}"]
    for name, kind in there:
        counts = (each[name, kind] for each in (there, done, wrong))
        rows.append(f"{name:31} {kind:9}" + "".join(f" {count:7}" for count in counts))
    return "\n".join(rows)


def sample(points: Sequence[Point], count: int, rng: random.Random) -> list[Point]:
    """`count` of the points: one of each command, kind and mode, and again, as long as there are any."""
    groups = defaultdict(list)
    for point in rng.sample(points, len(points)):
        groups[point.command.name, point.kind, point.mode].append(point)
    order = rng.sample(list(groups.values()), len(groups))
    most = max(map(len, order), default=0)
    turns = [point for turn in range(most) for group in order for point in group[turn : turn + 1]]
    return turns[:count]


# --- the commands -----------------------------------------------------------------------------------------------------


def stpp(*arguments: str) -> Callable[[], int]:
    """An `stpp` command."""
    return partial(stpp_main, list(arguments))


def begin() -> int:
    """What the Snakefile does before the first job."""
    with refusing():
        config = read(Path("config.yaml"))
        plan = workflow.prepare(config, print)
        workflow.claim(Path(config.results))
        workflow.write(config, plan)
    return 0


def fetch() -> int:
    """`stpp weights`, without the internet."""
    weights.torchvision_weights = lambda backbone: {"weight": torch.arange(10_000.0)}
    return stpp_main(["weights", "resnet18", "results/weights/resnet18.pth"])


def prune(stage: str) -> int:
    """What Snakemake does with the temporary outputs of a stage once they are read."""
    shutil.rmtree(Path(stage) / "parts")
    return 0


def commands(folder: Path, only: str) -> Iterator[Command]:
    """The commands with `only` in their name; their bases are made in `folder`: `bare`, `demo` and `finished`."""
    return (command for command in all_commands(folder, only) if only in command.name)


def all_commands(folder: Path, only: str) -> Iterator[Command]:
    """All commands, but for those of stages behind the last one with `only` in its name."""
    for base, config in (("bare", CONFIG), ("demo", DEMO)):
        (folder / base).mkdir()
        fabricate.write_config(folder / base, config)
    fabricate.write_scenes(folder / "bare" / "my scenes")
    # The next start of the workflow removes what a killed one left, and links to what has come to be.
    yield Command("index of the demo", "demo", stpp("index", "config.yaml"), rest=(begin,))
    yield Command("index", "bare", stpp("index", "config.yaml"), rest=(begin,))
    yield Command("plan --recipes", "bare", stpp("plan", "config.yaml", "--recipes"), rest=(begin,))
    yield Command("start of the workflow", "bare", begin, rest=(begin,))
    weights = ("results/weights/resnet18.pth",)
    yield Command("weights", "bare", fetch, outputs=weights, rest=(begin,))

    shutil.copytree(folder / "bare", folder / "finished")
    must(folder / "finished", begin)
    with contextlib.chdir(folder / "finished"):
        config = read(Path("config.yaml"))
        stages = workflow.prepare(config, print).stages
    left = list(DISTURBED)
    for stage in stages.values():
        if not any(only in name for name in (*left, *(SHARDED if SHARDED[0] in left else ()))):
            return
        kind, path = stage.folder.partition("/")[0], f"results/stages/{stage.folder}"
        saving = ALWAYS if kind in ("train", "predict", "score") else ()
        cpu = ("--gpus", "0") if kind in ("train", "predict", "evaluate", "report") else ()
        call = partial(stpp, kind, path, *saving, *cpu)
        must(folder / "finished", call())
        name = next((name for name in left if stage.folder.startswith(name.replace(" ", "/", 1))), None)
        if name is None:
            continue
        left.remove(name)
        outputs = tuple(f"{path}/{output}" for output in stage.outputs)
        yield Command(name, "finished", call(), path, outputs, rest=(begin,))
        if name == SHARDED[0]:
            first, second = (call("--shard", str(shard), "--shards", "2") for shard in range(2))
            join, tidy = call("--join", "--shards", "2"), partial(prune, path)
            part = (f"{path}/parts/0-of-2.h5",)
            yield Command(SHARDED[1], "finished", first, path, part, rest=(second, join, tidy, begin))
            yield Command(SHARDED[2], "finished", join, path, outputs, before=(first, second), rest=(tidy, begin))
    if left:
        raise SystemExit(f"no stage is called {', '.join(left)}")


def must(folder: Path, call: Callable[[], int]) -> None:
    """Run a command in a fork, undisturbed; it must end well."""
    trace, said = traced(folder, call)
    if trace.code:
        raise SystemExit(f"a command that nobody disturbs fails with {trace.code}:\n{said}")


def traced(folder: Path, call: Callable[[], int], mode: str = "", at: int = -1) -> tuple[syscalls.Trace, str]:
    """Run a command in a fork with the working directory `folder`; also what it said."""

    def work() -> int:
        os.chdir(folder)
        for descriptor in (1, 2):
            os.dup2(said.fileno(), descriptor)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        try:
            return call()
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

    with tempfile.TemporaryFile("w+") as said:
        sys.stdout.flush()
        trace = syscalls.run(work, folder, mode, at)
        said.seek(0)
        return trace, said.read()


# --- one point --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def begun(command: Command, folder: Path) -> Iterator[Path]:
    """A folder in which the command can run, as if it never had."""
    own = folder / f"work-{os.getpid()}"
    shutil.copytree(folder / command.base, own, symlinks=True)
    try:
        if command.stage:
            for path in (own / command.stage).iterdir():
                if path.name != "recipe.json":
                    path.unlink()
        for call in command.before:
            must(own, call)
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def points_of(command: Command, folder: Path) -> list[Point]:
    """The points of a command, which runs undisturbed for it."""
    with begun(command, folder) as own:
        trace, said = traced(own, command.run)
        if trace.code:
            raise SystemExit(f"{command.name} fails undisturbed:\n{said}")
        between = content(own)
        for call in command.rest:
            must(own, call)
        EXPECTED[command.name] = between, content(own)
    if left := [name for name in EXPECTED[command.name][1] if is_left_over(name)]:
        raise SystemExit(f"{command.name} leaves behind: {', '.join(left)}")
    return [
        Point(command, number, kind, path, mode)
        for number, (kind, path) in enumerate(trace.operations)
        for mode in syscalls.modes_of(kind)
    ]


EXPECTED: dict[str, tuple[dict[str, bytes], dict[str, bytes]]] = {}
"""Of each command, all files after an undisturbed run: right after it, and after the commands that follow it."""


def tried(point: Point, folder: Path) -> tuple[bool, list[str]]:
    """Whether the point was reached, and what is wrong with it, a line each."""
    command = point.command
    with begun(command, folder) as own:
        trace, said = traced(own, command.run, point.mode, point.number)
        reached = len(trace.operations) > point.number
        found = list(faults(point, own, trace, said))
        if trace.code:
            for output in command.outputs:
                (own / output).unlink(missing_ok=True)
            trace, said = traced(own, command.run)
            if trace.code:
                return reached, [*found, f"run again, it ends with {trace.code}: {said.strip()}"]
        elif any(is_left_over(name) for name in content(own)):
            must(own, begin)  # as the next run of the workflow does
        for call in command.rest:
            must(own, call)
        found += differences(EXPECTED[command.name][1], content(own))
    return reached, found


def faults(point: Point, own: Path, trace: syscalls.Trace, said: str) -> Iterator[str]:
    """What is wrong right after the disturbed run."""
    failed = trace.code == 1 and said.count("stpp: ") == 1 and "Traceback" not in said
    killed = trace.code < 0 and point.mode not in ("EIO", "ENOSPC")
    if trace.hangs or not (trace.code == 0 or failed or killed):
        yield f"{'hangs' if trace.hangs else f'ends with {trace.code}'}: {said.strip()}"
    expected = EXPECTED[point.command.name][0]
    there = content(own)
    for output in point.command.outputs:
        if output in there and not output.endswith("stage.json") and there[output] != expected[output]:
            yield f"{output} is there with other bytes"
    record = own / point.command.stage / "stage.json"
    if point.command.stage and record.exists():
        try:
            digests = json.loads(record.read_text())["sha256"]
            broken = [name for name in digests if sha256(record.parent / name) != digests[name]]
        except (OSError, ValueError, KeyError) as error:
            broken = [repr(error)]
        if broken:
            yield f"stage.json is there over other artifacts: {', '.join(broken)}"


def content(folder: Path) -> dict[str, bytes]:
    """Every file and link below `folder`: its bytes, or target, but for what says when something ran.

    The logs and the lock, whose content no result depends on, are left out.
    """
    found = artifacts(folder, times=())
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.startswith(("results/stages/", "results/logs/")) or name == "results/.lock":
            continue
        if path.is_symlink():
            found[name] = os.fsencode(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
            if name.startswith("results/data/index-"):
                with contextlib.suppress(ValueError):  # what is broken is compared as it is
                    found[name] = json.dumps({**json.loads(found[name]), "watch": None}).encode()
            elif name == "results/data/cache.json":
                found[name] = b""
    return found


def is_left_over(name: str) -> bool:
    return name.endswith(".tmp") or "/unfinished/" in name


if __name__ == "__main__":
    sys.exit(main())
