"""The parts of `make gpu`: what each measures, row by row, and the table that it fills."""

import argparse
import csv
import importlib.util
import json
import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from record import Table, Values
from running import Clock, Unmeasured, finish

PROJECT = Path(__file__).absolute().parents[2]
SPEED = PROJECT / "benchmarks/speed"
STPP = [sys.executable, "-m", "stpp"]


@dataclass(frozen=True)
class Run:
    """What a measurement is told: the options of the command, its own folder, and the time that is left."""

    options: argparse.Namespace
    folder: Path
    clock: Clock

    def finish(self, *command: object, folder: Path | None = None) -> None:
        """Run a command, by default in the project. Raises Unmeasured."""
        finish([str(part) for part in command], folder or PROJECT, self.folder / "log.txt", self.clock)

    @property
    def device(self) -> list[str]:
        return ["--device", self.options.device]


Measurement = Callable[[Run], Values]


@dataclass(frozen=True)
class Part:
    """A table, and how each of its rows is measured. A measurement raises Unmeasured where it cannot be."""

    table: Table
    rows: Mapping[str, Measurement]


def part(title: str, first: str, columns: dict[str, tuple[str, str]], rows: dict[str, Measurement], page: str) -> Part:
    """A part whose table has the rows that are measured."""
    return Part(Table(title, first, columns, list(rows), page), rows)


def needs(module: str) -> None:
    """Raises Unmeasured where a package is not installed."""
    if importlib.util.find_spec(module) is None:
        raise Unmeasured(f"{module} is not installed")


def workers() -> int:
    """Loader processes for one GPU: all cores but one, 16 at most."""
    return max(1, min(16, len(os.sched_getaffinity(0)) - 1))


# --- tests ------------------------------------------------------------------------------------------------------------

TESTS = {
    "every kind of stage, fp32": ["tests/stages/test_gpu.py", "-k", "kind_of_stage and fp32"],
    "every kind of stage, bf16": ["tests/stages/test_gpu.py", "-k", "kind_of_stage and bf16"],
    "a method's training": ["tests/stages/test_gpu.py", "-k", "each_method"],
    "the same bytes each time": ["tests/stages/test_gpu.py", "-k", "same_bytes"],
    "a compiled network": ["tests/stages/test_gpu.py", "-k", "compiled"],
    "stopped and gone on": ["tests/stages/test_gpu.py", "-k", "stopped"],
    "several processes on one GPU": ["tests/stages/test_gpu.py", "-k", "lease"],
    "no step waits": ["tests/engine/test_waiting.py"],
}


def tested(arguments: Sequence[str], run: Run) -> Values:
    """How many of these tests pass, fail and are skipped; that a test fails is a result."""
    needs("pytest")
    report = run.folder / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "cuda", f"--junitxml={report}"]
    report.unlink(missing_ok=True)
    try:
        run.finish(*command, *arguments)
    except Unmeasured:
        if not report.exists() or run.clock.left <= 0:
            raise
    found = counted(report.read_text())
    if not found["passed"] + found["failed"] + found["skipped"]:
        raise Unmeasured("no test was found (see log.txt)")
    return found


def counted(report: str) -> Values:
    """The numbers of a report of pytest's in JUnit's XML."""
    suites = list(ElementTree.fromstring(report).iter("testsuite"))
    numbers = {
        key: sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    }
    failed = numbers["failures"] + numbers["errors"]
    seconds = sum(float(suite.get("time", 0)) for suite in suites)
    passed = numbers["tests"] - failed - numbers["skipped"]
    return {"passed": passed, "failed": failed, "skipped": numbers["skipped"], "seconds": seconds}


# --- rates ------------------------------------------------------------------------------------------------------------


def floor(method: str, backbone: str, precision: str, run: Run) -> Values:
    """What benchmarks/speed/floor.py finds."""
    figures = run.folder / "floor.json"
    size = ["--crop", 33, "--batch", 4, "--images", 4, "--turns", 1] if run.options.tiny else []
    size = size or ["--crop", 321, "--batch", 16, "--images", 640, "--turns", 2]
    network = ["--method", method, "--backbone", backbone, "--precision", precision]
    more = ["--workers", workers(), "--json", figures]
    run.finish(sys.executable, SPEED / "floor.py", *network, *size, *more, *run.device)
    return dict(json.loads(figures.read_text()))


FLOORS = [
    ("suponly", "resnet50", "bf16"),
    ("suponly", "resnet50", "fp32"),
    ("suponly", "mobilenet_v2", "bf16"),
    ("unimatch", "resnet50", "bf16"),
    ("consistency", "resnet50", "bf16"),
]


def beside(peer: str, work: str, backbone: str, run: Run) -> Values:
    """What benchmarks/speed finds for one kind of work beside the authors' code, or beside another library."""
    if peer == "authors" and run.options.reference is None:
        raise Unmeasured("no checkout of the authors' code was given (REFERENCE)")
    if peer == "smp":
        needs("segmentation_models_pytorch")
    images = run.options.camvid / "JPEGImages"
    if not images.is_dir():
        raise Unmeasured(f"no folder {images} (CAMVID)")
    figures = run.folder / "speed.csv"
    whom = ["--reference", run.options.reference] if peer == "authors" else ["--peer", peer, "--backbone", backbone]
    pictures = ["--images", images, "--masks", run.options.camvid / "SegmentationClass"]
    size = (
        ["--count", 4, "--batch", 2, "--crop", 64, "--turns", 1] if run.options.tiny else ["--count", 32, "--batch", 16]
    )
    run.finish(sys.executable, SPEED, *whom, *pictures, *size, "--only", work, "--csv", figures, *run.device)
    with figures.open() as file:
        (row,) = csv.DictReader(file)
    numbers = ("ratio", "low", "high", "images_per_second", "their_images_per_second")
    return {**{key: float(row[key]) for key in numbers}, "equal": row["equal"]}


WORK = {"train-fp32": 1.0, "train-bf16": 2.5, "predict-fp32": 1.0, "predict-bf16": 4.0}
"""Of each kind, what is aimed at beside the authors' code."""


def encoder(name: str, run: Run) -> Values:
    """Its rates at 518 px."""
    needs("timm")
    return figures_of(run, "encoders", name, *(["--size", 64, "--batch", 2] if run.options.tiny else []))


def augmentation(run: Run) -> Values:
    """How fast a core and the device augment images for a student."""
    needs("torchvision")
    return figures_of(run, "augmentation", *(["--crop", 33] if run.options.tiny else []))


def figures_of(run: Run, script: str, *options: str | int) -> Values:
    """What a script in this folder writes; where all is tiny, it measures next to no time."""
    figures = run.folder / f"{script}.json"
    brief = ["--seconds", 0.01] if run.options.tiny else []
    run.finish(
        sys.executable, Path(__file__).with_name(f"{script}.py"), *options, *brief, "--json", figures, *run.device
    )
    return dict(json.loads(figures.read_text()))


ENCODERS = [
    "timm/vit_small_patch14_dinov2",
    "timm/vit_base_patch14_dinov2",
    "timm/vit_large_patch14_dinov2",
    "timm/vit_small_patch16_224",
    "timm/resnet50",
    "timm/resnet101",
    "timm/convnext_tiny",
    "timm/convnext_base",
    "timm/efficientnet_b0",
    "timm/tf_efficientnet_lite2",
    "timm/mobilenetv2_100",
]


# --- whole trainings --------------------------------------------------------------------------------------------------

BEDS = {  # the folder of its images below those of all beds, its images' long side, and the crop, in px
    "camvid": ("", 480, 321),
    "cars": ("car-parts", 256, 225),
    "nuclei": ("nuclei", 256, 225),
    "steel": ("steel", 200, 193),
}
BEST = {"method": "consistency", "training": {"student": {"unlabeled_from": 0.33}}}
"""The best recipe with unlabeled images in every step on these beds at a size for a CPU."""
EXPERIMENTS = {"suponly": {"method": "suponly"}, "st++": {"method": "st++"}, "best": BEST}


def configuration(bed: str, options: argparse.Namespace, frozen: bool = False) -> dict[str, Any]:
    """The bed of `make real` at the size of its images, with the paper's head, for one GPU and one seed.

    A `frozen` encoder is not trained, and its maps of all images are computed once. Raises Unmeasured without images,
    or without the weights that it needs.
    """
    folder, side, crop = BEDS[bed]
    raw: dict[str, Any] = yaml.safe_load((PROJECT / f"experiments/beds/{bed}.yaml").read_text())
    root = options.camvid if bed == "camvid" else options.beds / folder
    if not root.is_dir():
        raise Unmeasured(f"no folder {root} ({'CAMVID' if bed == 'camvid' else 'BEDS'})")
    weights = str(options.weights) if options.weights.is_file() else "none"
    network = {"architecture": "deeplabv3plus", "backbone": "mobilenet_v2", "output_stride": 16, "weights": weights}
    training = {"iterations": 4000, "batch_size": 16, "crop": crop, "base_size": side, "learning_rate": 0.02}
    if options.tiny:
        small = {} if frozen else {"backbone": "tiny", "weights": "none"}
        network |= {**small, "rates": [1, 2, 3], "head_channels": 8, "decoder_channels": 8}
        training |= {"iterations": 20, "batch_size": 4, "crop": 32, "base_size": 48}
    training |= {"precision": "bf16", "validate_every": 5}
    if frozen:
        if weights == "none":
            raise Unmeasured(f"no file {options.weights} (WEIGHTS); a frozen encoder needs weights")
        training["tune"], raw["features"] = "none", {"views": 2 if options.tiny else 8}
    gpu = int(options.device == "cuda")
    raw |= {
        "name": f"gpu-{bed}",
        "seeds": [0],
        "data": raw["data"] | {"root": str(root)},
        "network": network,
        "training": {"teacher": training, "student": training},
        "prediction": {"precision": "bf16"} | ({"long_side": 48} if options.tiny else {}),
        "runtime": {
            "train": {"gpu": gpu, "workers": gpu * workers(), "memory": 16000},
            "predict": {"gpu": gpu, "memory": 8000},
        },
        "experiments": EXPERIMENTS,
    }
    del raw["outlook"]
    return raw


def bed(name: str, run: Run, frozen: bool = False) -> Values:
    """mIoU on test of each experiment and of labels alone with as much computation as the most expensive one, the hours
    on the GPU of all stages, and how fast a frozen encoder encodes.
    """
    from stpp.settings.config import SUPONLY_COMPUTE

    where = (run.folder / "run").resolve()
    where.mkdir(parents=True, exist_ok=True)
    (where / "config.yaml").write_text(yaml.safe_dump(configuration(name, run.options, frozen), sort_keys=False))
    if importlib.util.find_spec("snakemake"):
        how = ["--snakefile", PROJECT / "Snakefile", "--configfile", "config.yaml", "--cores", "all"]
        run.finish(sys.executable, "-m", "snakemake", "table", *how, folder=where)
    else:
        one_by_one(where, run)
    tables = sorted(where.glob("results/stages/table/*/table.csv"), key=lambda path: path.stat().st_mtime)
    with tables[-1].open() as file:
        rows = {row["experiment"]: row for row in csv.DictReader(file)}
    shown = (*EXPERIMENTS, SUPONLY_COMPUTE)
    found = {experiment: 100 * float(rows[experiment]["miou_mean"]) for experiment in shown}
    return {**found, **costs(json.loads(tables[-1].with_name("stages.json").read_text())["records"])}


def costs(records: Mapping[str, Mapping[str, Any]]) -> Values:
    """The hours on the GPU of these stages, each of them once, and the images that `encode` read a second.

    `records` are by folder of the stage. Each view of an image counts as an image.
    """
    from stpp.report.costs import stage_hours
    from stpp.stages.encode import view_names

    encoded = [record for record in records.values() if record["stage"] == "encode"]
    views = sum(record["images"] * len(view_names(record["settings"])) for record in encoded)
    rate = {"encoded": views / sum(record["seconds"] for record in encoded)} if encoded else {}
    return {"hours": sum(stage_hours(record)["gpu_hours"] for record in records.values()), **rate}


def one_by_one(where: Path, run: Run) -> None:
    """The stages up to the table, in the order of the plan, without Snakemake; what is done stays done."""
    from stpp.commands.cli import PREDICTING, TRAINING  # which need what this machine may lack

    run.finish(*STPP, "index", "config.yaml", folder=where)
    listing = run.folder / "plan.txt"
    script = f"{' '.join(STPP)} plan --recipes config.yaml > '{listing.resolve()}'"
    run.finish("sh", "-c", script, folder=where)
    for stage in re.findall(r"^to do +(\S+)$", listing.read_text(), re.MULTILINE):
        kind = Path(stage).parent.name
        if kind in ("report", "chart"):
            continue
        more = run.device if kind in (*TRAINING, *PREDICTING) else []
        more += ["--workers", str(workers())] if kind in TRAINING and run.options.device == "cuda" else []
        more += ["--gpus", "0"] if more and run.options.device == "cpu" else []
        run.finish(*STPP, kind, stage, *more, folder=where)


# --- all parts --------------------------------------------------------------------------------------------------------

OF_TESTS = {"passed": ("passed", "d"), "failed": ("failed", "d"), "skipped": ("skipped", "d"), "seconds": ("s", ".0f")}
OF_FLOOR = {
    "matrices": ("matrix products, TFLOP/s", ".0f"),
    "bare": ("bare step, images/s", ".0f"),
    "staged": ("stpp train, images/s", ".0f"),
    "share": ("share (aim 95 %)", ".1%"),
    "low": ("lowest", ".1%"),
    "predict_bare": ("bare prediction, images/s", ".0f"),
    "predict": ("with copies, images/s", ".0f"),
    "predict_share": ("share", ".1%"),
}
OF_PEERS = {
    "ratio": ("times as fast", ".2f"),
    "low": ("middle half from", ".2f"),
    "high": ("to", ".2f"),
    "images_per_second": ("images/s", ".0f"),
    "their_images_per_second": ("theirs", ".0f"),
    "equal": ("how equal", ""),
}
OF_ENCODERS = {
    "parameters": ("parameters, million", ".1f"),
    "bf16": ("bf16, images/s", ".0f"),
    "fp32": ("fp32, images/s", ".0f"),
    "memory": ("peak, GB", ".1f"),
}
OF_AUGMENTATION = {
    "core": ("a core, images/s", ".0f"),
    "device": ("the device by torchvision, images/s", ".0f"),
    "cores": ("cores that equal it", ".1f"),
}
OF_BEDS = {
    "suponly": ("suponly", ".2f"),
    "suponly-compute": ("suponly, equal computation", ".2f"),
    "st++": ("st++", ".2f"),
    "best": ("consistency", ".2f"),
    "hours": ("GPU-h", ".2f"),
    "encoded": ("encoded, images/s", ".0f"),
}
AUTHORS = {f"authors, {work} (aim {aim:g})": partial(beside, "authors", work, "") for work, aim in WORK.items()}
SMP = {
    f"smp, {each}, {work} (aim {2 if 'bf16' in work else 1.1:g})": partial(beside, "smp", work, each)
    for each in ("resnet50", "mobilenet_v2")
    for work in WORK
}
PARTS = {
    "tests": part(
        "Tests that need a GPU",
        "what",
        OF_TESTS,
        {name: partial(tested, given) for name, given in TESTS.items()},
        "speed.md",
    ),
    "floor": part(
        "How near to the network's own rate: DeepLabv3+, 321 px, batch 16",
        "training",
        OF_FLOOR,
        {
            f"{method}, {backbone}, {precision}": partial(floor, method, backbone, precision)
            for method, backbone, precision in FLOORS
        },
        "speed.md",
    ),
    "reference": part("Comparison with other code, batch 16", "work", OF_PEERS, AUTHORS | SMP, "speed.md"),
    "encoders": part(
        "Encoders at 518 px, random weights",
        "encoder",
        OF_ENCODERS,
        {name: partial(encoder, name) for name in ENCODERS},
        "speed.md",
    ),
    "augmentation": part(
        "Augmentation of images of 480 x 360, crops of 321 px",
        "augmentation",
        OF_AUGMENTATION,
        {"weak and strong, of a student": augmentation},
        "speed.md",
    ),
    "camvid": part(
        "CamVid at 480 x 360: mIoU on test in %, one seed",
        "bed",
        OF_BEDS,
        {"camvid": partial(bed, "camvid"), "camvid, frozen encoder": partial(bed, "camvid", frozen=True)},
        "experiments.md",
    ),
    "beds": part(
        "The other beds at the size of their images: mIoU on test in %, one seed",
        "bed",
        OF_BEDS,
        {name: partial(bed, name) for name in BEDS if name != "camvid"},
        "experiments.md",
    ),
}
