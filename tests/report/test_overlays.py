"""The browser of overlays: what is known of its images, and how they are chosen and bounded."""

import base64
import csv
import html
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fabricate
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stpp.data.manifest import Row
from stpp.data.reading import image_of
from stpp.report.browser import LAYERS, browser, hard_examples, side_of, unlabeled
from stpp.report.facts import Facts
from stpp.report.gallery import Confidence, Mask, Pictures
from stpp.store.masks import MaskStore

TRUE = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
PREDICTED = np.array([[0, 1, 1, 1], [0, 0, 0, 0]], np.uint8)
LIMITS = {"size": 6.0, "judged": 500, "unlabeled": 60}
ENCODING = {"classes": 3, "ignore_value": 255, "label_map": None, "palette_map": None}


def predict(row: Row) -> tuple[Mask, Confidence]:
    return PREDICTED, np.full((2, 4), 0.4, np.float32)


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., str]:
    """Makes the part of a page for a val image with a true mask, and unlabeled ones with scores and two votes each."""
    Image.fromarray(np.full((2, 4, 3), 90, np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(TRUE).save(tmp_path / "true.png")

    def row(subset: str, id: str) -> Row:
        mask = str(tmp_path / "true.png") if subset == "val" else None
        return Row(id, subset, str(tmp_path / "image.png"), mask, 2, 4, 1)._replace(bytes=0)

    def make(count: int = 3, **limits: float) -> str:
        names = [f"u{at}" for at in range(count)]
        stages = fabricate.parts(student="train/s", student_val="evaluate/v", masks1="predict/m", score="score/s")
        run = {"experiment": "st++", "partition": 0, "seed": 0, "method": "st++", "stages": stages}
        scores = pd.DataFrame({"id": names, "score": np.linspace(0.9, 0.5, count), "rank": range(1, count + 1)})
        vals = pd.DataFrame({"id": ["a", "b", "c"], "miou": [0.5, np.nan, 0.2]})
        facts = Facts(
            **{key: {} for key in ("config", "records", "table", "histories", "reliable", "fingerprints")},
            name="x",
            runs=[run],
            shown=run,
            model=run | {"title": "student"},
            judges={"val": "evaluate/v"},
            prediction={},
            outlook=[],
            length={},
            data_warnings=[],
            evaluations={"evaluate/v": {"subset": "val"}},
            image_scores={"evaluate/v": vals},
            scores={"score/s": scores},
            subsets={"unlabeled": [row("unlabeled", n) for n in names], "val": [row("val", n) for n in vals["id"]]},
            classes=["sky", "</a><script>", "sea"],
            palette=[[0, 0, 0], [9, 9, 9], [200, 0, 0]],
        )
        votes = [dict.fromkeys(names, np.full((2, 4), k, np.uint8)) for k in (0, 1)]
        sources = Pictures(
            read=image_of,
            votes=lambda row: [vote[row.id] for vote in votes if row.id in vote],
            labels=[MaskStore(fabricate.write_store(tmp_path / "labels.h5", votes[0]))],
            predict=predict,
            encoding=ENCODING,
        )
        make.facts = facts  # type: ignore[attr-defined]
        return browser(facts, sources, LIMITS | limits)

    return make


def shots(page: str) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """What is known of each image of a page, and its pictures by layer."""
    for inside in re.findall(r'<a id="image-\d+".*?</a>', page, re.DOTALL):
        known = re.search(r'data-facts="([^"]*)"', inside)
        assert known
        pictures = re.findall(r'<img src="([^"]*)"[^>]*data-layer="([\w-]+)"', inside)
        yield json.loads(html.unescape(known[1])), {layer: uri for uri, layer in pictures}


def pixels(uri: str) -> np.ndarray:
    """The values of a picture in the page."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_the_numbers_of_an_image_are_those_of_its_masks(page: Callable[..., str]) -> None:
    """7 pixels count: class 0 has 4, of which 3 are found, and class 1 has 3, of which 2 are."""
    known, _ = next(shots(page()))
    assert known == {
        "id": "c",
        "subset": "val",
        "areas": [5 / 8, 3 / 8, 0.0],
        "true_areas": [4 / 8, 3 / 8, 0.0],
        "iou": [0.6, 0.5, None],
        "miou": 0.55,
        "errors": round(2 / 7, 4),
    }


def test_the_layers_are_the_masks(page: Callable[..., str]) -> None:
    found = list(shots(page()))
    pictures = {layer: pixels(uri) for layer, uri in found[0][1].items()}
    assert pictures.keys() == {"truth", "prediction", "errors", "confidence"}
    assert (pictures["confidence"] == 102).all()
    assert np.array_equal(pictures["truth"], TRUE)
    assert np.array_equal(pictures["prediction"], PREDICTED)
    assert pictures["errors"].tolist() == [[0, 1, 0, 0], [0, 0, 1, 2]]
    known, votes = found[-1]
    assert known == {"id": "u0", "subset": "unlabeled", "areas": [5 / 8, 3 / 8, 0.0], "score": 0.9}
    of_votes = {layer: pixels(uri) for layer, uri in votes.items()}
    assert of_votes.keys() == {"prediction", "confidence", "pseudo-label", "disagreement"}
    assert np.array_equal(of_votes["prediction"], PREDICTED) and (of_votes["pseudo-label"] == 0).all()
    assert (of_votes["disagreement"] == 255).all(), "both checkpoints differ everywhere"
    assert {*pictures, *of_votes} == set(LAYERS)


def test_the_worst_and_the_least_stable_come_first(page: Callable[..., str]) -> None:
    assert [known["id"] for known, _ in shots(page())] == ["c", "a", "b", "u2", "u1", "u0"]
    facts = page.facts  # type: ignore[attr-defined]
    assert [row.id for row in facts.judged("val")] == ["c", "a", "b"]
    assert [known["id"] for known, _ in shots(page(judged=2))] == ["c", "a", "u2", "u1", "u0"]
    page(200)
    some = [row.id for row in unlabeled(page.facts, 60)]  # type: ignore[attr-defined]
    assert len(some) == 60
    assert (some[0], some[-1]) == ("u199", "u0")


def test_the_pictures_keep_to_their_size_and_the_page_says_how_many_are_left_out(page: Callable[..., str]) -> None:
    whole = page()
    assert "all 3 val images; all 3 unlabeled images" in whole
    sizes = [len(uri) for uri in re.findall(r'src="([^"]*)"', whole)]
    most = int(0.7 * sum(sizes))
    less = page(size=most / 1e6)
    kept = [known["id"] for known, _ in shots(less)]
    assert sum(len(uri) for uri in re.findall(r'src="([^"]*)"', less)) <= most
    assert 1 < len(kept) < 6 and kept[0] == "c"
    left = 3 - sum(id in "abc" for id in kept)
    assert f"those with the lowest mIoU ({left} are left out)" in less or left == 0
    assert "are left out)" in less
    assert page(size=1e-5) == ""


def test_the_settings_say_how_many_images_there_are(page: Callable[..., str]) -> None:
    few = page(judged=1, unlabeled=2)
    assert [known["id"] for known, _ in shots(few)] == ["c", "u2", "u0"]
    assert "1 of 3 val images, those with the lowest mIoU (2 are left out)" in few
    assert [known["id"] for known, _ in shots(page(judged=0, unlabeled=1))] == ["u2"]


@pytest.mark.parametrize(("count", "side"), [(1, 640), (37, 383), (460, 224)])
def test_few_images_are_larger(count: int, side: int) -> None:
    assert side_of(count, 6_000_000) == side


def test_a_hard_example_has_the_class(page: Callable[..., str]) -> None:
    text = page().partition("Hard examples")[2]
    row = re.findall(r'<tr><th scope="row" class="text">sky.*?</tr>', text)[0]
    assert re.findall(r'href="#image-(\d)">(\w)</a> ([\d.]+)', row)[0] == ("0", "c", "60.00")
    assert '<th scope="row" class="text">sea' not in text.partition("Area of each class")[0]
    assert hard_examples([], ["sky"]) is None


def test_the_numbers_are_a_file(page: Callable[..., str]) -> None:
    (uri,) = re.findall(r'href="data:text/csv;charset=utf-8,([^"]*)" download="images.csv"', page())
    first, *_, last = csv.DictReader(io.StringIO(unquote(uri)))
    assert first["image"] == "c" and float(first["mIoU"]) == 0.55
    assert float(first["true area of sky"]) == 0.5 and first["IoU of sea"] == ""
    assert float(first["area of </a><script>"]) == 0.375
    assert last["image"] == "u0" and last["IoU of sky"] == "" and float(last["score"]) == 0.9
