"""The one kind of error that a user sees as a message instead of a traceback."""

import errno
from collections.abc import Sequence


class StppError(Exception):
    """A mistake in the user's input or surroundings.

    The message says what was found, where, what was expected and what to do. The command line prints it without a
    traceback and exits with 1.
    """


class Problems(StppError):
    """All the problems of one input, reported together.

    `problems` are complete sentences; `headline` says what was looked at.
    """

    def __init__(self, headline: str, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__("\n".join([f"{headline}: {count}", *(f"  - {problem}" for problem in self.problems)]))


def shortened(text: str, longest: int = 80) -> str:
    """A text from a user's input, short enough for a message: its beginning and its end."""
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def of_a_dead_loader(error: Exception) -> bool:
    """Whether PyTorch says that a process that loads data died; it does so wherever the main process happens to be."""
    return isinstance(error, RuntimeError) and "DataLoader worker" in str(error)


def of_the_system(error: OSError) -> str:
    """One sentence for an error of the file system, such as a full disk."""
    where = f": {error.filename}" if error.filename else ""
    again = "run the workflow again, it goes on where it was"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space is left on the disk{where}; nothing half-written stays. Free some space and {again}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror}{where}; make it accessible, or choose another place with `results`, and {again}"
    return f"{error.strerror or error}{where}; put that right and {again}"
