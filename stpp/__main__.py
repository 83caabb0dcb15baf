"""`python -m stpp`."""

import sys

from stpp.cli import main

sys.exit(main())
