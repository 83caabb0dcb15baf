"""Leases of GPUs, on pretended ones: never two jobs on one, no job for ever without."""

import errno
import itertools
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import stpp.runtime.lease
from stpp.commands.cli import main
from stpp.common.errors import StppError
from stpp.runtime.lease import SCHEDULERS, lease, visible_devices

HOLD = """
import os, sys, time
from pathlib import Path
from stpp.runtime import lease
lease.LOOK_EVERY = 0.01
lease.PLACE = Path(os.environ["PLACE"])
assert lease.lease(int(sys.argv[1]), "cuda") == "cuda"
taken = os.environ["CUDA_VISIBLE_DEVICES"]
print(time.monotonic(), taken, flush=True)
time.sleep(float(sys.argv[2]))
print(time.monotonic(), flush=True)
"""


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two pretended GPUs, of which none is taken."""
    pretend(tmp_path, monkeypatch, "GPU 0: Pretended (UUID: GPU-a1)\nGPU 1: Pretended (UUID: GPU-b2)\n")
    return ["GPU-a1", "GPU-b2"]


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, listing: str) -> None:
    """Let `nvidia-smi -L` say this."""
    tool = folder / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{listing}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PLACE", str(folder))
    monkeypatch.setattr("stpp.runtime.lease.PLACE", folder)
    monkeypatch.setattr("stpp.runtime.lease._held", [])
    for name in (*SCHEDULERS, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")  # so that the value from before comes back
        monkeypatch.delenv(name)


def job(count: int, seconds: float) -> subprocess.Popen[str]:
    """A job that takes so many GPUs for a time; it says when it has which, and when it goes."""
    command = [sys.executable, "-c", HOLD, str(count), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def began(holder: subprocess.Popen[str]) -> tuple[float, list[str]]:
    """When a job got its GPUs, and which."""
    assert holder.stdout is not None
    moment, taken = holder.stdout.readline().split()
    return float(moment), taken.split(",")


def goes(holder: subprocess.Popen[str]) -> float:
    """When a job that had GPUs gave them back."""
    assert holder.stdout is not None
    assert holder.stderr is not None
    with holder, holder.stdout, holder.stderr:
        return float(holder.stdout.read())


@pytest.mark.parametrize("counts", [[1, 1, 1, 1], [2, 2, 2], [1, 2, 1, 2, 1]])
def test_no_two_jobs_ever_have_the_same_gpu_and_all_get_theirs(gpus: list[str], counts: list[int]) -> None:
    jobs = [job(count, random.uniform(0.05, 0.3)) for count in counts]
    spans: dict[str, list[tuple[float, float]]] = {gpu: [] for gpu in gpus}
    for count, holder in zip(counts, jobs):
        first, taken = began(holder)
        assert len(set(taken)) == count
        last = goes(holder)
        for gpu in taken:
            spans[gpu].append((first, last))
    for held in spans.values():
        held.sort()
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(held))
    assert sum(map(len, spans.values())) == sum(counts)


def test_a_killed_job_frees_its_gpus_at_once_and_who_waits_says_for_what(gpus: list[str]) -> None:
    holder = job(2, 60)
    began(holder)
    waiting = job(1, 0)
    assert waiting.stderr is not None
    line = waiting.stderr.readline()
    assert line.startswith("waiting for 1 of 2 GPUs; other jobs have GPU-a1")
    assert f"(process {holder.pid})" in line
    killed = time.monotonic()
    holder.send_signal(signal.SIGKILL)
    assert began(waiting)[0] - killed < 20
    holder.communicate()
    waiting.communicate()


def test_a_job_that_waits_can_be_interrupted(gpus: list[str]) -> None:
    holder = job(2, 60)
    began(holder)
    command = [
        sys.executable,
        "-c",
        "from stpp.commands.cli import main; import os, sys, stpp.commands.cli_results, stpp.runtime.lease\n"
        "from stpp.runtime.lease import lease\n",
    ]
    # What a shell runs in the background ignores SIGINT, and so would this.
    command[-1] += "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command[-1] += "from pathlib import Path; stpp.runtime.lease.PLACE = Path(os.environ['PLACE'])\n"
    command[-1] += "stpp.commands.cli_results._plan = lambda options: lease(1, 'cuda')\nsys.exit(main(['plan', 'x']))"
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert waiting.stderr is not None
    assert "waiting" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=60)
    holder.kill()
    holder.communicate()
    assert waiting.returncode == 128 + signal.SIGINT
    assert said == ""


def test_leases_are_inert_under_a_scheduler(gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    holder = job(2, 60)
    began(holder)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert lease(1, "auto") == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    holder.kill()
    holder.communicate()


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ("1", ["GPU-b2"]),
        ("1,0", ["GPU-b2", "GPU-a1"]),
        ("GPU-b", ["GPU-b2"]),
        ("0,-1,1", ["GPU-a1"]),
        ("", []),
    ],
)
def test_a_users_own_choice_limits_that_of_the_lease(
    gpus: list[str], monkeypatch: pytest.MonkeyPatch, allowed: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert visible_devices() == expected
    if expected:
        assert lease(1, "auto") == "cuda"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected[0]
    else:
        assert lease(1, "auto") == "cpu"


def test_the_parts_of_a_divided_gpu_count_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = "".join(f"  MIG 3g.40gb     Device  {i}: (UUID: MIG-{i})\n" for i in range(2))
    listing = f"GPU 0: A (UUID: GPU-a)\n{parts}GPU 1: A (UUID: GPU-b)\n"
    pretend(tmp_path, monkeypatch, listing)
    assert visible_devices() == ["MIG-0", "MIG-1", "GPU-b"]


def test_the_cpu_needs_no_lease(gpus: list[str], tmp_path: Path) -> None:
    assert lease(0, "auto") == lease(1, "cpu") == "cpu"
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_more_gpus_than_there_are_and_contradictions_are_refused(gpus: list[str]) -> None:
    with pytest.raises(StppError, match="3 GPUs are asked for, but this job sees 2"):
        lease(3, "auto")
    with pytest.raises(StppError, match="set one"):
        lease(0, "cuda")


def test_a_process_that_has_a_gpu_does_not_wait_for_itself(gpus: list[str]) -> None:
    assert lease(1, "auto") == lease(1, "auto") == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-a1"


def test_without_the_tool_that_lists_gpus_pytorch_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert lease(1, "auto") == "auto"
    assert lease(1, "cuda") == "cuda"


@pytest.mark.parametrize("driver", [True, False])
def test_its_absence_is_told_where_there_is_a_driver(
    driver: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("stpp.runtime.lease.visible_devices", lambda: None)
    monkeypatch.setattr("stpp.runtime.lease.say_once", said.append)
    monkeypatch.setattr("stpp.runtime.lease.DRIVER", tmp_path if driver else tmp_path / "none")
    assert lease(1, "auto") == "auto"
    assert len(said) == driver


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_only_trainings_take_several(command: str) -> None:
    with pytest.raises(SystemExit):
        main([command, "folder", "--gpus", "2"])


def test_looking_for_gpus_does_not_import_torch(gpus: list[str]) -> None:
    code = "import os, sys, stpp.runtime.lease; from pathlib import Path\n"
    code += "stpp.runtime.lease.PLACE = Path(os.environ['PLACE']); stpp.runtime.lease.lease(1, 'auto')\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- the folder of the locks ------------------------------------------------------------------------------------------


def folder_in(place: Path) -> Path:
    return place / f"stpp-gpus-{os.getuid()}"


def test_sessions_of_other_surroundings_share_the_locks(
    gpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tmp_path == stpp.runtime.lease.PLACE
    holder = job(1, 60)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    other = job(1, 60)
    assert sorted(began(holder)[1] + began(other)[1]) == gpus
    for one in (holder, other):
        one.kill()
        one.communicate()
    assert stat.S_IMODE(folder_in(tmp_path).stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["door", "GPU-a1"])
def test_a_link_in_place_of_a_lock_is_not_followed(gpus: list[str], tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder_in(tmp_path).mkdir(mode=0o700)
    (folder_in(tmp_path) / name).symlink_to(victim)
    with pytest.raises(OSError, match=name):
        lease(1, "auto")
    assert victim.read_text() == "precious"


def test_a_folder_that_others_can_write_to_is_refused(gpus: list[str], tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "door").symlink_to(tmp_path / "made")
    with pytest.raises(StppError, match=f"{folder}, .* is open to other users; remove it"):
        lease(1, "auto")
    assert not (tmp_path / "made").exists()
    (folder / "door").unlink()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(StppError, match=f"{folder}, .* is a link; remove it"):
        lease(1, "auto")
    folder.unlink()
    folder.write_text("")
    with pytest.raises(StppError, match=f"{folder}, .* cannot be used"):
        lease(1, "auto")


def test_a_folder_of_another_user_is_refused(gpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.getuid() + 1
    monkeypatch.setattr("os.getuid", lambda: user)
    folder_in(tmp_path).mkdir(mode=0o700)
    with pytest.raises(StppError, match=r"belongs to another user; .* removed by its owner or an administrator"):
        lease(1, "auto")


def test_where_there_are_no_file_locks_gpus_are_not_shared(gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", lacking)
    with pytest.raises(StppError, match=r"has no locks .*No locks available"):
        lease(1, "auto")


def test_parts_of_a_divided_gpu_may_have_slashes_in_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = "GPU 0: A (UUID: GPU-a)\n  MIG 3g.20gb Device 0: (UUID: MIG-GPU-a/1/0)\n"
    pretend(tmp_path, monkeypatch, listing)
    assert lease(1, "auto") == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-GPU-a/1/0"
