"""Pin what is installed: writes the requirements files and environment.yaml from pyproject.toml.

Pinned are the dependencies that pyproject.toml names and all that these need. Each pin of a requirements file carries
the SHA-256 of every file of that version for Linux that pip's index offers, whatever the Python and the processor, so
that pip installs nothing else (`--require-hashes`). A pin that stands keeps its hashes: the index is asked for new ones
alone. requirements-build.txt is what builds the project, and others that come as source.
"""

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version
from pip._internal.commands import create_command
from pip._internal.index.collector import LinkCollector, parse_links
from pip._internal.models.link import Link

HERE = Path(__file__).parent
ACCELERATOR = ("nvidia-", "cuda-", "triton")
"""How the names of packages begin that torch needs on Linux alone, where it is built for GPUs."""
CONTINUED, FOLDED = " \\\n    ", "\n        "
"""How an entry goes on in the next line of a requirements file, and of a list in YAML."""


def closure(requirements: list[str]) -> dict[str, str]:
    """Name -> version of the installed packages that `requirements` lead to, sorted."""
    waiting = [Requirement(text) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    found = {}
    while waiting:
        wanted = waiting.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        installed = distribution(key[0])
        found[key[0]] = installed.version.partition("+")[0]
        for text in installed.requires or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in {"", *wanted.extras}):
                waiting.append(needed)
    return dict(sorted(found.items()))


def hashes(pins: Mapping[str, str]) -> dict[str, list[str]]:
    """Name -> SHA-256 (hex), sorted, of the files of each pin that pip's index offers for Linux, or offered."""
    known = recorded()
    command = create_command("download")
    options, _ = command.parse_args([])
    with command.main_context():
        collector = LinkCollector.create(command.get_default_session(options), options=options)
        return {
            name: known.get(f"{name}=={version}") or sorted(set(_digests(collector, name, Version(version))))
            for name, version in pins.items()
        }


def recorded() -> dict[str, list[str]]:
    """`name==version` -> SHA-256 (hex) in the requirements files as they are."""
    entries = [
        entry.split()
        for path in HERE.glob("requirements*.txt")
        for entry in path.read_text().replace("\\\n", " ").splitlines()
    ]
    return {
        pin: [word.removeprefix("--hash=sha256:") for word in words if word.startswith("--hash=")]
        for pin, *words in entries
    }


def _digests(collector: LinkCollector, name: str, version: Version) -> Iterator[str]:
    for address in collector.search_scope.get_index_urls_locations(name):
        page = collector.fetch_response(Link(address))
        for link in parse_links(page) if page is not None else ():
            if _is_meant(link.filename, version) and link.hash_name == "sha256":
                yield str(link.hash)


def _is_meant(file: str, version: Version) -> bool:
    """Whether a file is of this version, and for Linux or for any system."""
    try:
        if not file.endswith(".whl"):
            return parse_sdist_filename(file)[1] == version
        _, found, _, tags = parse_wheel_filename(file)
    except ValueError:  # an egg, an installer, a name of old
        return False
    return found == version and any(tag.platform == "any" or "linux" in tag.platform for tag in tags)


def lines(pins: Mapping[str, str], digests: Mapping[str, list[str]]) -> Iterable[str]:
    """A requirements file. Raises SystemExit where the index has no file of a pin."""
    for name, version in pins.items():
        if not digests[name]:
            sys.exit(f"pip's index has no file of {name} {version}; install another version, and lock that")
        marker = ' ; platform_system == "Linux"' if name.startswith(ACCELERATOR) else ""
        yield f"{name}=={version}{marker}" + "".join(f"{CONTINUED}--hash=sha256:{digest}" for digest in digests[name])


def main() -> None:
    """Write the files."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    needed, extras = (project["project"][key] for key in ("dependencies", "optional-dependencies"))
    runtime = closure(needed)
    everything = closure([*needed, *(requirement for extra in extras.values() for requirement in extra)])
    build = closure(project["build-system"]["requires"])
    digests = hashes(everything | build)
    for name, pins in {"": runtime, "-dev": everything, "-build": build}.items():
        (HERE / f"requirements{name}.txt").write_text("\n".join(lines(pins, digests)) + "\n")
    # conda hands its list to pip as it stands, so the entries are those of a requirements file.
    entries = "".join(f"      - {line.replace(CONTINUED, FOLDED)}\n" for line in lines(runtime, digests))
    (HERE / "environment.yaml").write_text(
        "# For `snakemake --sdm conda`. Not tried yet with conda; pip takes these pins, with their hashes.\n"
        "channels:\n  - conda-forge\n  - nodefaults\n"
        f"dependencies:\n  - python={sys.version_info.major}.{sys.version_info.minor}\n  - pip\n  - pip:\n{entries}"
    )


if __name__ == "__main__":
    main()
