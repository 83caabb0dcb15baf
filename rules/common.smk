# The configuration, checked, and the plan that the rules ask. Nothing that a job reads is written before the first job
# starts.

import sys
from functools import partial
from pathlib import Path

from snakemake.utils import update_config

# The code next to the Snakefile goes before an installed one, also where another folder's Snakefile takes this one as a
# module; of one from the internet there is no code here, but the installed one.
PROJECT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
sys.path.insert(0, str(PROJECT))

from stpp.common import disk
from stpp.commands import workflow as stages
from stpp.commands.fitting import check_networks
from stpp.commands.needs import warn_of_crops
from stpp.commands.view import refresh_view, write_view
from stpp.settings.configfile import load
from stpp.plan.graph import training_rule
from stpp.plan.rules import (
    Graph,
    after_a_run,
    asks,
    check_working_directory,
    computes,
    keep_objects,
    look_once_a_second,
    name_user,
    refusing,
    run_own_task,
    say,
    start_with,
    typed,
    use_this_code,
)
from stpp.plan.targets import TARGETS
from stpp.settings.yamlfile import read_yaml

# As a module of another Snakefile, this one has a configuration of its own, and the command line is the other's.
IS_MODULE = not workflow.modifier.is_main_snakefile()
use_this_code(PROJECT, alone=not IS_MODULE)
name_user()
run_own_task()
PLAN = None
with refusing():
    check_working_directory()
    # Snakemake has read these files, but takes more for YAML than anyone means, and some for a program.
    for path in [] if IS_MODULE else workflow.configfiles:
        read_yaml(Path(path))
    # A configuration has a name; without one, what `--config` gives (say seeds=[1,2]) changes the demo's.
    if "name" not in config and (IS_MODULE or not workflow.configfiles):
        given, config = config, read_yaml(Path(workflow.source_path("../config.yaml")))
        update_config(config, given)
    if not IS_MODULE:
        update_config(config, typed(workflow.config_settings.config))
    SETTINGS = load(config)
    if workflow.is_main_process:
        PLAN = stages.prepare(SETTINGS, say)
        stages.warn_of_stale(SETTINGS, PLAN, say)
        warn_of_crops(PLAN, Path(SETTINGS.results) / disk.STAGES, say)
        after_a_run(workflow, lambda: refresh_view(SETTINGS, PLAN, say))
keep_objects()
look_once_a_second()


# Not in a dry run, and not if there is nothing to do.
onstart:
    if PLAN is not None:
        with refusing():
            stages.claim(Path(SETTINGS.results))
            check_networks(SETTINGS, PLAN)
            stages.write(SETTINGS, PLAN)
            after_a_run(workflow, lambda: write_view(SETTINGS, PLAN))  # by then there is more to show


if IS_MODULE:
    start_with(workflow, onstart)

RUNTIME = SETTINGS.runtime
RESULTS = SETTINGS.results
STAGES = f"{RESULTS}/{disk.STAGES}"
LOGS = f"{RESULTS}/{disk.LOGS}"
GRAPH = Graph(RESULTS, PLAN)
# What a long chain of stages waits for goes first, evaluations (priority 0) when nothing else can: so no core is idle
# while one chain is still to be done.
LONG_CHAIN, LAST_TRAINING = 2, 1
COMPILING = " --compile" * RUNTIME.train.compile
SAVING = f"--save-minutes {RUNTIME.save_minutes:g}"
