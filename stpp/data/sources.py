"""From the data settings to a list of images: which there are, which subset each belongs to, where its mask is."""

import csv
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from posixpath import expanduser
from typing import Any, NamedTuple

from stpp.common.errors import StppError, shortened
from stpp.common.registry import LAYOUTS, component
from stpp.common.wording import counted, listed
from stpp.data.lists import exists, foreign_format, is_image, locate, read_list
from stpp.data.partition import covering_sample, fold, groups_of, sample, sample_size
from stpp.data.record import listing, names_digest

LabelsOf = Callable[[Sequence[str]], Mapping[str, frozenset[int]]]


class Entry(NamedTuple):
    """One image: `id` and `subset` as in the manifest, `image` and `mask` as paths usable from the working directory.

    `mask` may be given for unlabeled images, too, and the file may not exist then. `where` is the list and line that
    names the image, or "".
    """

    id: str
    subset: str
    image: str
    mask: str | None
    where: str


class Sources(NamedTuple):
    """What the data settings lead to, and what that rests on.

    `problems` and `warnings` are sentences; `files` are the lists that were read or looked for, with their
    `record.stamp_or_none`, and `folders` those that were scanned, with their `record.names_digest`; `entered` are the
    real paths of all folders below these.
    """

    entries: list[Entry]
    problems: list[str]
    warnings: list[str]
    files: dict[str, list[int] | None]
    folders: dict[str, str]
    entered: set[str]


def resolve(data: Mapping[str, Any], labels_of: LabelsOf) -> Sources:
    """The images that the settings `data` describe.

    A subset with a list of its own is what the list says. The other training images of a scanned layout (voc,
    cityscapes, folder) are labeled where they have a mask, else unlabeled; beside a list of labeled images they are all
    unlabeled. Then `test_split` and `val_split` take images from the labeled ones, and `partition` makes the labeled
    ones that it does not draw unlabeled; of those that it draws, a `fold` is the test set, and of the others one in
    `one_in` stays. `labels_of` gives the classes in masks, by path; it is asked where a partition is to cover all
    classes.
    """
    place = Place(data)
    if not place.root.is_dir():
        problem = f"The data root {place.root} is not a folder (seen from {Path.cwd()}): correct `root`."
        return Sources([], [problem], [], {}, {}, set())
    lists = {subset: data.get(subset) for subset in ("labeled", "unlabeled", "val", "test")}
    subsets = {subset: place.listed(name, subset) for subset, name in lists.items() if name is not None}
    if data["layout"] != "lists":
        taken = {entry.id for entries in subsets.values() for entry in entries}
        pool, val = place.layout.scan(place)
        pool = [entry for entry in pool if entry.id not in taken]
        subsets.setdefault("labeled", [entry for entry in pool if entry.mask is not None])
        labeled = {entry.id for entry in subsets["labeled"]}
        subsets.setdefault("unlabeled", [entry for entry in pool if entry.id not in labeled])
        if not data.get("val_split"):
            subsets.setdefault("val", [entry for entry in val if entry.id not in taken])

    labeled_pool = subsets.get("labeled", [])
    place.group(labeled_pool)
    for subset in ("test", "val"):
        if (split := data.get(f"{subset}_split")) and labeled_pool:
            chosen = place.draw(f"{subset}_split", split, labeled_pool, labels_of)
            subsets[subset] = [entry for entry in labeled_pool if entry.id in chosen]
            labeled_pool = [entry for entry in labeled_pool if entry.id not in chosen]
            if not labeled_pool and not place.problems:
                place.problems.append(
                    f"{subset}_split takes all there are, {counted(len(chosen), 'labeled image')}, and none is left to "
                    f"train on: label more, or leave {subset}_split out."
                )
    if (split := data.get("partition")) and labeled_pool:
        chosen = place.draw("partition", split, labeled_pool, labels_of)
        rest = [entry for entry in labeled_pool if entry.id not in chosen]
        subsets["unlabeled"] = subsets.get("unlabeled", []) + rest
        labeled_pool = [entry for entry in labeled_pool if entry.id in chosen]
    if (asked := data.get("fold")) and labeled_pool:
        held, trained = place.fold(asked, labeled_pool)
        subsets["test"] = [entry for entry in labeled_pool if entry.id in held]
        labeled_pool = [entry for entry in labeled_pool if entry.id in trained]
    subsets["labeled"] = labeled_pool
    entries = [entry._replace(subset=subset) for subset, members in subsets.items() for entry in members]
    return Sources(entries, place.problems, place.warnings, place.files, place.folders, place.entered)


class Place:
    """The lists and folders below one data root, as layouts read them, and what is wrong with them."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.layout = component(LAYOUTS, data["layout"])
        self.root = Path(expanduser(data["root"]))
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.files: dict[str, list[int] | None] = {}
        self.folders: dict[str, str] = {}
        self.entered: set[str] = set()
        self.group_of: dict[str, str] = {}
        self.wrong_lines: dict[str, list[str]] = {}

    # --- lists ---

    def listed(self, name: str, subset: str) -> list[Entry]:
        """The images of a list file."""
        try:
            path, places = locate(name, self.root, f"{subset} list", subset)
        except StppError as error:
            self.problems.append(str(error))
            return []
        self.files |= places
        return self.read(path, subset)

    def read(self, path: Path, subset: str) -> list[Entry]:
        """The images of a list file that there is."""
        entries: list[Entry] = []
        if (found := foreign_format(path)) is not None:
            self.problems.append(
                f"The {subset} list {path} is {found}; expected a text file with a line `image mask` for each image."
            )
            return []
        self.wrong_lines.clear()
        try:
            for number, fields in read_list(path, lambda name: exists(self._path(self._expand([name])[0]))):
                entries += self._entry(self._expand(fields), f"{path}:{number}", subset)
        except (UnicodeDecodeError, csv.Error, OSError) as error:
            self.problems.append(f"The {subset} list {path} cannot be read as UTF-8 text ({error}); save it as such.")
            return []
        for remedy, lines in self.wrong_lines.items():
            count = f"{len(lines):,} lines: " if len(lines) > 1 else ""
            self.problems.append(f"{count}{listed(lines)}{remedy}")
        if not entries and subset in ("val", "test") and not self.wrong_lines:
            self.problems.append(f"The {subset} list {path} names no image: fill it, or leave `{subset}` out.")
        return entries

    def _expand(self, fields: list[str]) -> list[str]:
        """The fields of a line; a layout may have a shorter way to write an image and its mask."""
        expanded: list[str] = getattr(self.layout, "expand", list)(fields)
        return expanded

    def _entry(self, fields: list[str], where: str, subset: str) -> Iterator[Entry]:
        """The entry of one line, or nothing and a problem."""
        if strange := next((character for character in "\0\r" if any(character in field for field in fields)), None):
            self._wrong_line(
                f"{where}: {strange!a} in {shortened(repr(' '.join(fields)))}",
                "expected one name per line. Save the list as plain text, with LF or CRLF at the ends of lines.",
            )
            return
        if len(fields) > 2:
            found = shortened(" | ".join(fields[:4]))
            self._wrong_line(
                f"{where}: {len(fields)} columns ({found})",
                "expected an image and at most a mask. Put names with spaces or commas into double quotes.",
            )
            return
        if len(fields) == 1 and subset != "unlabeled":
            self._wrong_line(
                f"{where}: {shortened(fields[0], 500)} has no mask in its line", f"but {subset} images need one.", ", "
            )
            return
        names = [self._below_root(name) for name in fields]
        if None in names:
            found = shortened(" ".join(fields), 500)
            self._wrong_line(
                f"{where}: {found!r} points outside the data root {self.root}",
                "set `root` to a folder that holds all images and masks.",
            )
            return
        yield self.made(*(name for name in names if name is not None), where=where)

    def _wrong_line(self, what: str, remedy: str, between: str = "; ") -> None:
        """A problem of one line, which is told together with those of the same kind."""
        self.wrong_lines.setdefault(between + remedy, []).append(what)

    def _below_root(self, name: str) -> str | None:
        """The normalised path relative to the root, None if it is none."""
        if posixpath.isabs(name):
            name = posixpath.relpath(name, posixpath.abspath(self.root))
        name = posixpath.normpath(name)
        return None if name.split("/")[0] == ".." else name

    def made(self, image: str, mask: str | None = None, *, where: str = "") -> Entry:
        """The entry of an image and its mask, both as normalised paths below the root."""
        path = None if mask is None else self._path(mask)
        return Entry(posixpath.splitext(image)[0], "", self._path(image), path, where)

    def _path(self, name: str) -> str:
        """`str(root / name)` for a normalised name, which pathlib would take most of the time of a long list for."""
        return name if self.root == Path() else posixpath.join(str(self.root), name)

    # --- folders ---

    def names(self, folder: str) -> list[str] | None:
        """The files below a folder of the root, by their paths from there; None if there is no such folder."""
        path = self.root / folder
        if not path.is_dir():
            self.report_broken(path)
            return None
        try:
            found = listing(path)
        except StppError as error:
            self.problems.append(f"{error}.")
            return []
        self.folders[str(path)] = names_digest(found.names)
        self.entered |= found.entered
        # A link to no image is the image's trouble.
        errors = [error for error in found.errors if not is_image(str(error.filename))]
        if errors:
            examples = [f"{shortened(str(error.filename), 500)} ({error.strerror})" for error in errors]
            self.problems.append(
                f"Images may be missing, because not all below {path} can be read: {listed(examples)}. Correct the "
                "permissions or the place."
            )
        return found.names

    def report_none(self, expected: str) -> None:
        """That the layout has no training images, where no list names labeled ones."""
        if self.data.get("labeled") is None:
            self.problems.append(
                f"The data root {self.root} has no training images in the layout {self.data['layout']}: expected "
                f"{expected}. Correct `root` or `layout`."
            )

    def report_broken(self, path: Path) -> None:
        """What a link that leads nowhere was to lead to is not taken for absent."""
        if path.is_symlink():
            self.problems.append(f"The link {path} points to nothing: correct or remove it.")

    # --- splits ---

    def group(self, pool: Sequence[Entry]) -> None:
        """Which images of the pool belong together; a problem where `group_by` does not fit all of them."""
        pattern = self.data.get("group_by")
        self.group_of = groups_of((entry.id for entry in pool), pattern)
        if left_out := [entry.id for entry in pool if entry.id not in self.group_of]:
            self.problems.append(
                f"group_by: the pattern {pattern!r} does not fit {len(left_out)} of {len(pool)} labeled images, "
                f"such as {listed(left_out)}; an id is the path below the data root, without the suffix."
            )
            self.group_of |= {id_: id_ for id_ in left_out}

    def groups(self, ids: Iterable[str]) -> dict[str, str]:
        """The group of each of these ids."""
        return {id_: self.group_of[id_] for id_ in ids}

    def draw(
        self, setting: str, split: Mapping[str, Any], pool: Iterable[Entry], labels_of: LabelsOf
    ) -> frozenset[str]:
        """The ids that a random split takes from the pool; all of them, and a problem, if it cannot be made."""
        masks = {entry.id: entry.mask for entry in pool if entry.mask is not None}
        try:
            count = sample_size(split, len(masks))
            if not split.get("cover_classes"):
                return frozenset(sample(self.groups(masks), count, split["seed"], setting))
            labels = labels_of(list(masks.values()))
            by_id = {id_: labels[mask] for id_, mask in masks.items()}
            return frozenset(covering_sample(by_id, self.groups(masks), count, split["seed"], setting))
        except StppError as error:
            self.problems.append(f"{setting}: {error}.")
            return frozenset(masks)

    def fold(self, asked: Mapping[str, Any], pool: Sequence[Entry]) -> tuple[set[str], set[str]]:
        """The ids of the pool that are held out, and those that are trained on.

        None are held out, with a problem, where there are too few for the folds.
        """
        groups = self.groups(entry.id for entry in pool)
        try:
            held = fold(groups, asked["of"], asked["number"], asked["seed"])
        except StppError as error:
            self.problems.append(f"fold: {error}.")
            return set(), set(groups)
        others = {id: group for id, group in groups.items() if id not in held}
        if (several := asked["one_in"]) == 1:
            return held, set(others)
        try:
            return held, fold(others, several, 1, asked["seed"])
        except StppError:
            self.problems.append(
                f"fold: of the labeled images outside it one in {several} is to be trained on, but they are of fewer "
                "groups; leave `outlook` out if that asks for it, or label more."
            )
            return held, set(others)
