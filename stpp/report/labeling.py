"""Which unlabeled images to label next: of those that are least stable, the ones that differ most from all others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stpp.data.manifest import Row
from stpp.plan.counts import CANDIDATES
from stpp.plan.parts import score
from stpp.report.facts import Facts
from stpp.report.gallery import Pictures, picture_row
from stpp.report.html import Html, element, section
from stpp.scoring.diversity import farthest_first
from stpp.store.colours import class_colours

WHICH = (
    "Of the images on which the checkpoints of the teacher agree least, these differ most from the labeled ones and "
    "from each other."
)

Features = Callable[[Row], NDArray[np.float32]]
"""Gives what the encoder of the teacher makes of an image: float32 (D,), of length 1."""


@dataclass(frozen=True)
class Unstable:
    """An unlabeled image with its score of stability and its rank by it, 1 for the most stable of `ranked`."""

    row: Row
    score: float
    rank: int
    ranked: int

    @property
    def note(self) -> str:
        """What there is to say of it."""
        return f"score {self.score:.3f}, rank {self.rank} of {self.ranked}"


def to_label_next(
    scores: pd.DataFrame,
    unlabeled: Sequence[Row],
    labeled: Sequence[Row],
    measured: Sequence[Row],
    count: int,
    features: Features,
) -> list[Unstable]:
    """At most `count` images of a score table: `CANDIDATES` times as many least stable ones, by `farthest_first`.

    Known to it are the labeled images. Those of val and test, `measured`, have masks, too, so none like them is chosen.
    """
    candidates = least_stable(scores, unlabeled, CANDIDATES * count)
    found, known, avoided = (
        np.array([features(row) for row in rows]) for rows in ([each.row for each in candidates], labeled, measured)
    )
    return [candidates[number] for number in farthest_first(found, known, count, avoided)]


def least_stable(scores: pd.DataFrame, rows: Sequence[Row], count: int) -> list[Unstable]:
    """The `count` images with the lowest scores of a score table, the least stable one first."""
    by_id = {row.id: row for row in rows}
    lowest = scores.sort_values("rank", ascending=False)[["id", "score", "rank"]].head(count)
    return [Unstable(by_id[id], float(value), int(rank), len(scores)) for id, value, rank in lowest.itertuples(False)]


def label_these_next(facts: Facts, sources: Pictures, count: int, features: Features) -> Html:
    """The part of the report: at most `count` images; nothing where no score selected images."""
    scored = score(facts.shown)
    if not (scored and count):
        return Html("")
    unlabeled, labeled = facts.subsets["unlabeled"], facts.subsets["labeled"]
    measured = [row for subset in ("val", "test") for row in facts.subsets.get(subset, ())]
    chosen = to_label_next(facts.scores[scored], unlabeled, labeled, measured, count, features)
    colours = class_colours(facts.palette)
    about = element(
        "p",
        f"{WHICH} ",
        element("code", "stpp next"),
        " chooses as many as you want in the same way, and writes masks to correct.",
    )
    return section(
        "next",
        "Label these next",
        about,
        *(picture_row(each.row, each.note, facts, sources, colours) for each in chosen),
    )
