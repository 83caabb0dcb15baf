"""Pin what is installed: writes requirements.txt, requirements-dev.txt and environment.yaml from pyproject.toml.

Pinned are the dependencies that pyproject.toml names and all that these need, except what belongs to torch's build for
one kind of accelerator: torch pins that itself, and another platform has other packages.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
PLATFORM = re.compile(r"nvidia-|cuda-|triton")


def closure(requirements: list[str]) -> Iterator[str]:
    """`name==version` of the installed packages that `requirements` lead to."""
    waiting = [Requirement(text) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen or PLATFORM.match(key[0]):
            continue
        seen.add(key)
        found = distribution(key[0])
        yield f"{key[0]}=={found.version.partition('+')[0]}"
        for text in found.requires or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in {"", *wanted.extras}):
                waiting.append(needed)


def main() -> None:
    """Write the three files."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    runtime = sorted(set(closure(project["dependencies"])))
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    everything = sorted(set(closure(project["dependencies"] + extras)))
    (HERE / "requirements.txt").write_text("\n".join(runtime) + "\n")
    (HERE / "requirements-dev.txt").write_text("\n".join(everything) + "\n")
    pins = "".join(f"      - {pin}\n" for pin in runtime)
    (HERE / "environment.yaml").write_text(
        "# For `snakemake --sdm conda`. Not tried yet: the pins are those that pip was tested with.\n"
        "channels:\n  - conda-forge\n  - nodefaults\n"
        f"dependencies:\n  - python={sys.version_info.major}.{sys.version_info.minor}\n  - pip\n  - pip:\n{pins}"
    )


if __name__ == "__main__":
    main()
