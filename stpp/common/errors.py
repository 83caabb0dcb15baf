"""The one kind of error that a user sees as a message instead of a traceback."""

import errno
import re
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


SHARED_MEMORY = (
    "the shared memory is too small for loader processes: no space is left in /dev/shm; set runtime.train.workers: 0, "
    "which needs none, or give the container more, by `docker run --shm-size 8g` or `--ipc=host`"
)
MEMORY = "the main memory is too small; "
PROCESSES = (
    "this user may start no more threads or processes; lower runtime.train.workers and the number of jobs "
    "at once, or raise the limit (`ulimit -u`, or `--pids-limit` of a container)"
)


def of_the_machine(error: BaseException) -> str | None:
    """One sentence for a lack of main memory, shared memory, threads or processes; None for any other error.

    PyTorch says it in the text of a RuntimeError, or in that of its cause.
    """
    text = f"{error} {error.__cause__ or ''}"
    lack = "(can't|[Cc]annot) allocate memory|could not create a memory object|bad[_ ]alloc"
    if isinstance(error, MemoryError) or re.search(lack, text):
        return f"{MEMORY}end other programs, or take a machine or a job with more"
    if not isinstance(error, RuntimeError):
        return None
    if re.search(r"/torch_\d|shared memory\(shm\)|Bus error", text):
        return SHARED_MEMORY
    return PROCESSES if "can't start new thread" in text else None


def of_a_dead_loader(error: Exception) -> bool:
    """Whether PyTorch says that a process that loads data died; it does so wherever the main process happens to be."""
    return isinstance(error, RuntimeError) and "DataLoader worker (pid" in str(error)


def lacks_space(error: OSError) -> bool:
    """Whether a file system is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def of_the_system(error: OSError) -> str:
    """One sentence for an error of the system, such as a full disk."""
    where = f": {error.filename}" if error.filename else ""
    again = "run the workflow again, it goes on where it was"
    if lacks_space(error):
        return f"no space is left on the disk{where}; nothing half-written stays. Free some space and {again}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror}{where}; make it accessible, or choose another place with `results`, and {again}"
    if error.errno == errno.EAGAIN:
        return PROCESSES
    return of_the_machine(error) or f"{error.strerror or error}{where}; put that right and {again}"
