"""Every fault of a data set that is found, by the message that its user reads."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_data import labels, lists, pair, photo, png, save, settings

from stpp.common.errors import Problems
from stpp.data.index import index
from stpp.data.lint import lint_counts

Settings = dict[str, Any]
FAULTS: dict[str, tuple[Callable[[Path], Settings], list[str]]] = {}


def good(root: Path, **changes: Any) -> Settings:
    """The settings of a data set without faults, all of whose images and masks exist."""
    return {**lists(root, labeled=3, unlabeled=2, val=1, test=1), **changes}


def fault(*fragments: str) -> Callable[[Callable[[Path], Settings]], None]:
    """Registers a function that makes a data set with one fault; its message has all the fragments."""

    def register(make: Callable[[Path], Settings]) -> None:
        FAULTS[make.__name__] = (make, list(fragments))

    return register


def problems_of(data: Settings, results: Path, **options: Any) -> list[str]:
    with pytest.raises(Problems) as caught:
        index(data, results, **{"batch_size": 2, "need_unlabeled": True, "log": lambda text: None, **options})
    return caught.value.problems


def warnings_of(data: Settings, results: Path, **options: Any) -> list[str]:
    options = {"batch_size": 2, "need_unlabeled": True, "log": lambda text: None, **options}
    return index(data, results, **options)["warnings"]


def append(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")


# --- lists ------------------------------------------------------------------------------------------------------------


@fault("data root", "nowhere is not a folder", "correct `root`")
def the_root_is_missing(root):
    return settings(root / "nowhere", labeled="labeled.txt")


@fault("no labeled list few.txt", "nor from the data root")
def a_list_is_missing(root):
    return good(root, labeled="few.txt")


@fault("unlabeled list", "cannot be read as UTF-8 text", "save it as such")
def a_list_is_not_utf_8(root):
    data = good(root)
    (root / "unlabeled.txt").write_text("i/unlabeled0.png\n", encoding="utf-16")
    return data


@fault("UTF-8 text (field larger than field limit")
def a_list_is_one_endless_line(root):
    data = good(root)
    (root / "labeled.txt").write_text("a" * 200_000 + ",b")
    return data


@fault("labeled.txt:4: 3 columns (a.png | b.png | 1); expected an image and at most a mask", "double quotes")
def a_line_has_three_columns(root):
    data = good(root)
    append(root / "labeled.txt", "a.png\tb.png\t1")
    return data


@fault("labeled list ", "labeled.txt is JSON: if it holds annotations, `stpp import FORMAT ", "expected a text file")
def a_list_is_json(root):
    data = good(root)
    (root / "labeled.txt").write_text('{\n "images": [\n  {"file_name": "a.png"}\n ]\n}\n')
    return data


@fault("81 lines: ", "labeled.txt:4: '/x/0.png", "labeled.txt:6", "and 78 more; set `root` to a folder that holds")
def many_lines_lead_out_of_the_root(root):
    data = good(root)
    append(root / "labeled.txt", "\n".join(f"/x/{number}.png /x/{number}_m.png" for number in range(81)))
    return data


@fault("labeled.txt:4: i/val0.png has no mask in its line, but labeled images need one")
def a_labeled_line_has_no_mask(root):
    data = good(root)
    append(root / "labeled.txt", "i/val0.png")
    return data


@fault("unlabeled.txt:3: '../x.png' points outside the data root", "set `root` to a folder that holds")
def a_line_leads_out_of_the_root(root):
    data = good(root)
    append(root / "unlabeled.txt", "../x.png")
    return data


@fault("unlabeled.txt:3: ", "points outside the data root")
def an_absolute_path_lies_elsewhere(root):
    data = good(root)
    append(root / "unlabeled.txt", "/elsewhere/x.png")
    return data


@fault("unlabeled.txt:3: '\\x00' in 'a\\x00b.png'; expected one name per line")
def a_line_has_a_zero_byte(root):
    data = good(root)
    append(root / "unlabeled.txt", "a\0b.png")
    return data


@fault("val list", "names no image: fill it, or leave `val` out")
def the_val_list_is_empty(root):
    data = good(root)
    (root / "val.txt").write_text("# later\n")
    return data


@fault("There is no labeled image", "add masks for some of the training images")
def the_labeled_list_is_empty(root):
    data = good(root)
    (root / "labeled.txt").write_text("\n")
    return data


@fault("There is no unlabeled image, but self-training needs some", "`partition`")
def nothing_is_unlabeled(root):
    return good(root, unlabeled=None)


# --- files ------------------------------------------------------------------------------------------------------------


@fault("1 labeled image: no such file: ", "i/labeled1.png", "labeled.txt:2)", "Correct the list or `root`")
def an_image_is_missing(root):
    data = good(root)
    (root / "i/labeled1.png").unlink()
    return data


@fault("1 val mask: no such file: ", "m/val0.png (", "val.txt:1)")
def a_mask_is_missing(root):
    data = good(root)
    (root / "m/val0.png").unlink()
    return data


@fault("no such file", 'Lists write "/" between folders, not "\\"')
def a_list_has_backslashes(root):
    data = good(root)
    append(root / "unlabeled.txt", "i\\unlabeled0.png")
    return data


@fault("1 labeled image: empty file: ", "i/labeled0.png", "Copy or download it again")
def an_image_file_is_empty(root):
    data = good(root)
    (root / "i/labeled0.png").write_bytes(b"")
    return data


@fault("1 unlabeled image: truncated or damaged file: ", "i/unlabeled0.png", "Copy or download it again")
def an_unlabeled_image_is_truncated(root):
    data = good(root)
    path = save(root / "i/unlabeled0.png", photo(0, (64, 64)))
    path.write_bytes(path.read_bytes()[:-5000])
    (root / "m/unlabeled0.png").unlink()
    return data


@fault("1 labeled image: truncated or damaged file: ", "i/labeled0.jpg")
def a_jpeg_image_is_truncated(root):
    data = good(root)
    path = save(root / "i/labeled0.jpg", photo(0, (64, 64)))
    path.write_bytes(path.read_bytes()[:-2000])
    save(root / "m/labeled0.png", labels(0, (64, 64)))
    (root / "labeled.txt").write_text("i/labeled0.jpg m/labeled0.png")
    return data


@fault("1 labeled image: truncated or damaged file: ", "i/labeled0.tif")
def a_tiff_image_is_truncated(root):
    data = good(root)
    path = save(root / "i/labeled0.tif", photo(0, (64, 64)))
    path.write_bytes(path.read_bytes()[:-2000])
    save(root / "m/labeled0.png", labels(0, (64, 64)))
    (root / "labeled.txt").write_text("i/labeled0.tif m/labeled0.png")
    return data


@fault("1 unlabeled image: ", "i/unlabeled0.webp", "again")
def a_webp_image_is_truncated(root):
    data = good(root)
    path = save(root / "i/unlabeled0.webp", photo(0, (64, 64)))
    path.write_bytes(path.read_bytes()[:-1000])
    (root / "unlabeled.txt").write_text("i/unlabeled0.webp")
    return data


@fault("1 test mask: truncated or damaged file: ", "m/test0.png")
def a_mask_is_truncated(root):
    data = good(root)
    path = save(root / "m/test0.png", np.random.default_rng(0).integers(0, 3, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:-500])
    return data


@fault("1 labeled image: a web page or XML file instead of an image: ", "i/labeled0.png", "Download it again")
def an_image_is_a_web_page(root):
    data = good(root)
    (root / "i/labeled0.png").write_text("<html>404 Not Found</html>")
    return data


@fault("1 unlabeled image: not a readable JPEG, PNG, TIFF, WebP, BMP or GIF file: ", "u.ppm")
def an_image_is_a_ppm(root):
    data = good(root)
    save(root / "u.ppm", photo())
    append(root / "unlabeled.txt", "u.ppm")
    return data


@fault("1 labeled mask: not a readable JPEG, PNG, TIFF, WebP, BMP or GIF file: ", "m/labeled0.pgm")
def a_mask_is_a_pgm(root):
    data = good(root)
    save(root / "m/labeled0.pgm", labels())
    (root / "labeled.txt").write_text("i/labeled0.png m/labeled0.pgm\n")
    return data


@fault("1 unlabeled image: unreadable file: ", "unlabeled.txt:3, Is a directory)")
def an_image_is_a_folder(root):
    data = good(root)
    append(root / "unlabeled.txt", "i")
    return data


@fault("1 unlabeled image: unreadable file: ", "File name too long")
def a_name_is_too_long(root):
    data = good(root)
    append(root / "unlabeled.txt", f"i/{'x' * 300}.png m/{'x' * 300}.png")
    return data


@fault(
    "1 labeled image: not an 8-bit image: ", "Pillow mode I;16B", "such as `data.bands: 1` and `data.scale: [0, 4095]`"
)
def an_image_has_16_bits(root):
    data = good(root)
    save(root / "i/labeled0.png", photo()[..., 0].astype(np.uint16))
    return data


@fault("1 unlabeled image: not an 8-bit image: ", "Pillow mode RGB;16B")
def a_colour_image_has_16_bits(root):
    data = good(root)
    (root / "i/unlabeled0.png").write_bytes(png(8, 8, 16, 2, bytes(8 * 8 * 6)))
    return data


@fault("1 val image: not an 8-bit image: ", "Pillow mode F")
def an_image_has_floating_point_values(root):
    data = good(root)
    save(root / "v.tif", np.ones((8, 8), np.float32))
    (root / "val.txt").write_text("v.tif m/val0.png")
    return data


@fault("1 unlabeled image: more than 179 million pixels: ", "Cut it into smaller images")
def an_image_is_a_decompression_bomb(root):
    data = good(root)
    (root / "i/unlabeled0.png").write_bytes(png(50_000, 50_000, 8, 2, b""))
    return data


@fault("1 labeled mask: JPEG file as a mask: ", "make the masks again as PNG")
def a_mask_is_a_jpeg(root):
    data = good(root)
    save(root / "m/labeled0.jpg", labels())
    (root / "labeled.txt").write_text("i/labeled0.png m/labeled0.jpg\n")
    return data


@fault("1 labeled mask: mask of an unknown kind: ", "Pillow mode F", "grey, palette or 8-bit RGB")
def a_mask_has_floating_point_values(root):
    data = good(root)
    save(root / "m/labeled0.tif", np.zeros((8, 8), np.float32))
    (root / "labeled.txt").write_text("i/labeled0.png m/labeled0.tif\n")
    return data


@fault("1 labeled mask: mask of an unknown kind: ", "Pillow mode RGB;16B")
def a_colour_mask_has_16_bits(root):
    data = good(root)
    (root / "m/labeled0.png").write_bytes(png(8, 8, 16, 2, bytes(8 * 8 * 6)))
    return data


@fault("1 labeled mask: more than 4096 different labels, so a picture and not a mask: ")
def a_mask_is_a_photograph(root):
    data = good(root)
    save(root / "i/labeled0.png", photo(0, (80, 80)))
    save(root / "m/labeled0.png", photo(0, (80, 80)))
    return data


@fault("1 labeled mask: not the size of the image", "image 8 x 8, mask 7 x 9)")
def a_mask_has_another_size(root):
    data = good(root)
    save(root / "m/labeled0.png", labels(0, (9, 7)))
    return data


@fault("1 val mask: not the size of the image", "turned upright by EXIF", "image 6 x 8, mask 8 x 6)")
def an_image_is_turned_and_its_mask_is_not(root):
    data = good(root)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "i/val0.png", photo(0, (6, 8)), exif=exif)
    save(root / "m/val0.png", labels(0, (6, 8)))
    return data


# --- labels -----------------------------------------------------------------------------------------------------------


def relabel(root: Path, change: Callable[[np.ndarray], np.ndarray], **changes: Any) -> Settings:
    """The good data set with every mask changed."""
    data = good(root, **changes)
    for path in (root / "m").iterdir():
        save(path, change(labels(len(path.name))))
    return data


@fault("1 mask: labels out of range: ", "labeled0.png (17: 2 pixels)", "Expected 0 to 2 or 255 (ignore)")
def a_label_is_out_of_range(root):
    data = good(root)
    mask = labels()
    mask[0, :2] = 17
    save(root / "m/labeled0.png", mask)
    return data


@fault("labels out of range", "label_map with a class index or `ignore`", "it has {100: ignore, 101: ignore, ")
def many_labels_are_out_of_range(root):
    return relabel(root, lambda mask: np.arange(100, 164, dtype=np.uint8).reshape(8, 8))


@fault("values seem to begin with 1 instead of 0. If so, write: first_label: 1")
def labels_begin_with_one(root):
    return relabel(root, lambda mask: np.where(mask == 255, 255, mask + 1).astype(np.uint8))


@fault("one value more than the 3 classes. If 0 means", "write: first_label: 1; if 0 is a class, its name is missing")
def a_class_has_no_name(root):
    return relabel(root, lambda mask: np.where(mask == 255, 3, mask).astype(np.uint8))


@fault("All labeled pixels are of class 0", "nothing but 0 and 255", "If so, write: label_map: {0: 0, 255: 1}")
def masks_are_black_and_white(root):
    return relabel(root, lambda mask: np.where(mask == 1, 255, 0).astype(np.uint8), classes=["other", "road"])


@fault("labels out of range", "Expected 0 to 1.", "If so, write: label_map: {0: 0, 255: 1}")
def masks_are_black_and_white_and_nothing_is_ignored(root):
    changes = {"classes": ["other", "road"], "ignore_value": None}
    return relabel(root, lambda mask: np.where(mask == 1, 255, 0).astype(np.uint8), **changes)


@fault("1 mask: no labeled pixel (all are ignored): ", "labeled0.png", "make the image an unlabeled one")
def a_mask_has_no_labeled_pixel(root):
    data = good(root)
    save(root / "m/labeled0.png", np.full((8, 8), 255, np.uint8))
    return data


@fault("All labeled pixels are of class 2, so there is nothing to learn")
def all_labels_are_of_one_class(root):
    return relabel(root, lambda mask: np.full((8, 8), 2, np.uint8))


@fault(
    "5 masks: colours instead of class numbers: ",
    'example (check the numbers): palette_map: {"#0a0000": 0, "#000000": 1, "#140000": 2, "#ff0000": ignore}',
)
def masks_are_coloured(root):
    colours = np.zeros((256, 3), np.uint8)
    colours[[1, 2, 255], 0] = 10, 20, 255
    mask = np.array([0, 1, 1, 1, 2, 2, 255, 255] * 8, np.uint8).reshape(8, 8)
    mask[0, 4], mask[1, 6] = 1, 2
    return relabel(root, lambda _: colours[np.where(mask == 255, np.where(np.arange(8) == 7, 0, 255), mask)])


@fault('palette_map: {"#000000": 0, "#800000": 1, "#008000": 2, "#ffffff": ignore}')
def masks_have_the_colours_of_the_classes(root):
    colours = np.full((256, 3), 255, np.uint8)
    colours[:3] = (0, 0, 0), (128, 0, 0), (0, 128, 0)
    mask = np.repeat(np.array([0, 255, 2, 1], np.uint8), [30, 20, 10, 4]).reshape(8, 8)
    return relabel(root, lambda _: colours[mask])


@fault("5 masks: labels out of range: ", "(#0000ff: 8 pixels)", "Add the missing colours to palette_map")
def a_colour_is_not_in_the_palette_map(root):
    row = [(0, 0, 0)] * 7 + [(0, 0, 255)]
    return relabel(root, lambda _: np.array([row] * 8, np.uint8), palette_map={"#000000": 0})


@fault("5 masks: labels out of range: ", "Expected the colours of palette_map")
def masks_of_16_bits_have_no_colours(root):
    return relabel(root, lambda mask: mask.astype(np.uint16), palette_map={"#000000": 0})


@fault("labels out of range", "Expected the values of label_map or 255 (ignore)", "Add the missing values to label_map")
def a_value_is_not_in_the_label_map(root):
    return good(root, label_map={"0": 0, "1": 1})


# --- images that occur twice ------------------------------------------------------------------------------------------


@fault("1 image: in two subsets, labeled and val: i/labeled0 (", "labeled.txt:1", "val.txt:2)", "Remove it from one")
def an_image_is_in_two_subsets(root):
    data = good(root)
    append(root / "val.txt", "i/labeled0.png m/labeled0.png")
    return data


@fault("1 image: more than once in unlabeled: i/unlabeled0 (", "unlabeled.txt:1", "unlabeled.txt:3)", "repeated lines")
def an_image_is_listed_twice(root):
    data = good(root)
    append(root / "unlabeled.txt", "./i/unlabeled0.png")
    return data


@fault("1 image: two files differ only in their suffix: ", "i/labeled0.png and ", "i/labeled0.tif", "Rename or remove")
def two_images_have_one_id(root):
    data = good(root)
    save(root / "i/labeled0.tif", photo())
    append(root / "unlabeled.txt", "i/labeled0.tif")
    return data


# --- folders and layouts ----------------------------------------------------------------------------------------------


def folder(root: Path) -> Settings:
    for name in ("a", "b", "c"):
        save(root / f"images/{name}.png", photo())
    for name in ("a", "b"):
        save(root / f"masks/{name}.png", labels())
    return settings(root, layout="folder")


@fault("1 image: a line break in the name: '", "x\\ny.png'", "Rename the files")
def a_name_has_a_line_break(root):
    save(root / "images/x\ny.png", photo())
    return folder(root)


@fault("1 image: a name that is not UTF-8: '", "x\\udcffy.png'", "Rename the files")
def a_name_is_not_utf_8(root):
    data = folder(root)
    (root / "images/c.png").rename(root / os.fsdecode(b"images/x\xffy.png"))
    return data


@fault("masks/a.png and ", "masks/a.tif are two masks of one image; remove one of them")
def an_image_has_two_masks(root):
    save(root / "masks/a.tif", labels())
    return folder(root)


@fault("There is no folder ", "photos: correct `root`, `images` or `masks`")
def the_folder_of_images_is_missing(root):
    return {**folder(root), "images": "photos"}


@fault("2 belong to no image, for example a_mask.png, b_mask.png", "2 would have one", "mask_name: '{stem}_mask'")
def no_image_has_a_mask(root):
    data = folder(root)
    for name in ("a", "b"):
        (root / f"masks/{name}.png").rename(root / f"masks/{name}_mask.png")
    return data


@fault("images: . and masks: masks must be two sub-folders of the data root")
def masks_lie_among_the_images(root):
    return {**folder(root), "images": "."}


@fault("must be two sub-folders of the data root")
def the_folder_of_images_lies_elsewhere(root):
    return {**folder(root), "images": "../images"}


@fault("1 unlabeled image: not a readable JPEG, PNG, TIFF, WebP, BMP or GIF file: ", "d.ppm")
def a_folder_has_an_image_that_is_not_read(root):
    save(root / "images/d.ppm", photo())
    return folder(root)


@fault("no training images in the layout voc: expected ImageSets/Segmentation/train.txt", "Correct `root` or `layout`")
def a_folder_is_not_voc(root):
    root.mkdir(exist_ok=True)
    return settings(root, layout="voc", classes=None)


@fault("no training images in the layout cityscapes: expected leftImg8bit/train/CITY/*.png")
def a_folder_is_not_cityscapes(root):
    return settings(root, layout="cityscapes", classes=None)


@fault("1 labeled mask: no such file", "make them with csCreateTrainIdLabelImgs")
def cityscapes_lacks_its_training_ids(root):
    for number in range(2):
        save(root / f"leftImg8bit/train/ulm/ulm_{number}_leftImg8bit.png", photo())
        save(root / f"gtFine/train/ulm/ulm_{number}_gtFine_labelIds.png", labels())
    half = {"count": 1, "seed": 0, "cover_classes": False}
    return settings(root, layout="cityscapes", classes=None, partition=half)


# --- settings ---------------------------------------------------------------------------------------------------------


@fault("The classes are not known: give `classes` (a list of names) or `classes_file`")
def classes_are_not_given(root):
    return good(root, classes=None)


@fault("There is no classes file names.txt, neither seen from ", "nor from the data root ", "correct `classes_file`")
def the_classes_file_is_missing(root):
    return good(root, classes=None, classes_file="names.txt")


@fault("The classes file ", "names.txt has no names; expected one class name per line")
def the_classes_file_is_empty(root):
    (root / "names.txt").write_text("# none\n")
    return good(root, classes=None, classes_file="names.txt")


@fault("There are 1 classes; expected 2 to 255")
def there_is_one_class(root):
    (root / "names.txt").write_text("sky\n")
    return good(root, classes=None, classes_file="names.txt")


@fault("Class names must differ from each other, but 'sky' occur more than once")
def two_classes_have_one_name(root):
    return good(root, classes=["sky", "road", "sky"])


@fault("There are 2 colours for 3 classes; give one for each, or none")
def there_are_fewer_colours_than_classes(root):
    return good(root, colors=["#000000", "#ffffff"])


@fault("label_map maps 2 to 3; expected a class index from 0 to 2, or `ignore`")
def a_label_map_leads_out_of_the_classes(root):
    return good(root, label_map={"0": 0, "1": 1, "2": 3})


@fault("palette_map maps #FFFFFF to 7; expected a class index from 0 to 2, or `ignore`")
def a_palette_map_leads_out_of_the_classes(root):
    return good(root, palette_map={"#FFFFFF": 7})


@fault("label_map and palette_map are both given", "keep one of them")
def two_maps_are_given(root):
    return good(root, label_map={"0": 0}, palette_map={"#000000": 0})


@fault("partition: 4 images are asked for, but there are 3: ask for 1 to 3.")
def a_partition_is_too_large(root):
    return good(root, partition={"count": 4, "seed": 0, "cover_classes": False})


@fault("val_split: 30 images are asked for, but there are 3")
def a_val_split_is_too_large(root):
    return good(root, val=None, val_split={"count": 30, "seed": 0})


@fault("partition: 1 images cannot be drawn to cover all 3 classes that occur", "ask for at least 3")
def a_partition_cannot_cover_the_classes(root):
    data = good(root, partition={"count": 1, "seed": 0, "cover_classes": True})
    for number in range(3):
        save(root / f"m/labeled{number}.png", np.full((8, 8), number, np.uint8))
    return data


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_and_nothing_is_written(tmp_path, name):
    make, fragments = FAULTS[name]
    root = tmp_path / "my data"
    root.mkdir()
    problems = problems_of(make(root), tmp_path / "results")
    assert any(all(fragment in text for fragment in fragments) for text in problems), problems
    assert all(re.search(r"[.?}'0-9]$", text) for text in problems)  # a setting to type has no full stop behind it
    assert not (tmp_path / "results").exists()


def test_there_is_one_message_for_each_fault(tmp_path):
    several = {"a_list_has_backslashes", "a_name_has_a_line_break"}
    for name, (make, _) in FAULTS.items():
        (tmp_path / name).mkdir()
        problems = problems_of(make(tmp_path / name), tmp_path / "results")
        assert len(problems) == 1 or name in several, (name, problems)


# --- what is not a fault, and how much is said ------------------------------------------------------------------------


def test_a_data_set_without_faults_has_no_warnings(tmp_path):
    assert warnings_of(good(tmp_path / "d"), tmp_path / "results") == []


def test_all_faults_are_reported_at_once(tmp_path):
    data = good(tmp_path, colors=["#000000"])
    (tmp_path / "i/labeled0.png").unlink()
    (tmp_path / "m/labeled1.png").write_bytes(b"")
    save(tmp_path / "m/labeled2.png", labels(0, (4, 4)))
    save(tmp_path / "m/val0.png", np.full((8, 8), 9, np.uint8))
    append(tmp_path / "unlabeled.txt", "../x.png")
    problems = problems_of(data, tmp_path / "results")
    for fragment in ("colours", "no such file", "empty file", "not the size", "out of range", "points outside"):
        assert len([text for text in problems if fragment in text]) == 1
    assert len(problems) == 6


def test_a_fault_of_many_files_names_five_and_counts_the_rest(tmp_path):
    data = good(tmp_path)
    (tmp_path / "unlabeled.txt").write_text("".join(f"gone/{number}.png\n" for number in range(1205)))
    (problem,) = problems_of(data, tmp_path / "results")
    assert problem.startswith("1,205 unlabeled images: no such file: ")
    assert problem.count("gone/") == 5
    assert "and 1,200 more" in problem


def test_supervised_training_needs_no_unlabeled_images(tmp_path):
    assert warnings_of(good(tmp_path, unlabeled=None), tmp_path / "results", need_unlabeled=False) == []


def test_fewer_labeled_images_than_a_batch_are_a_warning(tmp_path):
    (warning,) = warnings_of(good(tmp_path), tmp_path / "results", batch_size=4)
    assert "There are 3 labeled images, fewer than the batch of 4" in warning
    (warning,) = lint_counts({"labeled": 1, "unlabeled": 5}, 4, need_unlabeled=True).warnings
    assert "There is 1 labeled image, fewer than the batch of 4" in warning


def test_a_class_without_labels_is_a_warning(tmp_path):
    (warning,) = warnings_of(good(tmp_path, classes=["sky", "road", "tree", "lake"]), tmp_path / "results")
    assert warning.startswith("1 class without a labeled pixel: lake (3).")


def test_faults_of_masks_of_unlabeled_images_are_warnings_and_no_truth(tmp_path):
    data = lists(tmp_path, labeled=2, unlabeled=4)
    (tmp_path / "m/unlabeled0.png").write_text("no mask")
    save(tmp_path / "m/unlabeled1.png", labels(0, (3, 3)))
    (tmp_path / "m/unlabeled2.png").unlink()
    record = index(data, tmp_path / "r", batch_size=2, need_unlabeled=True, log=lambda text: None)
    assert [text.split(": ")[:2] for text in record["warnings"]] == [
        ["1 unlabeled mask", "not a readable JPEG, PNG, TIFF, WebP, BMP or GIF file"],
        ["1 unlabeled mask", "not the size of the image (width x height, turned upright by EXIF)"],
    ]
    assert {subset: entry["count"] for subset, entry in record["subsets"].items()} == {
        "labeled": 2,
        "unlabeled": 4,
        "truth": 1,
    }


@pytest.mark.parametrize(
    "name", ["a b", "$HOME", "it's", 'say "hi"', "-rf", "ünï 東京", "a,b", "100%", "{x}", "#7", "x.y"]
)
def test_odd_names_are_no_fault(tmp_path, name):
    data = lists(tmp_path, labeled=2, unlabeled=1)
    line = pair(tmp_path, name)
    with (tmp_path / "labeled.txt").open("a", encoding="utf-8") as file:
        file.write(line.replace(" m/", "\tm/") + "\n")
    record = index(data, tmp_path / "r", batch_size=2, need_unlabeled=True, log=lambda text: None)
    assert record["subsets"]["labeled"]["count"] == 3


def test_a_jpeg_with_data_after_its_end_is_no_fault(tmp_path):
    data = good(tmp_path)
    path = save(tmp_path / "u.jpg", photo())
    path.write_bytes(path.read_bytes() + b"the camera's own notes")
    append(tmp_path / "unlabeled.txt", "u.jpg")
    assert warnings_of(data, tmp_path / "results") == []


def test_bands_that_are_not_read_are_a_warning(tmp_path):
    data = good(tmp_path)
    for name in ("labeled0", "labeled1"):
        (tmp_path / f"i/{name}.png").unlink()
        save(tmp_path / f"i/{name}.tif", np.dstack([photo(), photo()[..., :1]]))
    lines = (tmp_path / "labeled.txt").read_text()
    (tmp_path / "labeled.txt").write_text(re.sub(r"i/labeled([01])\.png", r"i/labeled\1.tif", lines))
    (warning,) = warnings_of(data, tmp_path / "results")
    assert warning.startswith("2 images: 4 bands, of which the first three alone are read: ")
    assert "i/labeled1.tif" in warning
