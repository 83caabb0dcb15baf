"""From the data settings to a list of images: which there are, which subset each belongs to, where its mask is."""

import csv
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from posixpath import expanduser
from typing import Any, NamedTuple

from stpp.data.lists import exists, is_image, locate, read_list
from stpp.data.partition import covering_sample, sample, sample_size
from stpp.data.record import listing, names_digest, stamp
from stpp.errors import StppError, shortened
from stpp.wording import listed

# Image formats that are not read: such a file in a scanned folder is reported, other files there are passed over.
UNREAD_SUFFIXES = (".bmp", ".gif", ".avif", ".heic", ".jp2", ".ppm", ".pgm", ".tga", ".npy", ".exr", ".dng", ".nef")

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
    unlabeled. Then `val_split` takes val images from the labeled ones, and `partition` makes the labeled ones that it
    does not draw unlabeled. `labels_of` gives the classes in masks, by path; it is asked where a partition is to cover
    all classes.
    """
    resolver = _Resolver(data)
    if not resolver.root.is_dir():
        problem = f"The data root {resolver.root} is not a folder (seen from {Path.cwd()}): correct `root`."
        return Sources([], [problem], [], {}, {}, set())
    lists = {subset: data.get(subset) for subset in ("labeled", "unlabeled", "val", "test")}
    subsets = {subset: resolver.listed(name, subset) for subset, name in lists.items() if name is not None}
    if data["layout"] != "lists":
        taken = {entry.id for entries in subsets.values() for entry in entries}
        pool, val = resolver.scan()
        pool = [entry for entry in pool if entry.id not in taken]
        subsets.setdefault("labeled", [entry for entry in pool if entry.mask is not None])
        labeled = {entry.id for entry in subsets["labeled"]}
        subsets.setdefault("unlabeled", [entry for entry in pool if entry.id not in labeled])
        if not data.get("val_split"):
            subsets.setdefault("val", [entry for entry in val if entry.id not in taken])

    labeled_pool = subsets.get("labeled", [])
    if (split := data.get("val_split")) and labeled_pool:
        chosen = resolver.draw("val_split", split, labeled_pool, labels_of)
        subsets["val"] = [entry for entry in labeled_pool if entry.id in chosen]
        labeled_pool = [entry for entry in labeled_pool if entry.id not in chosen]
    if (split := data.get("partition")) and labeled_pool:
        chosen = resolver.draw("partition", split, labeled_pool, labels_of)
        rest = [entry for entry in labeled_pool if entry.id not in chosen]
        subsets["unlabeled"] = subsets.get("unlabeled", []) + rest
        labeled_pool = [entry for entry in labeled_pool if entry.id in chosen]
    subsets["labeled"] = labeled_pool
    entries = [entry._replace(subset=subset) for subset, members in subsets.items() for entry in members]
    return Sources(entries, resolver.problems, resolver.warnings, resolver.files, resolver.folders, resolver.entered)


class _Resolver:
    """Reads lists and folders below one data root, and gathers what is wrong with them."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.layout = data["layout"]
        self.root = Path(expanduser(data["root"]))
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.files: dict[str, list[int] | None] = {}
        self.folders: dict[str, str] = {}
        self.entered: set[str] = set()

    # --- lists ---

    def listed(self, name: str, subset: str) -> list[Entry]:
        """The images of a list file."""
        try:
            path, places = locate(name, self.root, f"{subset} list", subset)
        except StppError as error:
            self.problems.append(str(error))
            return []
        self.files |= places
        return self._read(path, subset)

    def _read(self, path: Path, subset: str) -> list[Entry]:
        entries: list[Entry] = []
        try:
            for number, fields in read_list(path, lambda name: exists(self._path(self._expand([name])[0]))):
                entries += self._entry(self._expand(fields), f"{path}:{number}", subset)
        except (UnicodeDecodeError, csv.Error, OSError) as error:
            self.problems.append(
                f"The {subset} list {path} cannot be read as text in UTF-8 ({error}); save it as such."
            )
            return []
        if not entries and subset in ("val", "test"):
            self.problems.append(f"The {subset} list {path} names no image: fill it, or leave `{subset}` out.")
        return entries

    def _expand(self, fields: list[str]) -> list[str]:
        """In the VOC layout a bare id stands for its image and mask."""
        if self.layout == "voc" and len(fields) == 1 and "/" not in fields[0] and not is_image(fields[0]):
            return [f"JPEGImages/{fields[0]}.jpg", f"SegmentationClass/{fields[0]}.png"]
        return fields

    def _entry(self, fields: list[str], where: str, subset: str) -> Iterator[Entry]:
        """The entry of one line, or nothing and a problem."""
        if strange := next((character for character in "\0\r" if any(character in field for field in fields)), None):
            self.problems.append(
                f"{where}: {strange!a} in {shortened(repr(' '.join(fields)))}; expected a name a line. Save the list "
                "as plain text, with LF or CRLF at the ends of lines."
            )
            return
        if len(fields) > 2:
            found = shortened(" | ".join(fields[:4]))
            self.problems.append(
                f"{where}: {len(fields)} columns ({found}); expected an image and at most a mask. Put names with "
                "spaces or commas into double quotes."
            )
            return
        if len(fields) == 1 and subset != "unlabeled":
            self.problems.append(
                f"{where}: {shortened(fields[0], 500)} has no mask beside it, but {subset} images need one."
            )
            return
        names = [self._below_root(name) for name in fields]
        if None in names:
            found = shortened(" ".join(fields), 500)
            self.problems.append(
                f"{where}: {found!r} leads out of the data root {self.root}; set `root` to a folder that holds all "
                "images and masks."
            )
            return
        yield self._made(*(name for name in names if name is not None), where=where)

    def _below_root(self, name: str) -> str | None:
        """The normalised path relative to the root, None if it is none."""
        if posixpath.isabs(name):
            name = posixpath.relpath(name, posixpath.abspath(self.root))
        name = posixpath.normpath(name)
        return None if name.split("/")[0] == ".." else name

    def _made(self, image: str, mask: str | None = None, *, where: str = "") -> Entry:
        path = None if mask is None else self._path(mask)
        return Entry(posixpath.splitext(image)[0], "", self._path(image), path, where)

    def _path(self, name: str) -> str:
        """`str(root / name)` for a normalised name, which pathlib would take most of the time of a long list for."""
        return name if self.root == Path() else posixpath.join(str(self.root), name)

    # --- layouts ---

    def scan(self) -> tuple[list[Entry], list[Entry]]:
        """The training images and the val images of the layout."""
        scanners = {"voc": self._voc, "cityscapes": self._cityscapes}
        if self.layout not in scanners:
            return self._folder(), []
        train, val = (scanners[self.layout](subset) for subset in ("train", "val"))
        if train is None and self.data.get("labeled") is None:
            self.problems.append(
                f"The data root {self.root} has no training images in the layout {self.layout}: expected "
                + {"voc": "ImageSets/Segmentation/train.txt", "cityscapes": "leftImg8bit/train/CITY/*.png"}[self.layout]
                + ". Correct `root` or `layout`."
            )
        return train or [], val or []

    def _voc(self, subset: str) -> list[Entry] | None:
        """The images of one of VOC's own id lists, None if there is none."""
        path = self.root / "ImageSets" / "Segmentation" / f"{subset}.txt"
        if not path.is_file():
            self._report_broken(path)
            return None
        self.files[str(path)] = stamp(path)
        return self._read(path, subset)

    def _cityscapes(self, subset: str) -> list[Entry] | None:
        """The images of a folder of Cityscapes, None if there is none; its test set has no labels and is not taken."""
        suffix = "_leftImg8bit.png"
        names = [name for name in self._names(f"leftImg8bit/{subset}") or [] if name.endswith(suffix)]
        return [
            self._made(
                f"leftImg8bit/{subset}/{name}",
                f"gtFine/{subset}/{name.removesuffix(suffix)}_gtFine_labelTrainIds.png",
            )
            for name in names
        ] or None

    def _folder(self) -> list[Entry]:
        """The images of a folder and of its sub-folders, with the mask of the same relative path where there is one."""
        images, masks = posixpath.normpath(self.data["images"]), posixpath.normpath(self.data["masks"])
        if (
            ".." in (images.split("/")[0], masks.split("/")[0])
            or images in (".", masks)
            or masks.startswith(f"{images}/")
        ):
            self.problems.append(
                f"images: {images} and masks: {masks} must be two sub-folders of the data root {self.root}, and the "
                "masks not among the images."
            )
            return []
        image_names, mask_names = self._pictures(images), self._pictures(masks)
        mask_of: dict[str, str] = {}
        for name in mask_names:
            stem = posixpath.splitext(name)[0]
            if stem in mask_of:
                both = f"{self.root / masks / mask_of[stem]} and {self.root / masks / name}"
                self.problems.append(f"{both} are two masks of one image; remove one of them.")
            mask_of[stem] = name
        entries = [
            self._made(f"{images}/{name}", f"{masks}/{mask}" if (mask := mask_of.get(stem)) is not None else None)
            for name, stem in ((name, posixpath.splitext(name)[0]) for name in image_names)
        ]
        without = sorted(set(mask_of) - {posixpath.splitext(name)[0] for name in image_names})
        if without and image_names:
            shown = without[:3]
            image = next(filter(None, (_meant(stem, image_names) for stem in shown)), image_names[0])
            self.warnings.append(
                f"Of the masks below {self.root / masks}, {len(without)} belong to no image, for example "
                f"{', '.join(mask_of[stem] for stem in shown)}: a mask has the path of its image, up to the suffix, as "
                f"{posixpath.splitext(image)[0]}.png has that of {image}."
            )
        return entries

    def _pictures(self, folder: str) -> list[str]:
        """The images below a folder of the root."""
        names = self._names(folder)
        if names is None:
            self.problems.append(f"There is no folder {self.root / folder}: correct `root`, `images` or `masks`.")
        return [name for name in names or [] if is_image(name) or name.lower().endswith(UNREAD_SUFFIXES)]

    def _names(self, folder: str) -> list[str] | None:
        path = self.root / folder
        if not path.is_dir():
            self._report_broken(path)
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

    def _report_broken(self, path: Path) -> None:
        """What a link that leads nowhere was to lead to is not taken for absent."""
        if path.is_symlink():
            self.problems.append(f"The link {path} leads nowhere: correct or remove it.")

    # --- splits ---

    def draw(
        self, setting: str, split: Mapping[str, Any], pool: Iterable[Entry], labels_of: LabelsOf
    ) -> frozenset[str]:
        """The ids that a random split takes from the pool; all of them, and a problem, if it cannot be made."""
        masks = {entry.id: entry.mask for entry in pool if entry.mask is not None}
        try:
            count = sample_size(split, len(masks))
            if not split.get("cover_classes"):
                return frozenset(sample(list(masks), count, split["seed"], setting))
            labels = labels_of(list(masks.values()))
            by_id = {id_: labels[mask] for id_, mask in masks.items()}
            return frozenset(covering_sample(by_id, count, split["seed"], setting))
        except StppError as error:
            self.problems.append(f"{setting}: {error}.")
            return frozenset(masks)


def _meant(mask: str, images: Iterable[str]) -> str | None:
    """The image with the longest name, folders and suffix left aside, that is part of the name of a mask; or None."""
    names = {image: posixpath.splitext(posixpath.basename(image))[0] for image in images}
    within = [image for image, name in names.items() if name in posixpath.basename(mask)]
    return max(within, key=lambda image: len(names[image]), default=None)
