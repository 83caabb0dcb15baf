"""A stage at run time: the folder that holds its recipe, and what its command reads from and writes to it."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stpp.code import code_identity
from stpp.data.manifest import Row, read_manifest
from stpp.errors import StppError
from stpp.files import replacing, sha256, write_text


@dataclass(frozen=True)
class Runtime:
    """Speed settings of a job; no result depends on them, except on `threads` in the last bits.

    `device` is "auto", "cpu" or "cuda".
    """

    device: str = "auto"
    threads: int = 1
    workers: int = 0
    shard: int = 0
    shards: int = 1


class Stage:
    """The stage in `folder`, which `stpp plan` or the workflow has given a recipe.

    Raises StppError if there is no recipe, if it is for another command, or if the code changed since it was planned.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.started = time.time()
        path = folder / "recipe.json"
        try:
            recipe = json.loads(path.read_text())
        except FileNotFoundError:
            raise StppError(
                f"no stage in {folder}: {path} does not exist; the workflow or `stpp plan` writes it"
            ) from None
        except (OSError, ValueError) as error:
            raise StppError(f"cannot read {path}: {error}; remove it and run the workflow again") from None
        if recipe["stage"] != kind:
            raise StppError(f"{folder} holds a stage for `stpp {recipe['stage']}`, not for `stpp {kind}`")
        if recipe["code"] != code_identity(kind):
            raise StppError(
                f"the code of `stpp {kind}` changed since {folder} was planned ({recipe['code']} then, "
                f"{code_identity(kind)} now); run the workflow again, it plans a new stage"
            )
        self.recipe: Mapping[str, Any] = recipe
        self.settings: Mapping[str, Any] = recipe["settings"]

    def rows(self, subset: str) -> list[Row]:
        """The manifest of a subset that the stage reads."""
        fingerprint = self.recipe["data"][subset]
        return read_manifest(self._results / "data" / f"{subset}-{fingerprint[:8]}.csv")

    def input(self, name: str) -> Path:
        """Path of the artifact `name` of an earlier stage."""
        return self._existing(self._results / "stages" / self.recipe["inputs"][name])

    def inputs(self, name: str) -> list[Path]:
        """Paths of the artifacts `name` of earlier stages; empty if there are none."""
        return [self._existing(self._results / "stages" / path) for path in self.recipe["inputs"].get(name, [])]

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """A temporary path that becomes the artifact `name` when the block ends well."""
        return replacing(self.folder / name)

    def finish(self, **facts: Any) -> None:
        """Write `stage.json`: the recipe, where and how long the stage ran, and the artifacts' checksums.

        `facts` are further JSON values worth knowing, such as the device.
        """
        outputs = [name for name in self.recipe["outputs"] if name != "stage.json"]
        record = {
            **self.recipe,
            **facts,
            "started": datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - self.started, 3),
            "cpu_seconds": round(sum(os.times()[:4]), 3),
            "host": platform.node(),
            "versions": _versions(),
            "commit": _commit(),
            "sha256": {name: sha256(self.folder / name) for name in outputs},
        }
        write_text(self.folder / "stage.json", json.dumps(record, indent=1) + "\n")

    @property
    def _results(self) -> Path:
        return self.folder.parent.parent.parent

    def _existing(self, path: Path) -> Path:
        if not path.exists():
            raise StppError(f"{self.folder} reads {path}, which does not exist; run the workflow, it makes it first")
        return path


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("stpp", "torch", "torchvision", "numpy", "pillow", "h5py", "pandas"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _commit() -> str | None:
    """The commit of the code, where it runs from a git checkout."""
    command = ["git", "-C", str(Path(sys.modules[__name__].__file__ or "").parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
