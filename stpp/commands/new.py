"""What `stpp new` does: write a configuration that fits the images and the machine, and say how long it takes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from re import sub
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from stpp.commands.edited import edited
from stpp.commands.estimate import space_of, wall_time, work_of
from stpp.commands.launcher import WORKFLOW
from stpp.commands.machine import Machine, this_machine
from stpp.commands.output import Outputs
from stpp.commands.run import takes
from stpp.commands.survey import Survey, survey
from stpp.common import disk
from stpp.common.labels import STEM
from stpp.common.wording import counted, duration, listed, size
from stpp.plan.graph import Plan

if TYPE_CHECKING:
    from stpp.commands.trial import Trial

BATCHES = (16, 8, 4, 2)
LABELED_PASSES, UNLABELED_PASSES = 100, 10
"""How often a training sees a labeled image, and a student one with a pseudo-label, as far as LENGTHS allow."""
LENGTHS = {"cpu": (240, 2000), "gpu": (2000, 40_000)}
"""Iterations of a training: the least that a network needs to learn anything, and the most that is bearable."""
FEATURES = {"fp32": 5500, "bf16": 3300}
"""Bytes of GPU memory for a pixel of a batch in the training of the network in config/config.yaml, about."""
FIXED = 1.5e9
"""Bytes of GPU memory beside these."""

Planned = tuple[Plan, Mapping[str, Any]]


def write_new(
    images: Path, masks: Path, folder: Path | None, out: Path, outputs: Outputs, planned: Callable[[Path], Planned]
) -> None:
    """Write the configuration `out` and print what is in it and how long it takes.

    `planned` gives the plan of a configuration, as a run makes it, and so checks the data; and its section `runtime`.
    Raises what `survey` raises and what `planned` raises; then nothing is written.
    """
    outputs.claim([out])
    found, machine = survey(images, masks, folder), this_machine(Path())
    outputs.spare(found.files)
    with outputs.writing(out) as path:
        path.write_text(written(found, machine, 1, ""), encoding="utf-8")
        plan, runtime = planned(path)
        trainings = [stage for stage in plan.stages.values() if stage.kind == "train"]
        trial = fastest(trainings[0].settings, machine)
        machine = replace(machine, bf16=trial.precision == "bf16")
        seconds, space = cost(plan, trial, runtime, machine)
        took = f"About {duration(seconds)} on this machine, by a trial of the network, and {size(space)} of disk."
        path.write_text(written(found, machine, trial.threads, took), encoding="utf-8")
    students = [stage.settings["training"]["iterations"] for stage in trainings if stage.role.startswith("student")]
    settings = trainings[0].settings
    shown = in_bf16(settings) if machine.bf16 else settings
    print("\n".join([*summary(out, found, machine, shown, max(students)), f"  {took}"]))
    if space > machine.disk:
        print("Warning: that is more than is free on this disk; set `results` to a folder on another one.")
    print(f"\nLook at the classes in {out}, then: stpp run {out}")


def summary(out: Path, found: Survey, machine: Machine, settings: Mapping[str, Any], student: int) -> list[str]:
    """What people are told of a configuration.

    `settings` are those of the stage of its teacher, and `student` the iterations of a student.
    """
    training = settings["training"]
    lengths = f"{training['iterations']} iterations of the teacher, {student} of a student"
    return [
        f"{out} is written, for {counted(found.images, 'image')}, of which {found.labeled} are labeled.",
        f"  classes:   {listed(settings['classes'], 8)}",
        *(f"             {remark}" for remark in found.remarks),
        f"  machine:   {machine}",
        f"  network:   {settings['network']['backbone']}, images as if {training['base_size']} px long, crops of "
        f"{training['crop']} px",
        f"  training:  {lengths}, {training['batch_size']} images a batch, {training['precision']}",
    ]


def written(found: Survey, machine: Machine, threads: int, took: str) -> str:
    """The text of the configuration: a starting one with values that fit. `took` says how long it takes."""
    name = "config.yaml" if machine.gpu else "cpu.yaml"
    template = (WORKFLOW / "config" / name).read_text(encoding="utf-8")
    raw = yaml.safe_load(template)
    side = min(raw["training"]["teacher"]["base_size"], found.long_side)
    head = [
        f"Your own images in {found.data['root']}: {found.images}, of which {found.labeled} have masks.",
        f"Written by `stpp new` for a machine with {machine}.",
        took,
        "",
        "Are the names of the classes right? Their order is that of the values in the masks. Then: stpp run FILE",
        *found.remarks,
        "",
        f"Networks see images as if their long side had {side} px. With time to spare, raise base_size, crop and",
        "long_side together: twice the size takes four times as long. More iterations help as well.",
    ]
    body = template[template.index("\nname:") + 1 :]
    return "".join(f"# {line}".rstrip() + "\n" for line in head) + edited(body, lines_of(found, machine, threads, raw))


def lines_of(found: Survey, machine: Machine, threads: int, raw: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
    """What stands in a configuration in place of the entries of a starting one, whose values are `raw`, by path."""
    values = chosen(found, machine, raw["training"]["teacher"])
    lines: dict[tuple[str, ...], str] = {
        ("name",): f"name: {name_of(str(found.data['root']))}",
        **{("data", key): f"{key}: {_flow(found.data[key])}" for key in ("root", "images", "masks")},
        ("data", "classes"): "\n".join(data_lines(found.data)),
        ("training", "teacher", "iterations"): f"iterations: {values.teacher}",
        ("training", "teacher", "batch_size"): f"batch_size: {values.batch}",
        ("training", "teacher", "crop"): f"crop: {values.crop}",
        ("training", "teacher", "base_size"): f"base_size: {values.base}",
        ("training", "teacher", "precision"): f"precision: {values.precision}",
        ("training", "student", "iterations"): f"iterations: {values.student}",
    }
    gpu = int(bool(machine.gpu))
    lines["seeds",] = f"seeds: {_flow(raw['seeds'])}{'' if found.labeled < FEW else OUTLOOK}"
    if found.labeled < FEW:
        lines["data", "val_split"] = NO_VAL
    resized = {"long_side": values.base} if found.long_side > values.base else {}
    prediction = {**resized, "precision": values.precision}
    job = {"gpu": gpu, "threads": threads, "memory": 16000 if gpu else 4000}
    loading, reading = {"workers": values.workers}, {"workers": min(MOST_READERS, machine.cores - 1) if gpu else 0}
    sections = {
        "prediction": f"prediction: {_flow(prediction)}",
        "runtime": f"runtime:\n  train: {_flow(job | loading)}\n  predict: {_flow(job | reading)}",
    }
    lines |= {(key,): text for key, text in sections.items() if key in raw}
    new = "".join(f"{text}\n\n" for key, text in sections.items() if key not in raw)
    return lines | {("experiments",): f"{new}experiments:\n  st++: {{method: st++}}"}


class Chosen(NamedTuple):
    """Sizes in pixels; images a batch; iterations of `teacher` and `student`; arithmetic; loader processes."""

    base: int
    crop: int
    batch: int
    teacher: int
    student: int
    precision: str
    workers: int


MOST_THREADS = 8
MOST_WORKERS = 16
"""Loader processes beside a GPU: a core augments some 100 images a second, and a fast GPU takes over 1000."""
MOST_READERS = 4
"""Cores that read images beside a GPU that predicts."""
TIE = 0.9
"""Share of the time of fp32 above which bf16 is not worth its rounding."""
FEW = 5
"""With fewer masks than these, all are trained on."""
OUTLOOK = """
# Four more trainings say beforehand whether unlabeled images will probably help, and `stpp suspects` then finds labels
# that are probably wrong:
# outlook: true"""
NO_VAL = f"""\
# Fewer than {FEW} masks: none is kept back, so nothing tells which network is best. `folds: 3`, a line of its own below
# `seeds`, would tell, in four times the time.
# val_split: {{fraction: 0.2, seed: 0}}"""


def chosen(found: Survey, machine: Machine, usual: Mapping[str, Any]) -> Chosen:
    """What fits the images and the machine; `usual` is the training of a starting configuration.

    Images are not enlarged. A batch fits into the GPU's memory, and holds no image twice where that can be. A training
    sees each image some times, and takes no fewer and no more iterations than LENGTHS say.
    """
    gpu = bool(machine.gpu)
    precision = "bf16" if machine.bf16 else "fp32"
    base = max(32, min(usual["base_size"], found.long_side))
    crop = usual["crop"] if base == usual["base_size"] else max(32, base * 2 // 3 // 16 * 16)
    labeled = found.labeled - (max(1, round(found.labeled / 5)) if found.labeled >= FEW else 0)
    most = usual["batch_size"]
    if gpu:
        free = 0.8 * machine.gpu_memory - FIXED
        most = next((batch for batch in BATCHES if batch * crop**2 * FEATURES[precision] <= free), BATCHES[-1])
    batch = next(batch for batch in BATCHES if batch <= min(most, labeled) or batch == BATCHES[-1])
    shortest, longest = LENGTHS["gpu" if gpu else "cpu"]
    steps = labeled * LABELED_PASSES // batch
    # Half of what a student sees is labeled.
    more = max(steps, 2 * (found.images - found.labeled) * UNLABELED_PASSES // batch)
    teacher, student = (min(longest, max(shortest, -(-length // 20) * 20)) for length in (steps, more))
    workers = min(MOST_WORKERS, machine.cores - 1) if gpu and machine.shared_memory > 2e9 else 0
    return Chosen(base, crop, batch, teacher, student, precision, workers)


def data_lines(data: Mapping[str, Any]) -> list[str]:
    """The lines of the classes, of what the values in masks mean, of the bands, and of how files are called."""
    names = {key: data[key] for key in ("image_name", "mask_name") if data[key] != STEM}
    others = {key: value for key, value in data.items() if key in ENCODING}
    return [f"{key}: {_flow(value)}" for key, value in {"classes": data["classes"], **others, **names}.items()]


ENCODING = ("label_map", "first_label", "palette_map", "colors", "bands", "rgb", "percentiles")


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def name_of(root: str) -> str:
    """A name for the results, from that of the folder of the images."""
    name = sub(r"[^A-Za-z0-9_.+-]+", "-", Path(root).resolve().name).strip("-_.+")[:80]
    return name if name and name.casefold() not in disk.COMMON else f"my-{name or 'images'}"


def fastest(training: Mapping[str, Any], machine: Machine) -> "Trial":
    """The trial of the network of a training, `training` being the settings of its stage: with one thread, or with one
    for each core, whichever is faster. On a machine that has other work to do, threads wait for each other.

    On a processor, bf16 is tried as well, and taken if it needs less than TIE of the time.
    """
    from stpp.commands.trial import tried
    from stpp.runtime.faults import explained

    numbers = [1] if machine.gpu else sorted({1, min(MOST_THREADS, machine.cores)})
    with explained("end other programs that use it, or begin with a copy of config/config.yaml and small batches"):
        found = min((tried(training, number, bool(machine.gpu)) for number in numbers), key=lambda trial: trial.step)
        if machine.gpu:
            return found
        low = tried(in_bf16(training), found.threads, gpu=False)
    return low if low.step < TIE * found.step else found


def in_bf16(training: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the stage of a training, with its network and predictions in bf16."""
    parts = {part: training[part] for part in ("training", "prediction") if training[part]}
    return {**training, **{part: {**own, "precision": "bf16"} for part, own in parts.items()}}


def cost(plan: Plan, trial: "Trial", runtime: Mapping[str, Any], machine: Machine) -> tuple[float, int]:
    """Seconds that a plan takes on this machine, by a trial, and bytes of its results."""
    seconds = {
        folder: trial.speeds.seconds(stage.kind, work_of(stage, plan)) or 0.0 for folder, stage in plan.stages.items()
    }
    space = round(sum(space_of(stage, plan, trial.parameters) for stage in plan.stages.values()))
    runtime = {job: {**own, "threads": trial.threads} for job, own in runtime.items() if job in ("train", "predict")}
    return wall_time(seconds, plan, takes(plan, runtime, machine.cores), machine.cores), space
