"""The stages of the configurations that come with the project keep their names, and so what was computed stays valid.

`python tests/test_identities.py` records the names anew, after a change that is meant to move them, and the default of
every setting that has come since.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fabricate
import pytest

from stpp.methods import methods
from stpp.plan.expansion import expand
from stpp.plan.graph import Plan
from stpp.plan.identity import UNSAID, said
from stpp.settings import Section
from stpp.settings.config import Config, Prediction
from stpp.settings.configfile import load, read, resolved
from stpp.settings.training import Augmentation, Network, Training

ROOT = Path(__file__).parent.parent
RECORDED = Path(__file__).parent / "identities.json"
CONFIGS = ["config.yaml", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "experiments").glob("*.yaml"))]


SECTIONS: dict[str, type[Section]] = {
    "training": Training,
    "network": Network,
    "augmentation.*": Augmentation,
    "prediction": Prediction,
    **{f"method.{method.name}": method.settings for method in methods() if method.settings},
}
"""The sections of a configuration that enter the settings of stages, and where there."""
ENCODING = {"encoding.ignore_value": 255, "encoding.label_map": None, "encoding.palette_map": None}
"""What the settings of the data come to, where they are at their defaults."""
NOT_AS_GIVEN = ("network.weights",)
"""What stands in the settings of a stage is not what the configuration says but its identity."""

CHANGED: frozenset[str] = frozenset()
"""Settings whose default has changed since it was recorded; where they are at the new one, identities say so."""


def folders(path: Path) -> list[str]:
    """The folders of the stages with the first seed, but of table, charts and report, over a made-up index and code."""
    config = read(path)
    plan = plan_of(config.model_copy(update={"seeds": config.seeds[:1]}))
    return sorted(folder for folder, stage in plan.stages.items() if stage.kind not in ("table", "chart", "report"))


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


@pytest.mark.parametrize("config", CONFIGS)
def test_stages_keep_their_names(config: str) -> None:
    assert folders(ROOT / config) == json.loads(RECORDED.read_text())[config]


def test_every_setting_has_a_recorded_default() -> None:
    recorded, now = json.loads(UNSAID.read_text()), defaults()
    assert recorded.keys() == now.keys(), "run `python tests/test_identities.py`, which adds new settings"
    changed = {name for name in now if now[name] != recorded[name]}
    assert changed == CHANGED, (
        "a default changed: keep its record, which says what a setting that is left out means, and name it in CHANGED"
    )


def test_a_setting_at_its_recorded_default_is_not_said() -> None:
    recorded = json.loads(UNSAID.read_text())
    training = {name.removeprefix("training."): value for name, value in recorded.items() if "training." in name}
    assert said({"training": training, "seed": 0}) == {"training": {}, "seed": 0}
    for name, value in training.items():
        other = {**training, name: "something else"}
        assert said({"training": other}) == {"training": {name: "something else"}}, (name, value)


def test_sections_within_sections_are_said_where_they_differ() -> None:
    jitter = {"p": 0.8, "brightness": 0.3, "contrast": 0.5, "saturation": 0.5, "hue": 0.25}
    weak = Augmentation().model_dump()
    settings = {"augmentation": {"labeled": weak, "unlabeled": {**weak, "jitter": jitter, "grayscale": {"p": 0.2}}}}
    assert said(settings) == {
        "augmentation": {"labeled": {}, "unlabeled": {"jitter": {"brightness": 0.3}, "grayscale": {}}}
    }


@pytest.mark.parametrize("section", ["training", "network", "augmentation.*", "prediction"])
def test_a_new_setting_at_its_default_moves_no_identity(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from stpp.plan import identity

    before = plan_of(load(fabricate.tiny())).stages
    monkeypatch.setattr(identity, "_unsaid", lambda: json.loads(UNSAID.read_text()) | {f"{section}.new": 3})

    def with_new(settings: Mapping[str, Any], value: int) -> dict[str, Any]:
        name = section.partition(".")[0]
        if settings.get(name) is None:
            return dict(settings)
        part = settings[name]
        more = {"new": value}
        changed = {kind: {**part[kind], **more} for kind in part} if "*" in section else {**part, **more}
        return {**settings, name: changed}

    for stage in before.values():
        recipe = stage.recipe()
        assert identity.identity_of({**recipe, "settings": with_new(stage.settings, 3)}) == stage.identity
        moved = identity.identity_of({**recipe, "settings": with_new(stage.settings, 4)}) != stage.identity
        assert moved == (with_new(stage.settings, 4) != stage.settings)


if __name__ == "__main__":
    UNSAID.write_text(json.dumps(dict(sorted((defaults() | json.loads(UNSAID.read_text())).items())), indent=1) + "\n")
    RECORDED.write_text(json.dumps({config: folders(ROOT / config) for config in CONFIGS}, indent=1) + "\n")
