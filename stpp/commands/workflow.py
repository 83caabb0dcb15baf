"""What the Snakefile calls: look at the data and expand the plan; write what jobs read, when a run starts.

Kept light, because it runs at every start: the code that reads images is imported only when data changed.
"""

import atexit
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stpp.commands.view import write_view
from stpp.common import disk
from stpp.common.errors import Problems, StppError
from stpp.common.files import remove_leftovers, sha256, write_text
from stpp.data.record import in_place, load_fresh
from stpp.plan.code import code_identity
from stpp.plan.contradictions import contradictions, needs_unlabeled
from stpp.plan.expansion import expand
from stpp.plan.graph import Plan, Stage
from stpp.plan.mirror import doubted_flips
from stpp.plan.staleness import as_text, record_in, stale
from stpp.runtime.lock import Hold, Holder, InUse, hold, holders
from stpp.settings.config import Config
from stpp.settings.configfile import resolved
from stpp.store.links import view_folders

if TYPE_CHECKING:
    from stpp.data.index import Index

PUBLISHED = {"torchvision": "IMAGENET1K_V1", "timm": "pretrained"}
"""The published weights that are fetched, by what `network.weights` says: what their files end in."""


def prepare(config: Config, log: Callable[[str], None]) -> Plan:
    """Look at the data, and expand the graph.

    Writes nothing that a job reads: that is for `write`, when a run starts. Raises StppError.
    """
    results = Path(config.results)
    need_unlabeled = needs_unlabeled(config)
    doubts: set[str] = set()
    found: dict[str, _DataSet] = {}

    def index_of(config: Config) -> Mapping[str, Any]:
        data = config.data.model_dump(mode="json")
        key = json.dumps(data, sort_keys=True)
        if key not in found:
            needs = {"batch_size": config.training.teacher.batch_size, "need_unlabeled": need_unlabeled}
            # Of a fold nothing is to be said that has not been said of all labeled images.
            whole = json.dumps(data | {"fold": None}, sort_keys=True)
            found[key] = _DataSet(data, results, needs, (lambda line: None) if whole in found else log)
        _doubt_once(config, found[key].record, doubts, log)
        if problems := contradictions(config, found[key].record):
            raise Problems("configuration and data", problems)
        return found[key].record

    def write_data() -> None:
        for data_set in found.values():
            data_set.write()

    plan = expand(config, resolved, index_of, weights_of, cache(code_identity), published_of(config))
    subsets = [entry for data_set in found.values() for entry in data_set.record["subsets"].values()]
    images = {entry["fingerprint"]: entry["count"] for entry in subsets}
    pixels = {entry["fingerprint"]: entry["pixels"] for entry in subsets if "pixels" in entry}  # not in early records
    lengths = lengths_found(plan, Path(config.results) / disk.STAGES)
    return replace(plan, write_data=write_data, images=images, pixels=pixels, lengths=lengths)


def lengths_found(plan: Plan, stages: Path) -> dict[str, float]:
    """How much longer trainings take than the configuration says, by the folders of the stages that found it."""
    searches = [folder for folder, stage in plan.stages.items() if stage.kind == "length"]
    done = [folder for folder in searches if (stages / folder / disk.RECORD).exists()]
    return {folder: json.loads((stages / folder / disk.LENGTH).read_text())["factor"] for folder in done}


def index_all(config: Config, *, verify: bool) -> list[str]:
    """Index the data of all experiments as `stpp index` does, and return the paths of the manifests.

    Raises Problems where data cannot be used, or are not what an experiment asks for, as `prepare` does.
    """
    from stpp.data.index import index

    records: dict[str, Mapping[str, Any]] = {}
    problems: dict[str, None] = {}
    doubts: set[str] = set()
    for each in (resolved(config, name, number) for name in config.experiments for number in config.partition_numbers):
        data = each.data.model_dump(mode="json")
        if (key := json.dumps(data, sort_keys=True)) not in records:
            records[key] = index(
                data,
                Path(config.results),
                batch_size=each.training.teacher.batch_size,
                need_unlabeled=needs_unlabeled(config),
                verify=verify,
            )
        _doubt_once(each, records[key], doubts, print)
        problems |= dict.fromkeys(contradictions(each, records[key]))
    if problems:
        raise Problems("configuration and data", list(problems))
    return [entry["manifest"] for record in records.values() for entry in record["subsets"].values()]


def _doubt_once(config: Config, record: Mapping[str, Any], said: set[str], log: Callable[[str], None]) -> None:
    """Warn of what the settings of one experiment make of the classes, where no other one has been warned of it."""
    if (doubt := doubted_flips(config, record["classes"])) and doubt not in said:
        said.add(doubt)
        log(f"Warning: {doubt}")


class _DataSet:
    """A data set, looked at for the plan and written when a run starts.

    `record` is its index. A look that finds no record of an earlier one leaves one, if `results` is there.
    """

    def __init__(
        self, data: Mapping[str, Any], results: Path, needs: Mapping[str, Any], log: Callable[[str], None]
    ) -> None:
        self.data, self.results, self.needs = data, results, needs
        self.found: Index | None = None
        record = load_fresh(results, data)
        if record is None:
            from stpp.data.index import look, remember

            log(f"Indexing the data in {data['root']}")
            self.found = look(data, results, **needs, log=log)
            record = self.found.record
            if results.is_dir() and self.found.scenes is None:
                with suppress(OSError):  # results may be another user's
                    remember(self.found, data, results)
        self.record: Mapping[str, Any] = record

    def write(self) -> None:
        """Draw the demo's scenes and write the manifests, where they are not there. Raises StppError.

        What the look found is written; where it found scenes that are not in their place yet, or took the word of an
        earlier look, the data are indexed anew, which is quick for files that were seen before.
        """
        found, self.found = self.found, None  # the rows of a million images are not kept during a run
        if found is None and in_place(self.record):
            return
        from stpp.data.index import index, write

        if found is not None and found.scenes is None:
            write(found, self.data, self.results)
            return
        scenes = found.scenes if found else None
        record = index(self.data, self.results, **self.needs, log=lambda line: None, scenes=scenes)
        if _manifests(record) != _manifests(self.record):
            raise StppError(
                f"the data in {self.data['root']} changed after the plan was made; run the same command again"
            )


def _manifests(record: Mapping[str, Any]) -> dict[str, str]:
    return {subset: entry["sha256"] for subset, entry in record["subsets"].items()}


def weights_of(config: Config) -> dict[str, str]:
    """Identity and path of the initial weights; no path means random initialisation.

    Raises StppError if a weights file does not exist.
    """
    weights, backbone = config.network.weights, config.network.backbone
    if weights == "none":
        return {"identity": "none", "path": ""}
    if release := PUBLISHED.get(weights):
        path = f"{config.results}/weights/{backbone}-{release}.pth"
        return {"identity": f"{weights} {backbone} {release}", "path": path}
    if not Path(weights).is_file():
        raise StppError(
            f"network.weights: no file {weights} (seen from {Path.cwd()}); give the path of a weights file, "
            "`torchvision` or `timm` to have published weights fetched, or `none`"
        )
    return {"identity": _digest(weights), "path": weights}


def published_of(config: Config) -> dict[str, str] | None:
    """Identity and path of the file of published numbers, or none. Raises StppError if it does not exist."""
    path = config.published
    if path is None:
        return None
    if not Path(path).is_file():
        raise StppError(
            f"published: no file {path} (seen from {Path.cwd()}); give the path of a CSV file, or leave it out"
        )
    return {"identity": _digest(path), "path": path}


def warn_of_stale(config: Config, plan: Plan, log: Callable[[str], None]) -> None:
    """Say which finished stages of `plan` were made from other bytes than are there now, and what to do."""
    stages = Path(config.results) / disk.STAGES
    if found := stale(plan.stages, cache(partial(record_in, stages))):
        log(as_text(stages, found))


@cache
def _digest(path: str) -> str:
    return f"sha256 {sha256(Path(path))}"


def claim(results: Path) -> Hold:
    """Keep other runs of the workflow away from `results` until this process ends, or the mark is released.

    Raises StppError if another run is at work there, or `stpp gc`.
    """
    try:
        mark = hold(results / disk.STAGES, str(results.resolve()))
    except InUse as error:
        if not error.holder.path:
            raise StppError(f"`stpp gc` is removing stages in {results} ({error.holder}); wait until it ends") from None
        raise StppError(
            f"the workflow already runs in {results} ({error.holder}); wait until it ends, or set `results` to "
            "another folder"
        ) from None
    atexit.register(mark.release)
    return mark


def at_work(results: Path) -> Holder | None:
    """The run of the workflow that is at work in `results`, on this machine or another. Nobody notices the question."""
    claimed = str(results.resolve())
    return next((holder for holder in holders(results / disk.STAGES, claimed) if holder.path == claimed), None)


def write(config: Config, plan: Plan) -> None:
    """Write the recipe of every stage, and the view of the plan that people look at.

    What writers of other files left there when they were killed is removed.
    """
    results = Path(config.results)
    for folder in (results / disk.DATA, results / disk.WEIGHTS, *view_folders(results, plan.name)):
        remove_leftovers(folder)
    write_recipes(config, plan)
    write_view(config, plan)


def write_recipes(config: Config, plan: Plan) -> None:
    """Write the manifests of the data and the recipe of every stage, so that its command can run.

    What a finished stage had no time to remove, because it was killed at that moment, is removed.
    """
    plan.write_data()
    stages = Path(config.results) / disk.STAGES
    for stage in plan.stages.values():
        _write_recipe(stages / stage.folder, stage)
        _clean(stages / stage.folder)
    linked = {stages.resolve(), *((stages / stage.kind).resolve().parent for stage in plan.stages.values())}
    for other in linked - {Path(config.results).resolve() / disk.STAGES}:
        _sign(other, Path(config.results).resolve())


def _clean(folder: Path) -> None:
    """Remove what killed writers left, and the unfinished work of a finished stage.

    The latter not while a job is just removing it, or makes the stage anew.
    """
    remove_leftovers(folder)
    if (folder / disk.RECORD).exists() and (folder / disk.UNFINISHED).exists():
        real = folder.resolve()
        with suppress(InUse), hold(real.parents[1], "/".join(real.parts[-2:])):
            shutil.rmtree(folder / disk.UNFINISHED, ignore_errors=True)


USERS = ".users"
"""In a folder of stages: for each folder of results that reaches them by a link, a file with its path."""


def _sign(stages: Path, results: Path) -> None:
    """Let `stpp gc` of the results that `stages` belong to know that `results` use them as well."""
    name = hashlib.sha256(os.fsencode(results)).hexdigest()[:16]
    write_text(stages / USERS / name, f"{results}\n")


def users(stages: Path) -> dict[Path, Path]:
    """The folders of results that reach `stages` by a link, and the files that say so."""
    return {Path(path.read_text().removesuffix("\n")): path for path in sorted((stages / USERS).glob("*"))}


def _write_recipe(folder: Path, stage: Stage) -> None:
    path = folder / disk.RECIPE
    try:
        other = json.loads(path.read_text())["identity"] != stage.identity
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        other = False  # missing or damaged: it is written anew
    if other:
        raise StppError(f"{folder} belongs to another stage with the same short identity; remove that folder")
    write_text(path, json.dumps(stage.recipe(), indent=1) + "\n")
