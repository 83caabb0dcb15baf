"""Tiny data sets for the tests of the data side."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ["sky", "road", "tree"]


def settings(root: Path, **changes: Any) -> dict[str, Any]:
    """A complete `data` section as the configuration hands it over."""
    absent = ("labeled", "unlabeled", "val", "test", "partition", "val_split", "test_split", "classes_file")
    absent = (*absent, "label_map", "first_label", "threshold", "bands", "scale", "percentiles", "rgb")
    return {
        **dict.fromkeys((*absent, "palette_map", "colors")),
        "layout": "lists",
        "root": str(root),
        "images": "images",
        "masks": "masks",
        "image_name": "{stem}",
        "mask_name": "{stem}",
        "classes": CLASSES,
        "ignore_value": 255,
        "palette_tolerance": 0,
        "group_by": None,
        "fold": None,
        "skip_broken": False,
        "pages": False,
        "demo": {"labeled": 3, "unlabeled": 4, "val": 1, "test": 0, "seed": 0},
        **changes,
    }


def photo(seed: int = 0, size: tuple[int, int] = (8, 8)) -> NDArray[np.uint8]:
    """Random pixels, uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def labels(seed: int = 0, size: tuple[int, int] = (8, 8), classes: int = len(CLASSES)) -> NDArray[np.uint8]:
    """A mask with every class and one ignored pixel, uint8 (H, W)."""
    mask = np.random.default_rng(seed).integers(0, classes, size, np.uint8)
    mask.flat[: classes + 1] = [*range(classes), 255]
    return mask


def save(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    """Writes pixels in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def pair(root: Path, name: str, seed: int = 0) -> str:
    """One image and its mask below `root`; returns the line of a list."""
    save(root / f"i/{name}.png", photo(seed))
    save(root / f"m/{name}.png", labels(seed))
    return f"i/{name}.png m/{name}.png"


def lists(root: Path, **counts: int) -> dict[str, Any]:
    """A data set of lists: `labeled=3` makes `labeled.txt` with labeled0, labeled1 and labeled2. Returns settings."""
    for subset, count in counts.items():
        lines = [pair(root, f"{subset}{number}", seed=hash_of(f"{subset}{number}")) for number in range(count)]
        (root / f"{subset}.txt").write_text("".join(f"{line}\n" for line in lines))
    return settings(root, **{subset: str(root / f"{subset}.txt") for subset in counts})


def hash_of(text: str) -> int:
    return zlib.crc32(text.encode())


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG file by hand, for kinds that Pillow does not write; `rows` without the filter bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    stride = len(rows) // height if rows else 0
    lines = b"".join(b"\0" + rows[at : at + stride] for at in range(0, len(rows), stride or 1))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(lines)),
            chunk(b"IEND", b""),
        ]
    )
