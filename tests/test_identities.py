"""The stages of the configurations that come with the project keep their names, and so what was computed stays valid.

`python tests/test_identities.py` records the names anew, after a change that is meant to move them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stpp.config import Config
from stpp.configfile import read, resolved
from stpp.expansion import expand

ROOT = Path(__file__).parent.parent
RECORDED = Path(__file__).parent / "identities.json"
CONFIGS = ["config.yaml", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "experiments").glob("*.yaml"))]


def folders(path: Path) -> list[str]:
    """The folders of the stages with the first seed, but of table, charts and report, over a made-up index and code."""

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

    config = read(path)
    plan = expand(
        config.model_copy(update={"seeds": config.seeds[:1]}), resolved, index_of, weights_of, lambda stage: "v1"
    )
    return sorted(folder for folder, stage in plan.stages.items() if stage.kind not in ("table", "chart", "report"))


@pytest.mark.parametrize("config", CONFIGS)
def test_stages_keep_their_names(config: str) -> None:
    assert folders(ROOT / config) == json.loads(RECORDED.read_text())[config]


if __name__ == "__main__":
    RECORDED.write_text(json.dumps({config: folders(ROOT / config) for config in CONFIGS}, indent=1) + "\n")
