"""The setting that keeps what a frozen encoder makes of images, and what it does not go with."""

from typing import Any

from stpp.methods import method
from stpp.settings import Section, setting


class Features(Section):
    """What a frozen encoder makes of images, computed once."""

    views: int | None = setting(
        None,
        "With `tune: none`: the encoder's maps of all images are computed once, and all trainings, predictions and "
        "evaluations read them. This many augmented views of a training image are drawn once for all runs, in place of "
        "a new one in every pass. None: nothing is kept.",
        "views of an image",
        ge=1,
        le=1000,
    )


def unfit_for_views(config: Any) -> list[str]:
    """What of a `Config` of one experiment does not go with `features.views`, as sentences."""
    if config.features.views is None:
        return []
    problems = []
    (experiment,) = config.experiments.values()
    roles = {"teacher": config.training.teacher, "student": config.training.student}
    for role, training in roles.items():
        if training.tune != "none":
            problems.append(
                f"features.views keeps what a frozen encoder makes of images, but training.{role}.tune is "
                f"{training.tune}; set it to none, or features.views to null"
            )
    online = [name for name in (experiment.method, *(each.online for each in roles.values())) if name]
    if changed := [name for name in online if (step := method(name).online) and not step.of_maps]:
        problems.append(
            f"features.views goes with no method whose steps look at pixels or change them, such as {changed[0]}; "
            "set features.views to null for it, or take another method"
        )
    if config.network.weights == "none":
        problems.append(
            "features.views needs an encoder with weights, since a random one differs with each seed; set "
            "network.weights"
        )
    if config.prediction.tile is not None:
        problems.append(
            "features.views keeps maps of whole images; set prediction.tile to null, or prediction.long_side instead"
        )
    kinds = {
        "teacher.labeled": config.augmentation.teacher.labeled,
        "student.labeled": config.augmentation.student.labeled,
        "student.unlabeled": config.augmentation.student.unlabeled,
    }
    if cropped := [kind for kind, augmentation in kinds.items() if augmentation.rare_crop]:
        problems.append(
            f"features.views draws views without masks, so without augmentation.{cropped[0]}.rare_crop; set that to 0"
        )
    return problems
