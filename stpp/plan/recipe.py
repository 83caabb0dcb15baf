"""The recipe of a stage on disk: all that decides its result, in `recipe.json`, and in `stage.json` when it is done."""

import json
from pathlib import Path
from typing import Any

from stpp.common.errors import StppError

_PARTS: dict[str, type] = {
    **dict.fromkeys(("stage", "identity", "code"), str),
    **dict.fromkeys(("settings", "data", "inputs", "files", "manifests"), dict),
    **dict.fromkeys(("outputs", "components"), list),
}
"""What a recipe has."""


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in a file. Raises StppError if there is none."""
    remedy = "remove it and run the workflow again, which writes it"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError(f"a {type(content).__name__}, expected a mapping")
        recipe: dict[str, Any] = {"manifests": {}, "components": [], **content}  # which earlier versions did not name
        wrong = [part for part, kind in _PARTS.items() if not isinstance(recipe[part], kind)]
        for part in [] if wrong else ("outputs", "components", "manifests"):
            names = recipe[part].values() if isinstance(recipe[part], dict) else recipe[part]
            wrong += [] if all(isinstance(name, str) for name in names) else [part]
        if wrong:
            raise TypeError(f"of another type than expected: {', '.join(wrong)}")
    except FileNotFoundError:
        raise StppError(
            f"no stage in {path.parent}: {path} does not exist; the workflow or `stpp plan --recipes` writes it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StppError(f"cannot read {path} as a recipe ({type(error).__name__}: {error}); {remedy}") from None
    return recipe
