"""Exports of which something is replaced by something else are read or refused, whatever it is."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annotated
import pytest
from hostile import quick

from stpp.commands.cli import main
from stpp.common.errors import StppError
from stpp.common.registry import IMPORTERS, component
from stpp.importers import Labels
from stpp.store.masks import voc_palette

VALUES = [None, True, -1, 0, 1e308, float("nan"), float("inf"), 2**40, -(10**30), "", "x", "../../x", "\0"]
VALUES += ["é" * 300, [], [[]], [1, 2, 3], {}, {"a": 1}]
PIECES = [b'"', b"9" * 30, b"-", b";", b"<", b"e99", b"NaN", b"\xff", b",,", b"\n", b"]]>"]
FORMATS = {
    "coco": (None, 0),
    "cvat": (None, 0),
    "label-studio": (None, 0),
    "labelme": (None, 0),
    "cvat-masks": (None,),
}
TRIES = 60


def places(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """The ways to all parts of a JSON value but itself; of long lists the first parts."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:5]) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*above, key)
        yield from places(part, *above, key)


def changed(content: bytes, rng: random.Random, as_json: bool) -> bytes:
    """The content with one part replaced or removed."""
    if as_json and rng.random() < 0.7:
        whole = json.loads(content)
        *way, last = rng.choice(list(places(whole)))
        part = whole
        for key in way:
            part = part[key]
        if rng.random() < 0.3:
            del part[last]
        else:
            part[last] = rng.choice(VALUES)
        return json.dumps(whole).encode()
    at = rng.randrange(len(content))
    return content[:at] + rng.choice([b"", *PIECES]) + content[at + rng.choice([0, 1, 20]) :]


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_lies_is_read_or_refused(format: str, tmp_path: Path) -> None:
    module = component(IMPORTERS, format)
    masks = {"hill": annotated.mask(house=255), "lake": annotated.mask()}
    for id in masks:
        annotated.image(tmp_path / f"photos/{id}.jpg")
    names = {id: f"{id}.jpg" for id in masks}
    labels = Labels(["background", "tree", "house"], voc_palette(3), names, masks.__getitem__)
    read = refused = 0
    for tolerance in FORMATS[format]:
        for name, write in module.files(labels, tolerance).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            write(tmp_path / name)
        file = next(path for name in ("*.json", "*.xml", "labelmap.txt") for path in sorted(tmp_path.glob(name)))
        content = file.read_bytes()
        for seed in range(TRIES):
            file.write_bytes(changed(content, random.Random(seed), file.suffix == ".json"))
            with quick():
                try:
                    export = module.find(tmp_path, None, tmp_path / "photos")
                    assert all(item.draw().shape == annotated.SIZE for item in export.images if item.draw)
                    assert all(".." not in item.name for item in export.images)
                    read += 1
                except StppError as error:
                    assert len(str(error)) < 4000
                    refused += 1
        file.write_bytes(content)
    assert refused > TRIES / 3 and read > 0


def test_nothing_is_written_of_an_export_that_is_refused(tmp_path: Path) -> None:
    annotated.image(tmp_path / "in/hill.jpg")
    image = {"id": 1, "file_name": "hill.jpg", "height": 8, "width": 10}
    one = {"image_id": 1, "category_id": 1, "segmentation": [annotated.flat(annotated.TREE)]}
    content = {"images": [image], "annotations": [one, one | {"category_id": 2}], "categories": []}
    (tmp_path / "in/all.json").write_text(json.dumps(content | {"categories": [{"id": 1, "name": "tree"}]}))
    assert main(["import", "coco", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()
