"""`python -m stpp.commands.network_check`: whether a network can be built and fits a file, in a process of its own.

timm imports torch's compiler, which takes memory, and complains when Python takes it apart: Snakemake's own process is
spared both. Reads what `refuse_unfit` takes, as a JSON list from the standard input, and prints what is wrong with it.
"""

import json
import os
import sys

from stpp.common.errors import StppError
from stpp.engine.initial import refuse_unfit

try:
    refuse_unfit(*json.load(sys.stdin))
except StppError as error:
    print(error)
sys.stdout.flush()
os._exit(0)
