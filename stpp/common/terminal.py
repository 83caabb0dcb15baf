"""What reaches a terminal: text that cannot control it, whatever stands in names, classes and logs."""

import io
import os
import re
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TextIO

CONTROL = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed, DEL, C1
    "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""A character that moves the cursor, changes the terminal, reorders the text around it, or hides in it.

The last kinds are Unicode's controls of direction and of format, but for the two that join letters and emoji.
"""


def escaped(text: str) -> str:
    r"""The text with each `CONTROL` as a visible escape, such as \x1b."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def is_line(text: str) -> bool:
    """Whether the text is one line that a terminal shows as it is."""
    return "\n" not in text and not CONTROL.search(text)


@cache
def say_once(text: str) -> None:
    """Print a line to stderr, unless this process has printed it before."""
    print(text, file=sys.stderr, flush=True)


def prepare_streams() -> None:
    """Let all that is printed to stdout and stderr from now on be `escaped`, and be printed in any encoding.

    A stream that was closed before the start, as by `>&-`, takes it and shows nothing.
    """
    sys.stdout, sys.stderr = _Terminal.over(sys.stdout), _Terminal.over(sys.stderr, bars=True)


class _Terminal:
    r"""A text stream that escapes what is written to it.

    With `bars`, a carriage return at the beginning of what is written stays, with which tqdm draws over its last bar.
    """

    def __init__(self, stream: TextIO, bars: bool) -> None:
        self._stream = stream
        self._bars = bars

    @classmethod
    def over(cls, stream: TextIO | None, bars: bool = False) -> Any:
        if isinstance(stream, cls):
            return stream
        if stream is None:
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the encoding lacks, and bytes that are no text
        return cls(stream, bars)

    def write(self, text: str) -> int:
        start = "\r" if self._bars and text.startswith("\r") else ""
        self._stream.write(start + escaped(text[len(start) :]))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Board:
    """Prints lines to stdout; on a terminal, below them, lines that are drawn anew, such as how far something is."""

    def __init__(self) -> None:
        self.is_live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._below: list[str] = []

    @property
    def width(self) -> int:
        """Characters of a line that is drawn anew."""
        return shutil.get_terminal_size().columns - 1

    def show(self, lines: Sequence[str], below: Sequence[str] = ()) -> None:
        """Print `lines`, which stay, and draw those `below` instead of the last ones."""
        rows = shutil.get_terminal_size().lines - 1
        fitting = [escaped(line)[: self.width] for line in below[:rows]] if self.is_live else []
        if not lines and fitting == self._below:
            return
        text = f"\x1b[{len(self._below)}A\x1b[J" if self._below else ""
        text += "".join(f"{line}\n" for line in [*map(escaped, lines), *fitting])
        self._below = fitting
        stream = sys.stdout._stream if isinstance(sys.stdout, _Terminal) else sys.stdout
        stream.write(text)
        stream.flush()
