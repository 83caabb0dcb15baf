"""Whether the networks of a configuration can be built, and weights fit them: told before the first job."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.files import write_text
from stpp.common.registry import ENCODERS, constant, module_of
from stpp.plan.graph import Plan
from stpp.settings.config import Config
from stpp.settings.configfile import resolved


def check_networks(config: Config, plan: Plan) -> None:
    """Raise StppError if a training of the plan could not begin, because its network cannot be, or its weights not fit.

    Looked at are the weights files of the user, numbers of blocks to be tuned, and encoders of which nothing is known
    without building them. What fits is remembered below `results`, so that torch is imported for a new one alone.
    """
    seen = Path(config.results) / disk.WEIGHTS / disk.CHECKED
    try:
        known = set(json.loads(seen.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        known = set()  # missing, or not written by this program
    fitting: set[str] = set()
    for stage in plan.stages.values():
        if stage.kind != "train":
            continue
        network, classes = stage.settings["network"], len(stage.settings["classes"])
        weights = stage.files.get("weights") if network["weights"].startswith("sha256 ") else None
        blocks = _blocks(stage.settings["training"]["tune"])
        if weights or blocks or checked_when_built(network["backbone"]):
            bands = stage.settings.get("bands")
            what = json.dumps(
                [network, classes, *([blocks] if blocks else []), *([bands] if bands else [])], sort_keys=True
            )
            key = hashlib.sha256(what.encode()).hexdigest()
            if key not in known | fitting:
                _refuse_unfit(network, classes, weights, blocks, bands)
            fitting.add(key)
    if not fitting <= known:
        write_text(seen, json.dumps(sorted(known | fitting), indent=1) + "\n")


def _blocks(tune: str | int) -> int:
    """How many blocks are asked for; 0 where it is no number."""
    return tune if isinstance(tune, int) else 0


def _refuse_unfit(network: Mapping[str, Any], classes: int, weights: str | None, blocks: int, bands: Any) -> None:
    """What `refuse_unfit` does, in a process of its own where that imports more than torch."""
    what = (network, classes, weights, blocks or "all", bands)
    if not checked_when_built(network["backbone"]):
        from stpp.engine.initial import refuse_unfit

        return refuse_unfit(*what)
    command = [sys.executable, "-m", "stpp.commands.network_check"]
    done = subprocess.run(command, input=json.dumps(what), capture_output=True, text=True, check=False)
    if said := done.stdout.strip() or (done.returncode and done.stderr.strip()[-1000:]):
        raise StppError(said)
    return None


def check_encoders(config: Config) -> None:
    """Raise StppError if an experiment has an encoder of which nothing is known without building it, and it cannot be.

    Or if more of its blocks are to be tuned than it has. torch is imported for such encoders alone.
    """
    seen: list[Any] = []
    for own in (resolved(config, name) for name in config.experiments):
        for training in (own.training.teacher, own.training.student):
            what = (own.network, _blocks(training.tune))
            if what not in seen and (what[1] or checked_when_built(own.network.backbone)):
                from stpp.engine.initial import refuse_unfit

                refuse_unfit(own.network.model_dump(), 2, None, what[1] or "all")
            seen.append(what)


def checked_when_built(backbone: str) -> bool:
    """Whether nothing is known of a backbone without building it."""
    return bool(constant(module_of(ENCODERS, backbone), "CHECKED_WHEN_BUILT", False))
