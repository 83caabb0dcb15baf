"""A real SLURM on this one machine, of two nodes with four pretended GPUs each; needs root and Debian's packages."""

import os
import platform
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
NODES = ("n1", "n2")
GPUS = 4
"""On each node: device files that stand for GPUs, since the scheduler only counts them."""
ETC = Path("/etc/slurm")
"""The only place where every SLURM command looks: the executor removes SLURM's variables from the jobs' environment."""

CONFIG = """\
ClusterName=ci
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket,cred_expire=15
CredType=cred/munge
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
CommunicationParameters=NoInAddrAny
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=100000,batch_sched_delay=0
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
AccountingStorageType=accounting_storage/none
GresTypes=gpu
ReturnToService=1
SlurmdTimeout=10
SlurmctldTimeout=10
InactiveLimit=0
KillWait=3
OverTimeLimit=0
MinJobAge=3600
MaxArraySize=1001
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
DefMemPerCPU=500
SlurmdParameters=config_overrides
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=8 Boards=1 SocketsPerBoard=1 \
CoresPerSocket=8 ThreadsPerCore=1 RealMemory=12000 Gres=gpu:h100:4 State=UNKNOWN
PartitionName=gpu Nodes=n[1-2] Default=YES MaxTime=02:00:00 DefaultTime=00:10:00 State=UP PriorityTier=1 \
PreemptMode=REQUEUE
PartitionName=urgent Nodes=n[1-2] MaxTime=02:00:00 State=UP PriorityTier=10 PreemptMode=OFF
"""
DEVICES = "NodeName=n[1-2] Name=gpu Type=h100 File=/dev/null,/dev/zero,/dev/full,/dev/random\n"


class NoSlurmError(Exception):
    """SLURM cannot be had on this machine; says why."""


def install() -> None:
    """Install SLURM where it is missing. Raises NoSlurmError."""
    if os.geteuid():
        raise NoSlurmError("starting SLURM needs root")
    if not all(shutil.which(command) for command in ("slurmctld", "slurmd", "sbatch", "munged")):
        if shutil.which("apt-get") is None:
            raise NoSlurmError("SLURM is not installed, and there is no apt-get")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
            done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise NoSlurmError(f"apt-get cannot install {' '.join(PACKAGES)}: {done.stderr.strip()[-300:]}")
    for name in ("slurm.conf", "gres.conf"):
        if (ETC / name).exists():
            raise NoSlurmError(f"{ETC / name} exists: another SLURM is set up here")


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """A SLURM that keeps its files in `folder`, which everybody can read, and ends with the block."""
    for name in ("etc", "run", "log", "state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "etc/slurm.conf").write_text(CONFIG.format(host=platform.node(), folder=folder))
    (folder / "etc/gres.conf").write_text(DEVICES)
    key = folder / "etc/munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    ETC.mkdir(exist_ok=True)
    links = [ETC / name for name in ("slurm.conf", "gres.conf")]
    try:
        for link in links:
            link.unlink(missing_ok=True)  # of a run that was killed: it leads nowhere
            link.symlink_to(folder / "etc" / link.name)
        run = folder / "run"
        daemon(
            *("munged", f"--key-file={key}", f"--socket={run}/munge.socket", f"--pid-file={run}/munged.pid"),
            *(f"--log-file={folder}/log/munged.log", f"--seed-file={run}/munged.seed", "--num-threads=2"),
        )
        daemon("slurmctld", "-c")
        for node in NODES:
            daemon("slurmd", "-N", node)
        wait(idle, 30, "the nodes to be idle")
        yield
    finally:
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["scancel", "--user=root"], timeout=10)
            wait(idle, 20, "the last jobs to end")
        for path in (folder / "run").glob("*.pid"):
            end(int(path.read_text()))
        for link in links:
            link.unlink(missing_ok=True)


def daemon(*command: str) -> None:
    """Start a daemon; it goes to the background by itself."""
    subprocess.run(command, check=True, timeout=30)


def end(process: int) -> None:
    """End a daemon, by force if it takes longer than ten seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, TimeoutError):
            os.kill(process, number)
            wait(lambda: not alive(process), 10, "a daemon to end")
            return


def alive(process: int) -> bool:
    """Whether a process runs; a zombie, for whose end nobody waits, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until `condition` holds. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.2)


def scontrol(*arguments: str) -> str:
    """What `scontrol` prints."""
    done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


def idle() -> bool:
    """Whether all nodes are up and free."""
    done = subprocess.run(["sinfo", "-h", "-N", "-p", "gpu", "-o", "%T"], capture_output=True, text=True, timeout=30)
    return done.stdout.split() == ["idle"] * len(NODES)


def left() -> list[str]:
    """The jobs that have not ended, each as `number state`: what may hold a GPU.

    The records of the nodes do not tell. Where a node goes down while a job on it is ending, SLURM 22.05 counts the
    job's GPU as used from then on, though no job has it.
    """
    done = subprocess.run(["squeue", "-h", "-o", "%i %T"], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.splitlines()


def jobs() -> list[dict[str, str]]:
    """The scheduler's records of all jobs, also of those that ended, oldest first."""
    records = []
    for line in scontrol("show", "job", "-d", "-o").splitlines():
        record = dict(re.findall(r"(\w+)=(.*?)(?= +\w+=| *$)", line))
        if "JobId" in record:
            records.append(record)
    return sorted(records, key=lambda record: int(record["JobId"]))


def name(job: Mapping[str, str]) -> str:
    """The number of a job, or of a task of an array: the bare number of some tasks is that of the whole array."""
    return f"{job['ArrayJobId']}_{job['ArrayTaskId']}" if "ArrayJobId" in job else job["JobId"]
