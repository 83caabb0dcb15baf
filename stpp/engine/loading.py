"""The processes that load a training's images: what signals mean to them, what their errors become, how they end."""

import multiprocessing
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from torch import Tensor
from torch.utils.data import DataLoader

from stpp.common.errors import SHARED_MEMORY, StppError, lacks_space
from stpp.runtime.launch import end_with_parent
from stpp.runtime.progress import SIGNALS

PATIENCE = 3.0
"""Seconds that a loader process has to end by itself, before it is killed."""


class Loading:
    """A context manager around a training: however that ends, no loader process is there afterwards.

    Python waits at its end for all of them, without a limit, and they ignore what asks them to end.
    """

    def __init__(self) -> None:
        self._batches: Any = None

    def __enter__(self) -> Self:
        return self

    def batches(self, loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of `loader`. What a loader process raises is raised as if this process had met it.

        A bug arrives as PyTorch passes it on, with its traceback in the message. Raises StppError for too little shared
        memory, too.
        """
        try:
            self._batches = begun(loader)
            yield from self._batches
        except Exception as error:
            if (cause := raised_in_loader(error)) is not None:
                raise cause from None
            if isinstance(error, OSError) and lacks_space(error):  # a queue between the processes; no disk is involved
                raise StppError(SHARED_MEMORY) from None
            if isinstance(error, ConnectionError | EOFError) and (died := self._died()):
                raise RuntimeError(died) from None
            raise

    def _died(self) -> str:
        """What PyTorch says of a loader process that died; nothing where none did.

        A process that dies while it hands over a batch breaks the connection first, and PyTorch does not get to it.
        """
        for process in getattr(self._batches, "_workers", ()):
            process.join(PATIENCE)
            if process.exitcode is not None and process.exitcode < 0:
                return (
                    f"DataLoader worker (pid {process.pid}) is killed by signal: {signal.strsignal(-process.exitcode)}."
                )
        return ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not (processes := multiprocessing.active_children()):
            return

        def kill(*signal_and_frame: object) -> None:
            for process in processes:
                process.kill()

        # PyTorch takes the death of a loader process for an error, which this is not.
        handlers = {number: signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGALRM)}
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, kill)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            with suppress(Exception):  # of a loader that is broken, which is what the training has said already
                self._batches._shutdown_workers()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            kill()
            for process in processes:
                process.join()
            for number, handler in handlers.items():
                signal.signal(number, handler)


def begun(loader: DataLoader[Any]) -> Any:
    """The iterator of `loader`. Of one that cannot be made nothing stays: PyTorch would print more errors."""
    hook = sys.unraisablehook
    try:
        return iter(loader)
    except Exception as error:
        sys.unraisablehook = lambda ignored: None
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        sys.unraisablehook = hook


def begin_loading(worker: int) -> None:
    """Let a loader process leave the answer to signals to the training, and end with it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()


def raised_in_loader(error: Exception) -> Exception | None:
    """The user's mistake or the system's refusal that a loader process met; None for everything else.

    PyTorch raises an exception of the same type where it can, whose message is the traceback.
    """
    if not re.match(r"Caught \w+ in DataLoader worker process", str(error)):
        return None
    *_, last = str(error).split("Traceback (most recent call last):\n")
    found = re.search(r"^([\w.]+)(?:: (.*))?", last, re.MULTILINE | re.DOTALL)
    kind, message = (found[1], (found[2] or "").strip()) if found else ("", "")
    if kind.startswith("stpp."):
        return StppError(message)
    if isinstance(error, OSError) and (system := re.match(r"\[Errno (\d+)\] (.*?)(?:: '(.*)')?$", message)):
        return OSError(int(system[1]), system[2], system[3])
    return None
