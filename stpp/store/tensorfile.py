"""Files of tensors: those that others wrote are read only if they take no more memory than they have bytes."""

import io
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def read_tensors(path: Path) -> Any:
    """The content of a file that `torch.save` wrote, or of a `.safetensors`, on the CPU; nothing in it is executed.

    Raises ValueError where its entries, once unpacked, or its tensors are larger than the file: compressed ones, those
    that repeat or share values, sparse and quantized ones. Raises whatever torch's readers raise for other files.
    """
    size = path.stat().st_size
    if path.suffix == ".safetensors" and not zipfile.is_zipfile(path):
        from safetensors.torch import load_file

        return load_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        if packed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
            raise ValueError(f"its entry {packed[0]!r} is compressed, expected stored ones, as torch.save writes them")
        if (unpacked := sum(entry.file_size for entry in entries)) > size:
            raise ValueError(f"its entries claim {unpacked:,} bytes, but the file has {size:,}")
    with torch.serialization.safe_globals([Namespace]):  # timm's trainings keep their options so
        content = torch.load(path, map_location="cpu", weights_only=True)
    tensors = _tensors(content)
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != "cpu":
            raise ValueError(f"it has a tensor that is no plain one: {tensor.layout} {tensor.dtype} on {tensor.device}")
    if (claimed := sum(tensor.numel() * tensor.element_size() for tensor in tensors)) > size:
        raise ValueError(f"its tensors claim {claimed:,} bytes, but the file has {size:,}")
    return content


def write_tensors(content: Mapping[str, Any], path: Path) -> None:
    """Write tensors and plain values as `torch.save` does.

    By way of memory: a path would enter the bytes, and of a full disk torch's own writer says nothing useful.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getbuffer())


def is_count(value: object, least: int, most: int) -> bool:
    """Whether it is a whole number from `least` to `most`; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _tensors(content: object) -> list[Tensor]:
    """The tensors of a state dict, and of mappings and others in it, each as often as it is named."""
    found, waiting, seen = [], [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, Mapping | list | tuple | Namespace) and id(value) not in seen:
            seen.add(id(value))
            inner = vars(value) if isinstance(value, Namespace) else value
            waiting += inner.values() if isinstance(inner, Mapping) else inner
    return found
