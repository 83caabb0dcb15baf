"""`python -m stpp.commands.team_process`: `stpp` as a process of a team, which ends without Python taking itself apart.

Threads of gloo and of autograd are still there then, and one that asks for Python's lock would abort the process,
although all is done.
"""

import os
import sys
import traceback
from typing import Any

from stpp.commands.cli import main

try:
    code: Any = main()
except SystemExit as request:
    code = request.code
except BaseException:  # a bug, which must not keep the process, and with it the team, alive
    traceback.print_exc()
    code = 1
sys.stdout.flush()
sys.stderr.flush()
os._exit(code or 0)
