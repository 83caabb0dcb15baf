"""TIFF files of several pages: a page an image, or a page a class."""

import io
from pathlib import Path

import annotated
import numpy as np
import pytest
from annotated import house_pixels, masks, tree_pixels
from numpy.typing import NDArray
from PIL import Image
from tiny_data import photo

from stpp.common.errors import Problems, StppError
from stpp.importers.tiff_pages import find


def pages(path: Path, *values: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = map(Image.fromarray, values)
    first.save(path, save_all=True, append_images=rest)


def photos(count: int) -> list[NDArray[np.uint8]]:
    return [photo(number, annotated.SIZE) for number in range(count)]


def test_a_page_of_a_stack_is_an_image(tmp_path: Path) -> None:
    pages(tmp_path / "images/a.tif", *photos(3))
    pages(tmp_path / "images/b.tif", *photos(2))
    pages(tmp_path / "masks/a.tif", *(annotated.mask(tree, 2) for tree in (1, 2, 255)))
    export = find(tmp_path / "masks", None, tmp_path / "images")
    assert export.classes == ["background", "class 1", "class 2"]
    assert export.remarks == ["2 images without a mask: unlabeled"]
    found = masks(export)
    assert list(found) == ["a/000", "a/001", "a/002", "b/000", "b/001"]
    for page, tree in enumerate((1, 2, 255)):
        assert np.array_equal(found[f"a/{page:03}"], annotated.mask(tree, 2))
        image = export.images[page].image
        assert not isinstance(image, Path)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(image()))), photos(3)[page])
    assert found["b/000"] is None


def test_black_and_white_are_two_classes(tmp_path: Path) -> None:
    pages(tmp_path / "images/a.tif", *photos(2))
    white = np.where(tree_pixels(), 255, 0).astype(np.uint8)
    pages(tmp_path / "masks/a.tif", white, white[::-1])
    export = find(tmp_path / "masks", ["ground", "tree"], tmp_path / "images")
    assert export.classes == ["ground", "tree"]
    assert np.array_equal(masks(export)["a/001"], tree_pixels()[::-1])


def test_pages_of_the_mask_of_one_image_are_classes(tmp_path: Path) -> None:
    pages(tmp_path / "images/a.tif", *photos(1))
    ground = ~(tree_pixels() | house_pixels())
    ground[0, 0] = False
    pages(tmp_path / "masks/a.tif", *(part.astype(np.uint8) * 255 for part in (ground, tree_pixels(), house_pixels())))
    export = find(tmp_path / "masks", ["ground", "tree", "house"], tmp_path / "images")
    expected = annotated.mask()
    expected[0, 0] = 255
    assert np.array_equal(masks(export)["a"], expected)
    assert export.remarks == ["the pages of 1 mask are taken for classes, in their order"]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StppError, match="give the folder of the masks, and that of the images by --images"):
        find(tmp_path, None)
    pages(tmp_path / "images/a.tif", *photos(3))
    pages(tmp_path / "images/b.tif", photo(0, (5, 5)))
    pages(tmp_path / "images/c.tif", *photos(1))
    pages(tmp_path / "masks/a.tif", annotated.mask(), annotated.mask())
    pages(tmp_path / "masks/b.tif", annotated.mask())
    pages(tmp_path / "masks/c.tif", annotated.mask(7))
    pages(tmp_path / "masks/d.tif", annotated.mask())
    with pytest.raises(Problems) as caught:
        find(tmp_path / "masks", ["x", "y", "z"], tmp_path / "images")
    text = str(caught.value)
    assert "a mask of 2 pages for an image of 3" in text and "another size than its image" in text
    assert "the value 7 is no class of x, y, z" in text and "without an image of its name" in text
