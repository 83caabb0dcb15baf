import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from tiny_data import labels, lists, photo, save, settings

from stpp.common.errors import Problems, StppError
from stpp.data import demo, inspection
from stpp.data.index import index, look
from stpp.data.manifest import Row, fingerprint, read_manifest, write_manifest
from stpp.data.record import in_place, index_path, load_fresh, stamp
from stpp.settings.data import Data


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a data set in `data`; results go to `results`."""
    monkeypatch.chdir(tmp_path)
    return lists(Path("data"), labeled=3, unlabeled=4, val=2, test=1)


RESULTS = Path("results")


def run(data, **options):
    log: list[str] = []
    options = {"batch_size": 2, "need_unlabeled": True, "log": log.append, **options}
    return index(data, options.pop("results", RESULTS), **options)


def fingerprints(record):
    return {subset: entry["fingerprint"] for subset, entry in record["subsets"].items()}


def digest_of(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def rows(record, subset):
    return read_manifest(Path(record["subsets"][subset]["manifest"]))


def touch_later(path):
    """Another time of change, the same bytes."""
    status = Path(path).stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


def flip_last_byte(path):
    """Another content of the same size; the last byte of a PNG file decides nothing about its pixels."""
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_the_manifests_say_what_the_lists_say(place):
    record = run(place)

    def row(name, subset, mask):
        image, true = f"data/i/{name}.png", f"data/m/{name}.png" if mask else None
        size, mask_size = (Path(path).stat().st_size if path else 0 for path in (image, true))
        sha256, mask_sha256 = (digest_of(path) if subset == "labeled" else "" for path in (image, true))
        return Row(f"i/{name}", subset, image, true, 8, 8, size, sha256, mask_size, mask_sha256)

    assert rows(record, "labeled") == [row(f"labeled{n}", "labeled", mask=True) for n in range(3)]
    assert rows(record, "unlabeled") == [row(f"unlabeled{n}", "unlabeled", mask=False) for n in range(4)]
    assert rows(record, "truth") == [row(f"unlabeled{n}", "truth", mask=True) for n in range(4)]
    assert [row.id for subset in ("val", "test") for row in rows(record, subset)] == ["i/val0", "i/val1", "i/test0"]


def test_the_record_has_counts_classes_and_paths_named_after_the_content_of_the_manifests(place):
    record = run(place)
    assert {subset: entry["count"] for subset, entry in record["subsets"].items()} == {
        "labeled": 3,
        "unlabeled": 4,
        "val": 2,
        "test": 1,
        "truth": 4,
    }
    for subset, entry in record["subsets"].items():
        assert entry["manifest"] == f"results/data/{subset}-{entry['sha256'][:16]}.csv"
        assert entry["sha256"] == digest_of(entry["manifest"])
        assert entry["fingerprint"] == fingerprint(rows(record, subset))
    assert record["classes"] == ["sky", "road", "tree"]
    assert record["palette"] == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]  # VOC's
    assert record["warnings"] == []
    assert json.loads(index_path(RESULTS, place).read_text()) == record == load_fresh(RESULTS, place)


def test_a_subset_without_images_is_not_there(place):
    record = run({**place, "val": None, "test": None, "unlabeled": None}, need_unlabeled=False)
    assert list(record["subsets"]) == ["labeled"]


def test_sizes_are_those_of_the_upright_image(place):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(Path("data/i/labeled0.png"), photo(0, (6, 10)), exif=exif)
    save(Path("data/m/labeled0.png"), labels(0, (10, 6)))
    first = rows(run(place), "labeled")[0]
    assert (first.height, first.width) == (10, 6)


def test_the_settings_of_the_configuration_are_understood(place):
    plain = {key: value for key, value in place.items() if value is not None and key not in ("demo", "layout")}
    data = Data(**plain, label_map={0: 2, 1: 1, 2: "ignore"}).model_dump(mode="json")
    assert run(data)["subsets"]["labeled"]["count"] == 3


def test_warnings_are_recorded_and_told(place):
    told = []
    record = run(place, batch_size=16, log=told.append)
    (warning,) = record["warnings"]
    assert "fewer than the batch of 16" in warning
    assert f"Warning: {warning}" in told
    assert "labeled: 3 images" in told


def test_how_the_labeled_pixels_are_spread_over_the_classes_is_told(place):
    told = []
    run(place, log=told.append)
    values = Counter()
    for path in sorted(Path("data/m").glob("labeled*.png")):
        values.update(np.asarray(Image.open(path)).ravel().tolist())
    left_out = values.pop(255, 0)
    (line,) = [line for line in told if line.startswith("labeled pixels: ")]
    parts = [f"{name} {values[class_] / values.total():.1%}" for class_, name in enumerate(place["classes"])]
    expected = f"labeled pixels: {', '.join(parts)}; left out: {left_out / (left_out + values.total()):.1%} of all"
    assert line == expected.replace("%", " %")


# --- fingerprints -----------------------------------------------------------------------------------------------------


def test_a_fingerprint_is_the_digest_that_is_documented(place):
    found = fingerprints(run(place))

    text = "".join(f"i/val{n}\0{digest_of(f'data/i/val{n}.png')}\0{digest_of(f'data/m/val{n}.png')}\n" for n in (0, 1))
    assert found["val"] == hashlib.sha256(text.encode()).hexdigest()
    text = "".join(f"i/unlabeled{n}\0{Path(f'data/i/unlabeled{n}.png').stat().st_size}\n" for n in range(4))
    assert found["unlabeled"] == hashlib.sha256(text.encode()).hexdigest()
    text = "".join(f"i/unlabeled{n}\0{Path(f'data/m/unlabeled{n}.png').stat().st_size}\n" for n in range(4))
    assert found["truth"] == hashlib.sha256(text.encode()).hexdigest()


def test_touched_files_change_no_fingerprint_and_no_manifest(place):
    before = run(place)
    manifests = {path: path.stat().st_mtime_ns for path in RESULTS.glob("data/*.csv")}
    for path in (*Path("data").rglob("*.png"), *Path("data").glob("*.txt")):
        touch_later(path)
    assert load_fresh(RESULTS, place) is None
    assert fingerprints(run(place)) == fingerprints(before)
    assert {path: path.stat().st_mtime_ns for path in RESULTS.glob("data/*.csv")} == manifests


def test_moved_data_keep_their_fingerprints(place):
    before = run(place)
    shutil.move("data", "elsewhere")
    moved = {key: value.replace("data", "elsewhere") if key != "masks" and isinstance(value, str) else value
             for key, value in place.items()}  # fmt: skip
    after = run(moved)
    assert fingerprints(after) == fingerprints(before)
    assert rows(after, "val")[0].image == "elsewhere/i/val0.png"


def test_two_places_of_one_fingerprint_have_a_manifest_each(place):
    shutil.copytree("data", "copy")
    first, second = run(place), run(lists(Path("copy"), labeled=3, unlabeled=4, val=2, test=1))
    assert fingerprints(first) == fingerprints(second)
    for subset in fingerprints(first):
        assert all(row.image.startswith("data/") for row in rows(first, subset))
        assert all(row.image.startswith("copy/") for row in rows(second, subset))


def test_copied_data_indexed_elsewhere_have_the_same_fingerprints(place):
    shutil.copytree("data", "copy")
    data = lists(Path("copy"), labeled=3, unlabeled=4, val=2, test=1)
    assert fingerprints(run(data, results=Path("other"))) == fingerprints(run(place))


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_the_number_of_threads_changes_nothing(place, monkeypatch, threads):
    expected = fingerprints(run(place))
    monkeypatch.setattr(inspection, "THREADS", threads)
    monkeypatch.setattr(inspection, "GROUP", 1)
    assert fingerprints(run(place, results=Path("other"))) == expected


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("i/labeled1.png", {"labeled"}),
        ("m/labeled1.png", {"labeled"}),
        ("i/val0.png", {"val"}),
        ("m/test0.png", {"test"}),
        ("i/unlabeled2.png", {"unlabeled"}),
        ("m/unlabeled2.png", {"truth"}),
    ],
)
def test_a_changed_file_changes_the_fingerprint_of_its_subset_alone(place, file, changed):
    before = fingerprints(run(place))
    with (Path("data") / file).open("ab") as stream:
        stream.write(b"more")
    after = fingerprints(run(place))
    assert {subset for subset in before if before[subset] != after[subset]} == changed


def test_another_label_under_the_same_size_changes_the_fingerprint(place):
    before = fingerprints(run(place))
    flip_last_byte("data/m/labeled0.png")
    touch_later("data/m/labeled0.png")
    assert fingerprints(run(place))["labeled"] != before["labeled"]


def test_the_order_of_a_list_is_part_of_the_fingerprint(place):
    before = run(place)
    lines = Path("data/labeled.txt").read_text().splitlines()
    Path("data/labeled.txt").write_text("\n".join(reversed(lines)))
    after = run(place)
    assert fingerprints(after)["labeled"] != fingerprints(before)["labeled"]
    assert [row.id for row in rows(after, "labeled")] == ["i/labeled2", "i/labeled1", "i/labeled0"]


def test_a_partition_moves_rows_between_subsets(place):
    data = {**place, "partition": {"count": 1, "fraction": None, "seed": 3, "cover_classes": True}}
    record = run(data)
    unlabeled = {row.id for row in rows(record, "unlabeled")}
    assert len(rows(record, "labeled")) == 1
    assert unlabeled == {row.id for row in rows(record, "truth")}
    assert unlabeled | {rows(record, "labeled")[0].id} == {
        *(f"i/labeled{n}" for n in range(3)),
        *(f"i/unlabeled{n}" for n in range(4)),
    }


# --- freshness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda: touch_later("data/labeled.txt"),
        lambda: touch_later("data/unlabeled.txt"),
        lambda: touch_later("data/i/labeled0.png"),
        lambda: touch_later("data/m/val0.png"),
        lambda: Path("data/i/test0.png").unlink(),
        lambda: next(RESULTS.glob("data/index-*.json")).write_text("{"),
        lambda: next(RESULTS.glob("data/index-*.json")).write_text("[]"),
        lambda: next(RESULTS.glob("data/index-*.json")).write_text('{"format": 0}'),
    ],
)
def test_a_record_is_stale_after_a_change(place, change):
    run(place)
    assert load_fresh(RESULTS, place) is not None
    change()
    assert load_fresh(RESULTS, place) is None


@pytest.mark.parametrize("subset", ["labeled", "truth"])
@pytest.mark.parametrize("change", [Path.unlink, touch_later, lambda path: path.write_text("id\n")])
def test_a_manifest_that_is_not_as_it_was_written_is_noticed(place, subset, change):
    run(place)
    assert in_place(load_fresh(RESULTS, place))
    change(next(RESULTS.glob(f"data/{subset}-*.csv")))
    assert not in_place(load_fresh(RESULTS, place))


def test_a_second_list_of_the_same_name_makes_a_record_stale(place):
    data = {**place, "labeled": "labeled.txt"}
    run(data)
    assert load_fresh(RESULTS, data) is not None
    shutil.copy("data/labeled.txt", "labeled.txt")
    assert load_fresh(RESULTS, data) is None
    with pytest.raises(Problems, match="two files for the labeled list"):
        run(data)


def test_unlabeled_images_are_not_looked_at(place):
    run(place)
    Path("data/i/unlabeled0.png").unlink()
    assert load_fresh(RESULTS, place) is not None


def test_other_settings_have_another_record(place):
    run(place)
    assert load_fresh(RESULTS, {**place, "ignore_value": 254}) is None
    assert load_fresh(RESULTS, dict(reversed(place.items()))) is not None


def test_number_keys_and_text_keys_are_one_record():
    assert index_path(RESULTS, {"label_map": {0: 1, 10: 2}}) == index_path(RESULTS, {"label_map": {"10": 2, "0": 1}})


def test_a_classes_file_is_watched(place):
    Path("data/classes.txt").write_text("sky\nroad\ntree\n")
    data = {**place, "classes": None, "classes_file": "classes.txt"}
    run(data)
    assert load_fresh(RESULTS, data)["classes"] == ["sky", "road", "tree"]
    Path("data/classes.txt").write_text("sky\nroad\ntrees\n")
    assert load_fresh(RESULTS, data) is None
    assert run(data)["classes"][2] == "trees"


def test_names_in_scanned_folders_are_watched(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / f"images/x/{name}.png", photo())
    save(tmp_path / "masks/x/a.png", labels())
    data = settings(tmp_path, layout="folder")
    run(data, results=tmp_path / "r")
    touch_later(tmp_path / "images/x")
    (tmp_path / "images/.note").touch()
    assert load_fresh(tmp_path / "r", data) is not None
    save(tmp_path / "images/x/c.png", photo())
    assert load_fresh(tmp_path / "r", data) is None
    assert run(data, results=tmp_path / "r")["subsets"]["unlabeled"]["count"] == 2
    save(tmp_path / "masks/x/b.png", labels())
    assert load_fresh(tmp_path / "r", data) is None


def test_reading_a_record_takes_the_standard_library_alone():
    program = "import sys, stpp.data.record; print(sorted({'numpy', 'PIL', 'torch', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


# --- the cache and --verify -------------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch):
    """The paths of the files that are opened as images from here on."""
    paths = []
    measure = inspection._measure

    def spy(kind, path, content=None):
        paths.append(path)
        return measure(kind, path, content)

    monkeypatch.setattr(inspection, "_measure", spy)
    return paths


@pytest.fixture
def forged(monkeypatch):
    """Lets a file keep its stamp, whatever happens to it: no file system does."""
    stamps = {}

    def forge(path):
        stamps[str(path)] = stamp(path)

    monkeypatch.setattr(inspection, "stamp", lambda path: stamps.get(str(path)) or stamp(path))
    return forge


def test_a_second_look_opens_nothing_and_a_touched_file_is_opened_alone(place, opened):
    run(place)
    assert len(opened) == 2 * 10
    opened.clear()
    run(place)
    assert opened == []
    touch_later("data/m/labeled0.png")
    touch_later("data/i/unlabeled0.png")
    run(place)
    assert sorted(opened) == ["data/i/unlabeled0.png", "data/m/labeled0.png"]


def test_what_one_configuration_saw_another_need_not_see_again(place, opened):
    run(place)
    opened.clear()
    run({**place, "test": None, "label_map": {"0": 0, "1": 1, "2": 1}})
    assert opened == []
    run(place)
    assert opened == []


def test_a_broken_or_foreign_cache_is_replaced(place):
    expected = fingerprints(run(place))
    for text in ("", "[1, 2]", '{"format": 99, "image": {"data/i/val0.png": 3}}'):
        Path("results/data/cache.json").write_text(text)
        assert fingerprints(run(place)) == expected


def test_an_unlabeled_image_that_becomes_labeled_is_read(place, opened):
    run(place)
    opened.clear()
    with Path("data/labeled.txt").open("a") as file:
        file.write(Path("data/unlabeled.txt").read_text().splitlines()[0] + "\n")
    Path("data/unlabeled.txt").write_text("\n".join(Path("data/unlabeled.txt").read_text().splitlines()[1:]))
    found = run(place)
    assert sorted(opened) == ["data/i/unlabeled0.png", "data/m/unlabeled0.png"]
    assert fingerprints(found) == fingerprints(run(place, results=Path("other")))


@pytest.mark.parametrize("file", ["i/unlabeled1.png", "m/unlabeled1.png"])
def test_verify_finds_content_that_changed_under_the_same_stamp(place, file, forged):
    path = Path("data") / file
    before = fingerprints(run(place, verify=True))
    forged(path)
    flip_last_byte(path)
    assert run(place)["warnings"] == []
    record = run(place, verify=True)
    (warning,) = record["warnings"]
    assert warning.startswith("1 unlabeled file whose content has changed")
    assert str(path) in warning
    assert fingerprints(record) == before
    assert run(place, verify=True)["warnings"] == []


def test_verify_reads_labels_whose_stamp_is_the_old_one(place, forged):
    path = Path("data/m/labeled0.png")
    before = fingerprints(run(place))
    forged(path)
    flip_last_byte(path)
    assert fingerprints(run(place)) == before
    assert fingerprints(run(place, verify=True))["labeled"] != before["labeled"]


@pytest.mark.parametrize("file", ["i/labeled0.png", "m/labeled0.png", "i/val0.png", "m/test0.png"])
def test_an_edit_in_place_that_keeps_size_and_modification_time_is_seen(place, file):
    path = Path("data") / file
    before = fingerprints(run(place))
    times = path.stat()
    flip_last_byte(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert load_fresh(RESULTS, place) is None
    assert fingerprints(run(place)) != before


def test_a_file_that_takes_the_place_of_another_is_seen_by_its_inode(place):
    path = Path("data/m/labeled0.png")
    before = stamp(path)
    shutil.copy2(path, "copy.png")
    Path("copy.png").replace(path)
    assert stamp(path)[:2] == before[:2]
    assert stamp(path)[3] != before[3]


def test_a_copied_data_set_costs_one_look_and_no_more(place, opened):
    before = fingerprints(run(place))
    shutil.copytree("data", "copy")
    shutil.rmtree("data")
    shutil.move("copy", "data")
    opened.clear()
    assert fingerprints(run(place)) == before
    assert len(opened) > 0
    opened.clear()
    assert load_fresh(RESULTS, place) is not None
    run(place)
    assert opened == []


def test_content_that_was_never_read_is_not_compared(place):
    run(place)
    flip_last_byte("data/i/unlabeled1.png")
    touch_later("data/i/unlabeled1.png")
    assert run(place)["warnings"] == []
    assert run(place, verify=True)["warnings"] == []


# --- layouts with all steps -------------------------------------------------------------------------------------------


def test_warnings_name_the_scenes_of_the_demo_by_the_place_that_they_will_have(tmp_path, monkeypatch):
    monkeypatch.setattr("stpp.data.index._check", lambda sources, *_: ([], [sources.entries[0].image]))
    data = settings(tmp_path / "demo", layout="demo", classes=None)
    record = look(data, RESULTS, batch_size=2, need_unlabeled=True, log=lambda line: None).record
    (named,) = record["warnings"]
    assert named.startswith(f"{tmp_path}/demo/") and not (tmp_path / "demo").exists()


def test_the_demo_is_generated_and_indexed(tmp_path):
    data = settings(tmp_path / "demo", layout="demo", classes=None)
    record = run(data, results=tmp_path / "r")
    assert {subset: entry["count"] for subset, entry in record["subsets"].items()} == {
        "labeled": 3,
        "unlabeled": 4,
        "val": 1,
        "truth": 4,
    }
    assert (record["classes"], record["palette"]) == (demo.CLASSES, demo.PALETTE)
    assert load_fresh(tmp_path / "r", data) == record
    shutil.rmtree(tmp_path / "demo")
    assert load_fresh(tmp_path / "r", data) is None
    assert fingerprints(run(data, results=tmp_path / "r")) == fingerprints(record)


def test_voc_with_a_partition(tmp_path):
    names = [f"2007_{number:06}" for number in range(6)]
    for number, name in enumerate(names):
        save(tmp_path / f"JPEGImages/{name}.jpg", photo(number))
        save(tmp_path / f"SegmentationClass/{name}.png", labels(number, classes=21))
    folder = tmp_path / "ImageSets/Segmentation"
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text("\n".join(names[:5]))
    (folder / "val.txt").write_text(names[5])
    partition = {"count": None, "fraction": 0.4, "seed": 0, "cover_classes": True}
    data = settings(tmp_path, layout="voc", classes=None, partition=partition)
    record = run(data, results=tmp_path / "r")
    assert {subset: entry["count"] for subset, entry in record["subsets"].items()} == {
        "labeled": 2,
        "unlabeled": 3,
        "val": 1,
        "truth": 3,
    }
    assert record["classes"][0] == "background"
    (folder / "val.txt").write_text(names[0])
    assert load_fresh(tmp_path / "r", data) is None


def test_cityscapes_with_a_val_split(tmp_path):
    for number in range(4):
        stem = f"train/ulm/ulm_{number:06}_000019"
        save(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png", photo(number))
        save(tmp_path / f"gtFine/{stem}_gtFine_labelTrainIds.png", labels(number, classes=19))
    half = {"count": None, "fraction": 0.5, "seed": 0}
    data = settings(tmp_path, layout="cityscapes", classes=None, val_split=half)
    record = run(data, results=tmp_path / "r", need_unlabeled=False)
    assert {subset: entry["count"] for subset, entry in record["subsets"].items()} == {"labeled": 2, "val": 2}
    assert record["palette"][0] == [128, 64, 128]


def test_colour_masks_are_indexed_with_a_palette_map(place):
    colours = np.zeros((256, 3), np.uint8)
    colours[:3] = (1, 0, 0), (0, 2, 0), (0, 0, 3)
    for path in Path("data/m").iterdir():
        save(path, colours[labels(len(path.name))])
    palette_map = {"#010000": 0, "#000200": 1, "#000003": 2, "#000000": "ignore"}
    assert run({**place, "palette_map": palette_map})["warnings"] == []
    with pytest.raises(Problems, match="colours instead of class numbers"):
        run(place)


# --- manifests --------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
ROWS = st.builds(
    Row,
    id=TEXT,
    subset=st.sampled_from(["labeled", "unlabeled", "val", "test", "truth"]),
    image=TEXT,
    mask=st.none() | TEXT,
    height=st.integers(1, 99999),
    width=st.integers(1, 99999),
    bytes=st.integers(1, 99999),
    sha256=st.just("") | st.just("0" * 64),
    mask_bytes=st.integers(0, 99999),
    mask_sha256=st.just("") | st.just("f" * 64),
)


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROWS, max_size=5, unique_by=lambda row: row.id))
def test_a_manifest_is_read_as_it_was_written(tmp_path, written):
    write_manifest(tmp_path / "m.csv", written)
    assert read_manifest(tmp_path / "m.csv") == written


def test_a_manifest_is_plain_csv(tmp_path):
    write_manifest(tmp_path / "m.csv", [Row('a "b", c', "unlabeled", "x/a.png", None, 3, 4, 5)])
    with (tmp_path / "m.csv").open(newline="", encoding="utf-8") as file:
        (found,) = csv.DictReader(file)
    columns = ["id", "subset", "image", "mask", "height", "width", "bytes", "sha256", "mask_bytes", "mask_sha256"]
    assert list(found) == columns
    assert list(found.values()) == ['a "b", c', "unlabeled", "x/a.png", "", "3", "4", "5", "", "0", ""]


HEADER = "id,subset,image,mask,height,width,bytes,sha256,mask_bytes,mask_sha256\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such manifest"),
        (b"", "the columns are missing; expected id,subset,image,mask,height,width,bytes"),
        (b"id,image\n", "the columns are id,image; expected"),
        (HEADER.encode() + b"a,val,a.png,m.png,8\n", "line 2 has 5 columns; expected 10"),
        (HEADER.encode() + b"a,train,a.png,m.png,8,8,9,,9,\n", "line 2 has the subset 'train'; expected labeled"),
        (HEADER.encode() + b"a,val,a.png,m.png,8,tall,9,,9,\n", "has the size '8' x 'tall' and '9' bytes; expected"),
        (HEADER.encode() + b"a,val,a.png,m.png,0,8,9,,9,\n", "line 2 has the size '0' x '8'"),
        (HEADER.encode() + b'a,val,"a.png,m.png,8,8,9,,9,\n', "not a CSV file in UTF-8"),
        (b"\xff\xfe", "not a CSV file in UTF-8"),
    ],
)
def test_a_malformed_manifest_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(StppError, match=r"m\.csv: .*run it again") as caught:
        read_manifest(tmp_path / "m.csv")
    assert message in str(caught.value)


# --- damage -----------------------------------------------------------------------------------------------------------


def damage(path):
    """A PNG file with zeros in its middle, which its header and its end do not show."""
    save(Path(path), photo(7, (40, 40)))
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2 : len(content) // 2 + 50] = bytes(50)
    Path(path).write_bytes(bytes(content))


def test_a_damaged_body_is_found_by_verify_and_remembered(place):
    damage("data/i/unlabeled1.png")
    Path("data/m/unlabeled1.png").unlink()
    assert run(place)["subsets"]["unlabeled"]["count"] == 4  # the header is whole
    with pytest.raises(Problems, match=r"1 unlabeled image: truncated or damaged file: data/i/unlabeled1\.png"):
        run(place, verify=True)
    place = {**place, "skip_broken": True}
    record = run(place, verify=True)
    assert record["subsets"]["unlabeled"]["count"] == 3
    (warning,) = record["warnings"]
    assert warning.startswith("1 unlabeled image left out, as data.skip_broken says: data/i/unlabeled1.png (truncated")
    assert run(place)["subsets"]["unlabeled"]["count"] == 3  # as it was found before
    save(Path("data/i/unlabeled1.png"), photo(7, (8, 8)))
    assert run(place)["subsets"]["unlabeled"]["count"] == 4  # mended


def test_a_broken_labeled_image_is_never_skipped(place):
    Path("data/i/labeled0.png").write_bytes(b"")
    with pytest.raises(Problems, match="1 labeled image: empty file"):
        run({**place, "skip_broken": True})
