"""The controls that `controls: fair` adds: labels alone, trained for as long as, or computing as much as, the others.

A network that learns from unlabeled images trains longer than one that learns from labels alone, as a rule, and takes
a teacher besides. Without such controls, what longer training brings passes for what unlabeled images bring.
Pure: no files, no torch.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import ceil

from stpp.methods import method
from stpp.plan.computation import computation, iterations, pixels_of_iteration, taken
from stpp.plan.graph import Stage
from stpp.plan.parts import RunRecord, networks, result
from stpp.settings.config import SUPONLY_COMPUTE, SUPONLY_ITERATIONS, Config, Experiment
from stpp.settings.training import ROUNDS


def with_controls(config: Config, runs: Iterable[tuple[RunRecord, int]], stages: Mapping[str, Stage]) -> Config:
    """`config` with the controls as its first experiments, and one of them as the baseline where it names none.

    `runs` are those of its experiments, each with its number of unlabeled images. The controls have the longest
    training of any run whose result learned from unlabeled images, and the computation of the most expensive one. Those
    of methods that read true masks of unlabeled images, an upper bound, do not count. Where both controls have the same
    length, there is one, `suponly-compute`.
    """
    teacher = config.training.teacher
    longest, most = 0, Fraction(0)
    for run, unlabeled in runs:
        network = networks(run)[result(run)]
        trainings = [stage for stage in taken(network, stages) if stage.kind == "train"]
        if not method(run["method"]).truth and any("unlabeled" in stage.data for stage in trainings):
            longest = max(longest, *(iterations(stage.settings) for stage in trainings))
            most = max(most, computation(network, stages, unlabeled))
    alone = pixels_of_iteration({"training": teacher.model_dump()})
    lengths = {
        name: ceil(length / ROUNDS) * ROUNDS
        for name, length in ((SUPONLY_ITERATIONS, longest), (SUPONLY_COMPUTE, most / alone))
    }
    names = {length: name for name, length in lengths.items()}
    # A teacher may learn from unlabeled images, too.
    changes = {"online": None} if teacher.online else {}
    controls = {
        name: Experiment(method="suponly", training={"teacher": {"iterations": length} | changes})
        for length, name in names.items()
    }
    baseline = config.baseline or SUPONLY_COMPUTE
    baseline = names[lengths[baseline]] if baseline in lengths else baseline
    experiments = {**controls, **config.experiments}
    return config.model_copy(update={"controls": "none", "baseline": baseline, "experiments": experiments})
