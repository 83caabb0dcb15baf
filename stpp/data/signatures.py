"""What a file is that is no readable image, by its first bytes, and what to do about it."""

import struct

KNOWN = (
    # first bytes, what the file is, what to do
    (b"version https://git-lfs", "a pointer of Git LFS instead of the file", "Run `git lfs pull` in its repository"),
    (b"\x89HDF", "an HDF5 file", "Write its arrays as PNG: images of 8 bits, masks of class numbers"),
    (b"MATLAB 5", "a MATLAB file", "Write its arrays as PNG: images of 8 bits, masks of class numbers"),
    (b"\x93NUMPY", "a NumPy array", "Write it as PNG: images of 8 bits, masks of class numbers"),
    (b"\x1f\x8b", "a gzip archive, perhaps a NIfTI volume", "Unpack it, or write its slices as PNG"),
    (b"PK\x03\x04", "a ZIP archive", "Unpack it"),
    (b"%PDF", "a PDF document", "Save its pictures as PNG"),
    (b"\0\0\0\x0cjP", "a JPEG 2000 image", "Convert it to PNG"),
    (b"8BPS", "a Photoshop image", "Save it as PNG"),
)
PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<svg")
HEAD = 400
"""How many bytes from the start of a file tell what it is."""


def identified(head: bytes) -> tuple[str, str] | None:
    """What a file is that begins with `head`, and what to do about it; None where nobody knows."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<") and b"<svg" in start:
        return "a drawing (SVG)", "Save it as PNG"
    if start.startswith(PAGES):
        return "a web page or XML file instead of an image", "Download it again; the site may have asked for a login"
    for magic, what, remedy in KNOWN:
        if head.startswith(magic):
            return what, remedy
    if head[128:132] == b"DICM":
        return "a DICOM file", "Write its slices as PNG: images of 8 bits"
    if head[4:8] == b"ftyp":
        return "a HEIC or AVIF image", "Convert it to JPEG or PNG"
    if start[:1] in (b"{", b"["):
        return "a JSON file", "If it holds annotations, `stpp import` makes masks of them"
    return None


def bands_of_tiff(content: bytes) -> tuple[int, int] | None:
    """The number of bands of a TIFF file and the bits of each, by its first tags (TIFF 6.0, BigTIFF); else None."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    try:
        if order is None or (version := struct.unpack_from(f"{order}H", content, 2)[0]) not in (42, 43):
            return None
        big = version == 43
        (at,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, 8 if big else 4)
        (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", content, at)
        at, length = (at + 8, 20) if big else (at + 2, 12)
        bands, bits = 1, 1
        for entry in range(at, at + length * min(count, 1000), length):
            tag, kind, number = struct.unpack_from(f"{order}HH{'Q' if big else 'I'}", content, entry)
            value = entry + (12 if big else 8)
            if tag == 277:
                bands = struct.unpack_from(f"{order}H", content, value)[0]
            elif tag == 258:
                inline = 2 * number <= (8 if big else 4)
                (where,) = (value,) if inline else struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, value)
                bits = struct.unpack_from(f"{order}H", content, where)[0] if kind == 3 else 0
    except struct.error:
        return None
    return bands, bits
