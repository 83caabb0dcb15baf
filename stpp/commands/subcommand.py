"""One way to add a sub-command to the command line."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Handler = Callable[[argparse.Namespace], int | None]


class HelpFormatter(argparse.HelpFormatter):
    """Wraps texts at the terminal's width, but for examples, which are there to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example: ") else super()._fill_text(text, width, indent)


def subcommand(
    commands: Any, name: str, summary: str, description: str, example: str, handler: Handler
) -> argparse.ArgumentParser:
    """A sub-command with its one-line summary, its help text and an example; its handler is stored in `handler`."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, formatter_class=HelpFormatter
    )
    command.set_defaults(handler=handler)
    add_example(command, example)
    return command


def add_example(command: argparse.ArgumentParser, example: str) -> None:
    """Add an example, on a line of its own, to those that the help text has."""
    command.epilog = f"{command.epilog}\n         {example}" if command.epilog else f"example: {example}"


def add_output(command: argparse.ArgumentParser, name: str, **options: Any) -> None:
    """Add a file or folder to write, and `--overwrite`; the handler writes by `stpp.commands.output.Outputs`."""
    command.add_argument(name, type=Path, **options)
    command.add_argument("--overwrite", action="store_true", help="replace files that are there already")
