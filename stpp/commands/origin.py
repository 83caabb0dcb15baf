"""Where a model comes from: what the stage that trained it recorded, and how it was evaluated."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stpp.common import disk
from stpp.common.errors import StppError, shortened
from stpp.common.terminal import is_line
from stpp.plan.recipe import read_recipe
from stpp.runtime.job import verified
from stpp.store.masks import MaskStore
from stpp.store.tensorfile import is_count
from stpp.store.usage import is_palette, is_prediction


@dataclass(frozen=True)
class KnownEvaluation:
    """What a finished `evaluate` stage read and found: its recipe, and the content of its `metrics.json`."""

    recipe: Mapping[str, Any]
    metrics: Any


@dataclass(frozen=True)
class Provenance:
    """The name of the stage that trained a model and its `stage.json`, None where there is none; the model's
    evaluations on val and test; and the colours of its classes in the data set, [r, g, b] of each."""

    name: str | None
    training: Mapping[str, Any] | None
    evaluations: list[KnownEvaluation]
    palette: list[list[int]] | None = None

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

    def refuse_other_classes(self, model: Path, classes: Sequence[str]) -> None:
        """Raises StppError where the records are of other classes than those of the model."""
        counted = len(classes) if self.encoding is None else self.encoding["classes"]
        measured = [list(evaluation.metrics["iou"]) for evaluation in self.evaluations]
        coloured = len(classes) if self.palette is None else len(self.palette)
        if not counted == coloured == len(classes) or any(names != list(classes) for names in measured):
            raise StppError(
                f"{model} has {len(classes)} classes, and the records of its training or evaluation have others; "
                f"{APART}"
            )


def provenance(model: Path) -> Provenance:
    """The provenance of a checkpoint that lies in its stage, also by a link, or of the one that a verdict chose.

    Elsewhere nothing is known of a checkpoint.

    Raises StppError for a damaged record, and for one that no stage of stpp wrote.
    """
    model = _chosen(model.resolve())
    record, evaluated = model.parent / disk.RECORD, model.parent.parent.parent / "evaluate"
    if not record.is_file():
        return Provenance(None, None, [])
    training, name = read_recipe(record), f"train/{model.parent.name}/{model.name}"
    if training["stage"] != "train":
        return Provenance(None, None, [])
    _refuse(record, training, TRAINING)
    evaluations = []
    for path in sorted(evaluated.glob(f"*/{disk.RECORD}")):
        recipe = read_recipe(path)
        if recipe["inputs"].get("checkpoint") == name:
            _refuse(path, recipe, EVALUATION)
            found = verified(path.parent / disk.METRICS)
            metrics = _json(found)
            _refuse(found, metrics, METRICS)
            evaluations.append(KnownEvaluation(recipe, metrics))
    return Provenance(model.parent.name, training, evaluations, palette_beside(model, training["settings"]["classes"]))


def palette_beside(artifact: Path, classes: Sequence[str]) -> list[list[int]] | None:
    """The colours [r, g, b] that the data set has for these classes, as the recipe in the artifact's folder has them.

    None in a folder without one, and where a version wrote it that did not note colours. Raises StppError for a
    recipe that stpp did not write.
    """
    path = artifact.resolve().parent / disk.RECIPE
    palette: list[list[int]] | None = read_recipe(path).get("palette") if path.is_file() else None
    if not is_palette(palette or None, len(classes)):
        found = shortened(repr(palette))
        raise StppError(f"{path} was not written by stpp, or was edited: palette is {found}; {APART}")
    return palette or None


def palette_of(store: MaskStore) -> list[list[int]]:
    """The colours [r, g, b] of a store's classes: those of the data set where they are known, else its own.

    Raises StppError as `palette_beside` does.
    """
    return palette_beside(store.path, store.classes) or store.palette


def _chosen(model: Path) -> Path:
    """The checkpoint that `model` is, where a verdict has chosen it."""
    told = model.parent / disk.VERDICT
    if model.name != disk.MODEL or not told.is_file():
        return model
    content = _json(told)
    _refuse(told, content, CHOICE)
    assert isinstance(content, dict)
    above = model.parent.parent
    places = (above.parent, above / disk.STAGES)  # in the stage, and in `results/NAME`
    known = (place / str(content["model"]["checkpoint"]) for place in places)
    return next((path for path in known if path.is_file()), model)


# --- what is believed -------------------------------------------------------------------------------------------------

APART = "move the model to a folder of its own, away from these records, or run its stages again"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_line(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1e12  # neither infinite nor NaN


def _is_share(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value <= 1)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_encoding(value: object) -> bool:
    """What `stpp.data.images.class_of` takes."""
    if not isinstance(value, dict) or not is_count(value.get("classes"), 1, 255):
        return False
    ignored, by_value, by_colour = (value.get(key) for key in ("ignore_value", "label_map", "palette_map"))
    return (
        (ignored is None or is_count(ignored, 0, 65535))
        and is_count(value.get("palette_tolerance", 0), 0, 255)
        and all(
            given is None
            or (
                isinstance(given, dict)
                and all(re.fullmatch(pattern, key, re.ASCII) for key in given)
                and all(target == "ignore" or is_count(target, 0, 254) for target in given.values())
            )
            for given, pattern in ((by_value, r"\d{1,5}(-\d{1,5})?|default"), (by_colour, r"#[0-9a-fA-F]{6}"))
        )
    )


def _maps_text(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(_is_text(key) and fits(value[key]) for key in value)


Expected = Mapping[tuple[str, ...], Callable[[object], bool]]
TRAINING: Expected = {
    ("settings", "prediction"): is_prediction,
    ("settings", "encoding"): _is_encoding,
    ("settings", "role"): _is_text,
    ("versions",): _maps_text(_is_text),
    ("seconds",): _is_number,
    ("device",): _is_text,
    ("started",): _is_text,
    ("commit",): lambda value: value is None or _is_text(value),
    ("data",): _maps_text(_is_text),
    ("warnings",): _are_texts,
}
EVALUATION: Expected = {("settings", "prediction"): is_prediction}
METRICS: Expected = {
    ("subset",): _is_text,
    ("images",): lambda value: is_count(value, 0, 1 << 53),
    ("miou",): _is_share,
    ("iou",): _maps_text(_is_share),
    ("warnings",): _are_texts,
}
CHOICE: Expected = {
    ("model", "checkpoint"): lambda value: (
        isinstance(value, str) and bool(re.fullmatch(r"train/[^/]+/[^/.]+\.pt", value))
    )
}
"""What the records hold that is used here, and what each must be."""


def _refuse(path: Path, record: object, expected: Expected) -> None:
    """Raises StppError for a record that holds something else than expected."""
    for keys, fits in expected.items():
        value: Any = record
        for key in keys:
            value = value.get(key, ...) if isinstance(value, dict) else ...
        if value is ... or not fits(value):
            found = "missing" if value is ... else shortened(repr(value))
            raise StppError(f"{path} was not written by stpp, or was edited: {'.'.join(keys)} is {found}; {APART}")


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StppError(f"{path} is damaged ({type(error).__name__}); {APART}") from None
