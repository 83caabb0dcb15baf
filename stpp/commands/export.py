"""`stpp export`: a model for other programs, ONNX and torch.export, each checked against the model itself."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stpp.commands.export_card import model_card
from stpp.commands.output import Outputs
from stpp.commands.segment import images_of
from stpp.commands.segmenter import PLAIN, Segmenter, load
from stpp.common import disk
from stpp.common.bands import Bands
from stpp.common.errors import StppError
from stpp.common.files import sha256
from stpp.data.images import read_image, stored_bands
from stpp.engine.inference import predict_masks
from stpp.models.exportable import Exportable, least_side
from stpp.models.folding import for_prediction
from stpp.models.network import SegmentationNetwork

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
"""What the extra `export` installs."""
AGREEMENT = 0.9999
"""The least share of pixels with the class that the model itself gives them."""
SIZES = ((97, 131), (240, 320), (333, 200))
"""Height and width of the images of noise that are checked with: multiples of the networks' strides, and others."""
IMAGES = "rgb"
"""The name of a graph's input, also where it has other bands."""
ONNX, TORCH = "model.onnx", "model.pt2"

Pixels = NDArray[np.uint8] | NDArray[np.float32]
"""What the graph takes: bytes, or the values of files where the model scales them."""
Runner = Callable[[Pixels], NDArray[np.uint8]]


def export(model: Path, out: Path, images: Sequence[str], outputs: Outputs) -> Iterator[str]:
    """Write `model` to `out` as `model.onnx` and `model.pt2`, with `model-card.md`; yields a sentence for each.

    Both graphs are those of `Exportable`, for any number of images of any size from `least_side` px. Before the files
    get their names, all at the end, each graph is run, with onnxruntime and torch, on `images` (files, folders and
    patterns; none: smooth noise) and on two at once, and compared with the model. Raises StppError where a package is
    missing, where an image cannot be read, and where less than AGREEMENT of the pixels have the same class; and what
    `outputs` raises.
    """
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise StppError(f"export needs {', '.join(missing)}: install the extra, `pip install 'stpp[export]'`")
    pictures = list(images_of(images, out))
    outputs.spare(pictures)
    outputs.claim(out / name for name in (ONNX, TORCH, disk.CARD))
    segmenter = load(model, "cpu")
    network = for_prediction(segmenter.model.network, PLAIN["precision"])
    bands = segmenter.bands
    batches = _batches(pictures, least_side(network), bands)
    expected = [_masks(network, segmenter, batch) for batch in batches]
    program = _program(Exportable(network, bands))
    agreement, digests = {}, {}
    with ExitStack() as written:
        for name, write, opened in ((ONNX, _write_onnx, _open_onnx), (TORCH, _write_torch, _open_torch)):
            path = written.enter_context(outputs.writing(out / name))
            write(program, path)
            digests[name], agreement[name] = sha256(path), _agreement(opened(path), batches, expected)
            if agreement[name] < AGREEMENT:
                raise StppError(
                    f"{name} gives {100 * agreement[name]:.3f} % of the pixels the class that {model} gives them, "
                    f"expected {100 * AGREEMENT:g} %; it is not written. Check with images like those of the training, "
                    "by --images"
                )
        card = written.enter_context(outputs.writing(out / disk.CARD))
        card.write_text(model_card(segmenter, model, digests, agreement), encoding="utf-8")
    for name, share in agreement.items():
        yield f"{out / name}: {100 * share:.4f} % of {sum(mask.size for mask in expected):,} pixels agree"
    yield f"{out / disk.CARD}"


def _batches(images: Sequence[Path], least: int, bands: Bands | None) -> list[Pixels]:
    """Pictures to compare with, (N, H, W, bands): each alone, and two at once; smooth noise without images.

    Raises StppError for a picture with a side of less than `least` px.
    """
    if images:
        pictures = [_values(path, bands) for path in images]
        if small := [picture.shape[1::-1] for picture in pictures if min(picture.shape[:2]) < least]:
            width, height = small[0]
            raise StppError(f"an image to check with has {width} x {height} px; expected {least} at least")
    else:
        pictures = [_noise(seed, *size, bands) for seed, size in enumerate(SIZES)]
    first: Any = pictures[0]
    return [*(picture[None] for picture in pictures), np.stack([first, first[::-1, ::-1]])]


def _values(image: Path, bands: Bands | None) -> Pixels:
    """What the graph takes of a file."""
    if bands is None or bands.scale is None:
        return read_image(image, None, bands)
    return stored_bands(image, None, bands, has_scale=True).astype(np.float32)


def _noise(seed: int, height: int, width: int, bands: Bands | None) -> Pixels:
    count = 3 if bands is None else len(bands.numbers)
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, count), np.uint8)
    layers = [
        Image.fromarray(small[..., band]).resize((width, height), Image.Resampling.BICUBIC) for band in range(count)
    ]
    noise: Pixels = np.stack([np.asarray(layer) for layer in layers], axis=2)
    if bands is not None and bands.scale is not None:
        low, high = np.array(bands.scale, np.float32).T
        noise = (low + noise / np.float32(255) * (high - low)).astype(np.float32)
    return noise


def _masks(network: SegmentationNetwork, segmenter: Segmenter, batch: Pixels) -> NDArray[np.uint8]:
    """The masks of the model itself, of whole images as they are: uint8 (N, H, W)."""
    pictures = (segmenter.pixels(image) for image in batch)
    masks = [predict_masks(network, [image], torch.device("cpu"), PLAIN)[0][0] for image in pictures]
    return np.stack(masks)


def _program(graph: Exportable) -> torch.export.ExportedProgram:
    least, bands = least_side(graph.network), graph.network.backbone.bands
    example = torch.zeros(2, 3 * least, 4 * least, bands, dtype=torch.float32 if graph.scaled else torch.uint8)
    # Named, so that the graphs name the sizes of their inputs.
    sizes = {
        0: torch.export.Dim("images"),
        1: torch.export.Dim("height", min=least),
        2: torch.export.Dim("width", min=least),
    }
    with torch.no_grad():
        return torch.export.export(graph, (example,), dynamic_shapes=(sizes,))


def _write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about its own ways
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        made = torch.onnx.export(
            program, input_names=[IMAGES], output_names=["masks", "probabilities"], dynamo=True, verbose=False
        )
    assert made is not None
    made.save(path, external_data=False)


def _open_onnx(path: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(["masks"], {IMAGES: batch})[0]


def _write_torch(program: torch.export.ExportedProgram, path: Path) -> None:
    buffer = io.BytesIO()  # of a full disk torch's own writer says nothing useful
    torch.export.save(program, buffer)
    path.write_bytes(buffer.getbuffer())


def _open_torch(path: Path) -> Runner:
    with path.open("rb") as file:
        graph = torch.export.load(file).module()
    return lambda batch: graph(torch.from_numpy(batch.copy()))[0].numpy()


def _agreement(run: Runner, batches: Sequence[Pixels], expected: Sequence[NDArray[np.uint8]]) -> float:
    """The share of pixels, 0..1, with the expected class."""
    same = sum(int((run(batch) == masks).sum()) for batch, masks in zip(batches, expected))
    return same / sum(masks.size for masks in expected)
