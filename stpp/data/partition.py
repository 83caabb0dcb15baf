"""Random splits of a set of images: reproducible, independent of the order of the images."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stpp.errors import StppError

REDRAWS = 64  # draws that `covering_sample` tries before it builds a cover


def sample_size(split: Mapping[str, Any], total: int) -> int:
    """How many of `total` images a split takes: its `count`, or its `fraction` to the nearest whole number, at least 1.

    Raises StppError where there are fewer images than that.
    """
    count = split.get("count")
    if count is None:
        count = max(1, int(float(split["fraction"]) * total + 0.5))
    if not 1 <= count <= total:
        raise StppError(f"{count} images are asked for and there are {total}: ask for 1 to {total}")
    return int(count)


def sample(ids: Sequence[str], count: int, seed: int, purpose: str) -> set[str]:
    """`count` of the distinct `ids`, drawn at random.

    Ids are ranked by the SHA-256 of purpose, seed and id, and the first `count` are taken: the draw depends on neither
    the order of the ids nor the version of Python, and a smaller draw of a seed is part of a larger one. `purpose`
    keeps draws with the same seed independent of each other.
    """
    return set(_ranked(ids, f"{purpose}:{seed}")[:count])


def covering_sample(labels: Mapping[str, frozenset[int]], count: int, seed: int, purpose: str) -> set[str]:
    """`count` ids drawn at random such that every class that occurs anywhere occurs in the draw.

    `labels` gives the classes in the mask of each id. The first covering draw of `sample` and `REDRAWS - 1` further
    ones is taken, which is a uniform choice among covering draws. Where none covers, a greedy set cover (always the
    image that adds the most missing classes, the first in rank among equals) is filled up in rank order.
    Raises StppError where that cover alone needs more than `count` images.
    """
    ids = list(labels)
    wanted = frozenset().union(*labels.values())
    for draw in _draws(ids, count, seed, purpose):
        if frozenset().union(*(labels[id_] for id_ in draw)) == wanted:
            return draw

    ranked = _ranked(ids, f"{purpose}:{seed}")
    cover: set[str] = set()
    missing = wanted
    while missing:
        best = max(ranked, key=lambda id_: len(labels[id_] & missing))  # max keeps the first among equals
        cover.add(best)
        missing -= labels[best]
    if len(cover) > count:
        raise StppError(
            f"{count} images cannot be drawn to cover all {len(wanted)} classes that occur: the smallest cover found "
            f"has {len(cover)} images; ask for at least {len(cover)}, or set cover_classes: false"
        )
    fill = [id_ for id_ in ranked if id_ not in cover]
    return cover | set(fill[: count - len(cover)])


def fold(ids: Sequence[str], of: int, number: int, seed: int) -> set[str]:
    """Fold `number`, from 1, of the distinct `ids`, which are dealt out to `of` folds in a random order.

    Raises StppError where there are fewer ids than folds.
    """
    if len(ids) < of:
        raise StppError(f"{of} folds are asked for and there are {len(ids)} labeled images; ask for fewer folds")
    return set(_ranked(ids, f"fold:{seed}")[number - 1 :: of])


def _draws(ids: Sequence[str], count: int, seed: int, purpose: str) -> Iterator[set[str]]:
    yield sample(ids, count, seed, purpose)
    for attempt in range(1, REDRAWS):
        yield sample(ids, count, seed, f"{purpose}, redraw {attempt}")


def _ranked(ids: Sequence[str], salt: str) -> list[str]:
    return sorted(ids, key=lambda id_: hashlib.sha256(f"{salt}:{id_}".encode(errors="surrogateescape")).digest())
