"""The folders of stages of the configurations that come with the project, and what their settings are by default.

`python tests/support/identities.py` records the names anew, after a change that is meant to move them, and the
default of every setting that has come since.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runs import PROJECT

from stpp.methods import methods
from stpp.plan.expansion import expand
from stpp.plan.graph import Plan
from stpp.plan.identity import UNSAID
from stpp.settings import Section
from stpp.settings.config import Config, Prediction, ReportSettings
from stpp.settings.configfile import read, resolved
from stpp.settings.training import Augmentation, Network, Training

RECORDED = Path(__file__).with_suffix(".json")
FOUND = (path for folder in ("config", "experiments") for path in (PROJECT / folder).glob("*.yaml"))
CONFIGS = ["config.yaml", *sorted(str(path.relative_to(PROJECT)) for path in FOUND)]
SECTIONS: dict[str, type[Section]] = {
    "training": Training,
    "network": Network,
    "augmentation.*": Augmentation,
    "prediction": Prediction,
    "report": ReportSettings,
    **{f"method.{method.name}": method.settings for method in methods() if method.settings},
}
"""The sections of a configuration that enter the settings of stages, and where there."""
ENCODING = {"encoding.ignore_value": 255, "encoding.label_map": None, "encoding.palette_map": None}
"""What the settings of the data come to, where they are at their defaults."""
NOT_AS_GIVEN = ("network.weights", "training.online", "training.start")
"""What stands in the settings of a stage is not what the configuration says: an identity, a method, an input."""


def folders(path: Path) -> list[str]:
    """The folders of the stages that have the first seed, and do not gather runs, over a made-up index and code."""
    config = read(path)
    plan = plan_of(config.model_copy(update={"seeds": config.seeds[:1]}))
    return sorted(folder for folder, stage in plan.stages.items() if stage.seed is not None)


def plan_of(config: Config) -> Plan:
    """The plan over a made-up index and code."""

    def index_of(config: Config) -> Mapping[str, Any]:
        data = config.data
        absent = {"val"} if data.layout in ("lists", "folder") and not (data.val or data.val_split) else set()
        subsets = {"labeled", "unlabeled", "val", "test", "truth"} - absent
        names = data.classes or [f"class {n}" for n in range(3)]
        palette = [[0, 0, 0]] * len(names)
        return {
            "classes": names,
            "palette": palette,
            "subsets": {s: {"fingerprint": f"{s:0<64}", "count": 9, "sha256": "0" * 64} for s in subsets},
        }

    def weights_of(config: Config) -> dict[str, str]:
        return {"identity": f"weights {config.network.weights}", "path": ""}

    return expand(config, resolved, index_of, weights_of, lambda *_: "v1")


def defaults() -> dict[str, Any]:
    """The default of each setting that enters an identity, by its name in the settings of stages."""
    return {name: value for place, section in SECTIONS.items() for name, value in _defaults(place, section)} | ENCODING


def _defaults(place: str, section: type[Section]) -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        where = f"{place}.{name}"
        if where in NOT_AS_GIVEN:
            continue
        yield where, field.default
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, Section):
                yield from _defaults(where, inner)


if __name__ == "__main__":
    UNSAID.write_text(json.dumps(dict(sorted((defaults() | json.loads(UNSAID.read_text())).items())), indent=1) + "\n")
    RECORDED.write_text(json.dumps({config: folders(PROJECT / config) for config in CONFIGS}, indent=1) + "\n")
