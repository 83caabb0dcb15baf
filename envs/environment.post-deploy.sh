#!/usr/bin/env bash
# Puts the `stpp` command into the conda environment; the package itself is the one next to the Snakefile (PYTHONPATH).
set -euo pipefail
printf '#!/bin/sh\nexec python -m stpp "$@"\n' > "$CONDA_PREFIX/bin/stpp"
chmod +x "$CONDA_PREFIX/bin/stpp"
