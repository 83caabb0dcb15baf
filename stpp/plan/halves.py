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
from stpp.common.errors import Problems
from stpp.plan.counts import labeled_repeat
from stpp.plan.graph import CodeOf, Stage
from stpp.plan.methodgraph import MethodGraph
from stpp.settings.config import Config, Experiment
from stpp.settings.data import Fold

HALVES, LEAST = 2, 4
"""Parts of the labeled images; and how many images these are at least, so that a half of a part has one."""
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
    `length` the folder of the stage that finds how long trainings take, or "". Raises Problems where there are too few
    labeled images.
    """

    def graph_of(base: Config) -> MethodGraph:
        return MethodGraph(base, config.seeds[0], index_of(base), weights, code_of, stages, length)

    base = _alone(config)
    whole = graph_of(base)
    if (labeled := whole.counts["labeled"]) < LEAST:
        problem = f"`outlook` halves the labeled images twice, which takes {LEAST} of them, but there are {labeled}"
        raise Problems("configuration and data", [f"{problem}; leave it out"])
    teacher = whole.train_teacher()
    # The test set of a part of the labeled images is the half that it has not seen.
    judge = "val" if "val" in whole.fingerprints else "test"
    held: list[str] = []
    counts: dict[str, list[int]] = {name: [] for name in PARTS}
    measured: dict[str, list[str]] = {name: [] for name in PARTS}
    for number, (name, one_in) in product(range(1, HALVES + 1), PARTS.items()):
        fold, slug = Fold(of=HALVES, number=number, one_in=one_in), f"{name}{number}"
        part = graph_of(_on_part(base, fold, labeled))
        network = part.train_part(slug)
        counts[name].append(part.counts["labeled"])
        if name == "half":
            held.append(part.calibration(network, slug))
        on_held = name == "half" and judge == "test"
        measured[name].append(held[-1] if on_held else part.measure(judge, slug, f"{network}/{disk.LAST}"))
    if judge == "val":
        measured["all"] = [whole.measure(judge, "teacher", f"{teacher}/{disk.LAST}")]
        counts["all"] = [labeled]
    settings = {
        "name": config.name,
        "classes": whole.classes,
        "labeled": labeled,
        "unlabeled": whole.counts.get("unlabeled", 0),
        "judge": judge,
        "sizes": {name: sum(of_each) / len(of_each) for name, of_each in counts.items()},
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
    return config.model_copy(update={"training": training, "experiments": experiments})


def _on_part(base: Config, fold: Fold, labeled: int) -> Config:
    """The same on the part of the `labeled` images that `fold` leaves, for as many iterations, but for rounding."""
    training, teacher = base.training, base.training.teacher
    if teacher.iterations is None:
        repeat = teacher.labeled_repeat or labeled_repeat("teacher", labeled, 0)
        iterations = teacher.epochs * (labeled * repeat // teacher.batch_size)
        teacher = teacher.model_copy(update={"iterations": iterations})
    data = base.data.model_copy(update={"fold": fold})
    return base.model_copy(update={"data": data, "training": training.model_copy(update={"teacher": teacher})})
