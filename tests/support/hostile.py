"""What the tests of hostile input share: how long it may take, and what its refusal must say."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from stpp.common.errors import StppError

REMEDY = re.compile(
    r"\b(add|ask|choose|convert|copy|correct|cut|delete|draw|expected|fill|give|keep|make|predict|put|raise|remove|rename"
    r"|run|save|set|should|take|write|did you mean|is required)\b",
    re.IGNORECASE,
)
SECONDS = 20


@contextmanager
def refused(*fragments: str) -> Iterator[None]:
    """The block raises StppError, and soon; its message has all `fragments`, says what to do, and is no novel."""
    with pytest.raises(StppError) as caught, quick():
        yield
    message = str(caught.value)
    assert all(fragment in message for fragment in fragments), message
    assert REMEDY.search(message), message
    assert len(message) < 4000, message[:4000]


@contextmanager
def quick() -> Iterator[None]:
    """The block ends soon, whether well or with an error."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
