"""How the workflow bears a million unlabeled images and five hundred experiments.

    python benchmarks/scale.py

The images are entries of a manifest that name one and the same file, and the K = 3 stores hold a mask of one pixel for
each: what is measured is all that grows with their number and not with their pixels. Prints times and peak memory of
each command, and the sizes of its files. The dry run of many experiments is compared with those of two graphs of as
many jobs and files that are written down as such: a bare one, and one whose rules have logs, resources, messages and
the like, as ours have. It exits with 1 if it takes more than 1.3 times the processor time of the bare one.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from stpp.common.disk import part_of_store
from stpp.data.manifest import fingerprint, manifest_digest, manifest_path, read_manifest, write_manifest
from stpp.data.record import index_path, stamp
from stpp.runtime.job import Job
from stpp.settings.configfile import read
from stpp.store.masks import MaskWriter, voc_palette

PROJECT = Path(__file__).parent.parent
SNAKEMAKE = [str(Path(sys.executable).parent / "snakemake"), "--quiet", "rules", "reason", "--dry-run"]
STPP = [sys.executable, "-m", "stpp"]
PEAK = """\
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(code)
"""
"""Prints processor time (s) and peak memory (MB) of a command, which would begin with the peak of this process."""
LIMIT = 1.3
"""How much longer than the dry run of a bare graph of as many jobs that of many experiments may take."""
ROUNDS = 5
"""How often the dry runs take turns; the fastest of each counts, as the one that was disturbed least."""
DIRECTIVES = """\
    log: "{e}.log"
    threads: 1
    priority: 1
    resources: gpu=0, nodes=1, mem_mb=lambda wildcards, attempt: 2000 * attempt, runtime=lambda wildcards, attempt: 9
    params: folder=subpath(output[0], parent=True), options="--device auto --threads 1"
    message: "Making {wildcards.e}"
"""
"""What each of our rules has besides its files and its command."""


def main() -> int:
    """Print the figures; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000, help="unlabeled images; default: %(default)s")
    parser.add_argument("--experiments", type=int, default=500, help="experiments; default: %(default)s")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(PROJECT)
    with tempfile.TemporaryDirectory(prefix="stpp-scale-") as folder:
        os.chdir(folder)
        many_images(options.images)
        return many_experiments(options.experiments)


def many_images(count: int) -> None:
    """Time plan, score, select, the joining of shards and the sharded graph of `count` unlabeled images."""
    config = configuration({"st++": {"method": "st++"}})
    Path("config.yaml").write_text(yaml.safe_dump(config))
    subprocess.run([*STPP, "index", "config.yaml"], check=True, stdout=subprocess.DEVNULL)
    enlarge(count)
    print(f"{count:,} unlabeled images\n{'':30}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}  files")
    measure("plan", [*STPP, "plan", "--recipes", "config.yaml"])
    measure("dry run", [*SNAKEMAKE, "--snakefile", f"{PROJECT}/Snakefile", "--configfile", "config.yaml"])
    config["runtime"]["shards"] = 100
    Path("sharded.yaml").write_text(yaml.safe_dump(config))
    measure("dry run with 100 shards", [*SNAKEMAKE, "-s", f"{PROJECT}/Snakefile", "--configfile", "sharded.yaml"])
    for stage in Path("results/stages/train").iterdir():
        stand_in(stage)
    stores = sorted(Path("results/stages/predict").glob("masks-*"))
    for stage in stores:
        write_parts(stage, count, shards=4)
        measure(
            f"join of 4 shards, {stage.name[:17]}", [*STPP, "predict", str(stage), "--join", "--shards", "4"], stage
        )
    for stage in [*Path("results/stages/score").iterdir(), *Path("results/stages/select").iterdir()]:
        measure(stage.parent.name, [*STPP, stage.parent.name, str(stage)], stage)


def many_experiments(count: int) -> int:
    """Compare the dry run of `count` experiments that share nothing with a bare graph; returns the exit code."""
    shares = {
        f"e{n}": {"method": "st++", "training": {"teacher": {"learning_rate": 0.01 + n / 1e5}}} for n in range(count)
    }
    Path("many.yaml").write_text(yaml.safe_dump(configuration(shares)))
    command = [*SNAKEMAKE, "--snakefile", f"{PROJECT}/Snakefile", "--configfile", "many.yaml"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    jobs = int(re.findall(r"^total\s+(\d+)", output, re.MULTILINE)[0])
    write_bare_graph(jobs, count, Path("bare"))
    write_bare_graph(jobs, count, Path("alike"), DIRECTIVES)
    commands = {"the workflow": command}
    commands |= {f"{kind} graph": [*SNAKEMAKE, "--snakefile", f"{kind}/Snakefile"] for kind in ("bare", "alike")}
    print(f"\n{count} experiments, {jobs:,} jobs; dry runs of")
    times: dict[str, list[float]] = {what: [] for what in commands}
    for _ in range(ROUNDS):
        for what, words in commands.items():
            times[what].append(measure(what, words).cpu)
    best = {what: min(seconds) for what, seconds in times.items()}
    for kind in ("bare", "alike"):
        print(
            f"the workflow takes {best['the workflow'] / best[f'{kind} graph']:.2f} times as long as the {kind} graph"
        )
    return best["the workflow"] > LIMIT * best["bare graph"]


class Cost(NamedTuple):
    """Processor time in s and peak memory in MB of a command."""

    cpu: float
    peak: float


def measure(what: str, command: list[str], stage: Path | None = None) -> Cost:
    """Run a command, and print its wall and processor time, its peak memory and what it wrote."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", PEAK, *command], capture_output=True, text=True)
    seconds = time.monotonic() - started
    if done.returncode:
        sys.exit(f"{what} failed: {done.stderr}")
    cost = Cost(*map(float, done.stdout.split()))
    files = sorted(path for path in stage.iterdir() if path.is_file()) if stage else []
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in files if path.suffix != ".json")
    print(f"{what:30}{seconds:9.1f}{cost.cpu:9.1f}{cost.peak:9.0f}  {sizes}", flush=True)
    return cost


def configuration(experiments: Mapping[str, Any]) -> dict[str, Any]:
    """The demo on a few scenes, with other experiments."""
    config: dict[str, Any] = yaml.safe_load((PROJECT / "config.yaml").read_text())
    config["data"]["demo"] |= {"labeled": 16, "unlabeled": 20, "val": 2, "test": 0}
    return config | {"experiments": dict(experiments)}


def enlarge(count: int) -> None:
    """Let the indexed data set have `count` unlabeled images, all of them the same file."""
    data = read(Path("config.yaml")).data.model_dump(mode="json")
    record = json.loads(index_path(Path("results"), data).read_text())
    subset = record["subsets"]["unlabeled"]
    first = read_manifest(Path(subset["manifest"]))[0]
    rows = [first._replace(id=name(n)) for n in range(count)]
    digest = manifest_digest(rows)
    path = manifest_path(Path("results"), "unlabeled", digest)
    write_manifest(path, rows)
    del record["watch"]["manifests"][subset["manifest"]]
    subset |= {"fingerprint": fingerprint(rows), "count": count, "manifest": str(path), "sha256": digest}
    record["watch"]["manifests"][str(path)] = stamp(path)
    index_path(Path("results"), data).write_text(json.dumps(record))
    print(f"manifest: {path.stat().st_size / 1e6:.0f} MB")


def name(number: int) -> str:
    """An image id of the length that ids have."""
    return f"unlabeled/city{number // 1000:04}/frame_{number:08}"


def stand_in(stage: Path) -> None:
    """Let a training be done, whose files nobody reads here."""
    job = Job(stage, "train")
    for output in job.recipe["outputs"][:-1]:
        (stage / output).write_text("stand-in")
    job.finish()


def write_parts(stage: Path, count: int, shards: int) -> None:
    """The parts that the shards of a prediction leave: a random mask of one pixel for each image."""
    recipe = json.loads((stage / "recipe.json").read_text())
    classes = ["background", "a", "b", "c", "d", "e", "f"]
    rng = np.random.default_rng(len(str(stage)))
    for shard in range(shards):
        path = stage / part_of_store(shard, shards)
        path.parent.mkdir(exist_ok=True)
        numbers = range(count * shard // shards, count * (shard + 1) // shards)
        masks = rng.integers(len(classes), size=(len(numbers), 1, 1), dtype=np.uint8)
        with MaskWriter(path, classes=classes, palette=voc_palette(7), producer=recipe["identity"]) as writer:
            for number, mask in zip(numbers, masks, strict=True):
                writer.add(name(number), mask)


def write_bare_graph(jobs: int, experiments: int, folder: Path, directives: str = "") -> None:
    """A workflow of about as many jobs, each with three files out, in one chain an experiment, and one that reads all.

    `directives` are added to each rule of the chains.
    """
    length = round(jobs / experiments)
    everything = f"expand('s{{s}}/{{e}}.a', s=range({length}), e=range({experiments}))"
    rules = ["rule all:\n    input: 'table'\n", f"rule table:\n    input: {everything}\n    output: 'table'\n"]
    for step in range(length):
        before = f"    input: 's{step - 1}/{{e}}.a', 's{step - 1}/{{e}}.b'\n" if step else ""
        outputs = ", ".join(f"'s{step}/{{e}}.{letter}'" for letter in "abc")
        rules.append(f"rule s{step}:\n{before}    output: {outputs}\n{directives}    shell: 'touch {{output}}'\n")
    folder.mkdir()
    (folder / "Snakefile").write_text("\n".join(rules))


if __name__ == "__main__":
    sys.exit(main())
