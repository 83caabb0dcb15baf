"""Files that are no readable images are called what they are."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_data import photo, save

from stpp.data.images import read_image
from stpp.data.readers import ImageError
from stpp.data.signatures import bands_of_tiff

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (LFS, "a pointer of Git LFS instead of the file.*Run `git lfs pull`"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "a web page.*Download it again"),
        (b"<?xml version='1.0'?><svg>", "a drawing"),
        (b'{"shapes": []}', "a JSON file.*`stpp import`"),
        (bytes(128) + b"DICM", "a DICOM file.*Write its slices"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"\x1f\x8b" + bytes(20), "perhaps a NIfTI volume"),
        (b"\0\0\0\x18ftypheic", "a HEIC or AVIF image.*Convert it"),
        (b"nothing of the kind", "not a readable JPEG"),
    ],
)
def test_a_file_is_called_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for given in (None, content):
        with pytest.raises(ImageError, match=what):
            read_image(tmp_path / "a.png", given)


def tiff(bands: int, bits: int, order: str = "<", big: bool = False) -> bytes:
    """A TIFF file of 4 x 4 pixels, of tags and zeros alone."""
    pixels = bytes(16 * bands * bits // 8)
    sizes = struct.pack(f"{order}{bands}H", *[bits] * bands)
    head = (struct.pack(f"{order}HHHQ", 43, 8, 0, 0) if big else struct.pack(f"{order}HI", 42, 0))[:2]
    offset, entry = ("Q", "HHQQ") if big else ("I", "HHII")
    start = 16 if big else 8
    sizes_at, tags_at = start + len(pixels), start + len(pixels) + len(sizes)
    inline = len(sizes) <= (8 if big else 4)
    value = int.from_bytes(sizes.ljust(8 if big else 4, b"\0"), "little" if order == "<" else "big")
    tags = [
        (256, 4, 1, 4), (257, 4, 1, 4), (258, 3, bands, value if inline else sizes_at), (259, 4, 1, 1), (262, 4, 1, 1),
        (273, 4, 1, start), (277, 3, 1, bands if order == "<" else bands << (48 if big else 16)), (278, 4, 1, 4),
        (279, 4, 1, len(pixels)), (284, 4, 1, 1),
    ]  # fmt: skip
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    begin = (b"II" if order == "<" else b"MM") + head
    begin += struct.pack(f"{order}HHQ", 8, 0, tags_at) if big else struct.pack(f"{order}I", tags_at)
    body = b"".join(struct.pack(f"{order}{entry}", *tag) for tag in tags)
    return begin + pixels + sizes + count + body + struct.pack(f"{order}{offset}", 0)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("bands", "bits"), [(8, 8), (3, 16), (1, 64), (2, 16)])
def test_the_bands_of_a_tiff_file_are_counted(bands: int, bits: int, big: bool, order: str) -> None:
    assert bands_of_tiff(tiff(bands, bits, order, big)) == (bands, bits)


def test_a_tiff_of_many_bands_is_called_readable_and_not_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(8, 8))
    with pytest.raises(ImageError, match=r"a TIFF file of 8 bands of 8 bits\..*"):
        read_image(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(tiff(3, 16))
    with pytest.raises(ImageError, match="a TIFF file of 3 bands of 16 bits"):
        read_image(tmp_path / "a.tif")
    assert capfd.readouterr().err == ""  # Pillow says something of its own


def test_a_tiff_that_is_written_by_others_is_understood(tmp_path: Path) -> None:
    save(tmp_path / "a.tif", photo())
    assert bands_of_tiff((tmp_path / "a.tif").read_bytes()) == (3, 8)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "b.tif")
    assert bands_of_tiff((tmp_path / "b.tif").read_bytes()) == (1, 16)
    assert bands_of_tiff(b"II*\0\xff\xff\xff\x7f") is None
    assert bands_of_tiff(b"nothing") is None
