"""`stpp verify`: whether the artifacts of all stages are what was written, and what they were made from what it was.

Nothing is changed. Each fault comes with the command that mends it, together with a run of the workflow.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stpp.commands.status import is_alive
from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.files import sha256
from stpp.common.wording import counted
from stpp.data.manifest import Row, fingerprint, manifest_path, read_manifest
from stpp.plan.identity import identity_of
from stpp.plan.recipe import read_recipe
from stpp.plan.staleness import Record, record_in, remedy, stale
from stpp.runtime.lock import Holder
from stpp.runtime.progress import progress_of
from stpp.store.inventory import NAME
from stpp.store.links import all_links, view_folders


@dataclass(frozen=True)
class Fault:
    """What is wrong with which file, and the command that mends it: the workflow runs after it, or `workflow_first`."""

    what: str
    command: str
    workflow_first: bool = False


@dataclass
class Faults:
    """The faults of a folder of results; `notes` say what could not be compared. `stages` are the finished ones."""

    stages: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(results: Path, workflow: Holder | None = None) -> Faults:
    """Look at every stage below `results`, at what it was made from, and at the links to it, with a bar on stderr.

    `workflow` says which run of the workflow is at work there, None if none is: what it has not finished is no fault.
    Raises StppError if `results` is no folder of results.
    """
    stages = results / disk.STAGES
    if not stages.is_dir():
        raise StppError(f"no results in {results}: expected the folder {stages}; give the setting `results`")
    folders = [str(path.relative_to(stages)) for path in sorted(stages.glob("*/*")) if NAME.fullmatch(path.name)]
    found = Faults()
    records: dict[str, Record] = {}
    for folder in folders:
        if fault := recipe_fault(stages / folder):
            found.faults.append(fault)
            if fault.command == remove(stages / folder):
                continue
        if (stages / folder / disk.RECORD).exists():
            record = record_in(stages, folder)
            if fault := record_fault(stages / folder, record):
                found.faults.append(fault)
            elif record is not None:
                records[folder] = record
    found.stages = len(records)
    if before := sum("read" not in record for record in records.values()):
        found.notes.append(f"{counted(before, 'stage')} of an earlier version did not record what they read")
    listed = manifests(results, records, found)
    with Checksums(stages, records, [row for rows in listed.values() for row in rows]) as checksum:
        for folder, record in records.items():
            found.faults += artifact_faults(stages / folder, record, checksum)
        known = stale(records, records.get)
        found.faults += [
            Fault(f"{stages / folder} is stale: {why}", remedy(stages, [folder])) for folder, why in known.items()
        ]
        data_faults(results, listed, records, checksum, found)
    if workflow:
        found.notes.append(f"a workflow is running ({workflow}), so unfinished files were not checked")
    else:
        found.faults += leftovers(results, folders)
    found.faults += broken_links(results)
    return found


# --- stages -----------------------------------------------------------------------------------------------------------


def recipe_fault(folder: Path) -> Fault | None:
    """A recipe that is there but cannot be read, or is not that of its folder."""
    path = folder / disk.RECIPE
    if not path.exists():  # the workflow writes it when it is needed
        return None
    try:
        recipe = read_recipe(path)
    except StppError:
        return Fault(f"{path} cannot be read as a recipe", remove(path))
    if recipe["identity"] != identity_of(recipe):
        return Fault(f"{path} was changed after it was written: its identity is not that of its content", remove(path))
    if not _belongs(recipe, folder):
        what = f"{folder} has the recipe of another stage, `stpp {recipe['stage']}` {recipe['identity'][:8]}"
        return Fault(what, remove(folder))
    return None


def record_fault(folder: Path, record: Record | None) -> Fault | None:
    """What is wrong with the `stage.json` of a stage, whose content is `record`, if anything."""
    path = folder / disk.RECORD
    if record is None:
        return Fault(f"{path} is damaged", remove(path))
    try:
        parts = [record[part] for part in ("settings", "data", "inputs", "files", "sha256")]
        sound = all(isinstance(part, dict) for part in [*parts, record.get("read", {}), record.get("manifests", {})])
        sound = sound and set(record["sha256"]) == set(record["outputs"]) - {disk.RECORD}
        sound = sound and record["identity"] == identity_of(record) and _belongs(record, folder)
    except (KeyError, TypeError):
        sound = False
    return None if sound else Fault(f"{path} is damaged, or is not that of its folder", remove(path))


def artifact_faults(folder: Path, record: Record, checksum: "Checksums") -> Iterator[Fault]:
    """Artifacts that are missing, or are not those that the stage wrote."""
    for name, expected in record["sha256"].items():
        found = checksum(folder / name)
        if found != expected:
            what = "does not exist" if found is None else "is damaged: its SHA-256 is not the recorded one"
            yield Fault(f"{folder / name} {what}", remove(folder / disk.RECORD))


def _belongs(recipe: Mapping[str, Any], folder: Path) -> bool:
    return recipe["stage"] == folder.parent.name and folder.name.endswith(f"-{recipe['identity'][:8]}")


# --- what they were made from -----------------------------------------------------------------------------------------


def manifests(results: Path, records: Mapping[str, Record], found: Faults) -> dict[Path, list[Row]]:
    """The rows of the manifests that stages were made from; faults and notes go to `found`."""
    listed: dict[Path, list[Row]] = {}
    prints: dict[Path, str] = {}
    gone: set[Path] = set()
    for folder, record in records.items():
        for subset, digest in record.get("manifests", {}).items():
            path = manifest_path(results, subset, digest)
            if path in gone:
                continue
            try:
                if path not in listed and path.exists():
                    listed[path] = read_manifest(path, digest)
                    prints[path] = fingerprint(listed[path])
            except StppError:
                found.faults.append(Fault(f"{path} is damaged: its SHA-256 is not the recorded one", remove(path)))
            if path not in listed:
                gone.add(path)
            elif prints[path] != record["data"].get(subset):
                record_path = results / disk.STAGES / folder / disk.RECORD
                what = f"{record_path} names {path}, but the fingerprint of the {subset} images differs"
                found.faults.append(Fault(what, remove(record_path)))
    if missing := sorted(str(path) for path in gone if not path.exists()):
        found.notes.append(f"no longer there, so the data that it lists were not compared: {', '.join(missing)}")
    return listed


def data_faults(
    results: Path,
    listed: Mapping[Path, Sequence[Row]],
    records: Mapping[str, Record],
    checksum: "Checksums",
    found: Faults,
) -> None:
    """Add files that are not what stages were made from, and a note on those that are gone, to `found`.

    Of unlabeled images and their true masks, whose digests nobody knows, the sizes are compared. The workflow does not
    look at them again as long as their index is there.
    """
    indexes = indexes_by_manifest(results)
    expected: dict[tuple[str, str | int], Path | None] = {}  # with the index that is in the way of another look
    for manifest, rows in listed.items():
        for row in rows:
            index = None if row.sha256 else indexes.get(manifest.name)
            expected[row.image, row.sha256 or row.bytes] = index
            if row.mask is not None:
                expected[row.mask, row.mask_sha256 or row.mask_bytes] = index
    for record in records.values():
        settings = record["settings"]
        named = {"weights": settings.get("network", {}).get("weights"), "published": settings.get("published")}
        for name, path in record["files"].items():
            if str(named.get(name)).startswith("sha256 "):
                expected[path, str(named[name]).removeprefix("sha256 ")] = None
    views = " ".join(shlex.quote(str(path)) for path in sorted(results.glob(f"*/{disk.CONFIG}"))) or "CONFIG"
    gone = []
    for (path, known), index in expected.items():
        now = checksum(Path(path)) if isinstance(known, str) else _size(Path(path))
        if now is None:
            gone.append(path)
        elif now != known:
            what = f"{path} is not the file that stages were made from; put that file back, or continue with this one"
            found.faults.append(
                Fault(what, remove(index)) if index else Fault(what, f"stpp gc {views} --remove", workflow_first=True)
            )
    if gone:
        found.notes.append(
            f"{counted(len(gone), 'file')} of the data are gone, and were not compared, such as {gone[0]}"
        )


def indexes_by_manifest(results: Path) -> dict[str, Path]:
    """The index that names a manifest, by the name of that file."""
    found: dict[str, Path] = {}
    for path in results.glob(f"{disk.DATA}/index-*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # no index: the workflow replaces it
            found |= {Path(entry["manifest"]).name: path for entry in json.loads(path.read_text())["subsets"].values()}
    return found


class Checksums:
    """SHA-256 (hex) of files, None for one that cannot be read, each read once while a bar says how far it is."""

    def __init__(self, stages: Path, records: Mapping[str, Record], rows: Sequence[Row]) -> None:
        artifacts = [stages / folder / name for folder, record in records.items() for name in record["sha256"]]
        data = [Path(path) for row in rows if row.sha256 for path in (row.image, row.mask) if path]
        self._known: dict[Path, str | None] = {}
        total = sum(_size(path) or 0 for path in dict.fromkeys([*artifacts, *data]))
        self._bar = tqdm(total=total, unit="B", unit_scale=True, desc="verify", mininterval=1)

    def __enter__(self) -> "Checksums":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def __call__(self, path: Path) -> str | None:
        if path not in self._known:
            try:
                self._known[path] = sha256(path)
            except OSError:
                self._known[path] = None
            self._bar.update(_size(path) or 0)
        return self._known[path]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


# --- what else lies there ---------------------------------------------------------------------------------------------


def leftovers(results: Path, folders: Sequence[str]) -> Iterator[Fault]:
    """What writers that were killed left, and unfinished work of finished stages."""
    places = [results / disk.DATA, results / disk.WEIGHTS, *view_folders(results)]
    for stage in (results / disk.STAGES / folder for folder in folders):
        if any(is_alive(job) for job in progress_of(stage / disk.UNFINISHED)):
            continue
        places += [stage, stage / disk.PARTS]
        unfinished = stage / disk.UNFINISHED
        if (stage / disk.RECORD).exists() and unfinished.exists():
            yield Fault(f"{unfinished} was left by a stage that has ended", remove(unfinished))
    for path in (path for place in places for path in sorted(place.glob(".*.tmp"))):
        yield Fault(f"{path} was left by a writer that was killed", remove(path))


def broken_links(results: Path) -> Iterator[Fault]:
    """Links to no stage."""
    for path, target in all_links(results):
        if not target.exists():
            yield Fault(f"{path} points to nothing", remove(path))


def remove(path: Path) -> str:
    """The command that removes a file or a folder."""
    return f"rm {'-r ' if path.is_dir() and not path.is_symlink() else ''}{shlex.quote(str(path))}"


# --- for people -------------------------------------------------------------------------------------------------------


def as_text(results: Path, found: Faults) -> str:
    """A line a fault with its command, the notes, and a summary."""
    lines = []
    for fault in found.faults:
        order = "after the workflow" if fault.workflow_first else "before the workflow"
        lines.append(f"{fault.what}; {order}: {fault.command}")
    lines += [f"note: {note}" for note in found.notes]
    said = f"{results}: {counted(found.stages, 'finished stage')}, {counted(len(found.faults), 'fault')}"
    advice = (
        "; type the command of each fault, and run the workflow before or after it, as stated" if found.faults else ""
    )
    return "\n".join([*lines, f"{said}{advice}."]) + "\n"
