"""`python -m stpp`."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the working directory, whose files are data and not modules

from stpp.commands.cli import main

sys.exit(main())
