"""What a configuration asks of the data, and what of it they cannot give."""

from collections.abc import Mapping, Sequence
from typing import Any

from stpp.common.wording import counted
from stpp.methods import method
from stpp.plan.counts import labeled_repeat, reliable_count
from stpp.settings.config import Config
from stpp.settings.training import Training


def needs_unlabeled(config: Config) -> bool:
    """Whether an experiment trains on unlabeled images."""
    return any(method(each.method).unlabeled != "none" for each in config.experiments.values())


def contradictions(config: Config, index: Mapping[str, Any]) -> list[str]:
    """What the configuration of one experiment asks of the data that these cannot give, as sentences."""
    counts = {subset: entry["count"] for subset, entry in index["subsets"].items()}
    labeled, unlabeled = counts.get("labeled", 0), counts.get("unlabeled", 0)
    (experiment,) = config.experiments.values()
    problems = []
    wants_best = "best" in (config.labeling.teacher, config.labeling.student, config.evaluation.checkpoint)
    if wants_best and "val" not in counts:
        problems.append(
            "a `best` checkpoint is asked for, but there is no val set to choose it; set `last`, or give one"
        )
    if config.folds and "val" in counts:
        problems.append(
            f"`folds: {config.folds}` stands for a val set, but there is one, of {counts['val']} images; leave one out"
        )
    problems += _unknown_classes(config, index)
    chosen = method(experiment.method)
    if chosen.truth:
        if (known := counts.get("truth", 0)) < unlabeled:
            problems.append(
                f"method {chosen.name} needs the true masks of all unlabeled images, but {unlabeled - known} of "
                f"{unlabeled} have none; give them as a second column of the unlabeled list, or leave the method out"
            )
        return problems + _too_small("student", labeled + unlabeled, [config.training.student])
    used = reliable_count(unlabeled, config.selection.share) if chosen.unlabeled == "reliable" else unlabeled
    if chosen.unlabeled != "none" and used == 0:
        problems.append(
            f"method {chosen.name} needs unlabeled images, but of {unlabeled} the share {config.selection.share} is "
            "none; give more, raise selection.share, or take method suponly"
        )
        return problems
    steps: dict[str, str | None] = {}
    if chosen.teacher or config.training.student.start == "teacher":
        steps["teacher"] = config.training.teacher.online
    if chosen.unlabeled != "none":
        steps["student"] = chosen.name if chosen.online else config.training.student.online
    for role, online in steps.items():
        if online is not None:
            problems += _unfit_for_online(role, online, unlabeled, config)
        else:
            pseudo = used if role == "student" else 0
            training: Training = getattr(config.training, role)
            repeat = training.labeled_repeat or labeled_repeat(role, labeled, pseudo)
            others = [config.training.of_phase1()] if role == "student" and chosen.phase1 else []
            problems += _too_small(role, labeled * repeat + pseudo, [training, *others])
    return problems


def _unknown_classes(config: Config, index: Mapping[str, Any]) -> list[str]:
    """A sentence for each role with weights of classes that the data do not have."""
    problems = []
    for role in ("teacher", "student"):
        loss = getattr(config.training, role).loss
        named = loss.class_weights if loss else None
        if isinstance(named, dict) and (unknown := [name for name in named if name not in index["classes"]]):
            problems.append(
                f"training.{role}.loss.class_weights names {', '.join(unknown)}, but the classes are "
                f"{', '.join(index['classes'])}"
            )
    return problems


def _unfit_for_online(role: str, name: str, unlabeled: int, config: Config) -> list[str]:
    """What the method of that name asks of so many unlabeled images and of a batch that they cannot give."""
    online, batch = method(name).online, getattr(config.training, role).batch_size
    assert online is not None  # else the configuration would have been refused
    problems = []
    if getattr(config.training, role).iterations is None and unlabeled < (half := -(-batch // 2)):
        problems.append(
            f"half of each batch of method {name} are unlabeled images, {half}, but there are {unlabeled} in all; "
            f"lower training.{role}.batch_size"
        )
    if batch % (pairs := online.batch_multiple(max(1, config.runtime.train.gpu))):
        problems.append(
            f"method {name} mixes pairs of labeled and of unlabeled images in each process, but a batch has {batch}; "
            f"set training.{role}.batch_size to a multiple of {pairs}"
        )
    return problems


def _too_small(role: str, size: int, trainings: Sequence[Training]) -> list[str]:
    """A sentence where an epoch of `size` images has no batch; `trainings` of a role may differ in their lengths."""
    batch = trainings[0].batch_size
    if size >= batch or all(training.iterations is not None for training in trainings):
        return []
    return [
        f"an epoch of the {role} has {counted(size, 'image')}, too few for one batch of {batch}; lower "
        f"training.{role}.batch_size or raise training.{role}.labeled_repeat"
    ]
