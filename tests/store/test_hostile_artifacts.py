"""Artifacts that lie: manifests, lists, score tables, recipes and records that were damaged, edited or made up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest
from hostile import quick, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stpp.commands.cli import main
from stpp.common.errors import StppError
from stpp.data.index import index
from stpp.data.manifest import read_manifest
from stpp.data.record import in_place, index_path, load_fresh
from stpp.runtime.job import Job, verified
from stpp.settings.configfile import load
from stpp.store.idlist import read_list
from stpp.store.scores import read_score_table

JUNK = bytes(np.random.default_rng(0).integers(0, 256, 3000, np.uint8))
DEEP = b"[" * 100_000

# --- manifests, id lists, score tables --------------------------------------------------------------------------------

HEADER = b"id,subset,image,mask,height,width,bytes,sha256,mask_bytes,mask_sha256\n"
ROW = b"a,val,a.png,m.png,8,8,9,,9,\n"
MANIFESTS: dict[str, tuple[bytes, str]] = {
    "random bytes": (JUNK, "not a CSV file in UTF-8"),
    "zero bytes": (bytes(500), "the columns are"),
    "a byte order mark": (b"\xef\xbb\xbf" + HEADER + ROW, "expected id,subset,image"),
    "latin-1": (HEADER + b"\xe4,val,a.png,m.png,8,8,9,,9,\n", "not a CSV file in UTF-8"),
    "another order of columns": (
        b"subset,id,image,mask,height,width,bytes,sha256,mask_bytes,mask_sha256\n" + ROW,
        "expected id,subset,image",
    ),
    "semicolons": (HEADER.replace(b",", b";") + ROW.replace(b",", b";"), "expected id,subset,image"),
    "100,000 columns": (HEADER + b"a," * 100_000 + b"\n", "columns; expected 10"),
    "a field of a million letters": (HEADER + b"a" * 1_000_000 + b",val,a.png,m.png,8,8,9,,9,\n", "not a CSV file"),
    "an open quote": (HEADER + b'"a,val,a.png,m.png,8,8,9\n', "not a CSV file in UTF-8"),
    "an image twice": (HEADER + ROW + ROW, "line 3 has no image, or one that an earlier line has: 'a'"),
    "no id": (HEADER + ROW.replace(b"a,", b",", 1), "line 2 has no image"),
    "no image": (HEADER + ROW.replace(b"a.png", b""), "line 2 has no image"),
    "a size of 5000 digits": (HEADER + b"a,val,a.png,m.png," + b"9" * 5000 + b",8,9,,9,\n", "expected three numbers"),
    "a negative size": (HEADER + b"a,val,a.png,m.png,-8,8,9,,9,\n", "expected three numbers"),
    "a fraction of a pixel": (HEADER + b"a,val,a.png,m.png,8.5,8,9,,9,\n", "expected three numbers"),
    "a size in other digits": (HEADER + "a,val,a.png,m.png,\u0668,8,9,,9,\n".encode(), "expected three numbers"),
    "a mask of a negative size": (HEADER + ROW.replace(b",9,\n", b",-9,\n"), "has a mask of '-9' bytes"),
    "half a digest": (HEADER + ROW.replace(b"9,,9", b"9,abcdef,9"), "not a SHA-256 of 64 hex digits"),
    "a power of ten as a size": (HEADER + b"a,val,a.png,m.png,1e3,8,9,,9,\n", "expected three numbers"),
}
LISTS: dict[str, tuple[bytes, str]] = {
    "random bytes": (JUNK, "not UTF-8 text"),
    "UTF-16": ("a\nb\n".encode("utf-16"), "not UTF-8 text"),
    "an empty line": (b"a\n\nb\n", "has an empty line, number 2"),
    "an empty line at the end": (b"a\nb\n\n", "has an empty line, number 3"),
    "a line break alone": (b"\n", "has an empty line, number 1"),
    "an image twice": (b"a\nb\na\n", "holds 'a' more than once"),
}
TABLE = "id,iou_1_2,sum,mean,score,rank\n"
TABLES: dict[str, tuple[bytes, str]] = {
    "random bytes": (JUNK, "cannot be read as a score table"),
    "nothing": (b"", "cannot be read as a score table"),
    "a line break": (b"\n", "cannot be read as a score table: it lacks"),
    "a column twice": (b"id,iou_1_2,sum,mean,score,rank,rank\na,1,1,1,1,1,1\n", "two columns have the same name"),
    "all columns twice": (TABLE.strip().encode() + b"," + TABLE.encode(), "two columns have the same name"),
    "a field of a million letters": (TABLE.encode() + b"a" * 1_000_000 + b",1,1,1,1,1\n", "cannot be read"),
    "an infinite score": ((TABLE + "a,1,1,1,inf,1\n").encode(), "score of image 'a' is 'inf'"),
    "a score of 1e999": ((TABLE + "a,1,1,1,1e999,1\n").encode(), "score of image 'a' is '1e999'"),
    "a score that is not a number": ((TABLE + "a,1,1,1,nan,1\n").encode(), "score of image 'a' is 'nan'"),
    "a negative mIoU": ((TABLE + "a,-0.1,1,1,1,1\n").encode(), "iou_1_2 of image 'a' is '-0.1'"),
    "a mean above one": ((TABLE + "a,1,1,1.5,1,1\n").encode(), "mean of image 'a' is '1.5'"),
    "hexadecimal numbers": ((TABLE + "a,0x1,1,1,1,1\n").encode(), "iou_1_2 of image 'a' is '0x1'"),
    "rank 0": ((TABLE + "a,1,1,1,1,0\n").encode(), "the ranks are not 1 to 1"),
    "a rank twice": ((TABLE + "a,1,1,1,1,1\nb,1,1,1,1,1\n").encode(), "the ranks are not 1 to 2"),
    "an infinite rank": ((TABLE + "a,1,1,1,1,inf\n").encode(), "the ranks are not 1 to 1"),
    "a row too short": ((TABLE + "a,1,1\n").encode(), "row 1 has 3 values, the header has 6"),
    "infinitely many classes": (b"classes," + TABLE.encode() + b"inf,a,1,1,1,1,1\n", "classes of image 'a' is 'inf'"),
}
READERS: dict[str, tuple[Callable[[Path], object], dict[str, tuple[bytes, str]]]] = {
    "manifest": (read_manifest, MANIFESTS),
    "list": (read_list, LISTS),
    "score table": (read_score_table, TABLES),
}
TEXT_CASES = [(kind, name) for kind, (_, cases) in READERS.items() for name in cases]


@pytest.mark.parametrize(("kind", "name"), TEXT_CASES)
def test_a_text_file_that_lies_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    read, cases = READERS[kind]
    content, expected = cases[name]
    path = tmp_path / "my file"
    path.write_bytes(content)
    with refused(str(path), expected):
        read(path)


@pytest.mark.parametrize("kind", READERS)
def test_a_folder_and_a_loop_of_links_are_no_text_file(kind: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path, tmp_path / "loop"):
        with refused(str(path)):
            READERS[kind][0](path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200) | st.text(",\n\"';a1.\0\ufeff", max_size=80).map(str.encode), st.sampled_from([*READERS])
)
def test_any_text_file_is_read_or_refused(tmp_path: Path, content: bytes, kind: str) -> None:
    read, _ = READERS[kind]
    header = {"manifest": HEADER, "list": b"", "score table": TABLE.encode()}[kind]
    for start in (b"", header):
        (tmp_path / "any").write_bytes(start + content)
        with quick():
            try:
                read(tmp_path / "any")
            except StppError as error:
                assert str(tmp_path / "any") in str(error)


# --- recipes, records of stages, the index ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan of which nothing has run, as the tests' working directory."""
    folder = tmp_path_factory.mktemp("planned")
    fabricate.write_scenes(folder / "my scenes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["plan", "--recipes", str(fabricate.write_config(folder, fabricate.TINY))]) == 0
    return folder


RECIPES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "nothing": (lambda recipe: b"", "cannot read"),
    "random bytes": (lambda recipe: JUNK, "cannot read"),
    "nested without end": (lambda recipe: DEEP, "RecursionError"),
    "a list": (lambda recipe: [recipe], "TypeError"),
    "null": (lambda recipe: None, "TypeError"),
    "an empty mapping": (lambda recipe: {}, "KeyError"),
    **{
        f"no {part}": (lambda recipe, part=part: {k: v for k, v in recipe.items() if k != part}, "KeyError")
        for part in ("stage", "identity", "code", "settings", "data", "inputs", "files", "outputs")
    },
    **{
        f"{part} of another type": (lambda recipe, part=part: recipe | {part: 7}, "another type")
        for part in ("stage", "identity", "code", "settings", "data", "inputs", "files", "outputs")
    },
    "outputs that are no names": (lambda recipe: recipe | {"outputs": [None]}, "another type"),
    "another stage": (lambda recipe: recipe | {"stage": "report"}, "not for `stpp train`"),
    "another code": (lambda recipe: recipe | {"code": "v99"}, "the code of `stpp train` changed"),
    "other settings": (lambda recipe: recipe | {"settings": {"epochs": 1}}, "was changed after it was written"),
    "other data": (lambda recipe: recipe | {"data": {"labeled": "f" * 64}}, "was changed after it was written"),
    "other inputs": (lambda recipe: recipe | {"inputs": {"labels": ["../../x"]}}, "was changed after it was written"),
    "another identity": (lambda recipe: recipe | {"identity": "0" * 64}, "was changed after it was written"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_lies_is_refused(name: str, planned: Path, tmp_path: Path) -> None:
    change, expected = RECIPES[name]
    (original,) = planned.glob("my results/stages/train/teacher-*/recipe.json")
    content = change(json.loads(original.read_text()))
    (tmp_path / "recipe.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with refused(str(tmp_path), expected):
        Job(tmp_path, "train")


def test_every_planned_recipe_is_what_it_says(planned: Path) -> None:
    recipes = list(planned.glob("my results/stages/*/*/recipe.json"))
    assert len(recipes) > 20
    for path in recipes:
        assert Job(path.parent, path.parent.parent.name).recipe["identity"][:8] == path.parent.name[-8:]


STAGES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is damaged (JSONDecodeError"),
    "random bytes": (JUNK, "is damaged (UnicodeDecodeError"),
    "nested without end": (DEEP, "is damaged (RecursionError"),
    "a list": (b"[]", "is damaged (TypeError"),
    "null": (b"null", "is damaged (TypeError"),
    "an empty mapping": (b"{}", "is damaged (KeyError"),
    "no checksums": (b'{"warnings": []}', "is damaged (KeyError"),
    "checksums that are a number": (b'{"warnings": [], "sha256": 1}', "is damaged (TypeError"),
    "no checksum of the artifact": (b'{"warnings": [], "sha256": {}}', "is damaged (KeyError"),
    "a checksum that is a number": (b'{"warnings": [], "sha256": {"scores.csv": 1}}', "is damaged: its SHA-256"),
    "another checksum": (b'{"warnings": [], "sha256": {"scores.csv": "00"}}', "is damaged: its SHA-256"),
    "warnings that are a number": (b'{"warnings": 7, "sha256": {"scores.csv": "00"}}', "is damaged (TypeError"),
    "warnings that are no text": (b'{"warnings": [7], "sha256": {"scores.csv": "00"}}', "is damaged (TypeError"),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_record_of_a_stage_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    content, expected = STAGES[name]
    (tmp_path / "scores.csv").write_text("id\n")
    (tmp_path / "stage.json").write_bytes(content)
    with refused(str(tmp_path), expected):
        verified(tmp_path / "scores.csv")


INDEXES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nothing": lambda record: b"",
    "random bytes": lambda record: JUNK,
    "nested without end": lambda record: DEEP,
    "a list": lambda record: [],
    "another format": lambda record: record | {"format": 99},
    "no subsets": lambda record: record | {"subsets": {}},
    "subsets that are a list": lambda record: record | {"subsets": []},
    "no classes": lambda record: {key: value for key, value in record.items() if key != "classes"},
    "classes that are numbers": lambda record: record | {"classes": [1, 2, 3]},
    "a palette of another size": lambda record: record | {"palette": []},
    "nothing to watch": lambda record: record | {"watch": {"files": {}, "folders": {}}},
    "files to watch that are a list": lambda record: record | {"watch": {"files": [], "folders": {}}},
    "a manifest elsewhere": lambda record: (
        record | {"subsets": {"labeled": record["subsets"]["labeled"] | {"manifest": 3}}}
    ),
    "a count that is text": lambda record: (
        record | {"subsets": {"labeled": record["subsets"]["labeled"] | {"count": "3"}}}
    ),
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_that_lies_is_made_anew(name: str, tmp_path: Path, planned: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(planned)
    data, options = configured(), {"batch_size": 4, "need_unlabeled": True, "log": lambda text: None}
    expected = index(data, tmp_path, **options)
    content = INDEXES[name](json.loads(index_path(tmp_path, data).read_text()))
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    index_path(tmp_path, data).write_bytes(raw)
    (tmp_path / "data/cache.json").write_bytes(raw)
    with quick():
        assert load_fresh(tmp_path, data) is None
        assert index(data, tmp_path, **options) == expected


def test_a_manifest_that_was_edited_is_made_anew(tmp_path: Path, planned: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(planned)
    data, options = configured(), {"batch_size": 4, "need_unlabeled": True, "log": lambda text: None}
    expected = index(data, tmp_path, **options)
    manifest = Path(expected["subsets"]["labeled"]["manifest"])
    before = manifest.read_bytes()
    manifest.write_bytes(before.replace(b"masks/labeled0", b"masks/labeled1", 1))
    assert not in_place(load_fresh(tmp_path, data) or {})
    index(data, tmp_path, **options)
    assert manifest.read_bytes() == before


@pytest.mark.parametrize(
    "look",
    [
        7,
        "text",
        [],
        [[1, 2, 3, 4], "", 1, 1],
        [[1, 2, 3, 4], "", "8", 8, {}],
        [[1, 2], "", 8, 8, {}],
        {"size": 1},
        None,
    ],
)
def test_a_cache_that_lies_is_passed_over(look: Any, tmp_path: Path, planned: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(planned)
    data, options = configured(), {"batch_size": 4, "need_unlabeled": True, "log": lambda text: None}
    expected = index(data, tmp_path / "first", **options)["subsets"]
    paths = [str(path) for path in Path("my scenes").rglob("*.png")]
    cache = {"format": 2, "image": dict.fromkeys(paths, look), "mask": dict.fromkeys(paths, look)}
    (tmp_path / "second/data").mkdir(parents=True)
    (tmp_path / "second/data/cache.json").write_text(json.dumps(cache))
    found = index(data, tmp_path / "second", **options)["subsets"]
    assert {subset: entry["fingerprint"] for subset, entry in found.items()} == {
        subset: entry["fingerprint"] for subset, entry in expected.items()
    }


def configured() -> dict[str, Any]:
    """The data section of the tiny configuration, as `index` takes it."""
    return load(fabricate.TINY).data.model_dump(mode="json")
