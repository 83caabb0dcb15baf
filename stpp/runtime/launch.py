"""One training in several processes: `stpp train --gpus G` becomes G of them, started and watched by torchrun."""

import ctypes
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stpp.common.errors import StppError
from stpp.methods import step_of
from stpp.runtime.job import Job, Runtime
from stpp.runtime.lease import lease
from stpp.runtime.progress import SIGNALS, answered

STORE = "STPP_TEAM_STORE"
"""In the environment of the processes of a team: the file by which they find each other."""
GRACE = 600
"""Seconds for a training to save after a signal, before it is killed."""


def trained_by_team(job: Job, runtime: Runtime, arguments: Sequence[str]) -> int | None:
    """Run the command `stpp ARGUMENTS`, which trains `job`, in one process for each of `runtime.gpus` devices.

    Returns its exit code: 0, that of the process that failed first, or 128 + the number of the signal that ended it.
    None means that this process is to train: where one device is asked for, where `device` is "auto" and there are no
    GPUs, and in the processes of a team. Raises StppError for a batch that is smaller than the team, and what `lease`
    raises.
    """
    if STORE in os.environ:
        end_with_parent()
        return None
    if runtime.gpus < 2:
        return None
    batch = job.settings["training"]["batch_size"]
    step = step_of(job.settings)
    if (most := batch // (step[0].least_batch if step else 1)) < runtime.gpus:
        raise StppError(
            f"a batch of {batch} images cannot be spread over {runtime.gpus} processes; raise "
            f"training.{job.settings['role']}.batch_size, or lower runtime.train.gpu to {most} or less"
        )
    if runtime.device != "cpu" and lease(runtime.gpus, runtime.device) != "cuda":
        print("training in one process", file=sys.stderr)
        return None
    return _torchrun(runtime.gpus, [sys.executable, "-P", "-m", "stpp.commands.team_process", *arguments])


def _torchrun(processes: int, command: Sequence[str]) -> int:
    """Exit code of `command` in so many processes; when one fails the others are ended, and signals reach all.

    This is torchrun without its command line, which would print a traceback for every failure and hide the exit code.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # What goes wrong is said once, by a process that knows it.
    logging.disable(logging.CRITICAL)
    os.environ |= {"TORCH_CPP_LOG_LEVEL": "ERROR", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(GRACE)}
    # They find the modules that this process finds, and in no other folder: `-m` alone would look into the working
    # directory first.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    # All is on one machine: nothing listens on its network.
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    # torchrun leaves its own, which raise errors that only it expects.
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with tempfile.TemporaryDirectory(prefix="stpp-team-") as folder:
        os.environ[STORE] = f"{folder}/team"
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=Path(folder).name,
            rdzv_backend="c10d",
            rdzv_endpoint=f"{folder}/agent",
            rdzv_configs={"store_type": "file"},
            local_addr="127.0.0.1",
            max_restarts=0,
            signals_to_handle=",".join(number.name for number in answered()),
        )
        try:
            elastic_launch(config, command[0])(*command[1:])
        except ChildFailedError as error:
            # Whoever is killed takes the others along, and torchrun may find all of them in one look; those that it
            # ends itself get SIGTERM.
            codes = [failure.exitcode for failure in error.failures.values()]
            killed = [code for code in codes if code < 0 and code != -signal.SIGTERM]
            code: int = killed[0] if killed else error.get_first_failure()[1].exitcode
            return code if code > 0 else 128 - code
        except SignalException as error:
            _wait_for_children()
            return 128 + error.sigval
        finally:
            del os.environ[STORE]
            logging.disable(logging.NOTSET)
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return 0


def _wait_for_children() -> None:
    """Let the processes save, however often this one is asked to end: torchrun takes leave after the third signal."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with suppress(ChildProcessError):
        while True:
            os.wait()


def end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, whose leases end with it."""
    parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
