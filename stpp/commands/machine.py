"""What this machine has that a configuration has to fit."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stpp.common.wording import counted, size


@dataclass(frozen=True)
class Machine:
    """Cores that this process may use; bytes of main memory and of free disk; the GPU that PyTorch sees, if any.

    `gpu_memory` are bytes, `shared_memory` those of /dev/shm, which loader processes need; `bf16`: the GPU computes
    in it, or the processor is faster in it, which a trial tells.
    """

    cores: int
    memory: int
    disk: int
    shared_memory: int = 0
    gpu: str = ""
    gpu_memory: int = 0
    bf16: bool = False

    def __str__(self) -> str:
        gpu = f"{self.gpu} with {size(self.gpu_memory)}" if self.gpu else "no GPU"
        return f"{counted(self.cores, 'core')}, {size(self.memory)} of memory, {gpu}, {size(self.disk)} of disk free"


def this_machine(folder: Path) -> Machine:
    """This machine, and the disk that `folder` is on. A container's limits count."""
    import torch

    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # of the control group, if there is one
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = max(1, min(cores, int(quota) // int(period)))
    shared = 0
    with suppress(OSError):
        shared = shutil.disk_usage("/dev/shm").free
    found = Machine(cores, memory, shutil.disk_usage(folder).free, shared)
    if not torch.cuda.is_available():
        return found
    gpu = torch.cuda.get_device_properties(0)
    bf16 = gpu.major >= 8
    return Machine(found.cores, found.memory, found.disk, shared, gpu.name, gpu.total_memory, bf16)
