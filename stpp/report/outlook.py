"""Whether unlabeled images will probably pay, before a method has run: what labels alone tell.

Two signs are read. What twice as many labels bring: where that is little, the labels are not what is missing, and
pseudo-labels bring less than labels. And how right pseudo-labels would be, class by class: where they are wrong more
often than right, students learn the mistakes. Two teachers on one half of the labeled images each, and two on a
quarter, tell both: measured on val with the teacher that has all labels, or without a val set on the half that they
have not seen; and compared with the true masks of that half.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stpp.common import disk
from stpp.common.wording import counted, listed
from stpp.runtime.job import Job, Runtime
from stpp.scoring.calibration import empty_counts, expected_precision, level_names, pixels_by_confidence, precision
from stpp.scoring.metrics import mean_iou
from stpp.store.evaluations import read_by_image, read_metrics
from stpp.store.masks import MaskStore

LEAST_GAIN = 0.01
"""Of mIoU, by twice as many labels: less than that, and labels are not what is missing."""
LEAST_PRECISION = 0.5
"""Mean over the classes of the share of right pixels among pseudo-labels: below that, they teach mistakes."""
LOST = 0.5
"""A class that is predicted less often than this share of how often it occurs counts as lost."""


@dataclass(frozen=True)
class Signs:
    """What labels alone tell.

    There are `labeled` images. `curve` has the mIoU of networks that learned from so many of them, the fewest first; it
    is measured on val, `on_val`, or on labeled images that they have not seen. `error` is the standard error of the
    gain, over images; all in [0, 1]. By class: `precision`, the share of right pixels to be
    expected among the pseudo-labels, NaN for a class of which nothing is known; and `found`, how often it is predicted
    for unlabeled images, over how often it occurs in labeled ones, NaN for one that does not. `right` is the share of
    right pixels among all pseudo-labels, NaN without unlabeled images. `calibration` has that share by class and level
    of confidence, as far as the halves tell.
    """

    labeled: int
    curve: Mapping[float, float]
    on_val: bool
    error: float
    precision: Mapping[str, float]
    found: Mapping[str, float]
    right: float
    calibration: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def gain(self) -> float:
        """What twice as many labels bring, of mIoU, by the last difference of the curve."""
        low, high = list(self.curve.values())[-2:]
        return (high - low) / doublings(list(self.curve))

    @property
    def mean_precision(self) -> float:
        """The mean of `precision` over the classes of which something is known."""
        known = [value for value in self.precision.values() if not math.isnan(value)]
        return sum(known) / len(known) if known else math.nan

    @property
    def labels_for_a_point(self) -> int | None:
        """How many more labeled images bring one point of mIoU, if each doubling brings as much as the last one.

        None where twice as many bring less than a point.
        """
        return math.ceil(self.labeled * (2 ** (0.01 / self.gain) - 1)) if self.gain >= LEAST_GAIN else None


def run(job: Job, runtime: Runtime) -> None:
    """Read what the stages before measured; writes `outlook.json`."""
    classes, on_val = job.settings["classes"], job.settings["judge"] == "val"
    held = [read_metrics(path) for path in job.inputs("held")]
    sizes: Mapping[str, float] = job.settings["sizes"]
    networks = {size: [read_metrics(path) for path in job.inputs(name)] for name, size in sizes.items()}
    images = [[read_by_image(path).set_index("id")["miou"] for path in job.inputs(name)] for name in ("fewer", "more")]
    signs = Signs(
        job.settings["labeled"],
        {size: reached(found, on_val) for size, found in networks.items()},
        on_val,
        standard_error(*images) / doublings(list(sizes.values())),
        *of_pseudo_labels(
            classes, held, predicted(job.input("masks"), len(classes)) if job.settings["unlabeled"] else None
        ),
        calibration(classes, held),
    )
    with job.writing(disk.OUTLOOK) as path:
        path.write_text(json.dumps(content(signs), indent=1, allow_nan=False) + "\n")
    job.finish()


def doublings(sizes: Sequence[float]) -> float:
    """How often the last number but one of labeled images is doubled for the last: once, but for rounded halves."""
    return math.log2(sizes[-1] / sizes[-2])


def reached(networks: Sequence[Mapping[str, Any]], on_val: bool) -> float:
    """The mIoU, in [0, 1], of networks, by the metrics of each.

    On val, where each is measured on the same images, their mean; else that of all images together, each of which one
    of the networks has predicted.
    """
    if on_val:
        return float(np.mean([metrics["miou"] for metrics in networks]))
    return float(mean_iou(np.sum([metrics["confusion"] for metrics in networks], axis=0)))


def standard_error(fewer: Sequence[pd.Series], more: Sequence[pd.Series]) -> float:
    """Of the difference in mIoU between networks with more and with fewer labels, over images; NaN for fewer than two.

    A series has the mIoU of a network by image; where several are measured on an image, their mean counts.
    """
    low, high = (pd.concat(list(group)).groupby(level=0).mean() for group in (fewer, more))
    differences = (high - low).dropna()
    return float(differences.std() / math.sqrt(len(differences))) if len(differences) > 1 else math.nan


def predicted(store: Any, classes: int) -> NDArray[np.int64]:
    """How many pixels of the masks in a store are of each class at each level of confidence: int64 (C, levels)."""
    counts = empty_counts(classes)
    with MaskStore(store) as masks:
        for id, mask in masks:
            counts += pixels_by_confidence(mask, masks.confidence_steps(id), classes)
    return counts


def of_pseudo_labels(
    classes: Sequence[str], held: Sequence[Mapping[str, Any]], pixels: NDArray[np.int64] | None
) -> tuple[dict[str, float], dict[str, float], float]:
    """The `precision`, `found` and `right` of `Signs`.

    `held` are the metrics of the halves on the images that they have not seen, `pixels` those of the unlabeled images.
    """
    if pixels is None:
        return {}, {}, math.nan
    confusion = np.sum([each["confusion"] for each in held], axis=0)
    expected = expected_precision(pixels, precision_of_halves(held))
    occurs, shares = confusion.sum(axis=1) / confusion.sum(), pixels.sum(axis=1) / pixels.sum()
    found = np.divide(shares, occurs, out=np.full(len(classes), math.nan), where=occurs > 0)
    return (
        dict(zip(classes, expected.tolist())),
        dict(zip(classes, found.tolist())),
        float(np.nansum(expected * shares)),
    )


def calibration(classes: Sequence[str], held: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The `calibration` of `Signs`; NaN for a class that the halves did not predict."""
    return {name: dict(zip(level_names(), row)) for name, row in zip(classes, precision_of_halves(held).tolist())}


def precision_of_halves(held: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """The share of right pixels among what the halves predicted for images that they have not seen: (C, levels)."""
    right, compared = (np.sum([each["confidence"][name] for each in held], axis=0) for name in ("right", "pixels"))
    return precision(right, compared)


def will_pay(signs: Signs) -> bool:
    """Whether unlabeled images will probably pay."""
    return signs.gain >= LEAST_GAIN and signs.mean_precision >= LEAST_PRECISION


def sentences(signs: Signs) -> list[str]:
    """What the signs say, for people; the first sentence is the forecast."""
    said = []
    if not math.isnan(signs.mean_precision):
        said.append(forecast(signs))
    error = "" if math.isnan(signs.error) else f" (standard error {100 * signs.error:.1f})"
    where = "val" if signs.on_val else "labeled images that they have not seen"
    size, miou = list(signs.curve.items())[-1]
    fewer = " and ".join(f"{100 * low:.1f} % with {less:g}" for less, low in reversed(list(signs.curve.items())[:-1]))
    said.append(
        f"Networks that learn from {size:g} labeled images reach {100 * miou:.1f} % mIoU on {where}, {fewer}: "
        f"twice as many labels bring {100 * signs.gain:+.1f} points{error}."
    )
    if not math.isnan(signs.mean_precision):
        said.append(f"Of all pixels of pseudo-labels, about {100 * signs.right:.0f} % would be right.")
    wrong = {name: value for name, value in signs.precision.items() if value < LEAST_PRECISION}
    if wrong:
        shares = [
            f"{name} ({100 * value:.0f} % right)" for name, value in sorted(wrong.items(), key=lambda one: one[1])
        ]
        said.append(f"They would be wrong more often than right for {listed(shares)}.")
    return said


def forecast(signs: Signs) -> str:
    """Whether unlabeled images will probably pay, the two numbers that decide, and what else there is to know."""
    more, right = 100 * signs.gain, 100 * signs.mean_precision
    reasons = []
    if signs.gain < LEAST_GAIN:
        reasons.append(f"labels are not what is missing, because twice as many bring {more:+.1f} points")
    if signs.mean_precision < LEAST_PRECISION:
        reasons.append(f"only {right:.0f} % of the pixels of pseudo-labels would be right, on average over the classes")
    lost = lost_classes(signs)
    lose = (
        f"; pseudo-labels would lose {listed(lost)}: the teacher predicts {'it' if len(lost) == 1 else 'them'} less "
        f"than half as often as in the labeled images"
        if lost
        else ""
    )
    if reasons:
        return f"Unlabeled images will probably not pay: {', and '.join(reasons)}{lose}."
    labels = counted(signs.labels_for_a_point or 0, "more labeled image")
    return (
        f"Unlabeled images will probably pay: twice as many labels bring {more:+.1f} points, so about {labels} bring "
        f"one point, and {right:.0f} % of the pixels of pseudo-labels would be right, on average over the "
        f"classes{lose}."
    )


def lost_classes(signs: Signs) -> list[str]:
    """The classes that pseudo-labels would lose, the most lost one first."""
    return sorted((name for name, value in signs.found.items() if value < LOST), key=lambda name: signs.found[name])


def content(signs: Signs) -> dict[str, Any]:
    """What `outlook.json` holds: whether unlabeled images will pay, the signs, and the sentences; None is unknown."""

    def known(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: known(each) for name, each in value.items()}
        return None if isinstance(value, float) and math.isnan(value) else value

    pays = None if math.isnan(signs.mean_precision) else will_pay(signs)
    curve = [{"labeled": size, "miou": miou} for size, miou in signs.curve.items()]
    own = {**vars(signs), "curve": curve, "labels_for_a_point": signs.labels_for_a_point}
    return {"pays": pays, **known(own), "sentences": sentences(signs)}
