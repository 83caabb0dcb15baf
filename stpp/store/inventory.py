"""The stages that exist on disk, and how two of them differ, in the words of the configuration."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stpp.common import disk
from stpp.common.errors import shortened
from stpp.plan.graph import flat
from stpp.plan.targets import TRAININGS

NAME = re.compile(r".+-[0-9a-f]{8}")
"""The name of a stage's folder."""

DATA = {
    "labeled": "the labeled images or their masks",
    "unlabeled": "the list of unlabeled images",
    "val": "the val images or their masks",
    "test": "the test images or their masks",
    "truth": "the true masks of unlabeled images",
}


@dataclass(frozen=True)
class KnownStage:
    """A stage: its recipe and, if it has run, what `stage.json` adds to it; `folder` is a path below the stages'."""

    folder: str
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def role(self) -> str:
        """Kind and part in the method, such as `train student-phase1`; neither seed nor settings are in it."""
        return f"{self.recipe['stage']} {self.recipe.get('role', '')}".rstrip()

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings by the names that they have in the configuration."""
        return settings_by_name(self.recipe)

    @cached_property
    def marks(self) -> frozenset[str]:
        """One text for each thing that makes the stage what it is; two stages differ in those that only one has."""
        settings = {f"{key}={json.dumps(value, sort_keys=True)}" for key, value in self.settings.items()}
        data = {f"{subset}:{digest}" for subset, digest in self.recipe["data"].items()}
        inputs = {f"{name}<{path}" for name, paths in self.recipe["inputs"].items() for path in flat({name: paths})}
        return frozenset({self.recipe["code"], *settings, *data, *inputs})


def finished(stages: Path) -> dict[str, KnownStage]:
    """The stages below `stages` that have ended, by folder. A `stage.json` that cannot be read is passed over."""
    found = {}
    for path in sorted(stages.glob(f"*/*/{disk.RECORD}")):
        folder = str(path.parent.relative_to(stages))
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            parts = [content[part] for part in ("settings", "data", "inputs")]
            usable = isinstance(content["code"], str) and all(isinstance(part, dict) for part in parts)
            float(content["seconds"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if usable:
            found[folder] = KnownStage(folder, content, content)
    return found


def missing_outputs(stages: Path, folder: str, outputs: tuple[str, ...]) -> list[str]:
    """The artifacts that a stage lacks; none if it is done."""
    return [name for name in outputs if not (stages / folder / name).exists()]


# --- settings ---------------------------------------------------------------------------------------------------------

PLACES = {
    "length": {"classes": "data.classes", "encoding": "data", "seed": "seed"},
    "encode": {"views": "features.views", "long_side": "prediction.long_side", "scales": "labeling.scales"},
    "train": {"checkpoints": "selection.checkpoints", "classes": "data.classes", "encoding": "data", "seed": "seed"},
    "predict": {"tta": "labeling"},
    "score": {"definition": "selection.score", "stability": "selection.stability"},
    "select": {
        "share": "selection.share",
        "by": "selection by",
        "seed": "seed",
        "constant": "selection.constant",
        "balanced": "selection.balanced",
        "encoding": "data",
    },
    "pixels": {"by": "selection.pixels", "confidence": "selection.confidence", "encoding": "data", "seed": "seed"},
    "evaluate": {"encoding": "data"},
}
"""Where the settings of a stage stand in the configuration, if not under the same name."""


def settings_by_name(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a stage, flat, by their names in the configuration: `training.student.epochs`."""
    kind, settings = recipe["stage"], recipe["settings"]
    if "runs" in settings or "candidates" in settings:  # it gathers what others have computed
        return {}
    places = PLACES.get(kind, {})
    if kind in TRAININGS:
        role = settings.get("role", "")
        places = {**places, "training": f"training.{role}", "augmentation": f"augmentation.{role}"}
    if kind == "pixels" and recipe.get("labeler"):
        places = {**places, "by": "labeling.kept", "share": "labeling.share"}
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "encoding":
            value = {name: part for name, part in value.items() if name != "classes"}  # the number of data.classes
        if key != "role" and (key, settings.get("role")) != ("checkpoints", "student"):  # of which there is one
            found |= _flat_settings(places.get(key, key), value)
    if (checkpoint := recipe["inputs"].get("checkpoint")) and (kind == "evaluate" or settings.get("tta")):
        setting = "evaluation.checkpoint" if kind == "evaluate" else f"labeling.{recipe.get('labeler', '')}"
        found[setting] = Path(checkpoint).stem
    return found


def _flat_settings(name: str, value: Any) -> dict[str, Any]:
    """Nested sections as `a.b.c`; maps of a user's own keys, such as a label map, are values."""
    if not isinstance(value, Mapping) or name.endswith("_map"):
        return {name: value}
    return {key: leaf for part, inner in value.items() for key, leaf in _flat_settings(f"{name}.{part}", inner).items()}


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(name, before, after) of the settings that differ; ABSENT where there is none of that name.

    A section that is switched off on one side, such as an augmentation, is one setting.
    """
    names = list(dict.fromkeys([*before, *after]))
    whole = [name for name in names if any(other.startswith(f"{name}.") for other in names)]
    seen = set()
    for name in names:
        section = next((part for part in whole if name == part or name.startswith(f"{part}.")), name)
        if section not in seen:
            seen.add(section)
            old, new = _part(before, section), _part(after, section)
            if old != new:
                yield section, old, new


ABSENT = object()
"""The value of a setting that one side does not have."""


def _part(settings: Mapping[str, Any], name: str) -> Any:
    """A setting, or the section of that name as a mapping."""
    if name in settings:
        return settings[name]
    inner = {key.removeprefix(f"{name}."): value for key, value in settings.items() if key.startswith(f"{name}.")}
    return inner or ABSENT


def shown(value: Any) -> str:
    """A setting's value as people read it, shortened."""
    if value is ABSENT:
        return "-"
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        text = ", ".join(f"{key} {shown(item)}" for key, item in value.items())
    elif isinstance(value, list):
        text = f"[{', '.join(map(shown, value))}]"
    elif isinstance(value, float):
        text = f"{value:g}"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return shortened(text, 60)


def code_shown(code: str) -> str:
    """`version 2` for a released code of a stage, else that it was edited, and how its hash begins.

    Those of its components follow: `version 2, resnet version 1`.
    """
    parts = [part.rpartition(":") for part in code.split()]
    return ", ".join(f"{name} {_version_shown(version)}".strip() for name, _, version in parts)


def _version_shown(version: str) -> str:
    return f"version {version[1:]}" if re.fullmatch(r"v\d+", version) else f"edited ({version[:6]})"
