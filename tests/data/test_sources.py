import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tiny_data import settings

from stpp.data.classes import CITYSCAPES, VOC_CLASSES, classes_of, read_classes
from stpp.data.lists import split_line
from stpp.data.record import stamp
from stpp.data.sources import resolve
from stpp.settings.data import Data

SPLIT = {"count": None, "fraction": None, "seed": 0}


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def no_labels(masks):
    raise AssertionError("no mask needs to be read")


def subsets(data, labels_of=no_labels):
    """The ids of each subset, after a check that nothing was found wrong."""
    sources = resolve(data, labels_of)
    assert sources.problems == []
    found: dict[str, list[str]] = {}
    for entry in sources.entries:
        found.setdefault(entry.subset, []).append(entry.id)
    return found


def test_the_tests_use_the_settings_that_the_configuration_has():
    assert settings(Path("x")).keys() == Data.model_fields.keys()


# --- lists ------------------------------------------------------------------------------------------------------------

PAIR = ("i/a.jpg", "m/a.png")


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("i/a.jpg m/a.png", PAIR),
        ("i/a.jpg   m/a.png  ", PAIR),
        ("i/a.jpg\tm/a.png", PAIR),
        ("i/a.jpg,m/a.png", PAIR),
        ("i/a.jpg, m/a.png", PAIR),
        ('"i/a.jpg","m/a.png"', PAIR),
        ('"i/a.jpg" "m/a.png"', PAIR),
        ("./i/../i/a.jpg m//a.png", PAIR),
        ("i/my photo.jpg m/my mask.png", ("i/my photo.jpg", "m/my mask.png")),
        ("i/my photo.jpg\tm/my mask.png", ("i/my photo.jpg", "m/my mask.png")),
        ("i/my photo.jpg, m/my mask.png", ("i/my photo.jpg", "m/my mask.png")),
        ('"i/my photo.jpg" "m/my mask.png"', ("i/my photo.jpg", "m/my mask.png")),
        ('"i/my photo.jpg"\t"m/my mask.png"', ("i/my photo.jpg", "m/my mask.png")),
        ('"i/a,b.jpg","m/a,b.png"', ("i/a,b.jpg", "m/a,b.png")),
        ("i/a,b.jpg m/a,b.png", ("i/a,b.jpg", "m/a,b.png")),
        ("i/a,b.jpg,m/a,b.png", ("i/a,b.jpg", "m/a,b.png")),
        ('i/"q".jpg m/"q".png', ('i/"q".jpg', 'm/"q".png')),
        ("i/it's $HOME.jpg m/it's $HOME.png", ("i/it's $HOME.jpg", "m/it's $HOME.png")),
        ("-i.jpg -m.png", ("-i.jpg", "-m.png")),
        ("i/Zürich 東京 😀.jpg m/Zürich 東京 😀.png", ("i/Zürich 東京 😀.jpg", "m/Zürich 東京 😀.png")),
        ("i/a.jpg copy.jpg m/a.jpg copy.png", ("i/a.jpg copy.jpg", "m/a.jpg copy.png")),
        ("i/UPPER 1.JPG m/UPPER 1.PNG", ("i/UPPER 1.JPG", "m/UPPER 1.PNG")),
    ],
)
def test_a_line_names_an_image_and_its_mask(tmp_path, line, names):
    touch(tmp_path, *names)
    (tmp_path / "labeled.txt").write_text(line, encoding="utf-8")
    (entry,) = resolve(settings(tmp_path, labeled="labeled.txt"), no_labels).entries
    assert (entry.image, entry.mask) == tuple(str(tmp_path / name) for name in names)
    assert entry.id == names[0][:-4]
    assert entry.subset == "labeled"


@pytest.mark.parametrize("line", ["i/my photo.jpg", '"i/my photo.jpg"', "i/a.jpg", "i/a.jpg b.jpg", "i/a,b.jpg"])
def test_a_line_of_an_unlabeled_list_may_name_the_image_alone(tmp_path, line):
    touch(tmp_path, line.strip('"'))
    (tmp_path / "u.txt").write_text(line)
    (entry,) = resolve(settings(tmp_path, unlabeled="u.txt"), no_labels).entries
    assert (entry.image, entry.mask) == (str(tmp_path / line.strip('"')), None)


def test_the_mask_of_an_unlabeled_image_is_kept_whether_it_exists_or_not(tmp_path):
    touch(tmp_path, "i/a b.jpg")
    (tmp_path / "u.txt").write_text("i/a b.jpg m/a b.png\n")
    (entry,) = resolve(settings(tmp_path, unlabeled="u.txt"), no_labels).entries
    assert (entry.image, entry.mask) == (str(tmp_path / "i/a b.jpg"), str(tmp_path / "m/a b.png"))


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("my photo.jpg my mask.png", ["my photo.jpg", "my mask.png"]),
        ('"my photo.jpg","my mask.png"', ["my photo.jpg", "my mask.png"]),
        ("a.jpg, a.png", ["a.jpg", "a.png"]),
        ("a.jpg a.png", ["a.jpg", "a.png"]),
        ("a b c d", ["a b c d"]),
    ],
)
def test_a_line_whose_files_are_missing_is_split_at_the_suffix(line, fields):
    assert split_line(line, lambda name: False) == fields


NAMES = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters='/#"'), min_size=1, max_size=8)


@hypothesis_settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, min_size=1, max_size=3), st.sampled_from([" ", "\t", ",", ", "]), st.data())
def test_two_existing_names_are_found_again_in_a_line(words, separator, data):
    joined = " ".join(words)
    image, mask = f"i/{joined}.jpg", f"m/{joined}.png"
    assert split_line(f"{image}{separator}{mask}", {image, mask}.__contains__) == [image, mask]
    quoted = f'"{image}"{separator}"{mask}"'
    assert split_line(quoted, {image, mask}.__contains__) == [image, mask]


def test_blank_lines_comments_headers_marks_and_line_ends_are_passed_over(tmp_path):
    touch(tmp_path, "a.jpg", "a.png", "b.jpg", "b.png")
    text = "\ufeff# my images\r\n\r\nimage,mask\r\na.jpg,a.png\r\n  # done\r\nb.jpg,b.png"
    (tmp_path / "labeled.txt").write_bytes(text.encode())
    sources = resolve(settings(tmp_path, labeled="labeled.txt"), no_labels)
    assert [(entry.id, entry.where) for entry in sources.entries] == [
        ("a", f"{tmp_path}/labeled.txt:4"),
        ("b", f"{tmp_path}/labeled.txt:6"),
    ]


def test_odd_line_ends_of_unicode_do_not_split_a_line(tmp_path):
    touch(tmp_path, "a\u2028b.jpg", "a\u2028b.png")
    (tmp_path / "l.txt").write_text("a\u2028b.jpg a\u2028b.png\n", encoding="utf-8")
    assert subsets(settings(tmp_path, labeled="l.txt")) == {"labeled": ["a\u2028b"]}


def test_the_order_of_a_list_is_kept(tmp_path):
    names = [f"{number}.jpg {number}.png" for number in (3, 1, 2)]
    (tmp_path / "l.txt").write_text("\n".join(names))
    assert subsets(settings(tmp_path, labeled="l.txt"))["labeled"] == ["3", "1", "2"]


def test_a_list_is_looked_for_in_the_working_directory_and_in_the_root(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    root = tmp_path / "root"
    touch(root, "a.jpg", "b.jpg")
    (root / "l.txt").write_text("a.jpg a.png")
    assert subsets(settings(root, labeled="l.txt"))["labeled"] == ["a"]
    Path("l.txt").write_text("b.jpg b.png")
    assert subsets(settings(root, labeled=str(root / "l.txt")))["labeled"] == ["a"]
    assert subsets(settings(root, labeled=str(Path("l.txt").absolute())))["labeled"] == ["b"]
    (root / "l.txt").unlink()
    assert subsets(settings(root, labeled="l.txt"))["labeled"] == ["b"]


@pytest.mark.parametrize("setting", ["labeled", "unlabeled", "val", "test", "classes_file"])
def test_two_files_of_one_name_are_refused(tmp_path, monkeypatch, setting):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    root = tmp_path / "root"
    touch(root, "a.jpg", "a.png")
    for folder in (root, Path()):
        (folder / "l.txt").write_text("a.jpg a.png\n" if setting != "classes_file" else "sky\nroad\n")
    data = settings(root, **{"classes": None, setting: "l.txt"})

    def problems():
        return classes_of(data).problems if setting == "classes_file" else resolve(data, no_labels).problems

    (problem,) = problems()
    assert f"{Path('l.txt').absolute()} and {root / 'l.txt'}" in problem
    assert f"`{setting}`" in problem
    (root / "l.txt").unlink()
    (root / "l.txt").symlink_to(Path("l.txt").absolute())  # one file, wherever it is seen from
    assert problems() == []


def test_a_relative_root_gives_paths_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(Path("my data"), "x/a.jpg", "x/a.png")
    Path("l.txt").write_text("x/a.jpg x/a.png")
    (entry,) = resolve(settings(Path("my data"), labeled="l.txt"), no_labels).entries
    assert (entry.id, entry.image, entry.mask) == ("x/a", "my data/x/a.jpg", "my data/x/a.png")


def test_absolute_paths_below_the_root_become_relative(tmp_path):
    touch(tmp_path, "x/a.jpg", "x/a.png")
    (tmp_path / "l.txt").write_text(f"{tmp_path}/x/a.jpg {tmp_path}/x/a.png")
    (entry,) = resolve(settings(tmp_path, labeled="l.txt"), no_labels).entries
    assert (entry.id, entry.image, entry.mask) == ("x/a", f"{tmp_path}/x/a.jpg", f"{tmp_path}/x/a.png")


# --- layouts ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def voc(tmp_path):
    for subset, ids in {"train": ["2007_01", "2007_02", "2007_03"], "val": ["2007_04"]}.items():
        touch(tmp_path, *(f"JPEGImages/{id_}.jpg" for id_ in ids), *(f"SegmentationClass/{id_}.png" for id_ in ids))
        path = tmp_path / f"ImageSets/Segmentation/{subset}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{id_}\n" for id_ in ids))
    return tmp_path


def ids(*numbers):
    return [f"JPEGImages/2007_0{number}" for number in numbers]


def test_voc_has_its_own_lists(voc):
    sources = resolve(settings(voc, layout="voc"), no_labels)
    assert subsets(settings(voc, layout="voc")) == {"labeled": ids(1, 2, 3), "val": ids(4)}
    assert sources.entries[0].image == str(voc / "JPEGImages/2007_01.jpg")
    assert sources.entries[0].mask == str(voc / "SegmentationClass/2007_01.png")


def test_beside_a_labeled_list_the_other_training_images_are_unlabeled(voc):
    (voc / "labeled.txt").write_text("2007_02\n")
    found = subsets(settings(voc, layout="voc", labeled="labeled.txt"))
    assert found == {"labeled": ids(2), "unlabeled": ids(1, 3), "val": ids(4)}


def test_lists_of_ids_or_paths_replace_those_of_voc(voc):
    (voc / "few.txt").write_text("JPEGImages/2007_03.jpg SegmentationClass/2007_03.png\n")
    (voc / "rest.txt").write_text("2007_01\n")
    data = settings(voc, layout="voc", labeled="few.txt", unlabeled="rest.txt", test="ImageSets/Segmentation/val.txt")
    assert subsets(data) == {"labeled": ids(3), "unlabeled": ids(1), "test": ids(4)}


def test_a_val_split_stands_in_for_the_layouts_val_set(voc):
    found = subsets(settings(voc, layout="voc", val_split={**SPLIT, "count": 1}))
    assert sorted(found["labeled"] + found["val"]) == ids(1, 2, 3)
    assert len(found["val"]) == 1


def test_cityscapes_is_scanned_by_city(tmp_path):
    for subset, city in (("train", "ulm"), ("train", "aachen"), ("val", "munster"), ("test", "berlin")):
        for number in (1, 0):
            stem = f"{subset}/{city}/{city}_{number}"
            touch(tmp_path, f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelTrainIds.png")
            touch(tmp_path, f"gtFine/{stem}_gtFine_color.png", f"leftImg8bit/{subset}/license.txt")
    data = settings(tmp_path, layout="cityscapes", classes=None)
    sources = resolve(data, no_labels)
    assert subsets(data) == {
        "labeled": [
            f"leftImg8bit/train/{city}/{city}_{number}_leftImg8bit" for city in ("aachen", "ulm") for number in (0, 1)
        ],
        "val": [f"leftImg8bit/val/munster/munster_{number}_leftImg8bit" for number in (0, 1)],
    }
    assert sources.entries[0].mask == str(tmp_path / "gtFine/train/aachen/aachen_0_gtFine_labelTrainIds.png")
    assert set(sources.folders) == {str(tmp_path / "leftImg8bit/train"), str(tmp_path / "leftImg8bit/val")}


@pytest.fixture
def folder(tmp_path):
    touch(tmp_path, "images/b/2.JPG", "images/1.png", "images/3.webp", "masks/b/2.png", "masks/1.tif")
    touch(tmp_path, "images/.hidden.png", "images/.git/x.png", "images/Thumbs.db", "images/notes.txt")
    return tmp_path


def test_a_folder_is_scanned_and_images_without_masks_are_unlabeled(folder):
    data = settings(folder, layout="folder")
    assert subsets(data) == {"labeled": ["images/1", "images/b/2"], "unlabeled": ["images/3"]}
    by_id = {entry.id: entry for entry in resolve(data, no_labels).entries}
    assert by_id["images/1"].mask == str(folder / "masks/1.tif")
    assert by_id["images/b/2"].image == str(folder / "images/b/2.JPG")


def test_the_folders_of_images_and_masks_may_have_other_names(folder):
    (folder / "images").rename(folder / "my photos")
    (folder / "masks").rename(folder / "labels")
    found = subsets(settings(folder, layout="folder", images="my photos/", masks="./labels"))
    assert found == {"labeled": ["my photos/1", "my photos/b/2"], "unlabeled": ["my photos/3"]}


def test_lists_beside_a_folder_take_their_images_out_of_it(folder):
    (folder / "val.txt").write_text("images/1.png masks/1.tif")
    assert subsets(settings(folder, layout="folder", val="val.txt")) == {
        "labeled": ["images/b/2"],
        "unlabeled": ["images/3"],
        "val": ["images/1"],
    }


def test_masks_without_images_are_a_warning(folder):
    touch(folder, "masks/1_mask.png")
    warning, _ = resolve(settings(folder, layout="folder"), no_labels).warnings
    assert "masks, 1 belongs to no image" in warning and "1_mask.png" in warning
    assert "as 1.png has that of 1.png" in warning


@pytest.mark.parametrize("name", ["2.png", "2-labels.png"])
def test_the_image_that_a_mask_may_mean_is_the_example(folder, name):
    touch(folder, f"masks/{name}")
    warning, _ = resolve(settings(folder, layout="folder"), no_labels).warnings
    assert f"example {name}: " in warning
    assert "as b/2.png has that of b/2.JPG" in warning


def named(root, *names, **changes):
    """What is wrong and what is found in a folder of files with these names."""
    touch(root, *names)
    return resolve(settings(root, layout="folder", **changes), no_labels)


@pytest.mark.parametrize(
    ("files", "patterns", "labeled"),
    [
        (
            "images/1_image.png images/2_image.png masks/1_label.png",
            ("{stem}_image", "{stem}_label"),
            ["images/1_image"],
        ),
        ("images/1.png images/x/2.png masks/x/gt_2.png", ("{stem}", "gt_{stem}"), ["images/x/2"]),
        ("images/1/t1.png images/2/t1.png masks/2/seg.png", ("t1", "seg"), ["images/2/t1"]),
        ("both/1.jpg both/2.jpg both/1_mask.png both/2_m.png", ("{stem}", "{stem}_mask"), ["both/1"]),
        ("both/1.jpg both/2.jpg both/1.png", ("{stem}.jpg", "{stem}.png"), ["both/1"]),
    ],
)
def test_image_and_mask_are_told_by_their_names(tmp_path, files, patterns, labeled):
    one = {"images": "both", "masks": "both"} if files.startswith("both") else {}
    names = dict(zip(("image_name", "mask_name"), patterns))
    found = named(tmp_path, *files.split(), **one, **names)
    assert found.problems == []
    assert [entry.id for entry in found.entries if entry.subset == "labeled"] == labeled
    assert len(found.entries) == sum(not entry.id.startswith("both") for entry in found.entries) or one


def test_images_with_other_names_than_said_are_a_warning(tmp_path):
    found = named(tmp_path, "images/1_rgb.png", "images/1_depth.png", "masks/1.png", image_name="{stem}_rgb")
    (warning,) = found.warnings
    assert "1 do not match image_name and are left out, for example 1_depth.png" in warning
    assert [entry.id for entry in found.entries] == ["images/1_rgb"]


@pytest.mark.parametrize(
    ("images", "masks", "expected"),
    [
        ("{}_image", "{}_annotation", "image_name: '{stem}_image', mask_name: '{stem}_annotation'"),
        ("{}", "{}_mask", "settings of data: mask_name: '{stem}_mask'"),
        ("img_{}", "mask_{}", "image_name: 'img_{stem}', mask_name: 'mask_{stem}'"),
        ("{}/t1", "{}/seg", "image_name: 't1', mask_name: 'seg'"),
    ],
)
def test_where_all_masks_have_other_names_the_names_that_would_do_are_said(tmp_path, images, masks, expected):
    numbers = [8, 9, 10, 11]
    files = [f"images/{images.format(n)}.png" for n in numbers] + [f"masks/{masks.format(n)}.png" for n in numbers]
    (problem,) = named(tmp_path, *files).problems
    assert "Of the masks below" in problem and "4 belong to no image" in problem
    assert expected in problem


def test_masks_that_differ_in_upper_and_lower_case_are_named(tmp_path):
    (problem,) = named(tmp_path, "images/DOG.png", "images/CAT.png", "masks/dog.png", "masks/Cat.png").problems
    assert "2 differ from an image in upper and lower case alone: rename them" in problem


def test_several_masks_an_image_are_named(tmp_path):
    files = [f"images/{n}.png" for n in "abc"] + [f"masks/{n}_{part}.png" for n in "abc" for part in ("car", "bus")]
    (problem,) = named(tmp_path, *files).problems
    assert "several masks per image, {stem}_bus, {stem}_car" in problem
    assert f"`stpp import part-masks {tmp_path} --out my-images` makes one of them" in problem


def test_all_that_is_not_taken_is_named(tmp_path):
    images = ["1.png", "2.jfif", "3.BMP", "4.png.part", "5.jpg_", "README", "Thumbs.db", "@eaDir/1.png/thumb.jpg"]
    found = named(tmp_path, *(f"images/{name}" for name in images), "masks/1.png", "masks/1.json", "masks/1.npy")
    assert [entry.id for entry in found.entries] == ["images/1", "images/2", "images/3"]
    first, second = found.warnings
    assert "3 files in " in first and ".part 1" in first and ".jpg_ 1" in first and "no suffix 1" in first
    assert "1 files in " in first and "@eaDir/1.png/thumb.jpg" in first
    assert ".json 1, .npy 1" in second and "`stpp import FORMAT SOURCE --out my-images`" in second
    assert "Write the arrays in .npy files as PNG" in second


def test_a_folder_of_annotations_instead_of_masks_is_named(tmp_path):
    (problem,) = named(tmp_path, "images/1.png", "images/2.png", "masks/1.json", "masks/2.json").problems
    assert "There is no mask below" in problem and "2 files in " in problem and ".json 2" in problem
    assert "stpp import" in problem
    (problem,) = named(tmp_path / "d", "images/1.dcm", "masks/1.png").problems
    assert "There is no image below" in problem and ".dcm 1" in problem


@pytest.mark.parametrize("masks", [".", "all"])
def test_images_below_the_folder_of_masks_are_no_masks(tmp_path, masks):
    files = [f"{masks}/photos/1.png", f"{masks}/photos/2.png", f"{masks}/1.png"]
    found = named(tmp_path, *files, images=f"{masks}/photos", masks=masks)
    assert (found.problems, found.warnings) == ([], [])
    assert [entry.subset for entry in found.entries] == ["labeled", "unlabeled"]


def test_many_pairs_of_masks_are_one_problem(tmp_path):
    files = [f"masks/{n}.{suffix}" for n in range(9) for suffix in ("png", "tif")]
    (problem,) = named(tmp_path, *files, "images/0.png").problems
    assert "masks/0.png and " in problem and "and 6 more are two masks of one image" in problem


def test_a_readable_file_goes_before_one_that_is_not(tmp_path):
    found = named(tmp_path, "images/0.png", "images/0.ppm", "images/1.ppm", "masks/0.png", "masks/0.npy")
    assert [Path(entry.image).name for entry in found.entries] == ["0.png", "1.ppm"]
    assert found.problems == []


def test_a_val_split_that_takes_the_only_labeled_image_is_a_problem(tmp_path):
    touch(tmp_path, "images/1.png", "images/2.png", "masks/1.png")
    (problem,) = named(tmp_path, val_split={**SPLIT, "count": 1}).problems
    assert "val_split takes all there are, 1 labeled image, and none is left" in problem


def test_a_folder_of_links_is_followed_and_a_loop_is_not(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    touch(elsewhere, "4.png")
    (folder / "images/more").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(elsewhere)
    assert subsets(settings(folder, layout="folder"))["unlabeled"] == ["images/3", "images/more/4"]


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ten(tmp_path):
    (tmp_path / "l.txt").write_text("".join(f"{number}.jpg {number}.png\n" for number in range(10)))
    return tmp_path


TEN = [str(number) for number in range(10)]


def test_a_partition_splits_the_labeled_list(ten):
    found = subsets(settings(ten, labeled="l.txt", partition={**SPLIT, "count": 3, "cover_classes": False}))
    assert len(found["labeled"]) == 3
    assert sorted(found["labeled"] + found["unlabeled"]) == TEN
    masks = {e.id: e.mask for e in resolve(settings(ten, labeled="l.txt"), no_labels).entries}
    assert masks["7"] == str(ten / "7.png")


def test_a_partition_comes_after_the_val_split_and_adds_to_the_unlabeled_list(ten):
    (ten / "u.txt").write_text("x.jpg\n")
    data = settings(
        ten,
        labeled="l.txt",
        unlabeled="u.txt",
        val_split={**SPLIT, "fraction": 0.2},
        partition={**SPLIT, "fraction": 0.5, "cover_classes": False},
    )
    found = subsets(data)
    assert {subset: len(members) for subset, members in found.items()} == {"labeled": 4, "unlabeled": 5, "val": 2}
    assert sorted(found["labeled"] + found["unlabeled"] + found["val"]) == [*TEN, "x"]


def test_a_test_split_is_drawn_first_and_shares_no_image_with_val(ten):
    splits = {"test_split": {**SPLIT, "count": 3}, "val_split": {**SPLIT, "count": 2}}
    found = subsets(settings(ten, labeled="l.txt", unlabeled=None, **splits))
    assert {subset: len(members) for subset, members in found.items()} == {"labeled": 5, "test": 3, "val": 2}
    assert sorted(found["labeled"] + found["test"] + found["val"]) == TEN
    alone = subsets(settings(ten, labeled="l.txt", unlabeled=None, test_split=splits["test_split"]))
    assert alone["test"] == found["test"]


def test_folds_of_what_the_partition_draws_are_the_test_sets(ten):
    (ten / "t.txt").write_text("x.jpg y.png\n")
    known = {"labeled": "l.txt", "test": "t.txt", "partition": {**SPLIT, "count": 7, "cover_classes": False}}
    whole = subsets(settings(ten, **known))
    folds = [subsets(settings(ten, **known, fold={"of": 3, "number": k, "seed": 0, "one_in": 1})) for k in (1, 2, 3)]
    assert sorted(id for found in folds for id in found["test"]) == sorted(whole["labeled"])
    assert sorted(len(found["test"]) for found in folds) == [2, 2, 3]
    for found in folds:
        assert sorted(found["labeled"] + found["test"]) == sorted(whole["labeled"])
        assert found["unlabeled"] == whole["unlabeled"]


def test_of_the_images_outside_a_fold_some_may_be_left_out(ten):
    fold = {"of": 2, "number": 1, "seed": 0}
    all_others, some = (subsets(settings(ten, labeled="l.txt", fold=fold | {"one_in": n})) for n in (1, 2))
    assert some["test"] == all_others["test"] and len(all_others["labeled"]) == 5
    assert len(some["labeled"]) == 3 and set(some["labeled"]) < set(all_others["labeled"])


def test_too_few_images_outside_a_fold_are_a_problem(ten):
    partition = {**SPLIT, "count": 3, "cover_classes": False}
    fold = {"of": 2, "number": 1, "seed": 0, "one_in": 2}
    (problem,) = resolve(settings(ten, labeled="l.txt", partition=partition, fold=fold), no_labels).problems
    assert problem.startswith(
        "fold: of the labeled images outside it one in 2 is to be trained on, but they are of fewer"
    )


def test_splits_take_whole_groups(tmp_path):
    names = [f"{patient}/{number}" for patient in "pqrs" for number in range(5)]
    (tmp_path / "l.txt").write_text("".join(f"{name}.png {name}_m.png\n" for name in names))
    known = {"labeled": "l.txt", "unlabeled": None, "group_by": "{group}/*"}
    splits = {"val_split": {**SPLIT, "count": 4}, "partition": {**SPLIT, "count": 9, "cover_classes": False}}
    found = subsets(settings(tmp_path, **known, **splits))
    assert {subset: len(members) for subset, members in found.items()} == {"labeled": 10, "val": 5, "unlabeled": 5}
    patients = [{name[0] for name in members} for members in found.values()]
    assert sorted(map(len, patients)) == [1, 1, 2] and not set.intersection(*patients)
    folded = subsets(settings(tmp_path, **known, fold={"of": 4, "number": 2, "seed": 0, "one_in": 1}))
    assert len(folded["test"]) == 5 and len({name[0] for name in folded["test"]}) == 1


def test_a_pattern_of_groups_that_does_not_fit_is_a_problem(ten):
    (problem,) = resolve(settings(ten, labeled="l.txt", group_by="{group}_*"), no_labels).problems
    assert problem == (
        "group_by: the pattern '{group}_*' does not fit 10 of 10 labeled images, such as 0, 1, 2 and 7 more; an id is "
        "the path below the data root, without the suffix."
    )


def test_more_folds_than_labeled_images_are_a_problem(ten):
    (problem,) = resolve(
        settings(ten, labeled="l.txt", fold={"of": 11, "number": 1, "seed": 0, "one_in": 1}), no_labels
    ).problems
    assert problem == "fold: 11 folds are asked for, but there are 10 labeled images; ask for fewer folds."


def test_the_partition_seed_decides(ten):
    drawn = {
        tuple(
            subsets(settings(ten, labeled="l.txt", partition={"count": 5, "seed": seed, "cover_classes": False}))[
                "labeled"
            ]
        )
        for seed in (0, 0, 1, 2)
    }
    assert len(drawn) == 3


def test_a_covering_partition_asks_for_the_classes_in_the_masks(ten):
    labels = {str(ten / f"{number}.png"): frozenset({0, 1} if number == 6 else {0}) for number in range(10)}
    for seed in range(5):
        data = settings(ten, labeled="l.txt", partition={"count": 1, "seed": seed, "cover_classes": True})
        assert subsets(data, lambda masks: {mask: labels[mask] for mask in masks})["labeled"] == ["6"]


# --- classes ----------------------------------------------------------------------------------------------------------


def test_layouts_know_their_classes(tmp_path):
    voc = classes_of(settings(tmp_path, layout="voc", classes=None))
    assert voc.names == VOC_CLASSES
    assert (voc.names[15], len(voc.names), voc.palette[15]) == ("person", 21, [192, 128, 128])
    cityscapes = classes_of(settings(tmp_path, layout="cityscapes", classes=None))
    assert cityscapes.names == list(CITYSCAPES)
    assert (cityscapes.names[13], cityscapes.palette[13], len(cityscapes.names)) == ("car", [0, 0, 142], 19)
    assert voc.problems + cityscapes.problems == []


def test_a_classes_file_has_names_and_perhaps_colours(tmp_path):
    (tmp_path / "classes.txt").write_bytes("\ufeff# mine\r\ntraffic light #FF8000\r\n\r\nroad,#00ff00\r\n".encode())
    found = classes_of(settings(tmp_path, classes=None, classes_file="classes.txt"))
    assert found.names == ["traffic light", "road"]
    assert found.palette == [[255, 128, 0], [0, 255, 0]]
    assert found.files == {"classes.txt": None, str(tmp_path / "classes.txt"): stamp(tmp_path / "classes.txt")}
    (tmp_path / "classes.txt").write_text("a\nb\n")
    assert classes_of(settings(tmp_path, classes=None, classes_file="classes.txt")).palette == [[0, 0, 0], [128, 0, 0]]


@pytest.mark.parametrize(
    ("text", "names", "colours"),
    [
        ("__ignore__\n_background_\nbus\n", ["_background_", "bus"], []),
        ("__ignore__ #000000\nroad #010203\nbus #040506\n", ["road", "bus"], [[1, 2, 3], [4, 5, 6]]),
        ("__ignore__ #000000\nroad\nbus #040506\n", ["road", "bus"], [[4, 5, 6]]),
        ("__ignore__:0,0,0::\nroad:1,2,3::\n", ["road"], [[1, 2, 3]]),
        ("bus\n__ignore__\n", ["bus", "__ignore__"], []),
        ("# label:color_rgb\ncar:1,2,255::\nroad way:0,0,0:a,b:c\n", ["car", "road way"], [[1, 2, 255], [0, 0, 0]]),
        ("a:b\nc:1,2\n", ["a:b", "c:1,2"], []),
    ],
)
def test_classes_files_of_annotation_tools_are_read(tmp_path, text, names, colours):
    (tmp_path / "labels.txt").write_text(text)
    assert read_classes(tmp_path / "labels.txt") == (names, colours)


def test_colours_in_the_settings_go_first(tmp_path):
    colors = ["#000000", "#0a0b0c", "#ffffff"]
    assert classes_of(settings(tmp_path, colors=colors)).palette == [[0, 0, 0], [10, 11, 12], [255, 255, 255]]


def test_the_encoding_is_plain_json(tmp_path):
    data = settings(tmp_path, label_map={0: 0, 255: "ignore"})
    assert classes_of(data).encoding == {
        "classes": 3,
        "ignore_value": 255,
        "label_map": {"0": 0, "255": "ignore"},
        "palette_map": None,
    }


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "HOME", str(tmp_path))
    touch(tmp_path, "data/images/a.png", "data/masks/a.png")
    assert subsets(settings(Path("~/data"), layout="folder")) == {"labeled": ["images/a"]}
