"""How a process that runs networks uses the machine."""

import ctypes

import torch

# The parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def prepare_process(threads: int) -> None:
    """Compute with so many threads, and keep freed memory for the next activations.

    By itself, glibc gives large blocks back to the system at once and gets them anew, page by page and cleared, for
    every layer of every step. Where the C library is another one, its ways are left alone.
    """
    torch.set_num_threads(threads)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26)):
            mallopt(parameter, value)
