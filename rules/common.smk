# The configuration, checked, and the plan that the rules ask. Nothing is written before the first job starts, but for
# the data's index.

import re
import sys
from pathlib import Path

from snakemake.utils import update_config

from stpp import workflow as stages
from stpp.configfile import load
from stpp.rules import Graph, asks, computes, refusing, run_own_task, typed, use_this_code
from stpp.yamlfile import read_yaml

use_this_code(Path(workflow.basedir))
run_own_task()
PLAN = None
with refusing():
    # Snakemake has read these files, but takes more for YAML than anyone means.
    for path in workflow.configfiles:
        read_yaml(Path(path))
    # A configuration has a name; without one, what is given (say `--config seeds=[1,2]`) changes the demo's.
    if "name" not in config:
        given, config = config, read_yaml(Path(workflow.basedir) / "config.yaml")
        update_config(config, given)
    update_config(config, typed(workflow.config_settings.config))
    SETTINGS = load(config)
    if workflow.is_main_process:
        PLAN = stages.prepare(SETTINGS, lambda line: print(line, file=sys.stderr))
        stages.refresh_view(SETTINGS, PLAN)


# Not in a dry run, and not if there is nothing to do.
onstart:
    if PLAN is not None:
        with refusing():
            stages.claim(Path(SETTINGS.results))
            stages.write(SETTINGS, PLAN)


RUNTIME = SETTINGS.runtime
RESULTS = SETTINGS.results
STAGES = f"{RESULTS}/stages"
LOGS = f"{RESULTS}/logs"
GRAPH = Graph(RESULTS, PLAN)
# What a long chain of stages waits for goes first, evaluations (priority 0) when nothing else can: so no core is idle
# while one chain is still to be done.
LONG_CHAIN, LAST_STUDENT = 2, 1
SAVING = f"--save-minutes {RUNTIME.save_minutes:g}"
