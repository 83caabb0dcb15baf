"""What the command line writes to, whatever that can show."""

import io
import os
import sys
from pathlib import Path


def prepare_streams() -> None:
    """Let stdout and stderr take any text: what the terminal's encoding lacks becomes a backslash escape.

    A stream that was closed before the start, as by `>&-`, takes it and shows nothing.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
