# The configuration, checked, and the plan that the rules ask. Nothing is written before the first job starts, but for
# the data's index.

import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from stpp import workflow as stages
from stpp.configfile import load
from stpp.errors import StppError
from stpp.rules import Graph, computes, typed, use_this_code

# A configuration has a name; without one, what is given (say `--config seeds=[1,2]`) changes the demo's.
if "name" not in config:
    given, config = config, yaml.safe_load((Path(workflow.basedir) / "config.yaml").read_text())
    update_config(config, given)
update_config(config, typed(workflow.config_settings.config))

use_this_code(Path(workflow.basedir))
PLAN = None
try:
    SETTINGS = load(config)
    if workflow.is_main_process:
        PLAN = stages.prepare(SETTINGS, lambda line: print(line, file=sys.stderr))
        stages.refresh_view(SETTINGS, PLAN)
except StppError as error:
    raise WorkflowError(str(error)) from None


# Not in a dry run, and not if there is nothing to do.
onstart:
    if PLAN is not None:
        stages.write(SETTINGS, PLAN)


RUNTIME = SETTINGS.runtime
RESULTS = SETTINGS.results
STAGES = f"{RESULTS}/stages"
LOGS = f"{RESULTS}/logs"
GRAPH = Graph(RESULTS, PLAN)
