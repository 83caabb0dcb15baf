"""GPUs of a workstation, shared by the jobs of one user: each job takes free ones, and no two jobs have the same.

A lease is a file lock, named by the GPU's own identity, in a folder of the user's on this machine. The kernel lets go
of it when the process ends, however it ends, so no lease is ever stale. Where a scheduler has chosen the GPUs, its
choice stands and nothing is locked.

The folder is the same whatever the environment says, or two sessions of a user might lease one GPU twice. So it is not
$TMPDIR, nor $XDG_RUNTIME_DIR, which is removed at the end of the last session while jobs go on. It is entered only if
it is the user's own and closed to others, and no link in it is followed.
"""

import fcntl
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from stpp.common.errors import StppError
from stpp.common.terminal import say_once

SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_JOB_SPOOL_DIR", "_CONDOR_SLOT")
"""Each is in the environment of the jobs of one scheduler."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
PLACE = Path("/tmp")
"""Where each user has a folder for locks, on the machine's own disk."""
DRIVER = Path("/proc/driver/nvidia")
"""What a machine with a driver for GPUs has."""
LOOK_EVERY = 1.0
"""Seconds between two looks whether GPUs are free."""

_held: list[int] = []
"""The open lock files of this process, one a GPU."""


def lease(gpus: int, device: str) -> str:
    """Take `gpus` free GPUs for as long as this process lives; returns where its networks run: "cpu", "cuda" or "auto".

    `device` is "auto", "cpu" or "cuda". With "cpu" or 0 GPUs nothing is taken. Otherwise CUDA_VISIBLE_DEVICES is
    narrowed to the GPUs that were taken, among those that it allowed; its numbers are those of `nvidia-smi`. All are
    taken at once or none, so two jobs never wait for each other; a job waits until enough of them are free at one
    moment. Without GPUs "auto" is the CPU; without `nvidia-smi`, which lists them, it is returned: PyTorch will look.

    Raises StppError where there are fewer GPUs than asked for, or "cuda" is asked for with none.
    """
    if device == "cuda" and not gpus:
        raise StppError("a GPU is asked for (--device cuda, runtime.device) and forbidden (--gpus 0, gpu: 0); set one")
    if device == "cpu" or not gpus:
        return "cpu"
    devices = visible_devices()
    if devices is None:
        if DRIVER.exists():
            say_once("nvidia-smi, which lists GPUs, is not installed: PyTorch uses the GPUs that it finds")
        return device
    if not devices and device == "auto":
        say_once("no GPU here: the CPU computes")
        return "cpu"
    if len(devices) < gpus:
        raise StppError(
            f"{gpus} GPUs are asked for, but this job sees {len(devices)}; lower `gpu` of runtime.train or "
            f"runtime.predict, or allow more by {VISIBLE}"
        )
    if len(_held) < gpus and not any(name in os.environ for name in SCHEDULERS):
        os.environ[VISIBLE] = ",".join(_take(gpus, devices))
    return "cuda"


def visible_devices() -> list[str] | None:
    """Identities of the GPUs that this process may use, in order; None where no `nvidia-smi` tells."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    gpus: list[list[str]] = []  # of each GPU: itself, or its parts where it is divided
    for part, identity in re.findall(r"^( *)\w.*\(UUID: (\S+)\)", done.stdout, re.MULTILINE):
        if not part:
            gpus.append([identity])
        elif gpus[-1][0].startswith("GPU-"):
            gpus[-1] = [identity]
        else:
            gpus[-1].append(identity)
    if VISIBLE not in os.environ:
        return [identity for parts in gpus for identity in parts]
    return list(_named(os.environ[VISIBLE].split(","), gpus))


def _named(names: Sequence[str], gpus: Sequence[Sequence[str]]) -> Iterator[str]:
    """The GPUs of CUDA_VISIBLE_DEVICES: numbers, or beginnings of identities; CUDA ends at the first that is none."""
    everything = [identity for parts in gpus for identity in parts]
    for name in (name.strip() for name in names):
        if name.isdigit() and int(name) < len(gpus):
            yield gpus[int(name)][0]
        elif found := [identity for identity in everything if name and identity.startswith(name)]:
            yield found[0]
        else:
            return


def _take(count: int, devices: Sequence[str]) -> list[str]:
    """Lock `count` of `devices`, waiting until so many are free; returns their identities."""
    folder = _own_folder()
    while True:
        with _alone(folder):
            locks = {device: lock for device in devices if (lock := _lock(folder, device)) is not None}
            taken = list(locks)[:count] if len(locks) >= count else []
            for device, lock in locks.items():
                if device in taken:
                    os.truncate(lock, 0)
                    os.write(lock, str(os.getpid()).encode())
                    _held.append(lock)
                else:
                    os.close(lock)
        if taken:
            fcntl.flock(folder, fcntl.LOCK_SH)  # what cleans /tmp leaves a locked folder alone; open until the end
            return taken
        busy = ", ".join(f"{device} (process {_holder(folder, device)})" for device in devices if device not in locks)
        say_once(f"waiting for {count} of {len(devices)} GPUs; other jobs have {busy}")
        time.sleep(LOOK_EVERY)


def _own_folder() -> int:
    """A descriptor of the user's folder for locks. Raises StppError if others could have put something into it."""
    path = PLACE / f"stpp-gpus-{os.getuid()}"
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        wrong = "is a link" if path.is_symlink() else f"cannot be used ({error.strerror})"
    else:
        found = os.fstat(folder)
        if found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077:
            return folder
        os.close(folder)
        wrong = "belongs to another user" if found.st_uid != os.getuid() else "is open to other users"
    raise StppError(
        f"{path}, which holds the locks of your jobs' GPUs, {wrong}; remove it, or have it removed by its owner or an "
        "administrator, and run the workflow again: it makes a new one"
    )


@contextmanager
def _alone(folder: int) -> Iterator[None]:
    """Keep others from looking meanwhile: two jobs that each lock a part of what they need would both go away empty."""
    door = _open(folder, "door")
    try:
        try:
            fcntl.flock(door, fcntl.LOCK_EX)
        except OSError as error:
            raise StppError(
                f"the file system of {PLACE} has no locks ({error.strerror}), by which jobs share GPUs; ask the "
                "administrator for a local one, or run the jobs by a scheduler"
            ) from None
        yield
    finally:
        os.close(door)


def _lock(folder: int, device: str) -> int | None:
    """The descriptor of the lock file, locked; None if another process has it."""
    descriptor = _open(folder, device)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _open(folder: int, name: str) -> int:
    """A descriptor of the lock file `name`; parts of divided GPUs may have slashes in theirs."""
    return os.open(name.replace("/", "-"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)


def _holder(folder: int, device: str) -> str:
    descriptor = _open(folder, device)
    try:
        return os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(descriptor)
