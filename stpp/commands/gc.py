"""What `stpp gc` removes: the stages that nothing refers to any more."""

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stpp.commands.status import logs_of
from stpp.commands.workflow import users
from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.wording import columns, counted, size
from stpp.plan.graph import Plan, flat
from stpp.plan.recipe import read_recipe
from stpp.runtime.lock import Hold, InUse, hold, holders
from stpp.store.links import all_links


@dataclass(frozen=True)
class Garbage:
    """A stage that nothing refers to: its folder below the stages', the bytes of it and its logs, and if it ended."""

    folder: str
    bytes: int
    done: bool


def garbage(results: Path, plans: Iterable[Plan]) -> list[Garbage]:
    """The stages below `results` that neither a plan has, nor a link in `results/runs` shows, nor these read.

    Left out, too, are those at which a job works, folders that are no stages, those that are links, and what other
    results show that have a link to these stages. Raises StppError where the stages themselves are behind a link.
    """
    stages = results / disk.STAGES
    real = stages.resolve()
    if real != results.resolve() / disk.STAGES:
        raise StppError(
            f"{stages} is a link to {real}, and others may use what is there; set `results` to {real.parent} in a "
            "configuration for `stpp gc`, or put the folder in place of the link"
        )
    used = {folder for plan in plans for folder in plan.stages} | shown_stages(results, real)
    for user, note in users(stages).items():
        if not user.is_dir():
            raise StppError(
                f"{user}, which uses stages of {results} by a link, is not there; make it accessible, or if it is gone "
                f"for good, remove {note}"
            )
        used |= shown_stages(user, real)
    used = with_sources(stages, used)
    at_work = {holder.path for holder in holders(stages)}
    found = []
    for recipe in sorted(stages.glob(f"*/*/{disk.RECIPE}")):
        folder = str(recipe.parent.relative_to(stages))
        if folder in used or recipe.parent.resolve() != real / folder or not re.search(r"-[0-9a-f]{8}$", folder):
            continue
        if any(f"{path}/".startswith(f"{folder}/") for path in at_work):
            continue
        done = (recipe.parent / disk.RECORD).exists()
        files = [path for path in recipe.parent.rglob("*") if not path.is_dir()] + belongings(results, folder)
        found.append(Garbage(folder, sum(path.lstat().st_size for path in files), done))
    return found


def shown_stages(results: Path, stages: Path) -> set[str]:
    """The stages in `stages`, a path without links, that the links of these results lead to."""
    below = [path.relative_to(stages).parts for _, path in all_links(results) if path.is_relative_to(stages)]
    return {"/".join(parts[:2]) for parts in below if len(parts) > 1}


def with_sources(stages: Path, folders: Iterable[str]) -> set[str]:
    """`folders`, and those of all stages that they read, directly or not.

    Raises StppError for a recipe that is there but cannot be read, since what it reads is unknown.
    """
    found: set[str] = set()
    waiting = list(folders)
    while waiting:
        folder = waiting.pop()
        if folder not in found:
            found.add(folder)
            recipe = stages / folder / disk.RECIPE
            if recipe.exists():
                waiting += [path.rpartition("/")[0] for path in flat(read_recipe(recipe)["inputs"])]
    return found


def alone(results: Path) -> Hold:
    """Keep workflows and jobs away from all stages until the mark is released. StppError if one is at work there."""
    stages = results / disk.STAGES
    try:
        return hold(stages, "")
    except InUse as error:
        who = error.holder
        if who.path.startswith("/"):
            what = f"the workflow runs in {who.path}"
        else:
            what = f"a job runs for {who.folder(stages)}" if who.path else f"`stpp gc` already runs in {results}"
        raise StppError(f"{what} ({who}), so nothing is removed; wait until it ends") from None


def belongings(results: Path, folder: str) -> list[Path]:
    """The logs of a stage's jobs."""
    return [log for log in logs_of(results, folder) if log.is_file()]


def remove(results: Path, found: Sequence[Garbage]) -> None:
    """Remove these stages with their logs; one that is interrupted leaves no stage that seems finished."""
    for item in found:
        folder = results / disk.STAGES / item.folder
        logs = belongings(results, item.folder)
        (folder / disk.RECORD).unlink(missing_ok=True)
        shutil.rmtree(folder)
        for path in logs:
            path.unlink(missing_ok=True)


def as_text(results: Path, found: Sequence[Garbage], removed: bool) -> str:
    """What was removed or would be, and how many bytes."""
    if not found:
        return f"{results}: nothing to remove; every stage is in use.\n"
    rows = [[item.folder, size(item.bytes), "" if item.done else "not finished"] for item in found]
    total = f"{counted(len(found), 'stage')}, {size(sum(item.bytes for item in found))}"
    end = f"{results}: {total} removed." if removed else f"{results}: {total} would be removed; --remove does it."
    return "\n".join([*columns(rows, left=(0, 2)), "", end]) + "\n"


def results_of(folders: Iterable[str]) -> Path:
    """The one folder for results that the configurations share; StppError if they have several."""
    distinct = sorted(set(folders))
    if len(distinct) > 1:
        raise StppError(f"the configurations have different folders for results, {', '.join(distinct)}; one at a time")
    return Path(distinct[0])
