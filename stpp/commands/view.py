"""What people look at in the results of a configuration, and what a run ends with saying."""

import json
from collections.abc import Callable
from pathlib import Path

from stpp.common import disk
from stpp.common.files import write_text
from stpp.plan.graph import Plan
from stpp.settings.config import Config
from stpp.store.links import link, share, target_of

SHOWN, CHART = ("outlook", "verdict", "table", "report"), "chart-"
"""The stages whose files people look at, and how the links to those of charts begin."""


def write_view(config: Config, plan: Plan) -> None:
    """`<results>/<name>`: configuration, model, table, report, charts; `<results>/runs/<name>`: links to the stages.

    What the stages have is there, and nothing else. The files are those of the stages, or copies of them, so that the
    folder can be taken elsewhere. The links are those to the stages of each experiment and, in `comparison`, to those
    that made the files.
    """
    results = Path(config.results)
    view, linked, stages = results / plan.name, results / disk.LINKS / plan.name, results / disk.STAGES
    links = {
        linked / disk.EXPERIMENTS / run.experiment / run.name / name: stages / part.folder
        for run in plan.runs
        for name, part in run.stages.items()
    }
    files: dict[Path, Path] = {}
    for folder in filter(None, (plan.outlook, plan.verdict, plan.table, plan.report)):
        kind = plan.stages[folder].kind
        links[linked / disk.COMPARISON / kind] = stages / folder
        files |= {view / output: stages / folder / output for output in disk.OUTPUTS[kind].values()}
    for chart, folder in plan.charts.items():
        links[linked / disk.COMPARISON / f"{CHART}{chart}"] = stages / folder
        files |= {path: stages / folder / output for path, output in _chart_files(view, chart).items()}
    links, files = ({path: source for path, source in known.items() if source.exists()} for known in (links, files))
    shown = [view / output for kind in SHOWN for output in disk.OUTPUTS[kind].values()]
    for place in (linked, view):  # which has the links of earlier versions
        for earlier in (place / disk.COMPARISON).glob(f"{CHART}*"):
            shown += _chart_files(view, earlier.name.removeprefix(CHART))
    for path, target in links.items():
        link(path, target)
    for path, source in files.items():
        share(path, source)
    # What the configuration no longer has, and what is not there yet.
    old = [path for path in shown if path not in files and path.is_file()]
    found = [*view.rglob("*"), *linked.rglob("*")]
    for path in old + [path for path in found if path not in links and target_of(path)]:
        path.unlink(missing_ok=True)
        for above in path.parents:
            if above in (view, linked) or any(above.iterdir()):
                break
            above.rmdir()
    write_text(view / disk.CONFIG, config.model_dump_json(indent=2) + "\n")


def _chart_files(view: Path, chart: str) -> dict[Path, str]:
    """The files of a chart, and what its stage calls them."""
    return {view / "charts" / f"{chart}{Path(output).suffix}": output for output in disk.OUTPUTS["chart"].values()}


def refresh_view(config: Config, plan: Plan, log: Callable[[str], None]) -> None:
    """Let the view show this plan if all of it is there, so that going back to earlier settings takes no job.

    Then outlook and verdict are said.
    """
    if is_finished(config, plan):
        write_view(config, plan)
    for line in findings(config, plan):
        log(line)


def is_finished(config: Config, plan: Plan) -> bool:
    stages = Path(config.results) / disk.STAGES
    last = (plan.verdict, plan.table, plan.report, *plan.charts.values())
    return all((stages / folder / disk.RECORD).exists() for folder in last)


def findings(config: Config, plan: Plan) -> list[str]:
    """What the outlook says, and of a finished plan the verdict, as lines."""
    stages = Path(config.results) / disk.STAGES
    lines = [f"- {sentence}" for sentence in looked_ahead(plan, stages)]
    if is_finished(config, plan):
        verdict = json.loads((stages / plan.verdict / disk.VERDICT).read_text())
        lines += [f"{Path(config.results) / plan.name}:", *(f"- {sentence}" for sentence in verdict["sentences"])]
    return lines


def looked_ahead(plan: Plan, stages: Path) -> list[str]:
    """What the outlook says, as sentences; none where it is not asked for, or not there yet."""
    path = stages / plan.outlook / disk.OUTLOOK
    if not plan.outlook or not (path.parent / disk.RECORD).exists():
        return []
    sentences: list[str] = json.loads(path.read_text())["sentences"]
    return sentences
