# The helpers of all rules: the plan, and what a stage reads and needs.
#
# The main process plans the graph and writes a recipe for each stage. A job's process reads the recipes, so a
# configuration that is edited during a run does not disturb it.

import json
import os
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from stpp import workflow as stpp_workflow
from stpp.configfile import load
from stpp.errors import StppError

# Jobs run the code beside this Snakefile, with this process's interpreter, from whatever folder they start in.
os.environ["PYTHONPATH"] = os.pathsep.join([str(workflow.basedir), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

# A configuration has a name; without one, what is given (say `--config seeds=[1,2]`) changes the demo's.
if "name" not in config:
    given, config = config, yaml.safe_load((Path(workflow.basedir) / "config.yaml").read_text())
    update_config(config, given)

try:
    SETTINGS = load(config)
    PLAN = None
    if workflow.is_main_process:
        SETTINGS, PLAN = stpp_workflow.prepare(config, lambda line: print(line, file=sys.stderr))
        stpp_workflow.refresh_view(SETTINGS, PLAN)
except StppError as error:
    raise WorkflowError(str(error)) from None


# Not in a dry run, and not if there is nothing to do.
onstart:
    if PLAN is not None:
        stpp_workflow.write(SETTINGS, PLAN)


RESULTS = SETTINGS.results
RUNTIME = SETTINGS.runtime
STAGES = f"{RESULTS}/stages"
LOGS = f"{RESULTS}/logs"


def recipe(folder):
    """The recipe of the stage in `folder`, a path below the stages' folder."""
    if PLAN is not None and folder in PLAN.stages:
        return PLAN.stages[folder].recipe()
    return json.loads(Path(f"{STAGES}/{folder}/recipe.json").read_text())


def reads(kind):
    """Input function: the artifacts of earlier stages that a stage reads.

    `ancient`, because a path says all: an artifact that is there is the right one, whatever its time stamp.
    """

    def inputs(wildcards):
        known = recipe(f"{kind}/{wildcards.stage}")
        paths = [path for value in known["inputs"].values() for path in ([value] if isinstance(value, str) else value)]
        files = [f"{STAGES}/{path}" for path in paths] + list(known["files"].values())
        return [ancient(file) for file in files]

    return inputs


def variants():
    """The kinds of training: name -> the files it writes, one for each set of files."""
    if PLAN is not None:
        names = [folder.split("/")[1] for folder in PLAN.stages if folder.startswith("train/")]
    else:
        names = os.listdir(f"{STAGES}/train")
    return {name.partition("val-")[0] + "val": recipe(f"train/{name}")["outputs"] for name in sorted(names)}


def computes(resources):
    """What the scheduler is asked for a job that runs a network."""
    return {"gpu": resources.gpu, "nodes": 1, "mem_mb": resources.memory, "runtime": resources.minutes}


def stage_files(*kinds, method=None, role=""):
    """The artifacts of the planned stages: of these kinds, of the runs of a method, of roles that begin so."""
    if PLAN is None:
        return []
    folders = {
        folder
        for run in PLAN.runs
        for name, folder in run.stages.items()
        if method in (None, run.method) and name.startswith(role)
    }
    folders |= {PLAN.report} if method is None and not role else set()
    return [
        f"{STAGES}/{folder}/{output}"
        for folder in sorted(folders)
        if not kinds or folder.split("/")[0] in kinds
        for output in PLAN.stages[folder].outputs
    ]
