"""Where a model comes from: what the stage that trained it recorded, and how it was evaluated."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stpp.stage import read_recipe, verified


@dataclass(frozen=True)
class Evaluation:
    """What a finished `evaluate` stage read and found: its recipe, and the content of its `metrics.json`."""

    recipe: Mapping[str, Any]
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Provenance:
    """The name of the stage that trained a model and its `stage.json`, None where there is none; and the model's
    evaluations on val and test."""

    name: str | None
    training: Mapping[str, Any] | None
    evaluations: list[Evaluation]

    @property
    def prediction(self) -> Mapping[str, Any] | None:
        """The settings with which the model was applied to whole images, where that is known."""
        own = [] if self.training is None else [self.training["settings"]["prediction"]]
        found = [*(evaluation.recipe["settings"]["prediction"] for evaluation in self.evaluations), *own]
        return next((settings for settings in found if settings), None)

    @property
    def encoding(self) -> Mapping[str, Any] | None:
        """What the values of the masks mean that the model was trained with, where that is known."""
        return None if self.training is None else self.training["settings"]["encoding"]


def provenance(model: Path) -> Provenance:
    """The provenance of a checkpoint that lies in its stage, also by a link; elsewhere nothing is known of one.

    Raises StppError for a damaged record.
    """
    model = model.resolve()
    record, evaluated = model.parent / "stage.json", model.parent.parent.parent / "evaluate"
    if not record.is_file():
        return Provenance(None, None, [])
    training, name = read_recipe(record), f"train/{model.parent.name}/{model.name}"
    if training["stage"] != "train":
        return Provenance(None, None, [])
    evaluations = []
    for path in sorted(evaluated.glob("*/stage.json")):
        recipe = read_recipe(path)
        if recipe["inputs"].get("checkpoint") == name:
            evaluations.append(Evaluation(recipe, json.loads(verified(path.parent / "metrics.json").read_text())))
    return Provenance(model.parent.name, training, evaluations)
