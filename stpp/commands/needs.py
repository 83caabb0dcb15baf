"""What the stages that would run need, before anyone pays for it: their time by a trial, crops, disk and memory."""

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stpp.commands.estimate import Speeds, space_of, steps
from stpp.commands.forecast import Forecast, Task, forecast
from stpp.common.errors import StppError
from stpp.common.wording import counted, duration, listed, size
from stpp.plan.graph import Plan
from stpp.store.inventory import KnownStage, finished, missing_outputs

if TYPE_CHECKING:
    from stpp.commands.trial import Trial

MANY_CROPS = 1_000_000
"""Crops of one training that are worth a warning."""
OF_A_TRIAL = 2
"""Images that are timed at once on a CPU, where the time grows with them."""


def foreseen(
    plan: Plan, stages: Path, runtime: Mapping[str, Any], folders: Collection[str] | None = None
) -> tuple[Forecast, list[str]]:
    """What would run of a plan, or of the stages in `folders`, as `forecast` has it, and sentences on what that takes.

    Where nothing that ran on this machine tells how long a training takes, a step of the network is timed. `runtime` is
    that section of the configuration.
    """

    def chosen(trial: Speeds | None = None) -> Forecast:
        found = forecast(plan, stages, trial)
        return replace(found, tasks=[task for task in found.tasks if folders is None or task.folder in folders])

    found = chosen()
    untold = [task for task in found.tasks if task.untimed and plan.stages[task.folder].kind == "train"]
    if not untold:
        return found, needs(plan, found.tasks, stages, runtime, None)
    settings = plan.stages[untold[0].folder].settings
    try:
        trial, where = _tried(settings, runtime)
    except StppError as error:  # too little memory, say
        return found, [f"The network could not be timed: {error}.", *needs(plan, found.tasks, stages, runtime, None)]
    network, batch = settings["network"], settings["training"]["batch_size"]
    timed = (
        f"Nothing that ran on this machine tells how long a training takes, so a step was timed, on {where}: "
        f"{duration(trial.step)} for {counted(batch, 'image')}, {network['architecture']} with {network['backbone']}."
    )
    found = chosen(trial.speeds)
    return found, [timed, *needs(plan, found.tasks, stages, runtime, trial)]


def _tried(settings: Mapping[str, Any], runtime: Mapping[str, Any]) -> "tuple[Trial, str]":
    """A trial of a training, and where it ran: on a GPU if the configuration and the machine have one."""
    from torch.cuda import is_available

    from stpp.commands.trial import tried
    from stpp.runtime.faults import explained

    own = runtime["train"]
    gpu = bool(own["gpu"]) and runtime["device"] != "cpu" and is_available()
    with explained("end other programs that use it, or lower the batch and the crop"):
        trial = tried(settings, own["threads"], gpu, None if gpu else OF_A_TRIAL)
    return trial, "the GPU" if gpu else f"the CPU with {counted(own['threads'], 'thread')}"


def needs(
    plan: Plan, tasks: Sequence[Task], stages: Path, runtime: Mapping[str, Any], trial: "Trial | None"
) -> list[str]:
    """Sentences on the disk and the memory that tasks take, and on trainings that are long."""
    known = finished(stages)
    space = sum(_space(plan, task, stages, known, trial) for task in tasks)
    said = []
    if space:
        said.append(f"Disk: about {size(round(space))} of results; {size(_free(stages))} are free.")
    peaks = [
        float(known[task.nearest].facts.get("peak_memory_mb", 0)) * 1e6
        for task in tasks
        if task.nearest in known and plan.stages[task.folder].kind == "train"
    ]
    if memory := max([*peaks, trial.memory if trial else 0]):
        asked = f"runtime.train.memory asks for {size(runtime['train']['memory'] * 10**6)}"
        said.append(f"Memory: about {size(round(memory))} for a training; {asked}.")
    if trial and trial.gpu_memory:
        said.append(f"Memory: about {size(trial.gpu_memory)} of GPU memory for a training.")
    if any(plan.stages[task.folder].kind == "length" for task in tasks):
        said.append("With training.length: auto, trainings take longer than this says, if they need to.")
    return said + crops_warning(plan, [task.folder for task in tasks])


def _space(plan: Plan, task: Task, stages: Path, known: Mapping[str, KnownStage], trial: "Trial | None") -> float:
    """Bytes of the artifacts of a stage: those of the nearest one, or by the parameters of the network."""
    stage = plan.stages[task.folder]
    if record := known.get(task.nearest):
        files = [stages / task.nearest / name for name in record.recipe["outputs"]]
        return float(sum(path.stat().st_size for path in files if path.is_file()))
    return space_of(stage, plan, trial.parameters if trial else 0)


def _free(folder: Path) -> int:
    """Free bytes of the disk on which a folder is, or would be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free


def crops_warning(plan: Plan, folders: Iterable[str]) -> list[str]:
    """A sentence if one of the trainings in `folders` takes more than MANY_CROPS crops; else none."""
    crops = {
        folder: steps(stage, plan) * int(stage.settings["training"]["batch_size"])
        for folder in folders
        if (stage := plan.stages[folder]).kind == "train"
    }
    long = {folder: count for folder, count in crops.items() if count > MANY_CROPS}
    if not long:
        return []
    largest = [f"{plan.stages[folder].role} {count:,}" for folder, count in sorted(long.items(), key=lambda x: -x[1])]
    return [
        f"Warning: the trainings take {sum(crops.values()):,} crops (iterations x batch size), of which "
        f"{listed(largest)}; more than {MANY_CROPS:,} crops of one training are worth this warning. With `iterations` "
        "instead of `epochs` in training.teacher and training.student, their length does not grow with the number of "
        "images."
    ]


def warn_of_crops(plan: Plan, stages: Path, log: Callable[[str], None]) -> None:
    """Say it of the trainings that are still to do."""
    trainings = {folder: stage for folder, stage in plan.stages.items() if stage.kind == "train"}
    if not crops_warning(plan, trainings):
        return  # without a look at the disk
    for line in crops_warning(plan, [f for f, stage in trainings.items() if missing_outputs(stages, f, stage.outputs)]):
        log(line)
