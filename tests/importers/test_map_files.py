"""Masks on a map: GeoJSON and GeoTIFF, written and read again, and checked by GDAL."""

import json
from pathlib import Path

import annotated
import fabricate
import numpy as np
import pytest
import rasterio
from rasterio.features import is_valid_geom, rasterize
from rasterio.transform import Affine

from stpp.commands.cli import main
from stpp.data.images import read_mask

CLASSES = ("background", "water", "forest")
TRANSFORM = Affine(0.5, 0, 500000.25, 0, -0.5, 5300000.75)
HEIGHT, WIDTH = 40, 52


def mask(seed: int) -> np.ndarray:
    """Large parts with holes and single pixels."""
    rng = np.random.default_rng(seed)
    found = np.kron(rng.integers(0, 3, (5, 7)), np.ones((8, 8))).astype(np.uint8)[:HEIGHT, :WIDTH]
    found[rng.random(found.shape) < 0.03] = 2
    found[:2, :5] = 255
    return found


MASKS = {"a": mask(0), "deep/b": mask(1), "empty": np.zeros((HEIGHT, WIDTH), np.uint8)}


def image(path: Path, crs: str | None = "EPSG:32632") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    how = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": 4, "dtype": "uint16"}
    with rasterio.open(path, "w", **how, **({"crs": crs, "transform": TRANSFORM} if crs else {})) as file:
        file.write(np.zeros((4, HEIGHT, WIDTH), np.uint16))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for id in MASKS:
        image(tmp_path / f"data/{id}.tif")
    return fabricate.write_store(tmp_path / "masks.h5", MASKS, CLASSES)


def exported(store: Path, format: str, *more: str) -> Path:
    out = store.parent / format
    words = ["export-labels", str(store), "--format", format, "--images", str(store.parent / "data"), *more]
    assert main([*words, "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("format", ["geotiff", "geojson"])
def test_what_is_written_is_read_again_as_it_was(format: str, store: Path, tmp_path: Path) -> None:
    out, back = exported(store, format), tmp_path / "back"
    words = ["import", format, str(out), "--classes", str(out / "classes.txt"), "--images", str(tmp_path / "data")]
    assert main([*words, "--out", str(back)]) == 0
    for id, expected in MASKS.items():
        found = read_mask(back / f"masks/{id}.png", {"classes": 3, "ignore_value": 255})
        assert (found == expected).all()
    assert (back / "classes.txt").read_text() == (out / "classes.txt").read_text()


def test_gdal_draws_the_same_mask_from_the_polygons(store: Path) -> None:
    content = json.loads((exported(store, "geojson") / "deep/b.geojson").read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"
    numbers = {name: number for number, name in enumerate(CLASSES)} | {"__ignore__": 255}
    shapes = [(feature["geometry"], numbers[feature["properties"]["label"]]) for feature in content["features"]]
    assert (rasterize(shapes, (HEIGHT, WIDTH), transform=TRANSFORM, dtype="uint8") == MASKS["deep/b"]).all()


def test_polygons_are_valid_and_cover_each_pixel_once(store: Path) -> None:
    out, holes = exported(store, "geojson"), 0
    for id, expected in MASKS.items():
        features = json.loads((out / f"{id}.geojson").read_text())["features"]
        shapes = [shape["geometry"] for shape in features]
        assert all(is_valid_geom(shape) for shape in shapes)
        covered = [rasterize([shape], (HEIGHT, WIDTH), transform=TRANSFORM) for shape in shapes]
        assert (np.sum(covered, axis=0) == (1 if not expected.any() else expected > 0)).all()
        rings = [np.array(ring) for shape in shapes for ring in shape["coordinates"]]
        turns = [np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0 for x, y in ((ring - ring[0]).T for ring in rings)]
        assert turns == [place == 0 for shape in shapes for place in range(len(shape["coordinates"]))]
        holes += len(rings) - len(shapes)
    assert holes > 5


def test_gdal_finds_the_masks_where_the_images_are(store: Path, tmp_path: Path) -> None:
    out = exported(store, "geotiff")
    for id, expected in MASKS.items():
        with rasterio.open(out / f"{id}.tif") as file:
            assert file.crs == "EPSG:32632" and file.transform == TRANSFORM
            assert (file.read(1) == expected).all()


def test_polygons_of_others_may_have_holes(tmp_path: Path) -> None:
    image(tmp_path / "data/a.tif")
    ring = [[5, 5], [30, 5], [30, 30], [5, 30], [5, 5]]
    hole = [[10, 10], [20, 10], [20, 20], [10, 20], [10, 10]]
    coordinates = [[list(TRANSFORM @ (x + 0.01, y + 0.01)) for x, y in part] for part in (ring, hole)]
    feature = {"type": "Feature", "properties": {"label": "water", "id": 3}}
    collection = {"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": "EPSG:32632"}}}
    several = {"type": "MultiPolygon", "coordinates": [coordinates]}
    point = {"type": "Point", "coordinates": [0, 0]}
    collection["features"] = [feature | {"geometry": geometry} for geometry in (several, point)]
    (tmp_path / "a.geojson").write_text(json.dumps(collection))
    words = ["import", "geojson", str(tmp_path / "a.geojson"), "--images", str(tmp_path / "data")]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    found = read_mask(tmp_path / "out/masks/a.png", {"classes": 2})
    assert found[6, 6] == 1 and found[15, 15] == 0 and found[35, 35] == 0
    assert found.sum() == 26 * 26 - 11 * 11


def test_what_lies_nowhere_is_refused(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = exported(store, "geojson")
    words = ["--out", str(tmp_path / "x")]
    assert main(["export-labels", str(store), "--format", "geojson", *words]) == 1
    assert "nothing says where a, deep/b, empty lie on a map" in capsys.readouterr().err
    assert main(["export-labels", str(store), "--format", "geotiff", "--polygons", "1", *words]) == 1
    assert "this format holds masks, no polygons" in capsys.readouterr().err
    image(tmp_path / "data/a.tif", None)
    again = ["import", "geojson", str(out), "--images", str(tmp_path / "data"), *words]
    assert main(again) == 1
    assert "without a georeference" in capsys.readouterr().err
    assert main(["export-labels", str(store), "--format", "geotiff", "--images", str(tmp_path / "data"), *words]) == 1
    assert "1 image without a georeference" in capsys.readouterr().err
    image(tmp_path / "data/a.tif", "EPSG:32633")
    assert main(again) == 1
    assert "polygons in urn:ogc:def:crs:EPSG::32632 and an image in EPSG:32633" in capsys.readouterr().err
    assert main(["import", "geotiff", str(out), *words]) == 1
    assert "give the folder of the images by --images" in capsys.readouterr().err


def test_pictures_that_are_no_maps_have_no_geojson(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotated.image(tmp_path / "data/a.png")
    store = fabricate.write_store(tmp_path / "masks.h5", {"a": annotated.mask()}, CLASSES)
    words = ["export-labels", str(store), "--format", "geojson", "--images", str(tmp_path / "data")]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    assert "without a georeference" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
