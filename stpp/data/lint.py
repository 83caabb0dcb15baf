"""What is wrong with a data set, all at once, in sentences that say what, where, what was expected, what to do."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from stpp.common.errors import shortened
from stpp.common.labels import IGNORE
from stpp.data import hints
from stpp.data.doubts import contradicted, doubted, void
from stpp.data.images import class_of, expected, raw_values
from stpp.data.inspection import BANDS, Look
from stpp.data.sources import Entry

SHOWN = 5  # files named for each kind of problem
CLASSES = 24  # classes whose share is said


class Findings(NamedTuple):
    """Sentences: `problems` keep the data from being used, `warnings` do not."""

    problems: list[str]
    warnings: list[str]


def lint(
    entries: Sequence[Entry],
    images: Mapping[str, Look],
    masks: Mapping[str, Look],
    encoding: Mapping[str, Any] | None,
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    known: Mapping[str, int] = {},
) -> Findings:
    """All problems of the images `entries`, given a look at each image and mask by its path.

    Labels are not judged where the `encoding` is None; otherwise masks of labeled, val and test images must have been
    looked at with their labels. Masks of unlabeled images may be missing from `masks`; what is wrong with them is a
    warning, as they only serve to report quality. A class without a labeled pixel is a warning; labels of a single
    class are a problem, as nothing can be learned.
    """
    with_labels = [entry for entry in entries if entry.subset != "unlabeled"]
    truth = [entry for entry in entries if entry.subset == "unlabeled" and entry.mask in masks]
    problems = [
        *_names(entries),
        *_repeated(entries),
        *_unusable(entries, images, masks={}),
        *_unusable(with_labels, {}, masks),
        *_sizes(with_labels, images, masks),
    ]
    warnings = [
        f"{text} (Used for reports only.)" for text in (*_unusable(truth, {}, masks), *_sizes(truth, images, masks))
    ]
    warnings += [*_remarks(entries, images), *_other_bands(entries, images)]
    if encoding is not None:
        whole = {entry.mask: masks[entry.mask] for entry in with_labels if entry.mask and not masks[entry.mask].error}
        problem, doubt = contradicted(whole, encoding, names, palette, known)
        strange = [problem] if problem else [*_values(whole, encoding, names, palette, known)]
        missing, single = _coverage([entry for entry in entries if entry.subset == "labeled"], masks, encoding, names)
        problems += strange or single
        warnings += [doubt] if doubt else []
        missing = [f"{text} {void(whole, encoding, names)}".rstrip() for text in missing]
        warnings += [] if strange or single else [*missing, *doubted(whole, encoding, names, raw_values)]
    return Findings(problems, warnings)


def lint_counts(counts: Mapping[str, int], batch_size: int, *, need_unlabeled: bool) -> Findings:
    """Whether there are enough images, given how many each subset has."""
    problems, warnings = [], []
    labeled = counts.get("labeled", 0)
    if labeled == 0:
        problems.append(
            "There is no labeled image: name some in the list `labeled`, or add masks for some of the training images."
        )
    elif labeled < batch_size:
        warnings.append(
            f"There {'is' if labeled == 1 else 'are'} {counted(labeled, 'labeled image')}, fewer than the batch of "
            f"{batch_size}: a batch holds some of them twice, or an epoch has less than one batch; choose a smaller "
            "batch_size or a larger labeled_repeat."
        )
    if need_unlabeled and counts.get("unlabeled", 0) == 0:
        problems.append(
            "There is no unlabeled image, but self-training needs some: give a list `unlabeled`, images without masks, "
            "or a `partition` of the labeled ones."
        )
    return Findings(problems, warnings)


# --- single files -----------------------------------------------------------------------------------------------------


def _unusable(entries: Iterable[Entry], images: Mapping[str, Look], masks: Mapping[str, Look]) -> Iterable[str]:
    """Files that are missing, damaged or of a wrong kind, by what is wrong."""
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for entry in entries:
        for kind, path, looks in (("image", entry.image, images), ("mask", entry.mask, masks)):
            if path is not None and (look := looks.get(path)) is not None and (error := look.error) is not None:
                notes = ", ".join(note for note in (entry.where, error.detail) if note)
                key = (f"{entry.subset} {kind}", error.what, _remedy(path, error.what, error.remedy))
                groups[key].append(f"{path} ({notes})" if notes else path)
    for (kind, what, remedy), files in groups.items():
        yield f"{counted(files, kind)}: {what}: {some(files)}. {remedy}."


def _remedy(path: str, what: str, remedy: str) -> str:
    if what == "no such file" and "\\" in path:
        return 'Lists write "/" between folders, not "\\"'
    if what == "no such file" and path.endswith("_gtFine_labelTrainIds.png"):
        return (
            "Cityscapes comes without these: make them with csCreateTrainIdLabelImgs of the cityscapesscripts package"
        )
    return remedy


def _remarks(entries: Iterable[Entry], images: Mapping[str, Look]) -> Iterable[str]:
    """What of images is not read."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path in dict.fromkeys(entry.image for entry in entries):
        if remark := images[path].remark:
            groups[remark].append(path)
    for remark, files in groups.items():
        yield (f"{counted(files, 'image')}: {remark}: {some(files)}. `data.bands` says which bands are read.")


def _other_bands(entries: Iterable[Entry], images: Mapping[str, Look]) -> Iterable[str]:
    """Whether files have different numbers of bands, of which the same are taken from each."""
    groups: dict[int, list[str]] = defaultdict(list)
    for path in dict.fromkeys(entry.image for entry in entries):
        if count := images[path].values.get(BANDS):
            groups[count].append(path)
    if len(groups) > 1:
        each = "; ".join(f"{count} in {counted(files, 'image')}, {some(files, 2)}" for count, files in groups.items())
        yield f"The images have different numbers of bands: {each}. `data.bands` takes the same numbers from each."


def _sizes(entries: Iterable[Entry], images: Mapping[str, Look], masks: Mapping[str, Look]) -> Iterable[str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        image, mask = images[entry.image], masks.get(entry.mask or "")
        if mask is None or image.error or mask.error or (image.height, image.width) == (mask.height, mask.width):
            continue
        sizes = f"image {image.width} x {image.height}, mask {mask.width} x {mask.height}"
        groups[entry.subset].append(f"{entry.mask} ({sizes})")
    for subset, files in groups.items():
        yield (
            f"{counted(files, f'{subset} mask')}: not the size of the image (width x height, turned upright by EXIF): "
            f"{some(files)}. Make mask and image the same size."
        )


def _names(entries: Iterable[Entry]) -> Iterable[str]:
    """Names that cannot be written into text files."""
    broken, foreign = [], []
    for entry in entries:
        path = f"{entry.image}{entry.mask or ''}"
        if "\n" in path or "\r" in path:
            broken.append(ascii(entry.image))
        elif not _is_text(path):
            foreign.append(ascii(entry.image))
    if broken:
        yield f"{counted(broken, 'image')}: a line break in the name: {some(broken)}. Rename the files."
    if foreign:
        yield f"{counted(foreign, 'image')}: a name that is not UTF-8: {some(foreign)}. Rename the files."


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _repeated(entries: Iterable[Entry]) -> Iterable[str]:
    """Images that occur twice: in one subset, in two, or as two files with one id."""
    by_id: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_id[entry.id].append(entry)
    groups: dict[str, list[str]] = defaultdict(list)
    for id_, same in by_id.items():
        if len(same) == 1:
            continue
        subsets = list(dict.fromkeys(entry.subset for entry in same))
        files = list(dict.fromkeys(entry.image for entry in same))
        places = ", ".join(entry.where for entry in same if entry.where)
        if len(files) > 1:
            groups["two files differ only in their suffix. Rename or remove one of them"].append(
                " and ".join(files[:3])
            )
        elif len(subsets) > 1:
            both = " and ".join(subsets)
            groups[f"in two subsets, {both}. Remove it from one of them"].append(f"{id_} ({places})" if places else id_)
        else:
            what = f"more than once in {subsets[0]}. Remove the repeated lines"
            groups[what].append(f"{id_} ({places})" if places else id_)
    for what, found in groups.items():
        problem, remedy = what.split(". ")
        yield f"{counted(found, 'image')}: {problem}: {some(found)}. {remedy}."


# --- labels -----------------------------------------------------------------------------------------------------------


def _values(
    masks: Mapping[str, Look],
    encoding: Mapping[str, Any],
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    known: Mapping[str, int],
) -> Iterable[str]:
    """Masks with values or colours that have no class, or without any labeled pixel."""
    wrong: list[str] = []
    coloured: list[str] = []
    empty: list[str] = []
    for path, look in masks.items():
        classes = {raw: class_of(raw, encoding) for raw in look.values}
        if unknown := [raw for raw, class_ in classes.items() if class_ is None]:
            shown = [f"{raw}: {counted(look.values[raw], 'pixel')}" for raw in unknown]
            as_colour = unknown[0].startswith("#") and not encoding["palette_map"]
            (coloured if as_colour else wrong).append(f"{path} ({some(shown, 3)})")
        elif set(classes.values()) == {IGNORE}:
            empty.append(path)
    if coloured:
        hint = hints.for_colours(hints.values_of(masks.values()), names, palette, known)
        yield f"{counted(coloured, 'mask')}: colours instead of class numbers: {some(coloured, 3)}. {hint}"
    if wrong:
        hint = hints.for_values(list(masks.values()), encoding, names)
        yield f"{counted(wrong, 'mask')}: labels out of range: {some(wrong, 3)}. Expected {expected(encoding)}. {hint}"
    if empty:
        yield (
            f"{counted(empty, 'mask')}: no labeled pixel (all are ignored): {some(empty)}. Correct the mask, or make "
            f"the image an unlabeled one. {hints.black_and_white(hints.values_of(masks.values()))}"
        ).rstrip()


def _coverage(
    labeled: Iterable[Entry], masks: Mapping[str, Look], encoding: Mapping[str, Any], names: Sequence[str]
) -> tuple[list[str], list[str]]:
    """A warning about classes that are never labeled, and a problem if only one class is."""
    found = _pixels(labeled, masks)
    seen = {class_of(raw, encoding) for raw in found} - {IGNORE, None}
    missing = [f"{name} ({class_})" for class_, name in enumerate(names) if class_ not in seen]
    if not seen or not missing:
        return [], []
    if len(seen) == 1:
        (only,) = seen
        text = f"All labeled pixels are of class {only}, so there is nothing to learn. {hints.black_and_white(found)}"
        return [], [text.rstrip()]
    return [
        f"{counted(missing, 'class')} without a labeled pixel: {some(missing, 12)}. No network can learn these: label "
        "some, draw the partition with cover_classes: true, or take them out of the classes."
    ], []


def shares(
    labeled: Iterable[Entry], masks: Mapping[str, Look], encoding: Mapping[str, Any], names: Sequence[str]
) -> str:
    """The share of each class in the labeled pixels, which tells whether the names are in the order of the labels."""
    pixels: Counter[int | None] = Counter()
    for raw, count in _pixels(labeled, masks).items():
        pixels[class_of(raw, encoding)] += count
    left_out = pixels.pop(IGNORE, 0)
    total = pixels.total()
    parts = [f"{name} {pixels[class_] / max(1, total):.1%}" for class_, name in enumerate(names)]
    return f"{some(parts, CLASSES)}; left out: {left_out / max(1, total + left_out):.1%} of all".replace("%", " %")


def _pixels(labeled: Iterable[Entry], masks: Mapping[str, Look]) -> Counter[str]:
    """How many pixels of the labeled images have each raw value."""
    found: Counter[str] = Counter()
    for entry in labeled:
        found.update(masks[entry.mask or ""].values)
    return found


# --- words ------------------------------------------------------------------------------------------------------------


def counted(items: Sequence[str] | int, what: str) -> str:
    """How many: "1 image", "1,200 images"."""
    number = items if isinstance(items, int) else len(items)
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"


def some(items: Sequence[str], shown: int = SHOWN) -> str:
    """The first few, and how many more there are."""
    more = len(items) - shown
    return ", ".join(shortened(item, 500) for item in items[:shown]) + (f" and {more:,} more" if more > 0 else "")
