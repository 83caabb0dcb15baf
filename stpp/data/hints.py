"""What to write into the configuration, as far as the numbers of pixels in the masks tell."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from stpp.data.images import distance
from stpp.data.inspection import Look

SUGGESTED = 24  # colours written out in a suggested palette map
MOST = 0.9  # the share of the pixels that the labels of smoothed masks hold; the rest are their edges
ENOUGH, DROP = 0.75, 10  # the share that small masks' labels hold, if the next label holds so many times less
EDGES = 8  # values or colours beyond the labels that smoothed masks have at least
GROUND = {"background", "bg", "ground", "none", "other", "others", "rest", "nothing", "negative", "normal"}


def values_of(looks: Iterable[Look]) -> Counter[str]:
    """How many pixels of masks have each raw value or colour."""
    found: Counter[str] = Counter()
    for look in looks:
        found.update(look.values)
    return found


def for_values(looks: Sequence[Look], encoding: Mapping[str, Any], names: Sequence[str]) -> str:
    """What to do about labels out of range, given a look at each mask."""
    pixels = values_of(looks)
    if encoding["palette_map"]:
        return _for_colours_beyond_the_map(pixels, encoding["palette_map"])
    found = Counter({int(raw): count for raw, count in pixels.items() if not raw.startswith("#")})
    if are_instances(looks, encoding["ignore_value"]):
        return instances(looks, encoding["ignore_value"], names)
    if hint := for_noise(pixels, encoding):
        return hint
    if encoding["label_map"]:
        return "Add the missing values to label_map, as a class index or `ignore`."
    if hint := black_and_white(pixels):
        return hint
    if hint := mixed(looks):
        return hint
    count = encoding["classes"]
    labels = found.keys() - {encoding["ignore_value"]}
    if labels and min(labels) >= 1 and max(labels) == count:
        return "The values seem to begin with 1 instead of 0. If so, write: first_label: 1"
    if labels and min(labels) == 0 and max(labels) == count:
        return (
            f"There is one value more than the {count} classes. If 0 means that a pixel was not labeled, and 1 is "
            f"{names[0]}, write: first_label: 1; if 0 is a class, its name is missing in `classes` (the background?)."
        )
    pairs = ", ".join(f"{value}: ignore" for value in sorted(labels) if not 0 <= value < count)
    return (
        "Correct the masks or the number of classes, or give a label_map with a class index or `ignore` for each "
        f"value; to leave these pixels out, it has {{{_shortened(pairs)}}}."
    )


# --- masks in black and white -----------------------------------------------------------------------------------------


def black_and_white(found: Iterable[str]) -> str:
    """For masks that are drawn in black and white."""
    if not set(found) <= {"0", "255"} or "255" not in set(found):
        return ""
    return (
        "The masks hold nothing but 0 and 255, as if drawn in black and white. If so, write: label_map: {0: 0, 255: 1}"
    )


def mixed(looks: Iterable[Look]) -> str:
    """For masks of which some say 1 and others 255 for the same class: a sentence, or "".

    Where 255 means ignore, it stands beside classes in at least one mask.
    """
    kinds = Counter(frozenset(look.values) for look in looks)
    white = sum(count for kind, count in kinds.items() if kind <= {"0", "255"} and "255" in kind)
    small = sum(count for kind, count in kinds.items() if kind <= {"0", "1"} and "1" in kind)
    if not (white and small) or any({"1", "255"} <= kind for kind in kinds):
        return ""
    return (
        f"{white} of the masks hold nothing but 0 and 255, {small} hold 0 and 1, as if two programs had drawn them. "
        "If so, write: label_map: {0: 0, 1: 1, 255: 1}; if 255 means ignore: label_map: {0: 0, 1: 1, 255: ignore}"
    )


# --- masks with smoothed edges ----------------------------------------------------------------------------------------


def for_noise(pixels: Mapping[str, int], encoding: Mapping[str, Any]) -> str:
    """For masks read by value that were resized with interpolation or saved as JPEG: a sentence, or ""."""
    found = {int(raw): count for raw, count in pixels.items() if not raw.startswith("#")}
    classes = encoding["classes"]
    if encoding["palette_map"] or len(found) < classes + EDGES:
        return ""
    low, high = min(found), max(found)
    near = (high - low) / 8
    ends = sum(count for value, count in found.items() if min(value - low, high - value) <= near)
    if classes == 2 and ends >= MOST * sum(found.values()):
        return (
            f"The masks are nearly black and white: {len(found)} values, but {_percent(ends, found)} of the pixels are "
            f"close to {low} or {high}, as in masks that were resized with interpolation or saved as JPEG. If so, "
            f"write: threshold: {(low + high + 1) // 2}"
        )
    main = sorted(_main(found))
    if len(found) < len(main) + EDGES or len(main) > classes + 1:
        return ""
    starts = [0, *((one + other + 1) // 2 for one, other in pairwise(main))]
    ranges = [f"{start}-{end - 1}" for start, end in zip(starts, [*starts[1:], 65536])]
    pairs = ", ".join(f"{part}: {class_ if class_ < classes else 'ignore'}" for class_, part in enumerate(ranges))
    return (
        f"The masks were resized with interpolation or saved as JPEG: {len(found)} values, of which "
        f"{', '.join(map(str, main))} hold {_percent(sum(found[value] for value in main), found)} of the pixels. Make "
        f"them again, resized with nearest neighbour; else the nearest of these counts with label_map: {{{pairs}}}"
    )


def _for_colours_beyond_the_map(found: Mapping[str, int], palette_map: Mapping[str, Any]) -> str:
    missing = [raw for raw in found if raw.startswith("#") and raw not in {known.lower() for known in palette_map}]
    known = sum(count for raw, count in found.items() if raw not in missing)
    if len(missing) >= EDGES and known >= MOST * sum(found.values()):
        return (
            f"The colours of palette_map hold {_percent(known, found)} of the pixels, so the others seem to be edges "
            "that were smoothed, by resizing or by JPEG. Make the masks again, resized with nearest neighbour; else "
            f"the nearest colour counts with palette_tolerance: {_tolerance(missing, palette_map)}"
        )
    return "Add the missing colours to palette_map, as a class index or `ignore`."


def _main(found: Mapping[Any, int]) -> list[Any]:
    """The fewest labels that hold `MOST` of the pixels, and those that hold as many as one of 200 of these; or those
    that hold `ENOUGH` before a `DROP`.
    """
    total, held, last, main = sum(found.values()), 0, 0, []
    for label, count in sorted(found.items(), key=lambda item: (-item[1], item[0])):
        if (held >= MOST * total and count < total / 200) or (held >= ENOUGH * total and count * DROP <= last):
            break
        main.append(label)
        held += count
        last = count
    return main


def _tolerance(found: Iterable[str], known: Iterable[str]) -> int:
    """How far the colours that were found are from the nearest of the known ones, at most."""
    given = [colour.lower() for colour in known]
    return max(min(distance(colour, other) for other in given) for colour in found)


# --- objects that are numbered ----------------------------------------------------------------------------------------


def are_instances(looks: Iterable[Look], ignore_value: int | None) -> bool:
    """Whether the values of masks look like numbers of objects: from 1 on without a gap, to another last one each."""
    last = []
    for look in looks:
        if any(raw.startswith("#") for raw in look.values):
            return False
        values = {int(raw) for raw in look.values} - {0, ignore_value}
        if values != set(range(1, max(values, default=0) + 1)) - {ignore_value}:
            return False
        last.append(len(values))
    return max(last, default=0) > 2 and len({number for number in last if number}) > 1


def instances(looks: Sequence[Look], ignore_value: int | None, names: Sequence[str]) -> str:
    """What to say of masks that number their objects."""
    last = [len({raw for raw in look.values if raw not in ("0", str(ignore_value))}) for look in looks]
    keep = f"{ignore_value}: ignore, " if any(str(ignore_value) in look.values for look in looks) else ""
    object_ = "" if len(names) > 2 else f", for {names[1]},"
    return (
        "The values look like numbers of objects, not of classes: in each mask they go from 1 on without a gap, to "
        f"{min(last)} in one and {max(last)} in another. Then name two classes, and write{object_} label_map: "
        f"{{0: 0, {keep}1-65535: 1}}"
    )


# --- colours ----------------------------------------------------------------------------------------------------------


def for_colours(
    found: Mapping[str, int], names: Sequence[str], palette: Sequence[Sequence[int]], known: Mapping[str, int]
) -> str:
    """A palette map to paste, and where its numbers come from.

    These are the `known` ones (colour -> class), as a label map beside the masks says; grey colours that are class
    numbers; those of the `palette` of the classes; black as the background; else the order of frequency.
    """
    colours = {raw: count for raw, count in found.items() if raw.startswith("#")}
    main = sorted(_main(colours), key=lambda raw: (-colours[raw], raw))
    smoothed = len(colours) >= max(len(main), len(names)) + EDGES and len(main) <= len(names) + 1
    shown = main if smoothed else sorted(colours, key=lambda raw: (-colours[raw], raw))
    classes, why = _classes_of_colours(shown, colours, names, palette, known)
    shown = [
        *sorted((raw for raw in shown if raw in classes), key=lambda raw: classes[raw]),
        *(raw for raw in shown if raw not in classes),
    ]
    pairs = [f'"{raw}": {classes.get(raw, "ignore")}' for raw in shown[:SUGGESTED]]
    more = f" and {len(shown) - len(pairs)} more colours" if len(shown) > len(pairs) else ""
    text = f"palette_map: {{{', '.join(pairs)}}}{more}"
    if not smoothed:
        return f"Say which class each colour is{why}: {text}"
    held = _percent(sum(colours[raw] for raw in main), colours)
    return (
        f"They have {len(colours)} colours, of which {len(main)} hold {held} of the pixels, as in masks that were "
        "resized with interpolation or saved as JPEG. Make them again, resized with nearest neighbour; else the "
        f"nearest colour counts where you say which class each one is{why}: {text} and palette_tolerance: "
        f"{_tolerance(colours, shown)}"
    )


def _classes_of_colours(
    shown: Sequence[str],
    found: Mapping[str, int],
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    known: Mapping[str, int],
) -> tuple[dict[str, int], str]:
    total = sum(found.values())
    by_palette = {f"#{red:02x}{green:02x}{blue:02x}": class_ for class_, (red, green, blue) in enumerate(palette)}
    by_grey = {f"#{class_:02x}{class_:02x}{class_:02x}": class_ for class_ in range(len(names))}
    for classes, why in (
        (known, ", as labelmap.txt does"),
        (by_grey, "; the colours are grey, as if they were the class numbers"),
        (by_palette, "; these are the colours of the classes"),
    ):
        here = [raw for raw in shown if raw in classes]
        whole = classes is not by_grey or set(shown) <= {*here, "#ffffff"}
        if whole and len(here) >= 2 and sum(found[raw] for raw in here) >= total / 2:
            return {raw: classes[raw] for raw in here}, why
    ordered = list(shown)
    if "#000000" in ordered and (names[0].strip("_").lower() in GROUND or set(ordered) == {"#000000", "#ffffff"}):
        ordered.sort(key=lambda raw: raw != "#000000")
    return {raw: class_ for class_, raw in enumerate(ordered[: len(names)])}, ", for example (check the numbers)"


# --- words ------------------------------------------------------------------------------------------------------------


def _percent(part: int, found: Mapping[Any, int]) -> str:
    return f"{1000 * part // max(1, sum(found.values())) / 10:.3g} %"


def _shortened(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[: text.rindex(', ', 0, limit)]}, ..."
