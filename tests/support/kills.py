"""Kill the training of each method at random moments, let it go on, and compare the bytes of what it ends in.

    python tests/support/kills.py --kills 10

Each training of a method, on tiny scenes, is run once without a disturbance. Then its process gets SIGKILL, as many
times as asked for, at a random moment after it has saved new work; a training that ends before is begun anew. Exits
with 1 on any difference.
"""

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fabricate
from runs import differences

from stpp.commands.cli import main as stpp
from stpp.commands.workflow import prepare
from stpp.common import disk
from stpp.methods import method, methods
from stpp.plan.graph import flat
from stpp.settings.configfile import read

EVERY = "0.001"
"""Minutes between saves."""
WAIT = 0.2
"""Seconds within which a kill follows a save."""
EPOCHS = 15


def main() -> int:
    """Kill all trainings; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    known = [each.name for each in methods() if each.online or each.own_step]
    parser.add_argument("--kills", type=int, default=10, help="of each method; default: %(default)s")
    parser.add_argument("--methods", default=",".join(known), help="by comma; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: %(default)s")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    different = sum([torment(name, options.kills, rng) for name in options.methods.split(",")])
    return 1 if different else 0


def torment(name: str, kills: int, rng: random.Random) -> int:
    """Kill the last training of a method; prints what was found, and returns how many files differ."""
    folder = Path(tempfile.mkdtemp(prefix="stpp-kills-"))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            fabricate.planned(folder, experiments={"e": {"method": name}}, **short(name))
        os.chdir(folder)
        *before, last = order(folder)
        for stage in [*before, last]:
            if run(stage):
                raise SystemExit(f"{name}: {stage} failed")
        expected = contents(last)
        begin_anew(last)
        spent = anew = 0
        while spent < kills:
            if killed(last, rng):
                spent += 1
            else:
                different = compared(name, expected, contents(last))
                if different:
                    return different
                begin_anew(last)
                anew += 1
        run(last)
        different = compared(name, expected, contents(last))
        facts = f"{spent} kills in {anew + 1} trainings, {len(expected)} files compared"
        print(f"{name:14} {facts}: {different or 'no'} differences", flush=True)
        return different
    finally:
        os.chdir("/")
        shutil.rmtree(folder)


def short(name: str) -> dict[str, Any]:
    """What makes the training of a method last for some seconds, and lets pixels count."""
    training = {role: settings | {"epochs": EPOCHS} for role, settings in fabricate.TINY["training"].items()}
    asked = method(name)
    own: dict[str, Any] = {"threshold": 0.5} if "threshold" in getattr(asked.settings, "model_fields", {}) else {}
    own |= {"shares": [1.0]} if name == "dmt" else {}
    return {"training": training, "methods": {asked.target: own}}


def order(folder: Path) -> list[str]:
    """The stages that a method's last training needs, and it, in the order of the plan."""
    stages = prepare(read(folder / "config.yaml"), lambda line: None).stages
    last = [name for name, stage in stages.items() if stage.kind == "train"][-1]
    needed, queue = {last}, [last]
    while queue:
        read_by = {path.rpartition("/")[0] for path in flat(stages[queue.pop()].inputs)}
        queue += read_by - needed
        needed |= read_by
    return [name for name in stages if name in needed]


def run(stage: str) -> int:
    """Compute a stage in a process of its own; returns its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(begun(stage), 0)[1])


def begun(stage: str) -> int:
    """The process, forked from this one, that computes a stage."""
    if pid := os.fork():
        return pid
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silent, stream)
    kind = stage.partition("/")[0]
    saving = ["--save-minutes", EVERY] if kind in ("train", "predict") else []
    os._exit(stpp([kind, f"my results/stages/{stage}", *saving]))


def killed(stage: str, rng: random.Random) -> bool:
    """Whether a process that goes on with a stage was killed after it had saved, before it ended by itself."""
    state = Path("my results/stages") / stage / disk.UNFINISHED / disk.TRAINING_STATE
    before, pid = changed(state), begun(stage)
    while changed(state) in (None, before):
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(0.005)
    time.sleep(rng.uniform(0, WAIT))
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def changed(path: Path) -> int | None:
    """When a file was written; None if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def contents(stage: str) -> dict[str, bytes]:
    """The checkpoints and the history of a training."""
    folder = Path("my results/stages") / stage
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".pt", ".csv")}


def begin_anew(stage: str) -> None:
    """Remove all that a training has written."""
    for path in (Path("my results/stages") / stage).iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != disk.RECIPE:
            path.unlink()


def compared(name: str, expected: dict[str, bytes], found: dict[str, bytes]) -> int:
    """How many files differ; prints their names."""
    lines = list(differences(expected, found))
    for line in lines:
        print(f"{name}: {line}", flush=True)
    return len(lines)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    for module in ("train", "predict", "pixels"):
        __import__(f"stpp.stages.{module}")
    sys.exit(main())
