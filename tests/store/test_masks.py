"""The mask store: what goes in comes out, the same bytes every time, and damage is reported."""

import hashlib
import multiprocessing
import pickle
import subprocess
import sys
from itertools import pairwise

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from stpp.common.errors import Problems, StppError
from stpp.store.masks import CHUNK, MaskStore, MaskWriter, assemble, voc_palette, write_palette_png

CLASSES = [f"class {c}" for c in range(21)]
VALUES = [*range(21), 255]

small_masks = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from(VALUES))
some_images = st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0")), small_masks, max_size=6)


def random_masks(count, seed=0, largest=400):
    """Masks of many sizes, together larger than several chunks, of smooth and of noisy content."""
    rng = np.random.default_rng(seed)
    masks = {}
    for k in range(count):
        coarse = rng.choice(VALUES, size=rng.integers(1, largest // 4 + 1, 2)).astype(np.uint8)
        masks[f"folder/{k}"] = coarse.repeat(4, axis=0).repeat(4, axis=1) if k % 3 else coarse
    return masks


def write(path, masks, *, producer="test", confidence=None, classes=CLASSES):
    palette = voc_palette(len(classes))
    with MaskWriter(path, classes=classes, palette=palette, producer=producer, confidence=bool(confidence)) as writer:
        for name, mask in masks.items():
            writer.add(name, mask, confidence[name] if confidence else None)
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@settings(max_examples=50)
@given(some_images, st.randoms())
def test_masks_of_any_size_come_back_in_any_order(tmp_path_factory, masks, random):
    path = write(tmp_path_factory.mktemp("store") / "masks.h5", masks)
    with MaskStore(path) as store:
        assert store.ids == list(masks)
        assert len(store) == len(masks)
        for name in random.sample(list(masks), len(masks)):
            assert name in store
            assert store[name].dtype == np.uint8
            np.testing.assert_array_equal(store[name], masks[name])
        assert "absent" * 3 not in store
        assert [name for name, _ in store] == list(masks)
        for name, mask in store:
            np.testing.assert_array_equal(mask, masks[name])


def test_masks_across_chunks_and_larger_than_the_buffer_come_back(tmp_path):
    masks = random_masks(60)
    masks["large"] = np.random.default_rng(1).integers(0, 21, (1100, 1300), dtype=np.uint8)
    masks["last"] = np.full((1, 1), 255, np.uint8)
    with MaskStore(write(tmp_path / "masks.h5", masks)) as store:
        for name in ["last", "large", "folder/59", "folder/0"]:
            np.testing.assert_array_equal(store[name], masks[name])
        for (name, mask), expected in zip(store, masks.values()):
            np.testing.assert_array_equal(mask, expected, err_msg=name)


def test_the_description_of_the_masks_comes_back(tmp_path):
    path = tmp_path / "masks.h5"
    classes, palette = ["Straße", "sky"], [[1, 2, 3], [255, 0, 128]]
    with MaskWriter(path, classes=classes, palette=np.array(palette), producer="teacher-1a2b") as writer:
        writer.add("a", np.zeros((1, 1), np.uint8))
    with MaskStore(path) as store:
        assert (store.classes, store.palette, store.producer) == (classes, palette, "teacher-1a2b")
        assert not store.has_confidence


def test_the_layout_is_the_documented_one(tmp_path):
    masks = random_masks(20)
    with h5py.File(write(tmp_path / "masks.h5", masks)) as file:
        assert set(file) == {"pixels", "ids", "shapes", "offsets"}
        assert set(file.attrs) == {"format", "classes", "palette", "producer", "class_pixels"}
        counts = [sum(int((mask == label).sum()) for mask in masks.values()) for label in range(len(CLASSES))]
        assert file.attrs["class_pixels"].tolist() == counts
        assert (file["pixels"].dtype, file["pixels"].chunks) == (np.uint8, (CHUNK,))
        assert (file["shapes"].dtype, file["offsets"].dtype) == (np.int32, np.int64)
        np.testing.assert_array_equal(file["pixels"][:], np.concatenate([mask.ravel() for mask in masks.values()]))
        assert file["ids"].asstr()[:].tolist() == list(masks)
        assert [tuple(shape) for shape in file["shapes"][:]] == [mask.shape for mask in masks.values()]
        sizes = [mask.size for mask in masks.values()]
        assert [b - a for a, b in pairwise(file["offsets"][:].tolist())] == sizes[:-1]


def test_a_mask_added_is_not_changed_by_what_happens_to_the_array_later(tmp_path):
    buffer = np.zeros((50, 50), np.uint8)
    with MaskWriter(tmp_path / "m.h5", classes=CLASSES, palette=voc_palette(21), producer="test") as writer:
        for k in range(10):
            buffer[:] = k
            writer.add(str(k), buffer[:, ::2])
    with MaskStore(tmp_path / "m.h5") as store:
        assert [(mask.shape, set(mask.ravel().tolist())) for _, mask in store] == [((50, 25), {k}) for k in range(10)]


def test_pixels_are_written_while_masks_are_added(tmp_path):
    noise = np.random.default_rng(0).integers(0, 21, (1000, 1000), dtype=np.uint8)
    with MaskWriter(tmp_path / "m.h5", classes=CLASSES, palette=voc_palette(21), producer="test") as writer:
        for k in range(12):
            writer.add(str(k), noise)
        # 12 MB of noise is 6.6 MB of zstd; had it been held back, the file would be small until the end.
        assert (tmp_path / "m.h5").stat().st_size > 4_000_000


def test_the_same_masks_make_the_same_bytes_in_another_process_too(tmp_path):
    masks = random_masks(40)
    first, second = write(tmp_path / "first.h5", masks), write(tmp_path / "second.h5", masks)
    assert digest(first) == digest(second)
    np.savez(tmp_path / "masks.npz", **{name.replace("/", "|"): mask for name, mask in masks.items()})
    program = """
import sys, numpy as np
from stpp.store.masks import MaskWriter, voc_palette
with MaskWriter(sys.argv[2], classes=[f"class {c}" for c in range(21)], palette=voc_palette(21), producer="test") as w:
    for name, mask in np.load(sys.argv[1]).items():
        w.add(name.replace("|", "/"), mask)
"""
    third = tmp_path / "third.h5"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "masks.npz"), str(third)], check=True)
    assert digest(first) == digest(third)


@given(arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)))
@settings(max_examples=30)
def test_confidence_comes_back_to_half_a_step(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("store") / "masks.h5"
    write(path, {"a": np.zeros((3, 4), np.uint8)}, confidence={"a": values})
    with MaskStore(path) as store:
        assert store.has_confidence
        found = store.confidence("a")
    assert found.dtype == np.float32
    assert found.shape == (3, 4)
    assert np.abs(found.astype(np.float64) - values).max() <= 0.5 / 255 + 1e-6


def test_confidence_belongs_to_its_mask(tmp_path):
    masks = random_masks(12)
    confidence = {name: np.full(mask.shape, k / 11, np.float16) for k, (name, mask) in enumerate(masks.items())}
    with MaskStore(write(tmp_path / "m.h5", masks, confidence=confidence)) as store:
        for k, name in enumerate(masks):
            np.testing.assert_array_equal(store[name], masks[name])
            np.testing.assert_allclose(store.confidence(name), k / 11, atol=0.002)


def test_a_store_without_confidence_says_so(tmp_path):
    with (
        MaskStore(write(tmp_path / "m.h5", random_masks(1))) as store,
        pytest.raises(StppError, match="without confidence"),
    ):
        store.confidence("folder/0")


@pytest.mark.parametrize(
    ("name", "mask", "confidence", "message"),
    [
        ("a", np.zeros((2, 2), np.uint8), None, "already"),
        ("b", np.zeros((2, 2), np.int64), None, "uint8"),
        ("b", np.zeros((2, 2, 1), np.uint8), None, "uint8"),
        ("b", np.zeros((0, 2), np.uint8), None, "uint8"),
        ("b", np.full((2, 2), 21, np.uint8), None, "values other than"),
        ("b", np.zeros((2, 2), np.uint8), np.zeros((2, 2)), "every mask"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path, name, mask, confidence, message):
    with MaskWriter(tmp_path / "m.h5", classes=CLASSES, palette=voc_palette(21), producer="test") as writer:
        writer.add("a", np.zeros((2, 2), np.uint8))
        with pytest.raises(ValueError, match=message):
            writer.add(name, mask, confidence)
    with MaskStore(tmp_path / "m.h5") as store:
        assert store.ids == ["a"]


@pytest.mark.parametrize("confidence", [None, np.zeros((2, 3)), np.full((2, 2), 1.1), np.full((2, 2), np.nan)])
def test_what_is_no_confidence_is_refused(tmp_path, confidence):
    options = {"classes": CLASSES, "palette": voc_palette(21), "producer": "test", "confidence": True}
    with (
        MaskWriter(tmp_path / "m.h5", **options) as writer,
        pytest.raises(ValueError, match="confidence"),
    ):
        writer.add("a", np.zeros((2, 2), np.uint8), confidence)


def test_classes_need_colours(tmp_path):
    with pytest.raises(ValueError, match="a colour for each"):
        MaskWriter(tmp_path / "m.h5", classes=["a", "b"], palette=[[0, 0, 0]], producer="test")


def test_a_missing_image_is_named(tmp_path):
    path = write(tmp_path / "m.h5", random_masks(2))
    with MaskStore(path) as store, pytest.raises(StppError, match=r"m\.h5 has no mask for image 'folder/7'"):
        store["folder/7"]


def test_a_missing_file_says_what_to_run(tmp_path):
    store = MaskStore(tmp_path / "m.h5")
    with pytest.raises(StppError, match="run the prediction"):
        len(store)


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, kept):
    content = write(tmp_path / "m.h5", random_masks(30)).read_bytes()
    (tmp_path / "m.h5").write_bytes(content[: kept if kept >= 1 else int(kept * len(content))])
    with pytest.raises(StppError, match=r"m\.h5 is no complete mask store"), MaskStore(tmp_path / "m.h5") as store:
        list(store)


def test_text_and_other_hdf5_files_are_refused(tmp_path):
    (tmp_path / "text.h5").write_text("hello" * 1000)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["pixels"] = np.zeros(5, np.uint8)
    for name in ("text.h5", "other.h5"):
        with pytest.raises(StppError, match=f"{name} is no complete mask store"):
            len(MaskStore(tmp_path / name))


@pytest.mark.parametrize(("dataset", "value"), [("shapes", (1, 1)), ("offsets", 1)])
def test_an_index_that_does_not_fit_the_pixels_is_refused(tmp_path, dataset, value):
    path = write(tmp_path / "m.h5", random_masks(3))
    with h5py.File(path, "r+") as file:
        file[dataset][0] = value
    with pytest.raises(StppError, match="index does not fit"):
        len(MaskStore(path))


def test_a_chunk_that_cannot_be_unpacked_names_the_image(tmp_path):
    path = write(tmp_path / "m.h5", {"a": np.zeros((300, 300), np.uint8), "b": random_masks(1)["folder/0"]})
    with h5py.File(path) as file:
        chunk = file["pixels"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + 8] = b"damaged!"
    path.write_bytes(content)
    with MaskStore(path) as store, pytest.raises(StppError, match="image 'a' cannot be unpacked"):
        store["a"]


def test_a_write_that_failed_leaves_no_store(tmp_path):
    with (
        pytest.raises(RuntimeError),
        MaskWriter(tmp_path / "m.h5", classes=CLASSES, palette=voc_palette(21), producer="test") as writer,
    ):
        writer.add("a", np.zeros((2, 2), np.uint8))
        raise RuntimeError
    with pytest.raises(StppError, match="no complete mask store"):
        len(MaskStore(tmp_path / "m.h5"))


def test_a_killed_write_leaves_no_store(tmp_path):
    program = """
import os, sys, numpy as np
from stpp.store.masks import MaskWriter, voc_palette
with MaskWriter(sys.argv[1], classes=["a"], palette=[[0, 0, 0]], producer="test") as writer:
    for k in range(40):
        writer.add(str(k), np.zeros((500, 500), np.uint8))
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "m.h5")]).returncode == 9
    with pytest.raises(StppError, match="no complete mask store"):
        len(MaskStore(tmp_path / "m.h5"))


def test_a_pickled_store_opens_the_file_again(tmp_path):
    masks = random_masks(3)
    with MaskStore(write(tmp_path / "m.h5", masks)) as store:
        assert len(store) == 3
        with pickle.loads(pickle.dumps(store)) as copy:
            np.testing.assert_array_equal(copy["folder/1"], masks["folder/1"])
        np.testing.assert_array_equal(store["folder/2"], masks["folder/2"])


def test_a_closed_store_opens_again_when_it_is_used(tmp_path):
    masks = random_masks(1)
    store = MaskStore(write(tmp_path / "m.h5", masks))
    for _ in range(2):
        np.testing.assert_array_equal(store["folder/0"], masks["folder/0"])
        store.close()


def read_all(store, turns):
    return [hashlib.sha256(mask.tobytes()).hexdigest() for _ in range(turns) for _, mask in store]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_worker_processes_read_an_open_store_at_the_same_time(tmp_path, method):
    masks = random_masks(20)
    with MaskStore(write(tmp_path / "m.h5", masks)) as store:
        expected = [hashlib.sha256(mask.tobytes()).hexdigest() for mask in masks.values()] * 5
        assert read_all(store, 5) == expected
        with multiprocessing.get_context(method).Pool(2) as pool:
            results = [pool.apply_async(read_all, (store, 5)) for _ in range(4)]
            assert read_all(store, 5) == expected
            assert all(result.get(60) == expected for result in results)


@settings(max_examples=30)
@given(some_images, st.integers(1, 4), st.booleans(), st.randoms())
def test_assembled_parts_equal_masks_written_at_once(tmp_path_factory, masks, count, with_confidence, random):
    folder = tmp_path_factory.mktemp("parts")
    confidence = {name: np.full(mask.shape, len(name) % 7 / 6) for name, mask in masks.items()}
    options = {"confidence": confidence} if with_confidence and masks else {}
    share = {name: random.randrange(count) for name in masks}
    parts = []
    for part in range(count if not options else max(share.values()) + 1):
        held = {name: mask for name, mask in masks.items() if share[name] == part}
        parts.append(write(folder / f"part{part}.h5", held, **options))
    order = random.sample(list(masks), len(masks))
    assemble(parts, order, folder / "whole.h5")
    assert digest(folder / "whole.h5") == digest(
        write(folder / "at_once.h5", {name: masks[name] for name in order}, **options)
    )


def test_large_parts_assemble_to_the_same_bytes_twice(tmp_path):
    masks = random_masks(90, largest=800)
    names = list(masks)
    confidence = {name: mask / np.float32(255) for name, mask in masks.items()}
    parts = [
        write(tmp_path / f"part{k}.h5", {name: masks[name] for name in names[k::3]}, confidence=confidence)
        for k in range(3)
    ]
    assemble(parts, names, tmp_path / "one.h5")
    assemble(parts[::-1], names, tmp_path / "two.h5")
    at_once = write(tmp_path / "at_once.h5", masks, confidence=confidence)
    assert at_once.stat().st_size > 16 * CHUNK
    assert digest(tmp_path / "one.h5") == digest(tmp_path / "two.h5") == digest(at_once)


def test_parts_that_do_not_make_the_list_are_refused_with_all_problems(tmp_path):
    mask = np.zeros((2, 2), np.uint8)
    one = write(tmp_path / "one.h5", {"a": mask, "b": mask})
    two = write(tmp_path / "two.h5", {"b": mask, "odd": mask}, producer="other")
    with pytest.raises(Problems) as caught:
        assemble([one, two], ["a", "b", "c", "a"], tmp_path / "out.h5")
    assert caught.value.problems == [
        "asked for more than once: 1, such as a",
        "in no part: 1, such as c",
        "in more than one part: 1, such as b",
        "in a part, but not asked for: 1, such as odd",
        f"made with other classes, colours, confidence or by another producer than {one}: 1, such as {two}",
    ]
    assert not (tmp_path / "out.h5").exists()


def test_no_parts_are_refused(tmp_path):
    with pytest.raises(StppError, match="no parts"):
        assemble([], [], tmp_path / "out.h5")


def test_the_voc_palette_is_the_published_one():
    palette = voc_palette(256)
    published = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0)}
    published |= {12: (64, 0, 128), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {index: tuple(palette[index]) for index in published} == published
    assert len({tuple(colour) for colour in palette}) == 256
    assert voc_palette(21) == palette[:21]


@settings(max_examples=20)
@given(small_masks)
def test_a_palette_png_keeps_the_classes_and_shows_their_colours(tmp_path_factory, mask):
    path = tmp_path_factory.mktemp("png") / "mask.part"
    palette = voc_palette(21)
    write_palette_png(mask, palette, path)
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "P")
        np.testing.assert_array_equal(np.array(image), mask)
        shown = np.array(image.convert("RGB"))
    for value in np.unique(mask):
        expected = (224, 224, 192) if value == 255 else palette[value]
        assert (shown[mask == value] == expected).all()
