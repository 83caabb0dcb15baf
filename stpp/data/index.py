"""`stpp index`: from the data settings to manifests with fingerprints, after a look at every file."""

import atexit
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from posixpath import expanduser
from tempfile import mkdtemp
from typing import Any, NamedTuple

from stpp.common import disk
from stpp.common.bands import Bands, bands_of
from stpp.common.errors import Problems
from stpp.common.files import write_text
from stpp.common.labels import IGNORE
from stpp.data.classes import Classes, classes_of
from stpp.data.demo import draw_scenes, generate, is_there
from stpp.data.images import class_of, labeled_ranges, other_readers
from stpp.data.inspection import Inspector, Look, image_kind, mask_kind
from stpp.data.leaks import copies, neighbours
from stpp.data.lint import counted, lint, lint_counts, shares, some
from stpp.data.lists import absent
from stpp.data.manifest import SUBSETS, Row, fingerprint, manifest_digest, manifest_path, write_manifest
from stpp.data.record import FORMAT, index_path, stamp
from stpp.data.sources import Entry, Sources, resolve
from stpp.data.strays import masks_among, smaller_versions


class Index(NamedTuple):
    """A look at a data set: its index, and what is to be written of it before a job can read the data.

    `record` has, by subset that is not empty, `fingerprint`, `count`, `manifest` (a path) and its `sha256`, and the
    modules of the `readers` that it needs beside that of pictures, if any; the names of the `classes` and their
    `palette` ([r, g, b]); the `bands`, where the settings ask for other images than RGB; `warnings`; and what
    `record.load_fresh` has to `watch`. `rows` are those of the manifests, by subset. `inspector` is who looked.
    `scenes` is the folder where the demo's scenes were drawn for this look alone; what is to `watch` is then in that
    folder.
    """

    record: dict[str, Any]
    rows: dict[str, list[Row]]
    inspector: Inspector
    scenes: Path | None


def index(
    data: Mapping[str, Any],
    results: Path,
    *,
    batch_size: int,
    need_unlabeled: bool,
    verify: bool = False,
    log: Callable[[str], None] = print,
    scenes: Path | None = None,
) -> dict[str, Any]:
    """Look at the data set as `look` does, write its manifests, and record and return its index.

    The demo's scenes are drawn where they are not yet, or copied from `scenes`, where an earlier look had them drawn.
    """
    if data["layout"] == "demo":
        generate(Path(expanduser(data["root"])), **data["demo"], drawn=scenes)
    found = look(data, results, batch_size=batch_size, need_unlabeled=need_unlabeled, verify=verify, log=log)
    write(found, data, results)
    return found.record


def write(found: Index, data: Mapping[str, Any], results: Path) -> None:
    """Write the manifests, which jobs read, and remember what was seen."""
    manifests = found.record["watch"]["manifests"]
    for subset, rows in found.rows.items():
        path = found.record["subsets"][subset]["manifest"]
        write_manifest(Path(path), rows)
        manifests[path] = stamp(path)
    remember(found, data, results)


def remember(found: Index, data: Mapping[str, Any], results: Path) -> None:
    """Record the index, and what was seen of each file, for later looks; no job reads this."""
    write_text(index_path(results, data), json.dumps(found.record) + "\n")
    found.inspector.save()


def look(
    data: Mapping[str, Any],
    results: Path,
    *,
    batch_size: int,
    need_unlabeled: bool,
    verify: bool = False,
    log: Callable[[str], None] = print,
) -> Index:
    """Look at all files of the data set that `data` describes, and write nothing.

    `verify` reads the content of all files again and warns where that of unlabeled images is not what it was. Demo
    scenes that are not there yet are drawn into a temporary folder, which goes when the process ends. Raises Problems,
    with all that is wrong.
    """
    scenes = _scenes(data) if data["layout"] == "demo" else None
    source = _as_lists(data, scenes) if data["layout"] == "demo" else data
    inspector = Inspector(results / disk.DATA / disk.INSPECTED, verify=verify)
    classes = classes_of(source)
    kind = mask_kind(classes.encoding or {})

    def labels_of(masks: Sequence[str]) -> dict[str, frozenset[int]]:
        looks = inspector.look(kind, masks, content=True)
        encoding = classes.encoding or {"classes": 0}
        found = {mask: [class_of(raw, encoding) for raw in look.values] for mask, look in looks.items()}
        return {mask: frozenset(label for label in each if label not in (None, IGNORE)) for mask, each in found.items()}

    sources = resolve(source, labels_of)
    unlabeled = [entry for entry in sources.entries if entry.subset == "unlabeled"]
    others = [entry for entry in sources.entries if entry.subset != "unlabeled"]
    truth = [entry.mask for entry in unlabeled if entry.mask is not None and not absent(entry.mask)]
    bands, percentiles = bands_of(source), source.get("percentiles")
    image = image_kind(bands, has_scale=bool(source.get("scale") or percentiles))
    images = inspector.look(image, [entry.image for entry in others], content=True)
    images |= inspector.look(image, [entry.image for entry in unlabeled], content=False)
    if data.get("skip_broken"):
        sources = _without_broken(sources, images)
    masks = inspector.look(kind, truth, content=False)
    masks |= inspector.look(kind, [entry.mask for entry in others if entry.mask is not None], content=True)

    sources.problems.extend(_own_output(results, sources.entered))
    problems, warnings = _check(sources, classes, images, masks, batch_size, need_unlabeled)
    if scenes is not None:
        warnings = [text.replace(str(scenes), data["root"]) for text in warnings]
    if changed := sorted(inspector.changed & {*truth, *(entry.image for entry in unlabeled)}):
        warnings.append(
            f"{counted(changed, 'unlabeled file')} whose content has changed since the last look, but not the size: "
            f"{some(changed)}. The fingerprint covers names and sizes alone, so it is the same, and results made from "
            "the earlier content are out of date. Give changed images new names, or remove the stages made from them."
        )

    if problems:
        for warning in warnings:  # which may say why
            log(f"Warning: {warning}")
        raise Problems(f"The data set in {data['root']} cannot be used", problems)

    if bands is not None:
        if percentiles:
            labeled = [entry.image for entry in others if entry.subset == "labeled"]
            bands = bands._replace(scale=labeled_ranges(labeled, bands, percentiles))
        log(_said(bands))

    rows = _rows(sources.entries, images, masks)
    if scenes is not None:
        rows = {subset: _moved(members, scenes, Path(expanduser(data["root"]))) for subset, members in rows.items()}
    subsets: dict[str, dict[str, Any]] = {}
    for subset, members in rows.items():
        digest = manifest_digest(members)
        known: dict[str, Any] = {"fingerprint": fingerprint(members), "count": len(members)}
        known["pixels"] = sum(row.height * row.width for row in members)
        if readers := other_readers(path for row in members for path in (row.image, row.mask) if path):
            known["readers"] = readers
        subsets[subset] = {**known, "manifest": str(manifest_path(results, subset, digest)), "sha256": digest}
        log(f"{subset}: {counted(len(members), 'image')}")
        if subset == "labeled" and classes.encoding is not None:
            entries = [entry for entry in others if entry.subset == "labeled"]
            log(f"labeled pixels: {shares(entries, masks, classes.encoding, classes.names)}")
    for warning in warnings:
        log(f"Warning: {warning}")

    watched = {entry.image: images[entry.image] for entry in others}
    watched |= {entry.mask: masks[entry.mask] for entry in others if entry.mask is not None}
    files = {**classes.files, **sources.files, **{path: look.stamp for path, look in watched.items()}}
    record = {
        "format": FORMAT,
        "subsets": subsets,
        "classes": classes.names,
        "palette": classes.palette,
        "warnings": warnings,
        "watch": {"files": files, "folders": sources.folders, "manifests": {}},
        **({} if bands is None else {"bands": bands.plain()}),
    }
    return Index(record, rows, inspector, scenes)


def _said(bands: Bands) -> str:
    """The bands of the images, how they are scaled, and which are colours, in a line."""
    ranges = [f" from {low:g} to {high:g}" for low, high in bands.scale or []] or [""] * len(bands.numbers)
    names = dict(zip(bands.rgb or (), ("red", "green", "blue")))
    each = [
        f"{number}{f' ({names[place]})' if place in names else ''}{ranges[place]}"
        for place, number in enumerate(bands.numbers)
    ]
    unknown = (
        ""
        if bands.rgb
        else "; none is declared as red, green or blue, so hue, saturation and grayscale are not changed"
    )
    return f"bands of the images: {', '.join(each)}{unknown}"


def _without_broken(sources: Sources, images: Mapping[str, Look]) -> Sources:
    """`sources` without the unlabeled images that cannot be read, of which a warning tells."""
    broken = [entry for entry in sources.entries if entry.subset == "unlabeled" and images[entry.image].error]
    if not broken:
        return sources
    names = [f"{entry.image} ({error.what})" for entry in broken if (error := images[entry.image].error)]
    warning = f"{counted(names, 'unlabeled image')} left out, as data.skip_broken says: {some(names)}."
    left = {entry.image for entry in broken}
    entries = [entry for entry in sources.entries if entry.image not in left]
    return sources._replace(entries=entries, warnings=[*sources.warnings, warning])


def _scenes(data: Mapping[str, Any]) -> Path | None:
    """A temporary folder with the demo's scenes; None if they are in their place."""
    if is_there(Path(expanduser(data["root"])), **data["demo"]):
        return None
    folder = mkdtemp(prefix="stpp-demo-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    scenes = Path(folder, "scenes")  # not the folder itself, which is closed to others, as copies of it would be
    draw_scenes(scenes, **data["demo"])
    return scenes


def _as_lists(data: Mapping[str, Any], scenes: Path | None) -> dict[str, Any]:
    """The settings of the demo as those of lists; its scenes lie in `scenes`, else in their place."""
    root = Path(expanduser(data["root"]))
    place = scenes or root
    lists: dict[str, str] = {}
    for subset in SUBSETS:
        if data.get(subset) is not None:  # a user's own list, which may be one of the demo's by its path
            path = Path(expanduser(data[subset]))
            lists[subset] = str(place / path.relative_to(root)) if path.is_relative_to(root) else data[subset]
        elif data["demo"].get(subset):
            lists[subset] = str(place / f"{subset}.txt")
    return {**data, "layout": "lists", "root": str(place), "classes_file": str(place / "classes.txt"), **lists}


def _own_output(results: Path, entered: Iterable[str]) -> Iterator[str]:
    """A problem if a scanned folder, as `entered` by its real path, has what is computed from it."""
    own = results.resolve()
    scanned = next(
        (folder for folder in map(Path, entered) if folder in (own, *own.parents) or own in folder.parents), None
    )
    if scanned is not None:
        yield (
            f"The folder for results, {own}, and the images in {scanned} lie within each other, so charts and masks "
            "would count as images: choose another place with `results`."
        )


def _check(
    sources: Sources,
    classes: Classes,
    images: Mapping[str, Look],
    masks: Mapping[str, Look],
    batch_size: int,
    need_unlabeled: bool,
) -> tuple[list[str], list[str]]:
    """The problems and the warnings."""
    found = lint(sources.entries, images, masks, classes.encoding, classes.names, classes.palette, classes.known)
    problems = [*classes.problems, *sources.problems, *found.problems]
    counts = lint_counts(Counter(entry.subset for entry in sources.entries), batch_size, need_unlabeled=need_unlabeled)
    if not sources.problems:  # which explain why images are missing
        problems += counts.problems
    strays = [check(sources.entries, images) for check in (masks_among, smaller_versions, copies, neighbours)]
    return problems, [*sources.warnings, *found.warnings, *(text for each in strays for text in each), *counts.warnings]


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


def _moved(rows: Iterable[Row], scenes: Path, root: Path) -> list[Row]:
    """The rows with the paths that the scenes, which lie in `scenes` now, will have in `root`."""

    def place(path: str) -> str:
        name = path.removeprefix(f"{scenes}/")
        return name if name == path or root == Path() else f"{root}/{name}"

    return [row._replace(image=place(row.image), mask=row.mask and place(row.mask)) for row in rows]
