"""What makes a stage the stage that it is.

A setting counts only where it is not what `unsaid.json` records for it, which is its default on the day it came into
being. So a new setting moves no identity while it is at its default, and a default that changes later is simply said.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

UNSAID = Path(__file__).with_name("unsaid.json")


def identity_of(recipe: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of everything in a recipe that decides the result; the folder's name ends in its first 8 digits."""
    what = [recipe["stage"], said(recipe["settings"]), *(recipe[part] for part in ("data", "inputs", "code"))]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def said(settings: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """`settings` without those that have the value that `unsaid.json` records for them.

    Its keys are the names of nested settings, joined by dots; those of the kinds of images, such as
    `augmentation.labeled`, are one, `augmentation.*`.
    """
    found = {}
    for key, value in settings.items():
        place = f"{path}.*" if path in SEVERAL else f"{path}.{key}" if path else key
        if place in _unsaid() and _unsaid()[place] == value:
            continue
        found[key] = said(value, place) if isinstance(value, Mapping) else value
    return found


SEVERAL = ("augmentation",)
"""The settings of a stage that have one section for each kind of images."""


@cache
def _unsaid() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(UNSAID.read_text())
    return values
