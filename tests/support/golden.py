"""Does a change of the code leave all results as they were, byte for byte, on the same machine?

    python tests/support/golden.py --base HEAD                  the code beside this file against that of a revision
    python tests/support/golden.py --record FILE                write the digests of all artifacts
    python tests/support/golden.py --against FILE               compare with digests that were written on this machine

Every method runs on tiny scenes, most with two seeds, some without a val set, too. An artifact goes by its experiment,
seed, role and name, so it is found again when identities move. Exits with 1 on any difference.
"""

import argparse
import csv
import hashlib
import io
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fabricate
import yaml
from runs import PROJECT, differences, finish, start

RECORD = Path(__file__).with_suffix(".json")
"""The record that `test_golden.py` compares with."""
HOURS = 4
"""After which a run counts as hanging."""

METHODS: dict[str, Any] = {
    "suponly": {"method": "suponly"},
    "plain": {"method": "plain"},
    "st": {"method": "st"},
    "random": {"method": "random"},
    "st++": {"method": "st++"},
    "agreement": {"method": "pixel"},
    "confidence": {"method": "pixel", "selection": {"pixels": "confidence", "confidence": 0.4}},
    "supervised": {"method": "supervised"},
}


# --- what runs --------------------------------------------------------------------------------------------------------


def brief() -> list[dict[str, Any]]:
    """The configurations of `test_golden.py`: every kind of stage, with a val set and without."""
    return [
        on_scenes("brief", ("st++",), [0], without="test"),
        on_scenes("brief-without-val", ("suponly",), [0], without="val"),
    ]


def methods() -> list[dict[str, Any]]:
    """Configurations of all methods, evaluated on val, and of some without a val set, evaluated on test."""
    return [
        on_scenes("methods", (name for name in METHODS if name != "agreement"), [0, 1], without="test"),
        on_scenes("agreement", ("agreement",), [0], without="test"),  # with seed 1, the checkpoints agree on no pixel
        on_scenes("without-val", ("suponly", "st++"), [0], without="val"),
    ]


def on_scenes(name: str, experiments: Iterable[str], seeds: list[int], without: str) -> dict[str, Any]:
    """A configuration of some methods on the scenes of `fabricate.py`, without one of its subsets."""
    config = fabricate.tiny(name=name, seeds=seeds, experiments={key: METHODS[key] for key in experiments})
    del config["data"][without]
    return config


def demo() -> dict[str, Any]:
    """The demo, with two seeds."""
    config: dict[str, Any] = yaml.safe_load((PROJECT / "config.yaml").read_text())
    return config | {"seeds": [0, 1]}


def camvid(root: Path, weights: Path | None) -> dict[str, Any]:
    """`experiments/camvid-cpu.yaml` with few epochs and small images."""
    config: dict[str, Any] = yaml.safe_load((PROJECT / "experiments/camvid-cpu.yaml").read_text())
    config["data"]["root"] = str(root.resolve())
    config["network"]["weights"] = str(weights.resolve()) if weights else "none"
    for role, epochs in (("teacher", 6), ("student", 1)):
        config["training"][role] |= {"epochs": epochs, "crop": 64, "base_size": 80}
    config["prediction"]["long_side"] = 80
    return config | {"seeds": [0, 1]}


def run(project: Path, folder: Path, configs: Iterable[Mapping[str, Any]], cores: str = "1") -> dict[str, str]:
    """The digests of what the code of `project` computes in `folder`, a folder that no other code has computed in.

    SystemExit with the end of the log if a run fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "my scenes").exists():
        fabricate.write_scenes(folder / "my scenes")
    found = {}
    for config in configs:
        one_thread = {key: {**config["runtime"][key], "threads": 1} for key in ("train", "predict")}
        fabricate.write_config(folder, {**config, "runtime": {**config["runtime"], **one_thread}})
        began = time.monotonic()
        workflow = start(
            folder, "--cores", cores, "table", environment={"OMP_NUM_THREADS": "1"}, project=project.resolve()
        )
        finish(workflow, 3600 * HOURS)
        if workflow.returncode:
            raise SystemExit(
                f"{config['name']} failed with the code of {project}:\n{(folder / 'log').read_text()[-3000:]}"
            )
        one = digests(folder / config.get("results", "results"), config["name"])
        print(f"{config['name']}: {len(one)} artifacts, {time.monotonic() - began:.0f} s", flush=True)
        found |= one
    return found


# --- what is compared -------------------------------------------------------------------------------------------------

TABLE = ("table.csv", "runs.csv", "metrics.json")
"""Of the table; `table.txt` says the same numbers in words, beside times."""
RECORDS = ("stage.json", "recipe.json")
"""What says how and when a stage was computed, and nothing of its result but its digest."""


def digests(results: Path, name: str) -> dict[str, str]:
    """SHA-256 of what decides in each artifact of the configuration `name`, by experiment, seed, role and file."""
    recipes = [json.loads(path.read_text()) for path in sorted((results / "stages").glob("*/*/recipe.json"))]
    identities = [recipe["identity"].encode() for recipe in recipes]
    view = results / name
    files = {f"{name} {file}": view / file for file in TABLE if (view / file).is_file()}
    for role in sorted((results / "runs" / name).glob("experiments/*/seed*/*")):
        experiment, seed = role.parts[-3:-1]
        for file in sorted(role.iterdir()):
            if file.is_file() and file.name not in RECORDS:
                files[f"{name} {experiment} {seed} {role.name}/{file.name}"] = file
    return {key: hashlib.sha256(deciding(file, identities)).hexdigest() for key, file in files.items()}


def deciding(file: Path, identities: Iterable[bytes] = ()) -> bytes:
    """The bytes of an artifact, with zeros for the identities of stages, and without what a table says of times."""
    content = file.read_bytes()
    if file.name == "table.csv":
        content = table_without_costs(content.decode()).encode()
    for identity in identities:
        # In a mask store, which names its producer, and as the end of a stage's name. The length stays what it was.
        content = content.replace(identity, b"0" * len(identity)).replace(b"-" + identity[:8], b"-" + b"0" * 8)
    return content


def table_without_costs(text: str) -> str:
    """`table.csv` without the columns of hours."""
    rows = list(csv.reader(io.StringIO(text)))
    kept = [column for column, head in enumerate(rows[0]) if not head.endswith("_hours")]
    return "\n".join(",".join(row[column] for column in kept) for row in rows)


# --- where it ran -----------------------------------------------------------------------------------------------------

FLAGS = re.compile(r"(avx|amx|sse4|fma|f16c|asimd|sve|bf16|i8mm).*")
"""Instructions by which libraries choose their kernels, and so how they round."""
LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "h5py", "hdf5plugin", "pandas")


def machine() -> dict[str, Any]:
    """What decides the bytes beside the code: processor, libraries, threads."""
    processor, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in processor.splitlines())}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    names = ("vendor_id", "cpu family", "model", "model name", "CPU implementer", "CPU part")
    return {
        "processor": " ".join([platform.machine(), *(facts[name] for name in names if name in facts)]),
        "flags": " ".join(sorted(filter(FLAGS.fullmatch, flags))),
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "libraries": {name: version(name) for name in LIBRARIES},
        "threads": 1,
    }


def elsewhere(recorded: Mapping[str, Any]) -> list[str]:
    """In what the machine of a record is not this one."""
    here = machine()
    return [f"{key}: {recorded.get(key)}, here {here[key]}" for key in here if recorded.get(key) != here[key]]


def read_record(path: Path, configs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The recorded digests of some configurations."""
    names = {config["name"] for config in configs}
    recorded: dict[str, str] = json.loads(path.read_text())["digests"]
    return {key: digest for key, digest in recorded.items() if key.partition(" ")[0] in names}


# --- the command ------------------------------------------------------------------------------------------------------


def main() -> int:
    """Run the check; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--base", metavar="REV", help="compare with the code of this revision of the repository")
    what.add_argument("--record", type=Path, metavar="FILE", help="write the digests, and what machine this is")
    what.add_argument("--against", type=Path, metavar="FILE", help="compare with the digests in this file")
    parser.add_argument("--brief", action="store_true", help="only what test_golden.py runs")
    parser.add_argument("--full", action="store_true", help="the demo, too; takes many minutes")
    parser.add_argument("--camvid", type=Path, metavar="PATH", help="CamVid, too, cut down; takes many minutes")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="its initial weights; default: none")
    parser.add_argument("--cores", default="1", help="as Snakemake's; each job has one thread; default: %(default)s")
    options = parser.parse_args()

    configs = brief() if options.brief else methods() + brief()  # whose stages are among those of `methods`
    configs += [demo()] if options.full else []
    configs += [camvid(options.camvid, options.weights)] if options.camvid else []
    if options.against and (other := elsewhere(json.loads(options.against.read_text())["machine"])):
        print(f"{options.against} is of another machine, where rounding differs:", *other, sep="\n  ")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="stpp-golden-"))
    try:
        if options.base:
            check_out(options.base, folder / "code")
            expected = run(folder / "code", folder / "base", configs, options.cores)
        found = run(PROJECT, folder / "now", configs, options.cores)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.record:
        write_record(options.record, found)
        return 0
    if options.against:
        expected = read_record(options.against, configs)
    different = list(differences(expected, found))
    for line in different:
        print(f"DIFFERENT: {line}")
    print(f"{len(expected.keys() | found.keys())} artifacts compared: {len(different) or 'no'} differences")
    return 1 if different else 0


def write_record(path: Path, found: Mapping[str, str]) -> None:
    """Write digests, and what machine this is."""
    path.write_text(json.dumps({"machine": machine(), "digests": dict(sorted(found.items()))}, indent=1) + "\n")


def check_out(revision: str, folder: Path) -> None:
    """The files of a revision in `folder`, without its history."""
    folder.mkdir()
    archive = ["git", "-C", str(PROJECT), "archive", f"--output={folder}.tar", revision]
    if subprocess.run(archive).returncode:
        raise SystemExit(f"git has no files of {revision}: give a commit, a branch or a tag")
    shutil.unpack_archive(f"{folder}.tar", folder, filter="data")


if __name__ == "__main__":
    sys.exit(main())
