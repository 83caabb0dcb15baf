"""The pages of the documentation, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from runs import PROJECT as ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "config/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
PROGRAMS = {
    *("stpp", "snakemake", "make", "python", "python3", "pip", "torchrun", "tensorboard", "snakedeploy"),
    *("sbatch", "srun", "sinfo", "squeue", "sacct", "scontrol", "scancel", "nvidia-smi", "tmux", "watch"),
    *("ls", "cp", "mv", "rm", "ln", "mkdir", "cat", "head", "tail", "cd", "source", "kill", "ssh", "scp", "rsync"),
    *("git", "curl", "wget", "tar", "unzip", "conda", "mamba", "apt", "apt-get", "sudo", "docker", "npm"),
}
"""A line or a piece of code that begins with one of these, or with a program of `.venv/bin/`, is a command."""


BLOCK = re.compile(r"^(?: {4}.*|```.*\n(?:.*\n)*?```)$", re.MULTILINE)
"""Lines of code."""


def commands(page: Path) -> Iterator[str]:
    """The commands of a page as they are typed, without comments: lines of code blocks, and `code` of several words.

    What has `...` in it stands for something else. Of `watch 'COMMAND'`, which never ends, it is COMMAND.
    """
    text = page.read_text()
    lines = [line.strip() for block in BLOCK.findall(text) for line in block.splitlines()]
    inline = re.findall(r"`([^`]+)`", BLOCK.sub("", text)) + [code for line in lines for code in line.split("`")[1::2]]
    for code in lines + [" ".join(code.split()) for code in inline]:
        program, _, more = code.removeprefix("$ ").partition(" ")
        if more and "..." not in more and (program in PROGRAMS or program.startswith(".venv/bin/")):
            yield shlex.split(code)[1] if program == "watch" else re.sub(r"\s+# .*", "", code.removeprefix("$ "))


ALL = list(dict.fromkeys(command for page in PAGES for command in commands(page)))
"""Every command of the documentation."""
ON_A_CLUSTER = [
    "snakemake --workflow-profile profiles/ours --configfile my.yaml",
    "snakemake teacher --workflow-profile profiles/ours --configfile my.yaml",
    "stpp run my.yaml --slurm profiles/ours",
    "stpp run my.yaml teacher --slurm profiles/ours",
    "scancel --name ID",
    "sinfo -o '%P %l %m %G %f'",
    "squeue --me",
]
"""What cluster.py runs."""
OF_CONTAINERS = ["docker run --shm-size 8g", "docker run --user 12345"]
"""Beginnings of a command, named for one of its options."""


def program_of(command: str) -> str:
    """The program that a command calls; `sh` where it takes a shell to understand it."""
    return "sh" if "|" in command else command.split()[0].removeprefix(".venv/bin/")


def of(*programs: str) -> list[str]:
    """The commands of some programs, but for pipes."""
    return [command for command in ALL if program_of(command) in programs]


def output(page: Path, first: str) -> list[str]:
    """The block of code of a page whose first line begins with the pattern `first`; `...` stands for lines left out."""
    (block,) = re.finditer(rf"^    {first}.*\n(?:(?:    .*)?\n)*", page.read_text(), re.MULTILINE)
    return [line.removeprefix("    ") for line in block[0].rstrip("\n").split("\n")]
