"""What makes a stage the stage that it is."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def identity_of(recipe: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of everything in a recipe that decides the result; the folder's name ends in its first 8 digits."""
    what = [recipe[part] for part in ("stage", "settings", "data", "inputs", "code")]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
