"""What the rules ask: which files a stage reads, which trainings there are, what a target consists of.

The main process knows the plan. A job's process reads the recipes that the main one wrote, so a configuration that is
edited during a run does not disturb it.
"""

import atexit
import base64
import gc
import getpass
import inspect
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import yaml
from snakemake.io import ancient

from stpp.common import disk
from stpp.common.errors import StppError, of_the_machine, of_the_system
from stpp.common.terminal import escaped
from stpp.plan.graph import Plan, Stage, flat, sources, training_of
from stpp.plan.recipe import read_recipe
from stpp.plan.targets import SMALL, Target
from stpp.plan.targets import wanted as wanted_of
from stpp.settings.config import Resources

Function = TypeVar("Function", bound=Callable[..., Any])


def use_this_code(project: Path, alone: bool) -> None:
    """Let jobs run the code beside the Snakefile, with this process's interpreter, from whatever folder they start.

    Where the Snakefile is no module of another one, it stands `alone`: then no Python that a job starts takes a file of
    the working directory for a module.
    """
    if alone:
        os.environ["PYTHONSAFEPATH"] = "1"
    for variable, folder in (("PYTHONPATH", project), ("PATH", Path(sys.executable).parent)):
        before = os.environ.get(variable)
        os.environ[variable] = f"{folder}{os.pathsep}{before}" if before else str(folder)


def name_user() -> None:
    """Give the user a name where the system knows none, as in a container: Snakemake asks for one."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"uid{os.getuid()}"


def check_working_directory() -> None:
    """Raise StppError where Snakemake could not keep its notes."""
    notes = Path(".snakemake")
    if not os.access(notes if notes.exists() else Path(), os.W_OK):
        raise StppError(
            f"the working directory {Path.cwd()} cannot be written, but Snakemake keeps its notes in it, in {notes}; "
            "start it from another folder, with absolute paths in the configuration"
        )


def keep_objects() -> None:
    """Spare the garbage collector what stays: the plan, and the graph that Snakemake makes of it.

    Both are millions of objects of which none becomes garbage. To look for it at every 700th new one, as Python does,
    and in all of them when the process ends, is a third of the dry run of 8,000 jobs.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)


def look_once_a_second() -> None:
    """Keep Snakemake from looking for jobs to start more and more often.

    It looks once a second, since its limit of jobs a second may have held some back, and at the end of each job. Every
    look calls for another one a second later: after 200 jobs it is 200 a second, each of which asks the file system
    for the sizes of all inputs of the jobs that wait, and a core has nothing else to do. One call at a time is enough.
    """
    with suppress(ImportError, AttributeError):  # these are names of Snakemake's own, and may change
        from snakemake.scheduling.job_scheduler import JobScheduler

        call = JobScheduler._schedule_reevalutation
        due: WeakKeyDictionary[JobScheduler, float] = WeakKeyDictionary()

        def call_unless_called(scheduler: JobScheduler, delay: float) -> None:
            if time.monotonic() >= due.get(scheduler, 0.0):
                due[scheduler] = time.monotonic() + delay
                call(scheduler, delay)

        JobScheduler._schedule_reevalutation = call_unless_called


def run_own_task() -> None:
    """In a task of a SLURM array, go on as the job that this task is for.

    The executor starts every task as the array's first job, to run the task's own job within it. Such a process would
    wait at its end for the output of the first job, which may come much later, or be gone already; and fail.
    """
    option = "--slurm-jobstep-array-execs="
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    for word in sys.argv:
        if word.startswith(option):
            commands = json.loads(base64.b64decode(word.removeprefix(option)))
            if task in commands:  # all but the first
                os.execv("/bin/sh", ["sh", "-c", zlib.decompress(bytes.fromhex(commands[task])).decode()])


def start_with(workflow: Any, handler: Callable[[], None]) -> None:
    """Have a module's `onstart` handler called when `workflow` starts its jobs: Snakemake calls the main one alone.

    A main Snakefile with a handler of its own, written after the module, calls `MODULE.onstart()` in it.
    """
    before = workflow._onstart

    def both(log: Any) -> None:
        handler()
        before(log)

    workflow._onstart = both


def say(line: str) -> None:
    """Print a line to stderr, where Snakemake prints."""
    print(escaped(line), file=sys.stderr)


def after_a_run(workflow: Any, action: Callable[[], None]) -> None:
    """Have `action` called when this process ends, if it was to run jobs, even if there was none to run.

    Snakemake calls no handler where nothing is to be done. After a dry run, or questions such as `--summary`, there is
    no action.
    """
    here = Path.cwd()

    def at_the_end() -> None:
        if workflow.executor_plugin is not None and not workflow.dryrun:
            with chdir(here), suppress(SystemExit), refusing():
                action()

    atexit.register(at_the_end)


@contextmanager
def refusing() -> Iterator[None]:
    """Let Snakemake end with the message of a user's mistake or of what the machine lacks, and with nothing else."""
    try:
        yield
    except Exception as error:
        said = of_the_system(error) if isinstance(error, OSError) else of_the_machine(error)
        if said is None and not isinstance(error, StppError):
            raise  # a bug
        # Snakemake would show where in the rules an exception of its own was raised.
        say(f"stpp: {said or error}")
        sys.exit(1)


def typed(value: Any) -> Any:
    """What a value of `--config` means: Snakemake leaves nested numbers and booleans as text.

    Raises StppError for what is no YAML.
    """
    if isinstance(value, Mapping):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except (yaml.YAMLError, ValueError) as error:
        raise StppError(f"--config: cannot read {value!r} as YAML: {error}") from None


def computes(resources: Resources) -> dict[str, Any]:
    """What the scheduler is asked for a job that runs a network."""
    return asks(resources.memory, resources.minutes, resources.gpu)


def asks(memory: int = SMALL.memory, minutes: int = SMALL.minutes, gpu: int = 0) -> dict[str, Any]:
    """What the scheduler is asked for a job: MB, minutes and GPUs of one node; by default for one without a network.

    A second attempt gets twice the memory and time, a third one three times as much.
    """

    def growing(amount: int) -> Callable[[Any, int], int]:
        return known(lambda wildcards, attempt: amount * attempt)

    # None takes away the model of a cluster's GPUs, which alone would ask for one.
    gpus = {"gpu": gpu, "nodes": 1} if gpu else {"gpu_model": None}
    return {**gpus, "mem_mb": growing(memory), "runtime": growing(minutes)}


def known(function: Function) -> Function:
    """The same function, with its signature written down: Snakemake asks for it at each of thousands of jobs."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


class Trainings(NamedTuple):
    """Trainings that write the same files: what their stages' names begin with, and the files by name.

    `last`: none of their networks makes labels for another training, or is what one starts from.
    """

    name: str
    files: dict[str, str]
    last: bool


class Graph:
    """The stages as the rules see them; `plan` is None in a job's process."""

    def __init__(self, results: str, plan: Plan | None) -> None:
        self.stages = Path(results) / disk.STAGES
        self.plan = plan

    def recipe(self, folder: str) -> Mapping[str, Any]:
        """The recipe of the stage in `folder`, a path below the stages' folder."""
        if self.plan is not None and folder in self.plan.stages:
            return self.plan.stages[folder].recipe()
        return read_recipe(self.stages / folder / disk.RECIPE)

    def reads(self, kind: str) -> Callable[[Any], dict[str, list[str]]]:
        """Input function of the rule for `kind`: the artifacts of earlier stages that a stage reads, by name.

        They are `ancient`, because a path says all: an artifact that is there is the right one, whatever its time.
        """

        def inputs(wildcards: Any) -> dict[str, list[str]]:
            artifacts, files = self._read(f"{kind}/{wildcards.stage}")
            named = {
                name: [ancient(f"{self.stages}/{path}") for path in flat({name: paths})]
                for name, paths in artifacts.items()
            }
            return named | {name: [ancient(path)] for name, path in files.items()}

        return known(inputs)

    def _read(self, folder: str) -> tuple[Mapping[str, str | list[str]], Mapping[str, str]]:
        """The artifacts of earlier stages and the other files that the stage in `folder` reads, by name."""
        if self.plan is not None and (stage := self.plan.stages.get(folder)):
            return stage.inputs, stage.files
        recipe = self.recipe(folder)
        return recipe["inputs"], recipe["files"]

    def writes(self, kind: str, **flags: Callable[[str], Any]) -> dict[str, Any]:
        """Outputs of the rule for `kind`, by name, with Snakemake's flags for those that have some."""
        return {name: flags.get(name, str)(path) for name, path in self._paths(kind, disk.outputs(kind)).items()}

    def trainings(self) -> list[Trainings]:
        """The kinds of training, which differ in the files that they write."""
        read: set[str] = set()
        if self.plan is not None:
            names = [stage.folder.split("/")[1] for stage in self.plan.stages.values() if stage.kind == "train"]
            read = sources(stage for stage in self.plan.stages.values() if stage.kind in ("predict", "train"))
        else:
            names = [path.parent.name for path in self.stages.glob(f"train/*/{disk.RECIPE}")]
        kinds: dict[str, list[str]] = {}
        for name in sorted(names):
            kinds.setdefault(training_of(name), []).append(f"train/{name}")
        return [
            Trainings(
                kind,
                self._paths("train", self.training_files(folders[0])),
                last=not read & set(folders),
            )
            for kind, folders in kinds.items()
        ]

    def files(self, *kinds: str, method: str | None = None, phase: int | None = None) -> list[str]:
        """What is to be there of the planned stages: of these kinds, of the runs of a method, of a phase.

        That is `stage.json` of each stage that no other of them reads; it leads Snakemake to the others. What a stage
        lacks is named if no stage that is to be made reads it, since Snakemake doesn't miss what nobody needs. Empty
        in a job's process, which needs no targets.
        """
        if self.plan is None:
            return []
        chosen = Target("", kinds, method, phase)
        wanted = [self.plan.stages[folder] for folder in wanted_of(self.plan, chosen)]
        begun = {f"{folder.parent.name}/{folder.name}" for folder in self.stages.glob("*/*")}
        lacking = {stage.folder: missing for stage in wanted if (missing := self.missing(stage, stage.folder in begun))}
        read, to_be_read = sources(wanted), sources(stage for stage in wanted if stage.folder in lacking)
        ends = [f"{stage.folder}/{disk.RECORD}" for stage in wanted if stage.folder not in read]
        gaps = [f"{folder}/{name}" for folder in lacking if folder not in to_be_read for name in lacking[folder]]
        return [f"{self.stages}/{path}" for path in dict.fromkeys([*ends, *gaps])]

    def training_files(self, folder: str) -> dict[str, str]:
        """The files that the training in `folder` writes, by name."""
        recipe = self.recipe(folder)
        return disk.training_outputs(recipe["settings"]["checkpoints"], disk.BEST in recipe["outputs"])

    def _paths(self, kind: str, files: Mapping[str, str]) -> dict[str, str]:
        return {name: f"{self.stages}/{kind}/{{stage}}/{file}" for name, file in files.items()}

    def missing(self, stage: Stage, begun: bool) -> list[str]:
        """The outputs of a stage that are not there: all, if it has not `begun` and so has no folder."""
        return [name for name in stage.outputs if not (begun and (self.stages / stage.folder / name).exists())]
