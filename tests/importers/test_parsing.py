"""What is wrong with files that others wrote, and names that lead elsewhere."""

from pathlib import Path

import pytest
from annotated import image

from stpp.common.errors import Problems, StppError
from stpp.importers.parsing import Foreign, Mistakes, files_of, read_json, read_xml
from stpp.importers.pictures import ImageFiles, size_of, within


class Shape(Foreign):
    """Something with two fields."""

    name: str
    width: float


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"name": "a"}', "width: Field required"),
        (b'{"name": 3, "width": "x"}', r"name: Input should be a valid string, and 1 more error"),
        (b'{"name": "a", "width": NaN}', "width: Input should be a finite number"),
        (b"[" * 100_000, "recursion limit"),
        (b"\xff", "Invalid JSON|invalid"),
        (b"", "Invalid JSON"),
    ],
)
def test_json_that_is_another_is_one_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    mistakes = Mistakes()
    assert read_json(tmp_path / "a.json", Shape, "shape", mistakes) is None
    with pytest.raises(Problems, match=rf"not a valid shape \((.|\n)*({said}).*\).*a\.json"):
        mistakes.refuse("these")


def test_json_with_more_fields_and_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"name": "a", "width": 3, "more": []}')
    assert read_json(tmp_path / "a.json", Shape, "shape", Mistakes()) == Shape(name="a", width=3)


BOMB = '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
ELSEWHERE = '<!DOCTYPE a [<!ENTITY b SYSTEM "other.txt">]><a>&b;</a>'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB.encode(), "a document type"),
        (ELSEWHERE.encode(), "a document type"),
        (BOMB.encode("utf-16"), "utf-8"),
        (f"<?xml version='1.0' encoding='utf-7'?>{BOMB}".encode(), "a document type"),
        (b"<a>", "no element found"),
        (b"<a>&b;</a>", "undefined entity"),
    ],
)
def test_xml_that_may_do_harm_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(content)
    mistakes = Mistakes()
    assert read_xml(tmp_path / "a.xml", "XML file", mistakes) is None
    assert said in mistakes.sentences()[0]


def test_one_mistake_is_one_sentence_with_a_count() -> None:
    mistakes = Mistakes()
    for number in range(30):
        mistakes.add("an image is missing", f"{number}.jpg")
    mistakes.add("no class for x")
    assert mistakes.sentences() == [
        "an image is missing: 30 times, 0.jpg, 1.jpg, 2.jpg and 27 more",
        "no class for x",
    ]


def test_the_files_of_an_export(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.json", "deep/a.json", ".c.json", "d.txt"):
        (tmp_path / name).touch()
    assert files_of(tmp_path, "*.json", "a folder") == [tmp_path / "b.json", tmp_path / "deep/a.json"]
    assert files_of(tmp_path / "d.txt", "*.json", "a folder") == [tmp_path / "d.txt"]
    with pytest.raises(StppError, match=r"there is no \*.xml in .*; give a folder"):
        files_of(tmp_path, "*.xml", "a folder")


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "a.jpg"),
        ("deep\\a.jpg", "deep/a.jpg"),
        ("./deep//a.jpg", "deep/a.jpg"),
        ("/home/me/a.jpg", "a.jpg"),
        ("C:\\Users\\me\\a.jpg", "a.jpg"),
        ("https://example.org/x/a.jpg", "a.jpg"),
        ("x/../a.jpg", "a.jpg"),
    ],
)
def test_names_are_paths_within_a_folder(name: str, path: str) -> None:
    assert within(name) == path


@pytest.mark.parametrize("name", ["../a.jpg", "x/../../a.jpg", "", ".", "a\n.jpg", "/", "..\\..\\a.jpg", "a\0.jpg"])
def test_names_that_lead_out_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not that of a file in a folder"):
        within(name)


def test_images_are_found_by_path_else_by_their_only_name(tmp_path: Path) -> None:
    for name in ("a.jpg", "x/b.jpg", "y/b.jpg", "z/images/c.png"):
        image(tmp_path / "in" / name)
    image(tmp_path / "secret.png")
    pictures, mistakes = ImageFiles(tmp_path / "in"), Mistakes()
    for name, path in {"a.jpg": "a.jpg", "a": "a.jpg", "x/b.jpg": "x/b.jpg", "z/c.png": "z/images/c.png"}.items():
        assert pictures.find(name, mistakes) == tmp_path / "in" / path
    assert pictures.find("images/c", mistakes) == tmp_path / "in/z/images/c.png"
    assert mistakes.sentences() == []
    assert [pictures.find(name, mistakes) for name in ("b.jpg", "d.jpg", "../secret.png")] == [None] * 3
    several, missing, out = mistakes.sentences()
    assert "several images below" in several
    assert "name its folder with --images: d.jpg" in missing
    assert "not that of a file in a folder" in out


def test_images_beside_the_folder_of_a_file_are_found(tmp_path: Path) -> None:
    image(tmp_path / "images/a.jpg")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/all.json").touch()
    assert ImageFiles(tmp_path / "annotations/all.json").names == ["images/a.jpg"]
    with pytest.raises(StppError, match="there is no folder"):
        ImageFiles(tmp_path, tmp_path / "nowhere")


def test_sizes_and_broken_images(tmp_path: Path) -> None:
    mistakes = Mistakes()
    assert size_of(image(tmp_path / "a.png", (3, 5)), mistakes) == (3, 5)
    (tmp_path / "b.png").write_bytes(b"no image")
    assert size_of(tmp_path / "b.png", mistakes) is None
    assert "b.png" in mistakes.sentences()[0]
