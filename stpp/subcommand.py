"""One way to add a sub-command to the command line."""

import argparse
from collections.abc import Callable
from typing import Any

Handler = Callable[[argparse.Namespace], int | None]


def subcommand(
    commands: Any, name: str, summary: str, description: str, example: str, handler: Handler
) -> argparse.ArgumentParser:
    """A sub-command with its one-line summary, its help text and an example; its handler is stored in `handler`."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, epilog=f"example: {example}"
    )
    command.set_defaults(handler=handler)
    return command
