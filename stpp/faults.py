"""What goes wrong on a machine while a network runs, said so that one knows what to change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from stpp.errors import MEMORY, StppError, of_a_dead_loader, of_the_machine


@contextmanager
def explained(advice: str) -> Iterator[None]:
    """Turn a lack of memory or of threads, a dead loader process and a missing compiler into a StppError.

    `advice` says which setting to lower where memory lacks.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        found = str(error).partition(". ")[0]
        raise StppError(f"the GPU's memory is too small ({found}); {advice}") from None
    except (MemoryError, RuntimeError) as error:
        if said := of_the_machine(error):
            raise StppError(MEMORY + advice if said.startswith(MEMORY) else said) from None
        if of_a_dead_loader(error):
            raise StppError(dead_loader(str(error).splitlines()[0].strip())) from None
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise StppError(
                f"PyTorch could not compile the network ({reason.strip()}); set runtime.train.compile to false, or "
                "install a C++ compiler (such as the package g++)"
            ) from None
        raise


def dead_loader(found: str) -> str:
    """What to do about a loader process that died, of which PyTorch says `found`."""
    if "killed by signal" in found and "Killed" not in found:
        remedy = "; set runtime.train.workers: 0, with which the training loads the data itself"
    else:
        remedy = (
            ", often because the machine ran out of memory; lower runtime.train.workers or raise runtime.train.memory"
        )
    again = "and run the workflow again: it goes on where the state was saved last"
    return f"a process that loads data died ({found}){remedy}, {again}"


def training_advice(role: str, batch_size: int, crop: int) -> str:
    """What to lower, and by how much, if a training does not fit; memory grows with batch and crop's area."""
    return (
        f"lower training.{role}.batch_size from {batch_size} to {max(1, batch_size // 2)}, or training.{role}.crop "
        f"from {crop} to {max(1, int(crop * 0.7))}: either takes about half the memory"
    )


def prediction_advice(height: int, width: int, tile: int | None) -> str:
    """What to lower, and by how much, if a prediction does not fit; memory grows with the tile's area."""
    side = max(32, (tile or max(height, width)) * 7 // 10 // 32 * 32)
    found = f"from {tile}" if tile else f"(now none, for an image of {width} x {height} pixels)"
    return f"set prediction.tile {found} to {side}: that takes about half the memory"
