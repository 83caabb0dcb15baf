"""The store of an encoder's maps: what goes in comes out, the same bytes every time, and damage is reported."""

import copy
import pickle
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

from stpp.common.errors import StppError
from stpp.store.maps import MEBI, Map, MapStore, MapWriter, join_maps, whole_view

VIEWS = ["0", "1"]
Seen = dict[str, list[list[Map]]]


def random_maps(count: int, seed: int = 0, largest: int = 12) -> Seen:
    """Two views of two maps of each image, of many sizes."""
    rng = np.random.default_rng(seed)
    found: Seen = {}
    for k in range(count):
        shapes = [[(*rng.integers(1, largest, 2), channels) for channels in (3, 5)] for _ in VIEWS]
        found[f"folder/{k}"] = [[rng.normal(size=shape).astype(np.float16) for shape in view] for view in shapes]
    return found


def write(path: Path, seen: Seen, producer: str = "test") -> Path:
    with MapWriter(path, views=VIEWS, producer=producer) as writer:
        for id, maps in seen.items():
            writer.add(id, maps)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "maps.h5", random_maps(5))


def test_maps_come_back_in_any_order(tmp_path: Path) -> None:
    seen = random_maps(30, largest=150)  # several chunks
    assert sum(each.size for maps in seen.values() for view in maps for each in view) > 2 * MEBI
    with MapStore(write(tmp_path / "maps.h5", seen)) as store:
        assert (store.ids, store.views, store.producer, len(store)) == (list(seen), VIEWS, "test", 30)
        for id in np.random.default_rng(1).permutation(list(seen)):
            for view in (1, 0):
                found = store.maps(str(id), view)
                assert [each.dtype for each in found] == [np.float16] * 2
                for each, expected in zip(found, seen[str(id)][view], strict=True):
                    np.testing.assert_array_equal(each, expected)
        assert "folder/3" in store and "folder/99" not in store
        with pytest.raises(StppError, match="no maps of image 'x'; it holds 30 images, of another list"):
            store.maps("x", 0)


def test_a_copied_or_pickled_store_opens_the_file_again(path: Path) -> None:
    store = MapStore(path)
    before = store.maps("folder/1", 0)
    for again in (pickle.loads(pickle.dumps(store)), copy.copy(store)):
        np.testing.assert_array_equal(again.maps("folder/1", 0)[1], before[1])
    store.close()
    np.testing.assert_array_equal(store.maps("folder/1", 0)[1], before[1])


def test_a_whole_image_has_its_views_by_name(tmp_path: Path) -> None:
    names = [whole_view(1.0, False), whole_view(0.75, True)]
    assert names == ["1", "0.75 mirrored"]
    maps = [[np.full((2, 2, 1), value, np.float16)] for value in (1, 2)]
    with MapWriter(tmp_path / "maps.h5", views=names, producer="test") as writer:
        writer.add("a", maps)
    image = MapStore(tmp_path / "maps.h5").image("a", (7, 9), names[1:])
    assert image.shape == (7, 9) and list(image.maps) == names[1:]
    np.testing.assert_array_equal(image.maps["0.75 mirrored"][0], maps[1][0])
    with pytest.raises(StppError, match=r"has no view 2 mirrored, only 1, 0\.75 mirrored"):
        MapStore(tmp_path / "maps.h5").image("a", (7, 9), ["2 mirrored"])


@pytest.mark.parametrize("cuts", [[0, 7], [0, 1, 4, 7], [0, 0, 7, 7]])
def test_joined_parts_have_the_bytes_of_one_store(cuts: list[int], tmp_path: Path) -> None:
    seen = random_maps(7, largest=200)
    ids = list(seen)
    parts = [
        write(tmp_path / f"{number}.h5", {id: seen[id] for id in ids[first:last]})
        for number, (first, last) in enumerate(pairwise(cuts))
    ]
    join_maps(parts, ids, tmp_path / "joined.h5")
    assert (tmp_path / "joined.h5").read_bytes() == write(tmp_path / "whole.h5", seen).read_bytes()


def test_parts_of_other_images_or_by_others_are_not_joined(tmp_path: Path) -> None:
    seen = random_maps(2)
    parts = [write(tmp_path / f"{k}.h5", {id: seen[id]}, f"by {k % 2}") for k, id in enumerate(seen)]
    for given, ids in [(parts, list(seen)), (parts[:1], list(seen)), ([], []), (parts[:1], ["folder/1"])]:
        with pytest.raises(StppError, match="cannot assemble"):
            join_maps(given, ids, tmp_path / "joined.h5")
        assert not (tmp_path / "joined.h5").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_the_image(value: float, tmp_path: Path) -> None:
    seen = random_maps(1)
    seen["folder/0"][1][0][0, 0, 0] = value
    with pytest.raises(StppError, match=r"gives values for image 'folder/0' \(view 1\) that are not finite"):
        write(tmp_path / "maps.h5", seen)
    with pytest.raises(StppError, match="no complete store of maps"):
        _ = MapStore(tmp_path / "maps.h5").ids


def test_what_is_no_map_is_refused(tmp_path: Path) -> None:
    one = np.zeros((2, 2, 1), np.float16)
    with MapWriter(tmp_path / "maps.h5", views=VIEWS, producer="test") as writer:
        for wrong in ([[one]], [[one], [one, one]], [[one], [one.astype(np.float32)]], [[one], [one[0]]]):
            with pytest.raises(ValueError, match="folder"):
                writer.add("folder/0", wrong)
        writer.add("folder/1", [[one], [one]])
        with pytest.raises(ValueError, match="must come once"):
            writer.add("folder/1", [[one], [one]])


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def replaced(name: str, data: object, **options: object) -> object:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file[name]
            file.create_dataset(name, data=data, **options)

    return change


def without_format(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs["format"]


def linked(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["values"]
        file["values"] = h5py.ExternalLink("other.h5", "values")


def longer(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["values"].resize((file["values"].size + 2 * MEBI,))


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        without_format,
        linked,
        longer,
        replaced("shapes", np.zeros((5, 2, 2, 3), np.int32)),
        replaced("shapes", np.ones((4, 2, 2, 3), np.int32)),
        replaced("values", np.zeros(7, np.float16)),
        replaced("ids", np.array([b"a"] * 5)),
    ],
)
def test_a_damaged_store_is_refused(damage, path: Path) -> None:  # type: ignore[no-untyped-def]
    damage(path)
    with pytest.raises(StppError, match=r"maps.h5 is no complete store of maps \("):
        _ = MapStore(path).ids


def test_a_missing_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StppError, match="There are no maps at"):
        _ = MapStore(tmp_path / "maps.h5").ids
