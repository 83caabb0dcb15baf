"""The settings of the data: where the images are, how their masks are encoded, which of them count as labeled."""

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from stpp.common.bands import MOST_BANDS
from stpp.common.labels import GROUP, LARGEST_VALUE, STEM
from stpp.common.registry import LAYOUTS, constant, modules
from stpp.settings import Line, Section, VisibleLine, setting

if TYPE_CHECKING:
    Layout: TypeAlias = str
else:  # the names that there are
    Layout = Literal[tuple(modules(LAYOUTS))]


def _values(key: object) -> object:
    """A key of a label map: an int, the range "low-high", or "default"."""
    text = str(key).replace(" ", "") if isinstance(key, int | str) and not isinstance(key, bool) else ""
    numbers = [int(number) for number in text.split("-")] if re.fullmatch(r"\d{1,5}(-\d{1,5})?", text, re.ASCII) else []
    if text != "default" and not (numbers and numbers == sorted(numbers) and numbers[-1] <= LARGEST_VALUE):
        raise ValueError(f"{key!r} is no mask value: expected a number up to 65535, a range such as 1-255, or default")
    return numbers[0] if len(numbers) == 1 else text


Values = Annotated[int | str, BeforeValidator(_values)]


class Split(Section):
    """A random part of a pool of images."""

    count: int | None = setting(None, "Number of images; give this or `fraction`.", "images", ge=1)
    fraction: float | None = setting(None, "Share of the pool; give this or `count`.", gt=0, lt=1)
    seed: int = setting(0, "Seed of the draw; independent of the seeds of the training.", ge=0)

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.count is None) == (self.fraction is None):
            raise ValueError("give exactly one of count and fraction")
        return self


class Partition(Split):
    """Which part of the images with masks counts as labeled; the rest becomes unlabeled."""

    cover_classes: bool = setting(False, "Draw so that every class of the pool occurs in the labeled part.")


class Fold(Section):
    """Which part of the labeled images is held out, of several that are equal but for rounding."""

    of: int = setting(..., "Number of parts.", "folds", ge=2)
    number: int = setting(..., "Number of the held-out part, from 1.", ge=1)
    seed: int = setting(0, "Seed of the draw; independent of the seeds of the training.", ge=0)
    one_in: int = setting(1, "Of the other labeled images, one in this many is trained on; the rest is left out.", ge=1)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.number > self.of:
            raise ValueError(f"number must be one of the {self.of} folds, from 1, but is {self.number}")
        return self


class DemoScenes(Section):
    """Size of the procedural demo set."""

    labeled: int = setting(36, "Labeled scenes.", "images", ge=1)
    unlabeled: int = setting(400, "Unlabeled scenes.", "images", ge=1)
    val: int = setting(100, "Validation scenes.", "images", ge=0)
    test: int = setting(200, "Held-out test scenes.", "images", ge=0)
    seed: int = setting(0, "Seed of the scenes.", ge=0)


class Data(Section):
    """Where the images are and how their masks are encoded."""

    layout: Layout = setting(
        "lists",
        "How the data lie on disk: the authors' list files, VOC, Cityscapes, plain folders, or the generated demo.",
    )
    root: Line = setting(..., "Folder that all paths of lists are relative to.", min_length=1)
    labeled: Line | None = setting(
        None,
        "List of labeled images: `image mask` a line, relative to `root`. The lists and `classes_file` are looked for "
        "in the working directory and in `root`; if both have a file of that name, neither is taken.",
    )
    unlabeled: Line | None = setting(None, "List of unlabeled images; a second column is allowed and never trained on.")
    val: Line | None = setting(None, "List of validation images, or none.")
    test: Line | None = setting(None, "List of test images, used for nothing but the final numbers, or none.")
    images: Line = setting("images", "Layout `folder`: sub-folder of `root` with the images.")
    masks: Line = setting("masks", "Layout `folder`: sub-folder with the masks; an image without a mask is unlabeled.")
    image_name: Line = setting(
        STEM,
        "Layout `folder`: how images are named, with or without the suffix, as `{stem}_image` or `{stem}.jpg`; "
        "others are left out. Image and mask belong together where `{stem}`, and the folders before it, are the same.",
    )
    mask_name: Line = setting(
        STEM,
        "Layout `folder`: how masks are named, as `{stem}_mask`. With such a name, `images` and `masks` may be one "
        "folder.",
    )
    group_by: Line | None = setting(
        None,
        "Which images belong together, of one patient, video or scene, by their ids (the path below `root`, without "
        "the suffix): `{group}/*` for those of a folder, `*/{group}_*` for those with the same text before the first "
        "`_` of their names. `{group}` and `*` stand for the shortest text that fits. Splits, `partition` and folds "
        "then take whole groups, so they get only about as many images as asked for.",
    )
    partition: Partition | None = setting(None, "Split the images with masks into labeled and unlabeled at random.")
    val_split: Split | None = setting(None, "Split a validation set off the labeled images, before `partition`.")
    test_split: Split | None = setting(None, "Split a test set off the labeled images, before `val_split`.")
    fold: Fold | None = setting(
        None,
        "Cross-validation: of the labeled images that `partition` draws, this fold is the test set, in place of any "
        "other one. With a fold for each of `partitions`, every labeled image is held out once.",
    )
    skip_broken: bool = setting(
        False,
        "Leave out unlabeled images that cannot be read, with a warning, instead of stopping. `stpp index --verify` "
        "also finds those that are damaged after their headers.",
    )
    bands: Annotated[int, Field(ge=1, le=MOST_BANDS)] | list[Annotated[int, Field(ge=1)]] | None = setting(
        None,
        "Which bands of the image files make an image: the numbers of some, from 1, as `[4, 3, 2]`; or how many each "
        "file has, all of which are taken. None: red, green and blue, to which grey and palette images are converted. "
        "TIFF files need the extra `geotiff` then.",
    )
    pages: bool = setting(False, "With `bands`: the pages of a TIFF file are bands, too.")
    scale: list[float] | list[list[float]] | None = setting(
        None,
        "With `bands`: `[low, high]`, the values that become 0 and 255, for all bands, or one pair for each band. "
        "Lower and higher values are cut off. Needed for all but 8 bits; this or `percentiles`.",
    )
    percentiles: list[Annotated[float, Field(ge=0, le=100)]] | None = setting(
        None,
        "With `bands`: `[low, high]`, as `[2, 98]`: the percentiles of each band over the labeled images that become 0 "
        "and 255. They are part of the identity of what is trained, so other labeled images mean another scale.",
        "%",
    )
    rgb: list[Annotated[int, Field(ge=1)]] | None = setting(
        None,
        "With `bands`: the numbers of those that are red, green and blue, as `[3, 2, 1]`. Hue, saturation and "
        "grayscale act on these alone, and on nothing if they are not given; reports and overlays show them.",
    )
    classes: list[VisibleLine] | None = setting(
        None,
        "Class names in label order, each a line of text without control characters; or `classes_file`.",
        min_length=2,
        max_length=255,
    )
    classes_file: Line | None = setting(None, "Text file with one class name in each line, without control characters.")
    ignore_value: int | None = setting(255, "Mask value of pixels to ignore; or none.", ge=0, le=65535)
    label_map: dict[Values, int | Literal["ignore"]] | None = setting(
        None,
        "Mask value -> class index or `ignore`, for masks whose values are not 0, 1, 2, ... A key is a value, a range "
        "such as `1-255`, or `default`, which stands for all others but `ignore_value`; values go before ranges.",
    )
    first_label: int | None = setting(
        None,
        "Mask value of the first class, where the classes are numbered from there on; lower values are left out. `1`: "
        "0 means that nobody labeled the pixel.",
        ge=1,
        le=255,
    )
    threshold: int | None = setting(
        None,
        "For two classes: mask values from here on are the second class, lower ones the first. For masks in black and "
        "white with grey edges, which may also be JPEG files then.",
        ge=1,
        le=65535,
    )
    palette_map: dict[str, int | Literal["ignore"]] | None = setting(
        None, "Colour `#rrggbb` -> class index or `ignore`, for masks stored as RGB."
    )
    palette_tolerance: int = setting(
        0,
        "How far a colour may be from the nearest one of `palette_map` to count as that: the largest difference of "
        "red, green or blue. Masks may also be JPEG files then.",
        ge=0,
        le=255,
    )
    colors: list[str] | None = setting(
        None,
        "Colours `#rrggbb` of the classes in pictures; default: up to 24 that people with any colour vision can tell "
        "apart, and VOC's for more classes.",
    )
    demo: DemoScenes = setting(DemoScenes(), "Layout `demo`: how many scenes are generated under `root`.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.layout == "lists" and self.labeled is None:
            raise ValueError("layout lists needs `labeled: a list file`")
        if self.layout == "lists" and self.unlabeled is None and self.partition is None:
            raise ValueError("layout lists needs `unlabeled: a list file`, or a `partition` of the labeled list")
        knows_classes = constant(modules(LAYOUTS)[self.layout], "CLASSES", True)
        if not knows_classes and self.classes is None and self.classes_file is None:
            raise ValueError(f"layout {self.layout} needs `classes` (names) or `classes_file`")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError("class names must differ from each other")
        maps = [
            name for name in ("label_map", "first_label", "threshold", "palette_map") if getattr(self, name) is not None
        ]
        if len(maps) > 1 and maps != ["label_map", "palette_map"]:  # of which `stpp index` says more
            raise ValueError(f"{' and '.join(maps)} say the same thing in different ways; keep one of them")
        if self.palette_tolerance and not self.palette_map:
            raise ValueError("palette_tolerance needs a `palette_map`, whose colours it is about")
        if self.threshold is not None and self.classes is not None and len(self.classes) != 2:
            raise ValueError(f"threshold tells two classes apart, and there are {len(self.classes)}; give a label_map")
        self._refuse_bands()
        for name in ("image_name", "mask_name"):
            if (pattern := getattr(self, name)).replace(STEM, "", 1).count("{") or "/" in pattern or not pattern:
                raise ValueError(f"{name}: {pattern!r} is no name; expected one such as '{{stem}}_mask'")
        if self.group_by is not None and (
            self.group_by.count(GROUP) != 1 or set("{}") & set(self.group_by.replace(GROUP, ""))
        ):
            raise ValueError(f"group_by: {self.group_by!r} is no pattern; expected {GROUP} once, as in '{GROUP}/*'")
        for subset in ("val", "test"):
            if getattr(self, subset) is not None and getattr(self, f"{subset}_split") is not None:
                raise ValueError(f"give `{subset}` or `{subset}_split`, not both")
        for color in [*(self.palette_map or {}), *(self.colors or [])]:
            digits = color.removeprefix("#")
            if len(digits) != 6 or len(color) != 7 or not all(d in "0123456789abcdefABCDEF" for d in digits):
                raise ValueError(f"{color!r} is no colour; write it as '#rrggbb', for example '#80ff00'")
        return self

    def _refuse_bands(self) -> None:
        """Raises ValueError for bands, a scale or colours that cannot be."""
        if self.bands is None:
            for name in ("pages", "scale", "percentiles", "rgb"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs `bands`, which says what bands the images have")
            return
        numbers = list(range(1, self.bands + 1)) if isinstance(self.bands, int) else self.bands
        if not numbers or len(set(numbers)) != len(numbers):
            raise ValueError(f"bands: {numbers} names none, or one twice; expected different numbers from 1")
        if self.scale is not None and self.percentiles is not None:
            raise ValueError("scale and percentiles say the same thing in different ways; keep one of them")
        each = [pair for pair in self.scale or () if isinstance(pair, list)]
        for pair in each or (self.scale, self.percentiles):
            if pair is not None and (len(pair) != 2 or not pair[0] < pair[1]):  # type: ignore[operator]
                raise ValueError(f"{pair} is no range; expected [low, high], the first lower than the second")
        if each and len(each) != len(numbers):
            raise ValueError(f"scale has {len(each)} ranges for {len(numbers)} bands; give one for all, or one each")
        if self.rgb is not None and (len({*self.rgb}) != 3 or len(self.rgb) != 3 or not {*self.rgb} <= {*numbers}):
            raise ValueError(f"rgb: {self.rgb} are not three of the bands {numbers}; expected red, green, blue")
        if self.rgb is not None and len(numbers) == 3 and self.rgb != numbers:
            raise ValueError(
                f"bands: {numbers} has another order than rgb: {self.rgb}, but an encoder takes three bands as red, "
                f"green and blue; write bands: {self.rgb}"
            )
