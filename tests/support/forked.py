"""Commands as processes that are forked from one that has imported what they import.

To start `stpp` or `snakemake` costs seconds of a processor, nearly all of them for imports, and a workflow has dozens
of jobs. A forked process is one of its own all the same, with its command's words, working directory, environment,
streams and exit code. The commands as they are installed make the runs of `test_module.py` and `test_hostile_names.py`,
of `make manual` and of all harnesses.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
IMPORTED = {
    "stpp": (
        *("stpp.commands.cli", "stpp.stages.train", "stpp.stages.predict", "stpp.stages.shards", "stpp.stages.score"),
        *("stpp.stages.select", "stpp.stages.evaluate", "stpp.report.table", "stpp.report.figures", "stpp.report.page"),
        *("torchvision", "torch.utils.tensorboard"),
        *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
    ),
    "snakemake": (
        *("snakemake.cli", "snakemake.workflow", "snakemake.report", "snakemake.scheduling.job_scheduler"),
        *("requests", "jinja2", "smart_open", "platformdirs", "pydantic"),
    ),
}
"""Modules by command. Those of this project that plan are not Snakemake's: the Snakefile says where they lie."""
COMMAND = """\
#!{python} -ISu
import json, os, socket, sys

if {root!r} != os.environ.get("PYTHONPATH", "").split(os.pathsep)[0]:
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])  # other code than what is imported
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b" "], [0, 1, 2])
    server.sendall(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    code = int(server.makefile().read())
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
"""A program that has the server run it, and ends as what was run did."""


@contextmanager
def commands() -> Iterator[Path]:
    """A folder with programs `stpp` and `snakemake`, for a PATH, that start at once; and the Python of this process."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder / "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        servers = []
        for name in IMPORTED:
            real, address = str(Path(sys.executable).parent / name), str(folder / f"{name}.socket")
            text = COMMAND.format(python=sys.executable, root=str(ROOT), real=real, address=address)
            write(folder / name, text)
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(address)
                listening.listen(100)
                command = [sys.executable, "-P", __file__, name, str(number := listening.fileno())]
                server = subprocess.Popen(command, env=environment(), pass_fds=[number], process_group=0)
                servers.append(server)
        try:
            yield folder
        finally:
            for server in servers:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def environment() -> dict[str, str]:
    """This process's, with this project's code and one thread."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def write(path: Path, text: str) -> None:
    """A program."""
    path.write_text(text)
    path.chmod(0o755)


def forget(*_: object) -> None:
    """Let go of the processes that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def serve(listening: socket.socket) -> None:
    """Fork a process for each call. Returns in that process, when it has become the one that was called.

    Ends soon after the process that started this one, also where that was killed.
    """
    signal.signal(signal.SIGCHLD, forget)
    parent = os.getppid()
    while True:
        called, _, _ = select.select([listening], [], [], 5)
        if os.getppid() != parent:
            os._exit(0)
        if not called:
            continue
        call, _ = listening.accept()
        with call:
            if os.fork():
                continue
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            _, streams, _, _ = socket.recv_fds(call, 1, 3)
            sys.argv, folder, variables = json.loads(call.makefile("rb").read())
            if process := os.fork():
                for stream in streams:
                    os.close(stream)
                _, status = os.waitpid(process, 0)
                call.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                os._exit(0)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        # As Python opens them at its start: what they were may have been a file, where a pipe is now.
        sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
        sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        return


def ended(command: str) -> int:
    """The exit code of a command when all that it leaves for its end is done."""
    try:
        code = import_module(f"{'stpp.commands' if command == 'stpp' else command}.cli").main()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    command, number = sys.argv[1:]
    for module in IMPORTED[command]:
        with suppress(ImportError):  # what is optional
            import_module(module)
    if command == "stpp":
        import_module("stpp.data.strong").hue_tables()  # which a process computes once
    gc.freeze()
    serve(socket.socket(fileno=int(number)))
    if command == "snakemake":
        # The rules let jobs take the programs that lie beside the Python that runs them.
        sys.executable = str(Path(sys.argv[0]).with_name("python"))
    os._exit(ended(command))  # without tidying up what was imported
