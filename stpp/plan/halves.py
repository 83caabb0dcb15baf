"""The stages of the outlook: what labels alone tell, before the methods run, of whether unlabeled images will pay.

Two teachers learn from one half of the labeled images each. Measured on val, they say what twice as many labels bring;
measured on the half that they have not seen, how right predictions of each class and confidence are.
Pure: no files, no torch.
"""

from collections.abc import Callable, Mapping
from typing import Any

from stpp.common import disk
from stpp.plan.graph import CodeOf, Stage
from stpp.plan.methodgraph import MethodGraph
from stpp.settings.config import Config, Experiment
from stpp.settings.data import Fold

HALVES = 2


def outlook(
    config: Config,
    index_of: Callable[[Config], Mapping[str, Any]],
    weights: Mapping[str, str],
    code_of: CodeOf,
    stages: dict[str, Stage],
    length: str,
) -> Stage:
    """The stage of the outlook on `config`, with its first seed; those that it reads are added to `stages`.

    `index_of` gives the index of a configuration's data, `weights` the identity and path of the initial weights,
    `length` the folder of the stage that finds how long trainings take, or "".
    """
    alone = config.training.model_copy(update={"teacher": config.training.teacher.model_copy(update={"online": None})})
    base = config.model_copy(update={"training": alone, "experiments": {"outlook": Experiment(method="suponly")}})
    seed = config.seeds[0]
    graph = MethodGraph(base, seed, index_of(base), weights, code_of, stages, length)
    teacher = graph.train_teacher()
    halves, held = [], []
    for number in range(1, HALVES + 1):
        data = base.data.model_copy(update={"fold": Fold(of=HALVES, number=number)})
        changed = base.model_copy(update={"data": data})
        half = MethodGraph(changed, seed, index_of(changed), weights, code_of, stages, length)
        network = half.train_half(number)
        halves.append(half.measure("val", f"half{number}", f"{network}/{disk.LAST}"))
        held.append(half.calibration(network, f"half{number}"))
    settings = {
        "name": config.name,
        "classes": graph.classes,
        "labeled": graph.counts["labeled"],
        "unlabeled": graph.counts.get("unlabeled", 0),
    }
    inputs: dict[str, str | list[str]] = {
        "teacher": f"{graph.measure('val', 'teacher', f'{teacher}/{disk.LAST}')}/{disk.METRICS}",
        "halves": [f"{folder}/{disk.METRICS}" for folder in halves],
        "images": [f"{folder}/{disk.IMAGES}" for folder in halves],
        "held": [f"{folder}/{disk.METRICS}" for folder in held],
    }
    if "unlabeled" in graph.fingerprints:
        several = graph.config.selection.checkpoints
        inputs["masks"] = f"{graph.checkpoint_masks(teacher, several, several, confidence=True)}/{disk.MASKS}"
    outputs = tuple(disk.outputs("outlook").values())
    return Stage("outlook", config.name, settings, {}, inputs, outputs, code_of("outlook", ()))
