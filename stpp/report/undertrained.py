"""Which trainings ended while they were still gaining."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stpp.common import disk
from stpp.common.wording import network_name
from stpp.plan.parts import RunRecord, networks
from stpp.runtime.job import verified

LAST = 0.1
"""The part at the end of a training that is compared with all before it."""
GAIN = 0.01
"""The least gain in mIoU that is worth a warning."""


def last_gain(history: pd.DataFrame) -> float:
    """By how much the best mIoU on val in the last tenth of a training is above the best one before, in [-1, 1].

    `history` is the `metrics.csv` of the training. NaN where val was not measured in both parts.
    """
    known = history.dropna(subset=["val_miou"])
    late = known["iterations"] > (1 - LAST) * history["iterations"].max()
    return float(known.loc[late, "val_miou"].max() - known.loc[~late, "val_miou"].max())


def warnings(runs: Sequence[RunRecord], stages: Path) -> list[str]:
    """At most one sentence: on the networks whose trainings, in the mean over runs, were still gaining when they ended.

    Of experiments that share trainings, the first one is named. `stages` is the folder of all stages.
    """
    seen: set[str] = set()
    gains: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for name, folder in networks(run).items():
            if folder not in seen:
                seen.add(folder)
                gain = last_gain(pd.read_csv(verified(stages / folder / disk.HISTORY)))
                gains.setdefault((run["experiment"], run["stages"][name]["title"]), []).append(gain)
    means = {owner: float(np.mean(values)) for owner, values in gains.items()}
    short = {
        f"the {network_name(title)} of {experiment}": f"{100 * mean:.1f} points"
        for (experiment, title), mean in means.items()
        if mean > GAIN
    }
    if len(short) < 2:
        return [
            f"the training of {network} may be too short: its last tenth brought {gain} of mIoU on val; raise its "
            "epochs or iterations"
            for network, gain in short.items()
        ]
    gained = ", ".join(f"{network} ({gain})" for network, gain in short.items())
    return [
        f"{len(short)} trainings may be too short: their last tenth brought points of mIoU on val; raise their epochs "
        f"or iterations: {gained}"
    ]
