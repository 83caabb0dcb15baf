"""The stages of the outlook: what labels alone tell, before the methods run, of whether unlabeled images will pay.

Two teachers learn from one half of the labeled images each, and two from one half of these. Measured on val, or where
there is none on the half that they have not seen, they say what twice as many labels bring. The halves also say, on the
images that they have not seen, how right predictions of each class and confidence are.
Pure: no files, no torch.
"""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from stpp.common import disk
from stpp.plan.counts import labeled_repeat
from stpp.plan.graph import CodeOf, Stage
from stpp.plan.methodgraph import MethodGraph
from stpp.settings.config import Config, Experiment
from stpp.settings.data import Fold

HALVES = 2
PARTS = {"quarter": 2, "half": 1}
"""Of the images in a half, one in so many is learned from."""


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

    def graph_of(base: Config) -> MethodGraph:
        return MethodGraph(base, config.seeds[0], index_of(base), weights, code_of, stages, length)

    base = _alone(config)
    whole = graph_of(base)
    teacher = whole.train_teacher()
    # The test set of a part of the labeled images is the half that it has not seen.
    judge = "val" if "val" in whole.fingerprints else "test"
    held, sizes = [], {}
    measured: dict[str, list[str]] = {name: [] for name in PARTS}
    for number, (name, one_in) in product(range(1, HALVES + 1), PARTS.items()):
        fold, slug = Fold(of=HALVES, number=number, one_in=one_in), f"{name}{number}"
        part = graph_of(_on_part(base, fold, whole.counts["labeled"]))
        network = part.train_part(slug)
        measured[name].append(part.measure(judge, slug, f"{network}/{disk.LAST}"))
        sizes[name] = part.counts["labeled"]
        if name == "half":
            held.append(part.calibration(network, slug))
    if judge == "val":
        measured["all"] = [whole.measure(judge, "teacher", f"{teacher}/{disk.LAST}")]
        sizes["all"] = whole.counts["labeled"]
    settings = {
        "name": config.name,
        "classes": whole.classes,
        "labeled": whole.counts["labeled"],
        "unlabeled": whole.counts.get("unlabeled", 0),
        "judge": judge,
        "sizes": sizes,
    }
    fewer, more = list(measured.values())[-2:]
    inputs: dict[str, str | list[str]] = {
        **{name: [f"{folder}/{disk.METRICS}" for folder in folders] for name, folders in measured.items()},
        "held": [f"{folder}/{disk.METRICS}" for folder in held],
        "fewer": [f"{folder}/{disk.IMAGES}" for folder in fewer],
        "more": [f"{folder}/{disk.IMAGES}" for folder in more],
    }
    if "unlabeled" in whole.fingerprints:
        several = whole.config.selection.checkpoints
        inputs["masks"] = f"{whole.checkpoint_masks(teacher, several, several, confidence=True)}/{disk.MASKS}"
    outputs = tuple(disk.outputs("outlook").values())
    return Stage("outlook", config.name, settings, {}, inputs, outputs, code_of("outlook", ()))


def _alone(config: Config) -> Config:
    """The configuration of a teacher that learns from labeled images alone."""
    teacher = config.training.teacher.model_copy(update={"online": None})
    training = config.training.model_copy(update={"teacher": teacher})
    experiments = {"outlook": Experiment(method="suponly")}
    return config.model_copy(update={"training": training, "experiments": experiments, "outlook": False})


def _on_part(base: Config, fold: Fold, labeled: int) -> Config:
    """The same on the part of the `labeled` images that `fold` leaves, for as many iterations."""
    training, teacher = base.training, base.training.teacher
    if teacher.iterations is None:
        repeat = (teacher.labeled_repeat or labeled_repeat("teacher", labeled, 0)) * fold.of * fold.one_in
        teacher = teacher.model_copy(update={"labeled_repeat": repeat})
    data = base.data.model_copy(update={"fold": fold})
    return base.model_copy(update={"data": data, "training": training.model_copy(update={"teacher": teacher})})
