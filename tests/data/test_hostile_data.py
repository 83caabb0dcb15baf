"""Data sets that lie: lists, classes files, images and masks that are huge, damaged, endless or something else."""

import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import quick, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_lint import good
from tiny_data import CLASSES, labels, photo, png, save
from tiny_data import settings as data_settings

from stpp.common.errors import Problems, StppError
from stpp.data.images import read_image, read_mask
from stpp.data.index import index
from stpp.data.readers.picture import _has_all_rows

Settings = dict[str, Any]
Make = Callable[[Path], Settings]
FAULTS: dict[str, tuple[Make, str]] = {}
PLAIN = {"classes": 3, "ignore_value": 255, "label_map": None, "palette_map": None}


def indexed(data: Settings, results: Path) -> dict[str, Any]:
    return index(data, results, batch_size=2, need_unlabeled=True, log=lambda text: None)


def fault(expected: str) -> Callable[[Make], None]:
    """Registers a function that makes a data set with one fault."""

    def register(make: Make) -> None:
        FAULTS[make.__name__.replace("_", " ")] = (make, expected)

    return register


def add(name: str, expected: str, change: Callable[[Path], object]) -> None:
    """Registers a change of a data set without faults."""

    def make(root: Path) -> Settings:
        data = good(root)
        change(root)
        return data

    FAULTS[name] = (make, expected)


# --- lists ------------------------------------------------------------------------------------------------------------

LINES: dict[str, tuple[bytes, str]] = {
    "random bytes": (bytes(np.random.default_rng(0).integers(128, 256, 500, np.uint8)), "UTF-8 text"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(50), "UTF-8 text"),
    "latin-1": (b"i/\xe4.png\n", "UTF-8 text"),
    "UTF-32": ("i/labeled0.png".encode("utf-32"), "UTF-8 text"),
    "a zero byte": (b"i/unlabeled0.png\0\n", "'\\x00' in 'i/unlabeled0.png\\x00'"),
    "nothing but zero bytes": (bytes(1000), "'\\x00' in"),
    "lines that end in CR": (b"i/unlabeled0.png\ri/unlabeled1.png", "with LF or CRLF at the ends of lines"),
    "a page break": (b"i/unlabeled0.png\f\n", "no such file"),
    "semicolons": (b"i/unlabeled0.png;m/unlabeled0.png\n", "no such file"),
    "three columns": (b"i/unlabeled0.png\tm/unlabeled0.png\t1\n", "3 columns"),
    "100,000 columns between tabs": (b"a.png\t" * 100_000, "columns (a.png | a.png"),
    "100,000 columns between spaces": (b"a.png " * 100_000, "File name too long"),
    "100,000 columns between commas": (b"a.png," * 100_000, "File name too long"),
    "a name of a million letters": (b"x" * 1_000_000, "File name too long"),
    "a tab alone": (b"x\t\n", "no such file"),
    "a path to the root itself": (b".\n", "Is a directory"),
    "a path above the root": (b"i/../../secret.png\n", "points outside the data root"),
    "a path to the system": (b"/etc/passwd\n", "points outside the data root"),
    "a path within the root to the system": (b"i/../../../../../../../../etc/passwd\n", "points outside the data root"),
    "an address": (b"https://host/image.png\n", "no such file"),
    "a drive": (b"C:\\images\\a.png\n", 'Lists write "/" between folders'),
    "another form of the same letter": ("i/e\u0301.png\n".encode(), "no such file"),
    "another case": (b"i/UNLABELED0.png\n", "no such file"),
    "a suffix too little": (b"i/unlabeled0\n", "no such file"),
    "a loop of links": (b"i/loop.png\n", "Too many levels of symbolic links"),
    "a link to nowhere": (b"i/dangling.png\n", "no such file"),
    "a pipe": (b"i/pipe.png\n", "no file but a pipe or a device"),
    "an endless device": (b"i/zero.png\n", "no file but a pipe or a device"),
}


def write_line(content: bytes) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        os.mkfifo(root / "i/pipe.png")
        (root / "i/loop.png").symlink_to("loop.png")
        (root / "i/dangling.png").symlink_to("gone.png")
        (root / "i/zero.png").symlink_to("/dev/zero")
        save(root / "i/\u00e9.png", photo())
        (root / "unlabeled.txt").write_bytes(content)

    return change


for line, (content, expected) in LINES.items():
    add(f"a list with {line}", expected, write_line(content))


@fault("There is no labeled list ~nobody-of-this-name/l.txt")
def a_list_of_an_unknown_user(root):
    return {**good(root), "labeled": "~nobody-of-this-name/l.txt"}


@fault("is not a folder")
def a_root_of_an_unknown_user(root):
    return {**good(root), "root": "~nobody-of-this-name/data"}


@fault("is not a folder")
def a_root_that_is_a_loop_of_links(root):
    (root / "loop").symlink_to("loop")
    return {**good(root), "root": str(root / "loop")}


@fault("is not a folder")
def a_root_that_is_a_file(root):
    return {**good(root), "root": str(save(root / "x.png", photo()))}


@fault("There is no unlabeled list")
def a_list_that_is_a_folder(root):
    return {**good(root), "unlabeled": str(root / "i")}


@fault("There is no unlabeled list")
def a_list_that_is_a_pipe(root):
    os.mkfifo(root / "pipe")
    return {**good(root), "unlabeled": str(root / "pipe")}


# --- classes files ----------------------------------------------------------------------------------------------------


def classes_file(content: bytes, **changes: Any) -> Make:
    def make(root: Path) -> Settings:
        data = good(root, classes=None, classes_file=str(root / "names.txt"), **changes)
        (root / "names.txt").write_bytes(content)
        return data

    return make


FAULTS |= {
    "class names in latin-1": (classes_file("Stra\u00dfe\nb\nc\n".encode("latin-1")), "is not UTF-8 text"),
    "class names in UTF-16": (classes_file("a\nb\nc\n".encode("utf-16")), "is not UTF-8 text"),
    "an image of class names": (classes_file(b"\x89PNG\r\n\x1a\n" + bytes(50)), "is not UTF-8 text"),
    "300 class names": (classes_file("\n".join(map(str, range(300))).encode()), "expected 2 to 255"),
    "a class name twice": (classes_file(b"a\nb\na\n"), "must differ from each other"),
    "colours for some of the classes": (classes_file(b"a #000000\nb\nc\n"), "1 colours for 3 classes"),
    "a colour without a name": (classes_file(b"a\n,#102030\nc\n"), "without a name"),
}


@fault("There is no classes file")
def a_pipe_of_class_names(root):
    os.mkfifo(root / "pipe")
    return good(root, classes=None, classes_file=str(root / "pipe"))


# --- images and masks -------------------------------------------------------------------------------------------------


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def tiff(*tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF file of tags (number, type, count, value) alone."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def animated(name: str) -> Callable[[Path], object]:
    """Pictures one after the other in one file, which Pillow reads the first of."""

    def write(path: Path) -> None:
        first, *others = (Image.fromarray(photo(seed)) for seed in range(3))
        first.save(path, name, save_all=True, append_images=others)

    return write


def size_of(width: int, height: int) -> list[tuple[int, int, int, int]]:
    return [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]


SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
BOMB = zlib.compress(bytes(50_000_000), 9)
FILES: dict[str, tuple[bytes | Callable[[Path], object], str]] = {
    "nothing": (b"", "empty file"),
    "one byte": (b"\x89", "not a readable JPEG"),
    "a signature alone": (SIGNATURE, "not a readable JPEG|damaged"),
    "a header alone": (SIGNATURE + HEADER, "damaged|not a readable"),
    "a header and an end": (SIGNATURE + HEADER + chunk(b"IEND", b""), "damaged"),
    "a wrong checksum": (SIGNATURE + HEADER[:-1] + b"\0", "damaged|not a readable"),
    "60,000 x 60,000 pixels": (png(60_000, 60_000, 8, 0, b""), "179 million pixels"),
    "4 billion pixels a side": (png(2**32 - 1, 2**32 - 1, 8, 0, b""), "179 million pixels|not a readable|damaged"),
    "0 pixels": (png(0, 8, 8, 0, b""), "without pixels|not a readable"),
    "an unknown colour type": (png(8, 8, 8, 5, bytes(64)), "not a readable|damaged"),
    "an unknown depth": (png(8, 8, 7, 0, bytes(64)), "not a readable|damaged"),
    "a chunk that claims 2 GB": (SIGNATURE + HEADER + b"\x7f\xff\xff\xffIDAT", "damaged|not a readable"),
    "a text that unpacks to 50 MB": (
        SIGNATURE + HEADER + chunk(b"zTXt", b"a\0\0" + BOMB) + chunk(b"IEND", b""),
        "damaged|not a readable",
    ),
    "rows that are not packed": (SIGNATURE + HEADER + chunk(b"IDAT", bytes(72)) + chunk(b"IEND", b""), "damaged"),
    "16 bits of colour": (png(8, 8, 16, 2, bytes(8 * 8 * 6)), "8-bit|unknown kind"),
    "a start of a GIF": (b"GIF89a\x08\0\x08\0", "not a readable JPEG|damaged"),
    "a start of a BMP": (b"BM" + bytes(30), "not a readable JPEG|damaged"),
    "a PPM": (lambda path: Image.fromarray(photo()).save(path, "PPM"), "not a readable JPEG"),
    "a PDF": (b"%PDF-1.7\n%%EOF", "a PDF document"),
    "a vector image": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a drawing (SVG)"),
    "an archive": (b"PK\x03\x04" + bytes(40), "a ZIP archive"),
    "a program": (b"\x7fELF" + bytes(60), "not a readable JPEG"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n", "not a readable JPEG"),
    "a start of a JPEG": (b"\xff\xd8\xff\xe0", "not a readable JPEG|damaged"),
    "a JPEG of 65,535 x 65,535 pixels": (
        b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0\xff\xd9",
        "179 million pixels|damaged|not a readable|JPEG file as a mask",
    ),
    "a TIFF without tags": (tiff(), "not a readable|damaged"),
    "a TIFF whose tags lie beyond its end": (b"II*\0\xff\xff\xff\x7f", "not a readable|damaged"),
    "a TIFF whose tags follow themselves": (tiff(*size_of(8, 8))[:-4] + struct.pack("<I", 8), "not a readable|damaged"),
    "a TIFF of 4 billion rows": (tiff(*size_of(1, 2**32 - 1)), "179 million|damaged|not a readable|bands of"),
    "a TIFF without strips": (tiff(*size_of(8, 8)), "damaged|not a readable"),
    "a TIFF whose strips lie beyond its end": (
        tiff(*size_of(8, 8), (273, 4, 1, 2**31), (278, 4, 1, 8), (279, 4, 1, 64)),
        "damaged|not a readable",
    ),
    "a TIFF of 4 billion samples": (
        tiff(*size_of(8, 8)[:-1], (277, 4, 1, 2**32 - 1)),
        "damaged|not a readable|8-bit|unknown kind|bands of 8 bits",
    ),
    "a TIFF with an unknown compression": (
        tiff(*size_of(8, 8)[:3], (259, 3, 1, 9999), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 64)),
        "damaged|not a readable",
    ),
    "a WebP of nothing": (b"RIFF\x04\0\0\0WEBP", "not a readable|damaged"),
    "a WebP that claims 4 GB": (b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff", "not a readable|damaged"),
    "a folder": (lambda path: path.mkdir(), "Is a directory"),
    "a pipe": (os.mkfifo, "no file but a pipe or a device"),
    "an endless device": (lambda path: path.symlink_to("/dev/zero"), "no file but a pipe or a device"),
    "a loop of links": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
}


def put(path: Path, content: bytes | Callable[[Path], object]) -> Path:
    """Writes what is no image, in the place of what is there."""
    path.unlink(missing_ok=True)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["image", "mask"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_image_is_refused_by_index_and_by_stages(name: str, kind: str, tmp_path: Path) -> None:
    content, expected = FILES[name]
    data = good(tmp_path)
    path = put(tmp_path / ("i" if kind == "image" else "m") / "labeled1.png", content)
    with pytest.raises(StppError) as caught, quick():
        read_image(path) if kind == "image" else read_mask(path, PLAIN)
    said = [str(caught.value)]
    # Of images, the index looks at no more than where they begin and end; a stage that reads one stops there.
    with quick():
        try:
            indexed(data, tmp_path / "results")
        except Problems as problems:
            said.append(str(problems))
    assert kind == "image" or len(said) == 2
    for message in said:
        assert "labeled1.png" in message
        assert any(part in message for part in expected.split("|")), message


@pytest.mark.parametrize("name", FAULTS)
def test_a_data_set_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    make, expected = FAULTS[name]
    root = tmp_path / "data"
    root.mkdir()
    with refused(expected, "cannot be used"):
        indexed(make(root), tmp_path / "results")


def test_folders_with_anything_in_them_are_scanned(tmp_path: Path) -> None:
    root, results = tmp_path / "root", tmp_path / "results"
    for name in ("a", "b", "c"):
        save(root / f"images/{name}.png", photo())
        save(root / f"masks/{name}.png", labels())
    (root / "masks/c.png").unlink()
    (root / "images/d.png").mkdir()
    (root / "images/again").symlink_to(".")
    os.mkfifo(root / "images/pipe")
    data = data_settings(root, layout="folder", classes=CLASSES)
    with quick():
        found = indexed(data, results)
    assert {subset: entry["count"] for subset, entry in found["subsets"].items()} == {"labeled": 2, "unlabeled": 1}
    with refused("lie within each other"):
        indexed(data, root / "images/results")
    (root / "images/loop").symlink_to("loop")
    with refused("images/loop (Too many levels of symbolic links)"):
        indexed(data, results)
    (root / "images/loop").unlink()
    os.mkfifo(root / "images/pipe.png")
    with refused("pipe.png", "no file but a pipe or a device"):
        indexed(data, results)


@pytest.mark.parametrize("target", ["/", "..", "../.."])
def test_a_link_to_a_folder_above_is_not_walked(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"data/images/{name}.png", photo())
        save(tmp_path / f"data/masks/{name}.png", labels())
    (tmp_path / "data/images/up").symlink_to(target)
    seen: list[str] = []
    scan = os.scandir

    def scanned(folder: str) -> Any:
        seen.append(folder)
        return scan(folder)

    monkeypatch.setattr("os.scandir", scanned)
    with refused("images/up leads to", "remove the link"):
        indexed(data_settings(tmp_path / "data", layout="folder", classes=CLASSES), tmp_path / "results")
    assert len(seen) < 10


def test_the_pieces_of_a_png_are_joined_in_linear_time() -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packed = zlib.compress(b"".join(b"\0" + bytes(1000) for _ in range(600)), 0)
    pieces = b"".join(chunk(b"IDAT", packed[at : at + 1]) for at in range(len(packed)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1000, 600, 8, 0, 0, 0, 0))
    image = b"\x89PNG\r\n\x1a\n" + header + pieces + chunk(b"IEND", b"")
    before = time.process_time()
    assert _has_all_rows(image)
    assert not _has_all_rows(image[: len(image) // 2])
    assert time.process_time() - before < 5, "it takes 1 s, and took 9 s where each piece was added to the others"


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_of_several_pictures_in_a_file_the_first_counts(name: str, tmp_path: Path) -> None:
    path = tmp_path / "several"
    first, *others = (Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200, 90))
    options = {"lossless": True} if name == "WEBP" else {}
    first.save(path, name, save_all=True, append_images=others, **options)
    assert (np.asarray(read_image(path)) == 10).all()


def test_a_flipped_bit_in_a_mask_is_found_or_changes_no_label(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.png", labels(0, (24, 24))).read_bytes()
    expected = read_mask(tmp_path / "whole.png", PLAIN)
    for at in range(8, len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 1 << at % 8
        (tmp_path / "broken.png").write_bytes(broken)
        try:
            assert (read_mask(tmp_path / "broken.png", PLAIN) == expected).all(), at
        except StppError as error:
            assert "broken.png" in str(error)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_list_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    root = tmp_path / "data"
    data = good(root) if not root.exists() else data_settings(root, labeled="labeled.txt", unlabeled="unlabeled.txt")
    (root / "unlabeled.txt").write_bytes(content)
    with quick():
        try:
            indexed(data, tmp_path / "results")
        except Problems as problems:
            assert "cannot be used" in str(problems)


@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("interlaced", [0, 1])
def test_a_mask_without_its_last_rows_is_refused(rows: int, interlaced: int, tmp_path: Path) -> None:
    """Pillow reads the missing rows as zeros, and zero is a class."""
    data = good(tmp_path)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, interlaced))
    pixels = chunk(b"IDAT", zlib.compress(bytes(9) * rows))
    (tmp_path / "m/val0.png").write_bytes(SIGNATURE + header + pixels + chunk(b"IEND", b""))
    with refused("m/val0.png", "rows are missing", "Copy or download it again"):
        indexed(data, tmp_path / "results")


def test_interlaced_masks_of_any_size_have_all_their_rows() -> None:
    for width, height in ((1, 1), (2, 5), (8, 8), (9, 3)):
        passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
        rows = [
            bytes(1 + len(range(left, width, right)))
            for left, top, right, down in passes
            for _ in range(top, height, down)
            if left < width
        ]
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1))
        whole = SIGNATURE + header + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
        assert _has_all_rows(whole)
