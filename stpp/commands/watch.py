"""What `stpp run` sees of the stages while they run: which begin, end, fail or warn, how far they are, how long still.

It looks at what stages write anyway, `progress.json`, logs and `stage.json`, as `stpp status` does. So it sees the same
wherever the jobs run, and asks nothing of Snakemake.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stpp.commands.estimate import Speeds, Work, wall_time, work_of
from stpp.commands.status import State, is_alive, last_lines, left, logs_of, message_in, state_of
from stpp.commands.view import looked_ahead
from stpp.common import disk
from stpp.common.wording import counted, duration
from stpp.plan.graph import Plan, sources
from stpp.runtime.progress import progress_of
from stpp.store.inventory import KnownStage, missing_outputs

Kind = Literal["begins", "done", "warning", "said", "stopped", "failed"]
Told = Sequence[Mapping[str, Any]]
"""What the jobs of a stage tell in `progress.json`."""


@dataclass(frozen=True)
class Event:
    """What happened to the stage in `folder`, in words that follow its name, but for a warning and what it `said`."""

    folder: str
    kind: Kind
    text: str


class Watch:
    """The stages in `folders`, which are to run, and those of the plan that are `done`.

    `since` is when the run of the workflow began, by the clock of the file system. `takes` are the cores of each job,
    of which all have `cores` together; None: each job has its own. `recorded` are the seconds that stages took before,
    which count until this run has a speed of its own.
    """

    def __init__(
        self,
        plan: Plan,
        results: Path,
        folders: Iterable[str],
        done: Sequence[str],
        since: float,
        takes: Mapping[str, int],
        cores: int | None,
        recorded: Mapping[str, float],
    ) -> None:
        self.titles = titles_of(plan)
        self.failed: dict[str, str] = {}
        """Why stages failed, by folder."""
        self.stopped: dict[str, str] = {}
        """What stopped stages, by folder: somebody else than the workflow, as long as that goes on."""
        self.since = since
        self._plan, self._results = plan, results
        self._takes, self._cores, self._recorded = takes, cores, recorded
        self._open: dict[str, str] = dict.fromkeys(folders, "waiting")
        self._all = len(self._open) + len(done)
        self._told: dict[str, Told] = {}
        self._warned: set[str] = set()
        self._work = {folder: work_of(stage, plan) for folder, stage in plan.stages.items()}
        self._speeds = Speeds()
        for folder in done:
            self._record(folder)

    def look(self) -> list[Event]:
        """What happened since the last look."""
        events: list[Event] = []
        for folder in list(self._open):
            if not missing_outputs(self._results / disk.STAGES, folder, self._plan.stages[folder].outputs):
                del self._open[folder]
                for known in (self.failed, self.stopped):
                    known.pop(folder, None)  # it was started again
                seconds, warnings = self._record(folder)
                events.append(Event(folder, "done", f"done in {duration(seconds)}"))
                new = [text for text in warnings if text not in self._warned]  # a table repeats those of others
                self._warned.update(new)
                events += [Event(folder, "warning", f"warning: {text}") for text in new]
                if folder == self._plan.outlook:
                    forecast = looked_ahead(self._plan, self._results / disk.STAGES)
                    events += [Event(folder, "said", text) for text in forecast[:1]]
        self._told = {}
        for folder in self._open:
            if not sources([self._plan.stages[folder]]) & self._open.keys():
                events += self._changed(state_of(self._results, folder, (), self.since))
        return events

    def _record(self, folder: str) -> tuple[float, list[str]]:
        """The seconds that a finished stage took, from which the speed is learned, and its warnings."""
        try:
            content = json.loads((self._results / disk.STAGES / folder / disk.RECORD).read_text(encoding="utf-8"))
            seconds, warnings = float(content["seconds"]), [str(text) for text in content["warnings"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return 0.0, []
        self._speeds.add(self._plan.stages[folder].kind, self._work[folder], seconds)
        return seconds, warnings

    def _changed(self, state: State) -> list[Event]:
        folder, before = state.folder, self._open[state.folder]
        self._open[folder] = state.state
        if state.state == "running":
            self._told[folder] = progress_of(self._results / disk.STAGES / folder / disk.UNFINISHED)
        if state.state == before or state.state not in ("running", "stopped", "failed"):
            return []
        if state.state == "running":
            return [Event(folder, "begins", "begins")]
        if state.state == "stopped":
            self.stopped[folder] = state.detail
            return [Event(folder, "stopped", state.detail)]
        log = self.log_of(folder)
        self.failed[folder] = (message_in(last_lines(log)) if log.exists() else "") or state.detail
        return [Event(folder, "failed", f"failed: {self.failed[folder].splitlines()[0]}")]

    def log_of(self, folder: str) -> Path:
        """The log of a stage that failed."""
        return (logs_of(self._results, folder) or [self._results / disk.LOGS / f"{folder}.log"])[-1]

    # --- how far ---

    def summary(self) -> str:
        """How many stages are done, running, waiting and failed, and how long the run still takes."""
        counts = Counter(self._open.values())
        waiting = len(self._open) - counts["running"] - counts["failed"]
        parts = [f"{self._all - len(self._open)} of {counted(self._all, 'stage')} done"]
        parts += [f"{counts['failed']} failed"] if counts["failed"] else []
        parts += [f"{counts['running']} running", f"{waiting} waiting"]
        still = self.left()
        return ", ".join(parts) + (f"; about {duration(still)} left" if still else "")

    def running(self, width: int) -> list[str]:
        """A line of at most `width` characters for each stage at work: what it is, how far, how fast, how long."""
        lines = []
        for folder, told in self._told.items():
            first, *others = _how_far(self._plan.stages[folder].settings, told)
            line = f"  {self.titles[folder]}: {first}"
            for part in others:
                line += f", {part}" if len(line) + 2 + len(part) <= width else ""
            lines.append(line)
        return lines

    def left(self) -> float | None:
        """Seconds that the run still takes, by the speed so far; None as long as there is none."""
        speeds = deepcopy(self._speeds)
        for folder, told in self._told.items():
            for job in told:
                if job["done"] > job["first"] and job["total"]:
                    share, work = (job["done"] - job["first"]) / job["total"], self._work[folder]
                    part = Work(share * work.trained, share * work.predicted, share * work.masks)
                    speeds.add(self._plan.stages[folder].kind, part, job["time"] - job["since"])
        seconds: dict[str, float] = {}
        never: set[str] = set(self.failed)
        for folder in (folder for folder in self._plan.stages if folder in self._open):
            if folder in never or sources([self._plan.stages[folder]]) & never:
                never.add(folder)
                continue
            told = self._told.get(folder, [])
            still = [0.0 if 0 < job["total"] <= job["done"] else left(job) for job in told]
            known = max((each for each in still if each is not None), default=None)
            if known is None:
                known = speeds.seconds(self._plan.stages[folder].kind, self._work[folder])
            if known is None:
                known = self._recorded.get(folder)
            if known is None:
                return None
            seconds[folder] = known
        return wall_time(seconds, self._plan, self._takes, self._cores)


def _how_far(settings: Mapping[str, Any], told: Told) -> list[str]:
    """How far a stage at work is, in phrases, what matters most first."""
    alive = [job for job in told if is_alive(job)]
    if not alive:
        return ["starting"]
    done, total = (sum(job[key] for job in told) for key in ("done", "total"))
    first = alive[0]
    if training := settings.get("training"):
        size = training["batch_size"]
        parts = [f"{done // size} of {total // size} iterations"]
    else:
        parts = [f"{done} of {counted(total, 'image')}"]
    if rate := sum((job["done"] - job["first"]) / max(1e-3, job["time"] - job["since"]) for job in alive):
        parts.append(f"{rate:.3g} images/s")
    if still := [seconds for job in alive if (seconds := left(job)) is not None]:
        parts.append(f"{duration(max(still))} left")
    if isinstance(first.get("loss"), float):
        parts.append(f"loss {first['loss']:.3f}")
    if isinstance(first.get("val_miou"), float):
        parts.append(f"val mIoU {100 * first['val_miou']:.1f} %")
    return parts


def titles_of(plan: Plan) -> dict[str, str]:
    """What each stage of a plan is called: its role, and a run that has it where several stages have that role."""
    roles = {folder: KnownStage(folder, stage.recipe()).role for folder, stage in plan.stages.items()}
    several = {role for role, count in Counter(roles.values()).items() if count > 1}
    runs = {folder: f" {name}" for name, folder in plan.charts.items()}
    for run in plan.runs:
        for part in run.stages.values():
            runs.setdefault(part.folder, f" of {run.experiment} {run.name}")
    return {folder: role + (runs.get(folder, "") if role in several else "") for folder, role in roles.items()}
