"""The stages of the project's configurations keep their names, and so what was computed stays valid."""

import json
from collections.abc import Mapping
from typing import Any

import fabricate
import pytest
from conftest import ROOT
from identities import CONFIGS, RECORDED, defaults, folders, plan_of

from stpp.plan.identity import UNSAID, said
from stpp.settings.configfile import load
from stpp.settings.training import Augmentation

CHANGED: frozenset[str] = frozenset({"report.size"})
"""Settings whose default has changed since it was recorded; where they are at the new one, identities say so."""


@pytest.mark.parametrize("config", CONFIGS)
def test_stages_keep_their_names(config: str) -> None:
    assert folders(ROOT / config) == json.loads(RECORDED.read_text())[config]


def test_every_setting_has_a_recorded_default() -> None:
    recorded, now = json.loads(UNSAID.read_text()), defaults()
    assert recorded.keys() == now.keys(), "run `python tests/support/identities.py`, which adds new settings"
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
