"""Random splits of a set of images: reproducible, independent of the order of the images."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from stpp.common.errors import StppError
from stpp.common.labels import GROUP

REDRAWS = 64  # draws that `covering_sample` tries before it builds a cover


def sample_size(split: Mapping[str, Any], total: int) -> int:
    """How many of `total` images a split takes: its `count`, or its `fraction` to the nearest whole number, at least 1.

    Raises StppError where there are fewer images than that.
    """
    count = split.get("count")
    if count is None:
        count = max(1, int(float(split["fraction"]) * total + 0.5))
    if not 1 <= count <= total:
        raise StppError(f"{count} images are asked for, but there are {total}: ask for 1 to {total}")
    return int(count)


def sample(groups: Mapping[str, str], count: int, seed: int, purpose: str) -> set[str]:
    """About `count` ids drawn at random, whole groups of them; `groups` gives the group of each id.

    Groups are ranked by the SHA-256 of purpose, seed and name, and each one in turn is taken that brings the number of
    ids nearer to `count`; if none does, the first one of the smallest. Where each id is a group of its own, these are
    the first `count`. The draw depends on neither the order of the ids nor the version of Python, and a smaller draw
    of a seed is part of a larger one unless groups differ in size. `purpose` keeps draws with the same seed independent
    of each other.
    """
    members = _members(groups)
    ranked = _ranked(list(members), f"{purpose}:{seed}")
    taken: set[str] = set()
    for name in ranked:
        if len(taken) == count:
            break
        if abs(len(taken) + len(members[name]) - count) < abs(len(taken) - count):
            taken.update(members[name])
    return taken or set(members[min(ranked, key=lambda name: len(members[name]))])


def covering_sample(
    labels: Mapping[str, frozenset[int]], groups: Mapping[str, str], count: int, seed: int, purpose: str
) -> set[str]:
    """About `count` ids drawn at random such that every class that occurs anywhere occurs in the draw.

    `labels` gives the classes in the mask of each id, `groups` its group. The first covering draw of `sample` and
    `REDRAWS - 1` further ones is taken, which is a uniform choice among covering draws. Where none covers, and each id
    is a group of its own, a greedy set cover (always the image that adds the most missing classes, the first in rank
    among equals) is filled up in rank order. Raises StppError where that cover alone needs more than `count` images,
    and where no draw of whole groups covers.
    """
    ids = list(labels)
    wanted = frozenset().union(*labels.values())
    for draw in _draws(groups, count, seed, purpose):
        if frozenset().union(*(labels[id_] for id_ in draw)) == wanted:
            return draw
    if len({*groups.values()}) < len(groups):
        raise StppError(
            f"no draw of about {count} images in whole groups has all {len(wanted)} classes that occur; ask for more, "
            "or set cover_classes: false"
        )

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


def fold(groups: Mapping[str, str], of: int, number: int, seed: int) -> set[str]:
    """The ids of fold `number`, from 1; `groups` gives the group of each id.

    The groups are dealt out in a random order, each to the fold that has the fewest ids, the first one among equals.
    Raises StppError where there are fewer groups than folds.
    """
    members = _members(groups)
    if len(members) < of:
        kind = "labeled images" if len(members) == len(groups) else "groups of labeled images"
        raise StppError(f"{of} folds are asked for, but there are {len(members)} {kind}; ask for fewer folds")
    folds: list[set[str]] = [set() for _ in range(of)]
    for name in _ranked(list(members), f"fold:{seed}"):
        min(folds, key=len).update(members[name])
    return folds[number - 1]


def groups_of(ids: Iterable[str], pattern: str | None) -> dict[str, str]:
    """The group of each id: what stands for `{group}` in the pattern, and the pattern's text for `*` besides.

    `{group}` and each `*` stand for the shortest text that fits. Without a pattern each id is a group of its own. An id
    that the pattern does not fit is left out.
    """
    if pattern is None:
        return {id_: id_ for id_ in ids}
    words = re.split(r"(\{group\}|\*)", pattern)
    expression = re.compile(
        "".join({GROUP: "(.+?)", "*": ".*?"}.get(word, re.escape(word)) for word in words), re.DOTALL
    )
    return {id_: found[1] for id_ in ids if (found := expression.fullmatch(id_))}


def _members(groups: Mapping[str, str]) -> dict[str, list[str]]:
    """The ids of each group."""
    members: dict[str, list[str]] = {}
    for id_, group in groups.items():
        members.setdefault(group, []).append(id_)
    return members


def _draws(groups: Mapping[str, str], count: int, seed: int, purpose: str) -> Iterator[set[str]]:
    yield sample(groups, count, seed, purpose)
    for attempt in range(1, REDRAWS):
        yield sample(groups, count, seed, f"{purpose}, redraw {attempt}")


def _ranked(ids: Sequence[str], salt: str) -> list[str]:
    return sorted(ids, key=lambda id_: hashlib.sha256(f"{salt}:{id_}".encode(errors="surrogateescape")).digest())
