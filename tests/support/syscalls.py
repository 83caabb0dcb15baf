"""A process whose file operations are counted and disturbed, seen from outside: where it calls the kernel.

So nothing is missed: not what a library in C writes, nor a thread, nor a process that it starts. A seccomp filter stops
the process at the calls of CALLS alone, and this one, which traces it, decides what becomes of each. Linux on x86-64.
"""

import ctypes
import errno
import os
import platform
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

# What ends in "at" takes a folder's descriptor before a path. The number is the argument with the descriptor or path.
CALLS = {
    1: ("write", 0),
    2: ("open", 0),
    18: ("write", 0),  # pwrite64
    20: ("write", 0),  # writev
    40: ("write", 0),  # sendfile
    74: ("fsync", 0),
    75: ("fsync", 0),  # fdatasync
    76: ("truncate", 0),
    77: ("truncate", 0),  # ftruncate
    82: ("rename", 1),
    83: ("mkdir", 0),
    84: ("remove", 0),  # rmdir
    85: ("open", 0),  # creat
    86: ("link", 1),
    87: ("remove", 0),  # unlink
    88: ("link", 1),  # symlink
    257: ("open", 1),  # openat
    258: ("mkdir", 1),  # mkdirat
    263: ("remove", 1),  # unlinkat
    264: ("rename", 3),  # renameat
    265: ("link", 3),  # linkat
    266: ("link", 2),  # symlinkat
    280: ("touch", 1),  # utimensat
    285: ("write", 0),  # fallocate
    296: ("write", 0),  # pwritev
    316: ("rename", 3),  # renameat2
    326: ("write", 2),  # copy_file_range
    328: ("write", 0),  # pwritev2
}
"""By the number of the call: what it does, and which argument says to what."""
DESCRIPTORS = {1, 18, 20, 40, 74, 75, 77, 285, 296, 326, 328}
BELOW = {257, 258, 263, 264, 265, 266, 280, 316}
"""Calls whose argument before the path is the descriptor of the folder that it starts from."""
LENGTHS = {1: "rdx", 18: "rdx", 40: "r10", 326: "r8"}
"""Where the number of bytes to write stands."""
OPENAT, CREATES = 257, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_RDWR

FILLS = ("open", "write", "mkdir", "link")
"""What a full disk refuses."""
MODES = ("kill before", "kill after", "half", "power", "EIO", "ENOSPC")
"""What may become of an operation.

SIGKILL before or after it, or after half of its bytes are written; the machine loses its power after it, and with it
all bytes that were not synced; it fails with EIO; or the disk is full from there on, and takes half of its bytes.
"""


def modes_of(kind: str) -> list[str]:
    """The modes that make sense for a kind of operation."""
    senseless = {"half"} if kind != "write" else set()
    senseless |= {"ENOSPC"} if kind in ("remove", "touch", "truncate") else set()
    return [mode for mode in MODES if mode not in senseless]


@dataclass
class Trace:
    """What a process did: its exit code, or minus the signal that ended it, and its operations, each kind and path."""

    code: int = 0
    operations: list[tuple[str, str]] = field(default_factory=list)
    hangs: bool = False
    _unsynced: set[int] = field(default_factory=set)


class _Registers(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_ulong)
        for name in (
            *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
            *("orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
        )
    ]


ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
_TRACEME, _CONTINUE, _GETREGS, _SETREGS, _SYSCALL, _SETOPTIONS = 0, 7, 12, 13, 24, 0x4200
# Follow forks, vforks and threads; stop at the filter's calls; the traced die with the tracer.
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x80 | 0x100000
_SECCOMP_STOP, _EXIT_STOP, _ALL = signal.SIGTRAP | 7 << 8, signal.SIGTRAP | 0x80, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def works_here() -> bool:
    """Whether processes can be traced so."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def run(work: Callable[[], int], root: Path, mode: str = "", at: int = -1, seconds: int = 120) -> Trace:
    """Run `work` in a fork of this process; its operation `at` (from 0) on files below `root` fares as `mode` says.

    The fork ends with the exit code that `work` returns. Without a mode, nothing is disturbed. After `seconds` the fork
    is killed. Raises RuntimeError if this process has other children, for whose end it would wait.
    """
    with suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        raise RuntimeError("this process has other children; trace from a new process")
    process = os.fork()
    if not process:
        _obey(work)
    os.waitpid(process, 0)
    _ptrace(_SETOPTIONS, process, _OPTIONS)
    trace = Trace()
    with _killed_after(seconds, process, trace):
        _ptrace(_CONTINUE, process)
        _follow(process, os.path.realpath(root), mode, at, trace)
    if mode == "power" and trace.code == -signal.SIGKILL:
        _lose(root, trace._unsynced)
    return trace


def _obey(work: Callable[[], int]) -> None:
    code = 70
    try:
        _ptrace(_TRACEME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        _filter()
        code = work()
    finally:
        os._exit(code)


def _filter() -> None:
    """Let the kernel stop this process at the calls of CALLS, once they are traced."""
    trace, allow = 0x7FF00000, 0x7FFF0000
    lines = [(0x20, 0, 0, 0)]  # load the number of the call
    for left, number in zip(range(len(CALLS), 0, -1), CALLS):
        lines.append((0x15, left, 0, number))  # if it is this one, jump behind the next return
    lines += [(0x06, 0, 0, allow), (0x06, 0, 0, trace)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    header = ctypes.create_string_buffer(struct.pack("HP", len(lines), ctypes.addressof(program)))
    if _libc.prctl(38, 1, 0, 0, 0) or _libc.prctl(22, 2, header, 0, 0):
        raise OSError(ctypes.get_errno(), "no seccomp filter")


def _follow(process: int, root: str, mode: str, at: int, trace: Trace) -> None:
    """Decide about each operation of `process`, of its threads and of its children, until all have ended."""
    while True:
        try:
            thread, status = os.waitpid(-1, _ALL)
        except ChildProcessError:
            return
        if os.WIFSIGNALED(status) or os.WIFEXITED(status):
            if thread == process:
                trace.code = os.waitstatus_to_exitcode(status)
            continue
        stop = status >> 8
        how, given = _CONTINUE, 0
        if stop == _SECCOMP_STOP:
            how = _decide(thread, process, root, mode, at, trace)
        elif stop == _EXIT_STOP:  # of the call that was to be the last one
            os.kill(process, signal.SIGKILL)
        elif stop >> 8 == 0 and stop not in (signal.SIGSTOP, signal.SIGTRAP):
            given = stop
        try:
            _ptrace(how, thread, given)
        except ProcessLookupError:
            continue  # it was killed


def _decide(thread: int, process: int, root: str, mode: str, at: int, trace: Trace) -> int:
    """Count the call at which a thread stands, and change it if it is the one; returns how the thread goes on."""
    registers = _Registers()
    _ptrace(_GETREGS, thread, 0, registers)
    number = registers.orig_rax
    kind, argument = CALLS[number]
    path = _path(thread, number, argument, registers)
    if path is None or not f"{path}/".startswith(f"{root}/"):
        return _CONTINUE
    now = len(trace.operations)
    trace.operations.append((kind, os.path.relpath(path, root)))
    _remember(kind, thread, registers, argument, path, trace)
    if mode == "ENOSPC" and now > at >= 0 and kind in FILLS:
        return _fail(thread, registers, errno.ENOSPC)
    if now != at:
        return _CONTINUE
    if mode == "kill before":
        os.kill(process, signal.SIGKILL)
        return _CONTINUE
    half = getattr(registers, LENGTHS[number]) // 2 if number in LENGTHS else 0
    if mode == "EIO" or (mode == "ENOSPC" and not half):
        return _fail(thread, registers, getattr(errno, mode))
    if mode in ("half", "ENOSPC") and half:
        setattr(registers, LENGTHS[number], half)
        _ptrace(_SETREGS, thread, 0, registers)
    return _CONTINUE if mode == "ENOSPC" else _SYSCALL


def _fail(thread: int, registers: _Registers, number: int) -> int:
    """Let the call fail without being made."""
    registers.orig_rax = ctypes.c_ulong(-1).value
    registers.rax = ctypes.c_ulong(-number).value
    _ptrace(_SETREGS, thread, 0, registers)
    return _CONTINUE


def _path(thread: int, number: int, argument: int, registers: _Registers) -> str | None:
    """The file or folder that a call changes; None for a file that it only opens to read, or a pipe."""
    value = getattr(registers, ARGUMENTS[argument])
    flags = registers.rdx if number == OPENAT else registers.rsi
    if CALLS[number][0] == "open" and number != 85 and not flags & CREATES:
        return None
    try:
        if number in DESCRIPTORS:
            return _link(thread, f"fd/{value}")
        folder = "cwd"
        if number in BELOW:
            descriptor = ctypes.c_int(getattr(registers, ARGUMENTS[argument - 1]) & 0xFFFFFFFF).value
            folder = "cwd" if descriptor == -100 else f"fd/{descriptor}"
            if not value:  # the file of the descriptor itself
                return _link(thread, folder)
        return os.path.normpath(Path(_link(thread, folder), _text(thread, value)))
    except OSError:
        return None


def _link(thread: int, name: str) -> str:
    """What the kernel says that a descriptor, or the working directory, of a traced process is."""
    return str(Path(f"/proc/{thread}/{name}").readlink())


def _text(thread: int, address: int) -> str:
    """The string at an address of a traced process."""
    content = b""
    with Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
        while b"\0" not in content:
            memory.seek(address + len(content))
            content += memory.read(256 - (address + len(content)) % 256)
    return os.fsdecode(content.partition(b"\0")[0])


def _remember(kind: str, thread: int, registers: _Registers, argument: int, path: str, trace: Trace) -> None:
    """Keep account of the files whose bytes are not on the disk."""
    if kind in ("write", "fsync"):
        inode = Path(f"/proc/{thread}/fd/{getattr(registers, ARGUMENTS[argument])}").stat().st_ino
        (trace._unsynced.add if kind == "write" else trace._unsynced.discard)(inode)


def _lose(root: Path, unsynced: set[int]) -> None:
    """Empty the files whose bytes were not synced, as a power cut may."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink() and path.stat().st_ino in unsynced:
                os.truncate(path, 0)


@contextmanager
def _killed_after(seconds: int, process: int, trace: Trace) -> Iterator[None]:
    def kill(number: int, frame: object) -> None:
        trace.hangs = True
        os.kill(process, signal.SIGKILL)

    before = signal.signal(signal.SIGALRM, kill)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _ptrace(request: int, process: int, data: int = 0, registers: _Registers | None = None) -> None:
    where = ctypes.byref(registers) if registers is not None else data
    if _libc.ptrace(request, process, None, where) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
