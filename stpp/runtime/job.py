"""A stage at run time: the folder that holds its recipe, and what its command reads from and writes to it."""

import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.files import remove_leftovers, replacing, sha256, write_text
from stpp.common.registry import PACKAGE
from stpp.data.manifest import Row, fingerprint, manifest_path, read_manifest
from stpp.plan.code import code_identity
from stpp.plan.identity import identity_of
from stpp.plan.recipe import read_recipe
from stpp.plan.staleness import Staleness, checksum_in, record_in, remedy
from stpp.runtime.lock import hold_when_free
from stpp.runtime.progress import spent


@dataclass(frozen=True)
class Runtime:
    """Speed settings of a job; no result depends on them, except on `threads` and `compile` in the last bits.

    `device` is "auto", "cpu" or "cuda"; `gpus` are taken, none means the CPU, and several that a training is spread
    over so many processes, GPUs or not. `threads` and `workers` are each process's. Unfinished work is saved every
    `save_minutes`.
    """

    device: str = "auto"
    gpus: int = 1
    threads: int = 1
    workers: int = 0
    cache: int = 4000
    compile: bool = False
    shard: int = 0
    shards: int = 1
    save_minutes: float = 5.0


class Job:
    """The stage in `folder`, which the workflow or `stpp plan --recipes` has given a recipe.

    Raises StppError if there is no recipe, if it is for another command, or if the code changed since it was planned.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.started = time.time()
        recipe = read_recipe(folder / disk.RECIPE)
        if recipe["stage"] != kind:
            raise StppError(f"{folder} holds a stage for `stpp {recipe['stage']}`, not for `stpp {kind}`; run that one")
        code = code_identity(kind, recipe["components"])
        if recipe["code"] != code:
            raise StppError(
                f"the code of `stpp {kind}` changed since {folder} was planned ({recipe['code']} then, "
                f"{code} now); run the workflow again, it plans a new stage"
            )
        if recipe["identity"] != identity_of(recipe):
            raise StppError(
                f"{folder / disk.RECIPE} was changed after it was written: its identity is not that of its content. "
                "Change the configuration instead; remove that file and run the workflow again"
            )
        self.recipe: Mapping[str, Any] = recipe
        self.settings: Mapping[str, Any] = recipe["settings"]
        self.unfinished = folder / disk.UNFINISHED
        self._before = spent(self.unfinished)
        self.events = self._results / disk.LOGS / disk.TENSORBOARD / folder.name
        self.warnings: list[str] = []
        self.read: dict[str, str] = {}
        """The checksums of the artifacts that were read so far, by their paths below the stages' folder."""
        self._staleness = Staleness(cache(partial(record_in, self._results / disk.STAGES)))

    def rows(self, subset: str) -> list[Row]:
        """The manifest of a subset that the stage reads. StppError if it is none, or not the one that was planned."""
        digest = self.recipe["manifests"].get(subset)
        if digest is None:
            raise StppError(
                f"{self.folder / disk.RECIPE} does not say which manifest lists the {subset} images, because an "
                "earlier version wrote it; run the workflow again, which writes it anew"
            )
        path = manifest_path(self._results, subset, digest)
        rows = read_manifest(path, digest)
        if any(row.subset != subset for row in rows) or fingerprint(rows) != self.recipe["data"][subset]:
            raise StppError(
                f"{path} does not list the {subset} images that {self.folder} was planned for: their fingerprint is "
                f"{fingerprint(rows)[:16]}, expected {self.recipe['data'][subset][:16]}; remove "
                f"{self.folder / disk.RECIPE} and run the workflow again"
            )
        return rows

    def input(self, name: str) -> Path:
        """Path of the artifact `name` of an earlier stage.

        StppError if its bytes are not those that were written, or if that stage is stale.
        """
        return self._reading(self.recipe["inputs"][name])

    def inputs(self, name: str) -> list[Path]:
        """Paths of the artifacts `name` of earlier stages, each as `input` gives it; empty if there are none."""
        return [self._reading(path) for path in self.recipe["inputs"].get(name, [])]

    @property
    def basis(self) -> str:
        """What unfinished work is made from: the stage's identity, and what it has read of other stages, if anything.

        Work that was begun on other bytes is not gone on with.
        """
        read = hashlib.sha256(json.dumps(self.read, sort_keys=True).encode()).hexdigest()
        return f"{self.recipe['identity']} {read}" if self.read else str(self.recipe["identity"])

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """A temporary path that becomes the artifact `name` when the block ends well."""
        return replacing(self.folder / name)

    @contextmanager
    def held(self, part: str = "") -> Iterator[bool]:
        """Keep all other processes away from the stage, or from its file `part` where several jobs share the stage.

        Waits until no other process has it: of two jobs of one stage, one is left over from a workflow that was killed.
        The value is whether that other process has made what this one is to make.
        """
        # Where the stages' folder is a link, all that use it meet in the same place.
        real = self.folder.resolve()
        folder = real if real.parent.name == self.recipe["stage"] else self.folder.absolute()
        mark, waited = hold_when_free(folder.parents[1], str((folder / part).relative_to(folder.parents[1])))
        with mark:
            read_recipe(self.folder / disk.RECIPE)  # the stage may have been removed meanwhile
            yield waited and self._made(part)

    def _made(self, part: str) -> bool:
        if part:
            return (self.folder / part).exists()
        try:
            for name in self.recipe["outputs"]:
                verified(self.folder / name)
        except StppError:
            return False
        return True

    def warn(self, text: str) -> None:
        """Say something that makes the result doubtful: in the log, in `stage.json`, and from there in the report."""
        self.warnings.append(text)
        print(f"warning: {text}", file=sys.stderr)

    def took(self, record: Mapping[str, Any]) -> None:
        """Count the time of a part of the stage that an earlier process made, and of which it left this `record`."""
        self._before = {key: seconds + record[key] for key, seconds in self._before.items()}

    def finish(self, **facts: Any) -> None:
        """Write `stage.json`: the recipe, where and how long the stage ran, warnings, and the artifacts' checksums.

        It ran as long as all processes that worked on it, also those that were stopped, and those of its shards.
        `facts` are further JSON values worth knowing, such as the device. Unfinished work is removed.
        """
        outputs = [name for name in self.recipe["outputs"] if name != disk.RECORD]
        record = {
            **self.recipe,
            **facts,
            "started": datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds"),
            "seconds": round(self._before["seconds"] + time.time() - self.started, 3),
            "cpu_seconds": round(self._before["cpu_seconds"] + sum(os.times()[:4]), 3),
            "peak_memory_mb": _peak_memory(),
            "host": platform.node(),
            "warnings": self.warnings,
            "versions": _versions(),
            "commit": _commit(),
            "read": self.read,
            "sha256": {name: sha256(self.folder / name) for name in outputs},
        }
        write_text(self.folder / disk.RECORD, json.dumps(record, indent=1) + "\n")
        shutil.rmtree(self.unfinished, ignore_errors=True)
        remove_leftovers(self.folder)

    @property
    def _results(self) -> Path:
        return self.folder.parent.parent.parent

    def _reading(self, path: str) -> Path:
        """The artifact at `path` below the stages' folder, whose checksum is remembered."""
        stages = self._results / disk.STAGES
        self.read[path] = checksum(stages / path)
        folder = path.rpartition("/")[0]
        if reason := self._staleness.reason(folder):
            raise StppError(
                f"{stages / folder} is stale: {reason}. Run the workflow again after "
                f"`{remedy(stages, self._staleness.chain(folder))}`; `stpp plan` and `stpp verify` name all such stages"
            )
        return stages / path


def verified(path: Path) -> Path:
    """`path`, an artifact of a finished stage; StppError if it is missing or its bytes are not those that were written.

    They are compared with the checksum in the `stage.json` beside it, which is made last.
    """
    checksum(path)
    return path


def checksum(path: Path) -> str:
    """The checksum of a `verified` artifact, as `checksum_in` gives it."""
    folder = path.parent
    rebuild = f"remove it and run the workflow again, or `stpp {folder.parent.name} {folder}`, which makes it anew"
    record = folder / disk.RECORD
    if not path.is_file():
        found = "is no file" if path.exists() else "does not exist"
        raise StppError(f"{path} {found}; {rebuild.partition(' and ')[2]}")
    try:
        content = json.loads(record.read_text())
        if not all(isinstance(warning, str) for warning in content["warnings"]):
            raise TypeError("warnings that are no text")
        expected = checksum_in(content, path.name)
    except FileNotFoundError:
        raise StppError(f"{path} cannot be trusted, because {record} does not exist; {rebuild}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StppError(f"{record} is damaged ({type(error).__name__}: {error}); {rebuild}") from None
    if path != record and sha256(path) != expected:
        raise StppError(f"{path} is damaged: its SHA-256 is not the one in {record}; {rebuild}")
    return expected


def _peak_memory() -> int:
    """The most main memory, in MB, that this process held at one time, or one of its children that have ended."""
    kilobytes = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(max(kilobytes) / 1024)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("stpp", "torch", "torchvision", "timm", "numpy", "pillow", "h5py", "pandas"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _commit() -> str | None:
    """The commit of the code, where it runs from a git checkout of its own; not that of a repository around it."""
    # Variables such as GIT_DIR would have git look elsewhere.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(PACKAGE), "rev-parse", "--show-prefix", "HEAD", "HEAD:./runtime/job.py"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    prefix, commit, *_ = [*done.stdout.splitlines(), "", ""]
    return commit if done.returncode == 0 and prefix == f"{PACKAGE.name}/" else None
