"""Images that cannot be read are reported, never left out without a word; and no results are taken for images."""

import errno
import os
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from tiny_data import labels, lists, photo, save, settings

from stpp.commands.segment import images_of
from stpp.common.errors import Problems
from stpp.data.index import index, look
from stpp.data.record import listing, load_fresh
from stpp.data.sources import resolve


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of plain folders: two images with masks, and three without in a folder `images/city`."""
    for name in ("a", "b"):
        save(tmp_path / f"root/images/{name}.png", photo())
        save(tmp_path / f"root/masks/{name}.png", labels())
    for number in range(3):
        save(tmp_path / f"root/images/city/{number}.png", photo(number))
    return tmp_path / "root"


def indexed(data: dict[str, Any], results: Path) -> dict[str, Any]:
    return index(data, results, batch_size=2, need_unlabeled=False, log=lambda text: None)


def problems(data: dict[str, Any], results: Path) -> list[str]:
    with pytest.raises(Problems) as caught:
        look(data, results, batch_size=2, need_unlabeled=False, log=lambda text: None)
    return caught.value.problems


class Failing:
    """The entries of a folder, of which the disk gives the first alone."""

    def __init__(self, entries: Any) -> None:
        self.entries = entries

    def __enter__(self) -> Iterator[Any]:
        return self

    def __exit__(self, *error: object) -> None:
        self.entries.close()

    def __iter__(self) -> Iterator[Any]:
        yield next(self.entries)
        raise OSError(errno.EIO, os.strerror(errno.EIO), "city")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, "halfway"])
def test_a_folder_that_cannot_be_read_is_a_problem(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: Any
) -> None:
    data = settings(root, layout="folder")
    indexed(data, tmp_path / "r")
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if not str(path).rstrip("/").endswith("images/city"):
            return scandir(path)
        if code == "halfway":
            return Failing(scandir(path))
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "scandir", refusing)
    assert load_fresh(tmp_path / "r", data) is None
    (problem,) = problems(data, tmp_path / "r")
    assert "Images may be missing" in problem and "city" in problem
    assert os.strerror(errno.EIO if code == "halfway" else code) in problem
    with pytest.raises(Problems, match="city"):
        images_of([str(root / "images")], tmp_path / "out")


def test_a_folder_behind_too_long_a_path_is_a_problem(root: Path, tmp_path: Path) -> None:
    names = ["x" * 250] * 17
    with chdir(root / "images"):
        for name in names:
            Path(name).mkdir()
            os.chdir(name)
        save(Path("deep.png"), photo())
    (problem,) = problems(settings(root, layout="folder"), tmp_path / "r")
    assert os.strerror(errno.ENAMETOOLONG) in problem
    assert len(problem) < 1500
    with pytest.raises(Problems, match=os.strerror(errno.ENAMETOOLONG)):
        images_of([str(root / "images")], tmp_path / "out")


def test_a_link_to_a_folder_that_is_not_there_is_a_problem(root: Path, tmp_path: Path) -> None:
    (root / "images/town").symlink_to(tmp_path / "not mounted")
    (root / "images/.hidden").symlink_to(tmp_path / "not mounted")
    (problem,) = problems(settings(root, layout="folder"), tmp_path / "r")
    assert str(root / "images/town") in problem and os.strerror(errno.ENOENT) in problem
    with pytest.raises(Problems, match="town"):
        images_of([str(root / "images")], tmp_path / "out")


def test_a_link_to_an_image_that_is_not_there_is_one_problem(root: Path, tmp_path: Path) -> None:
    (root / "images/c.png").symlink_to(tmp_path / "gone.png")
    (problem,) = problems(settings(root, layout="folder"), tmp_path / "r")
    assert "no such file" in problem and "c.png" in problem
    assert root / "images/c.png" in images_of([str(root / "images")], tmp_path / "out")


@pytest.mark.parametrize(
    ("layout", "link"), [("cityscapes", "leftImg8bit/val"), ("voc", "ImageSets/Segmentation/val.txt")]
)
def test_a_link_to_a_val_set_that_is_not_there_is_a_problem(tmp_path: Path, layout: str, link: str) -> None:
    (tmp_path / link).parent.mkdir(parents=True)
    (tmp_path / link).symlink_to(tmp_path / "gone")
    found = resolve(settings(tmp_path, layout=layout), lambda masks: {}).problems
    assert any(f"The link {tmp_path / link} points to nothing" in problem for problem in found)


@pytest.mark.parametrize("target", ["unlabeled0.png", "gone.png"], ids=["a loop", "nowhere"])
def test_a_true_mask_that_cannot_be_read_is_a_warning(tmp_path: Path, target: str) -> None:
    data = lists(tmp_path / "data", labeled=2, unlabeled=3)
    mask = tmp_path / "data/m/unlabeled0.png"
    mask.unlink()
    assert indexed(data, tmp_path / "r")["warnings"] == []  # not all need to have one
    mask.symlink_to(target)
    (warning,) = indexed(data, tmp_path / "r")["warnings"]
    assert str(mask) in warning and "Used for reports only" in warning


def test_a_listing_is_sorted_and_says_where_it_was(root: Path) -> None:
    (root / "images/again").symlink_to("city")
    names, entered, errors = listing(root / "images")
    assert names == ["a.png", "again/0.png", "again/1.png", "again/2.png", "b.png"]  # each folder once
    assert entered == {str(root / "images"), str(root / "images/city")}
    assert errors == []


# --- results among the images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("results", ["images", "images/results", "images/city/new/results", "masks/results", "linked"])
def test_results_among_the_images_are_refused(root: Path, results: str) -> None:
    (root / "linked").symlink_to("images/city")
    (problem,) = problems(settings(root, layout="folder"), root / results)
    assert "`results`" in problem and str((root / results).resolve()) in problem
    assert not (root / results / "data").exists()


def test_a_link_to_results_among_the_images_is_refused(root: Path) -> None:
    (root / "results/demo").mkdir(parents=True)
    (root / "images/charts").symlink_to(root / "results/demo")
    (problem,) = problems(settings(root, layout="folder"), root / "results")
    assert "choose another place" in problem


@pytest.mark.parametrize("results", ["results", "images-results", "other/images"])
def test_results_beside_the_images_are_not(root: Path, results: str) -> None:
    assert indexed(settings(root, layout="folder"), root / results)["subsets"]["unlabeled"]["count"] == 3
