"""The stage that finds how long trainings have to be: `training.length: auto`.

Pure: no files, no torch.
"""

from collections.abc import Callable, Mapping
from typing import Any

from stpp.plan.graph import CodeOf, Stage
from stpp.plan.stagegraph import StageGraph
from stpp.settings.config import Config, Experiment


def find_length(
    config: Config,
    index_of: Callable[[Config], Mapping[str, Any]],
    weights_of: Callable[[Config], Mapping[str, str]],
    code_of: CodeOf,
    stages: dict[str, Stage],
) -> str:
    """The folder of the stage, which is added to `stages`: longer and longer trainings of the teacher of `config`.

    They learn from labeled images alone, with the first seed, and are measured on val, or without one on a half of the
    labeled images. `index_of` gives the index of a configuration's data, `weights_of` its initial weights.
    """
    base = config.model_copy(update={"experiments": {"length": Experiment(method="suponly")}})
    graph = StageGraph(base, base.seeds[0], index_of(base), weights_of(base), code_of, stages)
    augmentation = {"labeled": base.augmentation.teacher.labeled}
    settings = graph.of_training("teacher", 1, base.training.teacher, augmentation, True)
    subsets = ["labeled", *(["val"] if "val" in graph.fingerprints else [])]
    files = {"weights": graph.weights["path"]} if graph.weights["path"] else {}
    return graph.add("length", "labels", settings, subsets, {}, "", files, graph.network)
