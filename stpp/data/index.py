"""`stpp index`: from the data settings to manifests with fingerprints, after a look at every file."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from posixpath import expanduser
from typing import Any

from stpp.data.classes import Classes, classes_of
from stpp.data.images import class_of
from stpp.data.inspection import Inspector, Kind, Look
from stpp.data.lint import counted, lint, lint_counts, shares, some
from stpp.data.lists import exists
from stpp.data.manifest import SUBSETS, Row, fingerprint, manifest_digest, manifest_path, write_manifest
from stpp.data.record import FORMAT, index_path, stamp
from stpp.data.sources import Entry, Sources, resolve
from stpp.errors import Problems
from stpp.files import write_text
from stpp.metrics import IGNORE


def index(
    data: Mapping[str, Any],
    results: Path,
    *,
    batch_size: int,
    need_unlabeled: bool,
    verify: bool = False,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Look at all files of the data set that `data` describes, write its manifests, and record and return its index.

    The index has, by subset that is not empty, `fingerprint`, `count`, `manifest` (a path) and its `sha256`; the names
    of the `classes` and their `palette` ([r, g, b]); `warnings`; and what `record.load_fresh` has to `watch`.
    `verify` reads the content of all files again and warns where that of unlabeled images is not what it was. Raises
    Problems, with all that is wrong, before anything is written.
    """
    source = _with_demo(data) if data["layout"] == "demo" else data
    inspector = Inspector(results / "data" / "cache.json", verify=verify)
    classes = classes_of(source)
    mask_kind: Kind = "coloured mask" if data.get("palette_map") else "mask"

    def labels_of(masks: Sequence[str]) -> dict[str, frozenset[int]]:
        looks = inspector.look(mask_kind, masks, content=True)
        encoding = classes.encoding or {"classes": 0}
        found = {mask: [class_of(raw, encoding) for raw in look.values] for mask, look in looks.items()}
        return {mask: frozenset(label for label in each if label not in (None, IGNORE)) for mask, each in found.items()}

    sources = resolve(source, labels_of)
    unlabeled = [entry for entry in sources.entries if entry.subset == "unlabeled"]
    others = [entry for entry in sources.entries if entry.subset != "unlabeled"]
    truth = [entry.mask for entry in unlabeled if entry.mask is not None and exists(entry.mask)]
    images = inspector.look("image", [entry.image for entry in others], content=True)
    images |= inspector.look("image", [entry.image for entry in unlabeled], content=False)
    masks = inspector.look(mask_kind, truth, content=False)
    masks |= inspector.look(mask_kind, [entry.mask for entry in others if entry.mask is not None], content=True)

    headline = f"The data set in {data['root']} cannot be used"
    warnings = _check(headline, sources, classes, images, masks, batch_size, need_unlabeled)
    if changed := sorted(inspector.changed & {*truth, *(entry.image for entry in unlabeled)}):
        warnings.append(
            f"{counted(changed, 'unlabeled file')} with another content than when it was last read, under the same "
            f"size: {some(changed)}. The fingerprint, of names and sizes, does not show it, and results made from the "
            "earlier content are out of date. Give changed images new names, or remove the stages made from them."
        )

    rows = _rows(sources.entries, images, masks)
    subsets: dict[str, dict[str, Any]] = {}
    for subset, members in rows.items():
        digest = manifest_digest(members)
        path = manifest_path(results, subset, digest)
        write_manifest(path, members)
        known = {"fingerprint": fingerprint(members), "count": len(members)}
        subsets[subset] = {**known, "manifest": str(path), "sha256": digest}
        log(f"{subset}: {len(members):,} images")
        if subset == "labeled" and classes.encoding is not None:
            entries = [entry for entry in others if entry.subset == "labeled"]
            log(f"labeled pixels: {shares(entries, masks, classes.encoding, classes.names)}")
    for warning in warnings:
        log(f"Warning: {warning}")

    watched = {entry.image: images[entry.image] for entry in others}
    watched |= {entry.mask: masks[entry.mask] for entry in others if entry.mask is not None}
    files = {**classes.files, **sources.files, **{path: look.stamp for path, look in watched.items()}}
    files |= {subset["manifest"]: stamp(subset["manifest"]) for subset in subsets.values()}
    record = {
        "format": FORMAT,
        "subsets": subsets,
        "classes": classes.names,
        "palette": classes.palette,
        "warnings": warnings,
        "watch": {"files": files, "folders": sources.folders},
    }
    write_text(index_path(results, data), json.dumps(record) + "\n")
    inspector.save()
    return record


def _with_demo(data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the demo as those of lists, after its scenes were generated where they are not yet."""
    from stpp.data.demo import generate

    root = Path(expanduser(data["root"]))
    generate(root, **data["demo"])
    lists = {subset: str(root / f"{subset}.txt") for subset in SUBSETS if data["demo"].get(subset)}
    lists = {subset: path for subset, path in lists.items() if data.get(subset) is None}
    return {**data, "layout": "lists", "classes_file": str(root / "classes.txt"), **lists}


def _check(
    headline: str,
    sources: Sources,
    classes: Classes,
    images: Mapping[str, Look],
    masks: Mapping[str, Look],
    batch_size: int,
    need_unlabeled: bool,
) -> list[str]:
    """The warnings; raises Problems if there are any."""
    found = lint(sources.entries, images, masks, classes.encoding, classes.names, classes.palette)
    problems = [*classes.problems, *sources.problems, *found.problems]
    counts = lint_counts(Counter(entry.subset for entry in sources.entries), batch_size, need_unlabeled=need_unlabeled)
    if not sources.problems:  # which explain why images are missing
        problems += counts.problems
    if problems:
        raise Problems(headline, problems)
    return [*sources.warnings, *found.warnings, *counts.warnings]


def _rows(entries: Iterable[Entry], images: Mapping[str, Look], masks: Mapping[str, Look]) -> dict[str, list[Row]]:
    """The rows of each subset that is not empty, in the order of the entries."""
    rows: dict[str, list[Row]] = {}
    for id_, subset, image, mask, _ in entries:
        look, true = images[image], masks.get(mask or "", Look())
        row = Row(id_, subset, image, mask, look.height, look.width, look.size)
        if subset != "unlabeled":
            row = row._replace(sha256=look.sha256, mask_bytes=true.size, mask_sha256=true.sha256)
        else:
            # Their digests are known only by chance.
            if (true.height, true.width) == (look.height, look.width):
                rows.setdefault("truth", []).append(row._replace(subset="truth", mask_bytes=true.size))
            row = row._replace(mask=None)
        rows.setdefault(subset, []).append(row)
    return {subset: rows[subset] for subset in SUBSETS if subset in rows}
