"""`python -m stpp.member`: `stpp` as a process of a team, which ends without Python taking itself apart.

Threads of gloo and of autograd are still there then, and one that asks for Python's lock would abort the process,
although all is done.
"""

import os
import sys
from typing import Any

from stpp.cli import main

try:
    code: Any = main()
except SystemExit as request:
    code = request.code
sys.stdout.flush()
sys.stderr.flush()
os._exit(code or 0)
