"""The card of an exported model: what it is, what it was trained on and how, how well it does, and how to run it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch

from stpp import __version__
from stpp.commands.segmenter import Segmenter
from stpp.common.bands import Bands
from stpp.common.files import sha256
from stpp.common.wording import in_markdown, markdown
from stpp.models.exportable import least_side
from stpp.report.card import classes_table, recipe_of, results


def model_card(segmenter: Segmenter, model: Path, files: Mapping[str, str], agreement: Mapping[str, float]) -> str:
    """The card of `model`, exported to `files` (name -> SHA-256), whose pixels agree with it to `agreement` (0..1)."""
    measured = [evaluation.metrics for evaluation in segmenter.provenance.evaluations]
    sections = [
        f"# {in_markdown(segmenter.provenance.name or model.stem)}",
        _what(segmenter),
        "## Files\n\n" + "\n".join(_files(model, files, agreement)),
        "## Use\n\n" + _use(segmenter),
        "## Results\n\n" + "\n".join(results(segmenter.classes, measured)),
        "## Training\n\n" + "\n".join(_training(segmenter)),
    ]
    return "\n\n".join(sections) + "\n"


def _what(segmenter: Segmenter) -> str:
    count = sum(parameter.numel() for parameter in segmenter.model.network.parameters())
    table = classes_table(segmenter.classes, segmenter.palette)
    return (
        f"A network for semantic segmentation with {len(segmenter.classes)} classes and {count / 1e6:.2f} million "
        f"parameters, by stpp {__version__}: ST++ (Yang et al., CVPR 2022).\n\n{table}"
    )


def _files(model: Path, files: Mapping[str, str], agreement: Mapping[str, float]) -> Iterator[str]:
    exported = f"{model.name} (exported {datetime.now(UTC):%Y-%m-%d} with torch {torch.__version__})"
    rows = [[name, f"{100 * agreement[name]:.4f} %", digest] for name, digest in files.items()]
    head = ["file", "pixels that agree with the model", "SHA-256"]
    yield from markdown([head, [exported, "", sha256(model)], *rows], range(3))


def _use(segmenter: Segmenter) -> str:
    side, tile = segmenter.prediction["long_side"], segmenter.prediction["tile"]
    least = least_side(segmenter.network)
    before = f" Objects have the size that the network knows at a long side of {side} px." if side else ""
    before += f" Cut images into overlapping tiles of {tile} px, and average their probabilities." if tile else ""
    if segmenter.bands is not None:
        return f"{_of_bands(segmenter.bands)} Any N, height and width from {least} px.{before}"
    to_size, name, back = "", "photo", ""
    if side:
        to_size = f"""
    size = [max(1, round(length * {side} / max(photo.size))) for length in photo.size]
    small = photo.resize(size, PIL.Image.Resampling.BILINEAR)"""
        name, back = "small", ".resize(photo.size, PIL.Image.Resampling.NEAREST)"
    return f"""Input `rgb`: RGB images, uint8 (N, height, width, 3) of 0..255, upright; any N, any height and width from
{least} px; normalisation is part of the graph. Outputs: `masks`, uint8 (N, height, width), the value of the class;
`probabilities`, float32 (N, {len(segmenter.classes)}, height, width), 0..1.{before}

    import numpy, onnxruntime, PIL.Image, PIL.ImageOps
    photo = PIL.ImageOps.exif_transpose(PIL.Image.open("photo.jpg")).convert("RGB"){to_size}
    rgb = numpy.array({name})[None]
    session = onnxruntime.InferenceSession("model.onnx")
    masks, probabilities = session.run(None, {{"rgb": rgb}})
    mask = PIL.Image.fromarray(masks[0]){back}

    import torch
    masks, probabilities = torch.export.load("model.pt2").module()(torch.from_numpy(rgb))"""


def _of_bands(bands: Bands) -> str:
    """What the input is of a model whose images are not RGB."""
    ranges = bands.scale or [(0, 255)] * len(bands.numbers)
    each = ", ".join(f"{number} ({low:g} to {high:g})" for number, (low, high) in zip(bands.numbers, ranges))
    kind = "uint8" if bands.scale is None else "float32"
    return (
        f"Input `rgb`: bands of image files, {kind} (N, height, width, {len(bands.numbers)}), upright, with the values "
        "that files have; these are, by their numbers in the file from 1, and with the values between which they are "
        f"scaled: {each}. Scaling and normalisation are part of the graph. Outputs: `masks`, uint8 (N, height, width), "
        "the value of the class; `probabilities`, float32 (N, classes, height, width), 0..1."
    )


def _training(segmenter: Segmenter) -> Iterator[str]:
    record = segmenter.provenance.training
    if record is None:
        yield "Not known here: there is no `stage.json` next to the model."
        return
    versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
    minutes = f"{record['seconds'] / 60:.1f} min on {record['device']}"
    facts = [f"{record['settings']['role']}, begun {record['started']}, {minutes}"]
    facts += [f"{versions}; commit {record['commit'] or 'unknown'}"]
    facts += [f"warning: {warning}" for warning in record["warnings"]]
    yield from recipe_of(record, *facts)
