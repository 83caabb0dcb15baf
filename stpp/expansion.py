"""From experiments and data fingerprints to the graph of all stages, with the table and the charts at its end.

Pure, like `stpp.plan`: no files, no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from stpp.comparisons import baselines, charts
from stpp.config import Config
from stpp.plan import MethodGraph, Plan, Run, Stage


def expand(
    config: Config,
    resolve: Callable[[Config, str, int], Config],
    index_of: Callable[[Config], Mapping[str, Any]],
    weights_of: Callable[[Config], Mapping[str, str]],
    code_of: Callable[[str], str],
    published: Mapping[str, str] | None = None,
) -> Plan:
    """The graph of `config`.

    `resolve` applies the overrides of an experiment and a partition. `index_of` gives the recorded index of a
    configuration's data: `subsets` (with a `fingerprint` and a `count` each) and `classes`. `weights_of` gives the
    `identity` and `path` of the initial weights, `published` those of published numbers. `code_of` gives the code
    identity of a stage.
    """
    stages: dict[str, Stage] = {}
    runs = []
    partitions = range(1, len(config.partitions) + 1) if config.partitions else [0]
    for experiment, partition in [(name, partition) for name in config.experiments for partition in partitions]:
        resolved = resolve(config, experiment, partition)
        index, weights, method = index_of(resolved), weights_of(resolved), config.experiments[experiment].method
        for seed in config.seeds:
            graph = MethodGraph(resolved, seed, index, weights, code_of, stages)
            runs.append(Run(experiment, partition, seed, method, graph.run(method)))
    compared = baselines(config, lambda config, name: resolve(config, name, partitions[0]))
    report = _report(config.name, runs, compared, published, code_of("report"))
    drawn = _charts(config.name, runs, stages, report.folder, code_of)
    return Plan(
        config.name,
        stages | {stage.folder: stage for stage in (report, *drawn.values())},
        runs,
        report.folder,
        {name: stage.folder for name, stage in drawn.items()},
    )


def _report(
    name: str, runs: Sequence[Run], compared: Mapping[str, str], published: Mapping[str, str] | None, code: str
) -> Stage:
    """The table; `compared` gives the baseline of each experiment."""
    settings = {
        "name": name,
        "runs": [asdict(run) for run in runs],
        "baselines": dict(compared),
        "published": published["identity"] if published else None,
    }
    inputs = {"stages": sorted({f"{folder}/stage.json" for run in runs for folder in run.stages.values()})}
    outputs = ("table.csv", "runs.csv", "table.txt", "metrics.json", "stage.json")
    files = {"published": published["path"]} if published else {}
    return Stage("report", name, settings, {}, inputs, outputs, code, files)


def _charts(
    name: str, runs: Sequence[Run], stages: Mapping[str, Stage], report: str, code_of: Callable[[str], str]
) -> dict[str, Stage]:
    """A stage for each chart."""
    found = {}
    outputs = ("data.csv", "chart.png", "chart.svg", "stage.json")
    for chart, contents in charts([asdict(run) for run in runs], lambda folder: stages[folder].settings).items():
        settings = {"name": name, "chart": chart, **contents}
        # The files are known by the stages that made them.
        inputs: dict[str, str | list[str]] = {key: settings.pop(key) for key in ("scores", "images") if key in settings}
        inputs["runs"] = f"{report}/runs.csv"
        found[chart] = Stage("chart", f"{chart}-{name}", settings, {}, inputs, outputs, code_of("chart"))
    return found
