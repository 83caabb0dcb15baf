"""From experiments and data fingerprints to the graph of all stages, with table, charts and report at its end.

Pure, like `stpp.plan.graph`: no files, no torch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from stpp.common import disk
from stpp.methods import method
from stpp.plan.comparisons import alike, baselines, candidates, charts
from stpp.plan.controls import with_controls
from stpp.plan.frozen import whole_maps_kept
from stpp.plan.graph import CodeOf, Plan, Run, Stage
from stpp.plan.halves import outlook
from stpp.plan.lengths import find_length
from stpp.plan.methodgraph import MethodGraph
from stpp.plan.mirror import doubted_flips
from stpp.plan.parts import Part, RunRecord, folders, of_kind, score, score_quality, selection
from stpp.settings.config import Config
from stpp.settings.data import Fold


def expand(
    config: Config,
    resolve: Callable[[Config, str, int], Config],
    index_of: Callable[[Config], Mapping[str, Any]],
    weights_of: Callable[[Config], Mapping[str, str]],
    code_of: CodeOf,
    published: Mapping[str, str] | None = None,
) -> Plan:
    """The graph of `config`.

    `resolve` applies the overrides of an experiment and a partition. `index_of` gives the recorded index of a
    configuration's data: `subsets` (each with its `fingerprint`, its `count` and the `sha256` of its manifest),
    `classes` and their `palette`, and the `warnings` of the look at them, if any.
    `weights_of` gives the `identity` and `path` of the initial weights, `published` those of published numbers.
    `code_of` gives the code identity of a stage with its components.
    """
    stages: dict[str, Stage] = {}
    settings: dict[str, Config] = {}

    @cache
    def length_found() -> str:
        return find_length(config, index_of, weights_of, code_of, stages)

    def length_of(config: Config) -> str:
        return length_found() if config.training.length == "auto" else ""

    def planned(config: Config, experiments: Iterable[str], fold: Fold | None = None) -> list[tuple[Run, MethodGraph]]:
        """The runs of these experiments of `config`, without the labeled images of a fold."""
        found = []
        for experiment, partition in [
            (key, partition) for key in experiments for partition in config.partition_numbers
        ]:
            resolved = resolve(config, experiment, partition)
            settings.setdefault(experiment, resolved)
            if fold:
                resolved = resolved.model_copy(update={"data": resolved.data.model_copy(update={"fold": fold})})
            index, weights, name = index_of(resolved), weights_of(resolved), config.experiments[experiment].method
            for seed in config.seeds:
                graph = MethodGraph(resolved, seed, index, weights, code_of, stages, length_of(resolved))
                parts = method(name).stages(graph)
                encoded = enumerate(graph.maps.items(), 1)
                parts |= {f"maps{number}-{role}": Part(folder, "maps") for number, (folder, role) in encoded}
                found.append((Run(experiment, partition, seed, name, parts), graph))
        return found

    pairs = planned(config, config.experiments)
    if config.controls == "fair":
        given = config.experiments
        unlabeled = ((run.record(), graph.counts.get("unlabeled", 0)) for run, graph in pairs)
        config = with_controls(config, unlabeled, stages)
        pairs = planned(config, [name for name in config.experiments if name not in given]) + pairs
    ahead = None
    if config.outlook:
        ahead = outlook(config, index_of, weights_of(config), code_of, stages, length_of(config))
    runs, graphs = [run for run, _ in pairs], [graph for _, graph in pairs]
    described = [run.record() for run in runs]
    compared = baselines(config, lambda _, experiment: settings[experiment])
    numbers = range(1, config.folds + 1)
    held_out = [planned(config, config.experiments, Fold(of=config.folds, number=number)) for number in numbers]
    folds = list(zip(*([run.record() for run, _ in each] for each in held_out)))
    predictions = {run.experiment: graph.prediction() for run, graph in pairs}
    compared_by_val = candidates(described, folds, stages, {name: predictions[name] for name in alike(settings)})
    verdict = _verdict(config.name, graphs[0].palette, compared_by_val, code_of("verdict", ()))
    table = _table(config.name, described, compared, verdict.folder, published, code_of("table", ()))
    drawn = _charts(config.name, described, stages, table.folder, code_of)
    report = _report(config, described, graphs, table, verdict, ahead, code_of)
    return Plan(
        config.name,
        stages
        | {stage.folder: stage for stage in (*([ahead] if ahead else []), verdict, table, *drawn.values(), report)},
        runs,
        verdict.folder,
        table.folder,
        report.folder,
        {name: stage.folder for name, stage in drawn.items()},
        ahead.folder if ahead else "",
    )


def _verdict(name: str, palette: Sequence[Sequence[int]], candidates: Sequence[Mapping[str, Any]], code: str) -> Stage:
    """Which network to use; it waits for the evaluations of all candidates, or the trainings of those without one."""
    runs = [run for candidate in candidates for run in candidate["runs"]]
    measured = [[*run.get("folds", []), *(run[each] for each in ("val", "test") if run[each])] for run in runs]
    trained = [run["checkpoint"].rpartition("/")[0] for run in runs]
    folders = {folder for found, training in zip(measured, trained) for folder in found or [training]}
    settings = {"name": name, "palette": palette, "candidates": candidates}
    ended = sorted(f"{folder}/{disk.RECORD}" for folder in folders)
    return Stage("verdict", name, settings, {}, {"stages": ended}, tuple(disk.outputs("verdict").values()), code)


def _table(
    name: str,
    runs: Sequence[RunRecord],
    compared: Mapping[str, str],
    verdict: str,
    published: Mapping[str, str] | None,
    code: str,
) -> Stage:
    """The table; `compared` gives the baseline of each experiment."""
    settings = {
        "name": name,
        "runs": runs,
        "baselines": dict(compared),
        "published": published["identity"] if published else None,
    }
    files = {"published": published["path"]} if published else {}
    ended = sorted({f"{folder}/{disk.RECORD}" for run in runs for folder in folders(run)})
    inputs: dict[str, str | list[str]] = {"stages": ended, "verdict": f"{verdict}/{disk.VERDICT}"}
    return Stage("table", name, settings, {}, inputs, tuple(disk.outputs("table").values()), code, files)


def _charts(
    name: str, runs: Sequence[RunRecord], stages: Mapping[str, Stage], table: str, code_of: CodeOf
) -> dict[str, Stage]:
    """A stage for each chart."""
    found = {}
    outputs = tuple(disk.outputs("chart").values())
    for chart, contents in charts(runs, lambda folder: stages[folder].settings).items():
        settings = {"name": name, "chart": chart, **contents}
        # The files are known by the stages that made them.
        inputs: dict[str, str | list[str]] = {key: settings.pop(key) for key in ("scores", "images") if key in settings}
        inputs["runs"] = f"{table}/{disk.RUNS}"
        found[chart] = Stage("chart", f"{chart}-{name}", settings, {}, inputs, outputs, code_of("chart", ()))
    return found


def _read_by_image(runs: Sequence[RunRecord]) -> set[str]:
    """The stages of whose images the page tells, whatever the verdict.

    Of the others, the table has gathered what it says.
    """
    told = {folder for run in runs for folder in of_kind(run, "score").values()}
    return told | {folder for run in runs if score(run) for folder in (score_quality(run), selection(run)) if folder}


def _report(
    config: Config,
    runs: Sequence[RunRecord],
    graphs: Sequence[MethodGraph],
    table: Stage,
    verdict: Stage,
    ahead: Stage | None,
    code_of: CodeOf,
) -> Stage:
    """The page.

    Its pseudo-labels and scores are of one run: the first one with scores, else that of the last experiment. Its
    predictions are those of the network that is handed over.
    """
    shown = next((i for i, run in enumerate(runs) if score(run)), len(runs) - len(config.seeds))
    pictures, artifacts = graphs[shown].pictures(runs[shown])
    changed = config.model_dump(mode="json", exclude={"results", "runtime"}, exclude_defaults=True)
    settings = {"name": config.name, "runs": runs, "config": changed, "shown": shown, **pictures}
    settings["report"] = config.report.model_dump()
    if doubts := _doubts(graphs):
        settings["data_warnings"] = doubts
    inputs: dict[str, str | list[str]] = {
        "table": f"{table.folder}/{disk.METRICS}",
        "gathered": f"{table.folder}/{disk.GATHERED}",
        "verdict": f"{verdict.folder}/{disk.VERDICT}",
        "model": f"{verdict.folder}/{disk.MODEL}",
        "stages": [f"{folder}/{disk.RECORD}" for folder in sorted(_read_by_image(runs))],
        **artifacts,
    }
    if lengths := list(dict.fromkeys(graph.length for graph in graphs if graph.length)):
        inputs["length"] = f"{lengths[0]}/{disk.LENGTH}"
    if maps := whole_maps_kept(graphs):
        inputs["maps"] = maps
    if ahead:
        inputs["outlook"] = f"{ahead.folder}/{disk.OUTLOOK}"
    outputs = tuple(disk.outputs("report").values())
    shown_graph = graphs[shown]
    readers = dict.fromkeys(reader for modules in shown_graph.readers.values() for reader in modules)
    components = (*shown_graph.network, *readers)
    code = code_of("report", components)
    data, manifests = shown_graph.fingerprints, shown_graph.manifests
    return Stage("report", config.name, settings, data, inputs, outputs, code, {}, manifests, components=components)


def _doubts(graphs: Iterable[MethodGraph]) -> list[str]:
    """What was warned of when the data of these runs were looked at, each sentence once."""
    found = [text for graph in graphs for text in (*graph.warnings, doubted_flips(graph.config, graph.classes)) if text]
    return list(dict.fromkeys(found))
