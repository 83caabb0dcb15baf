"""The commands that use a trained model: on one's own images, in another program, and against another list."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from stpp.commands.subcommand import add_example, add_output, subcommand
from stpp.common.errors import StppError
from stpp.common.wording import counted

MODEL = "checkpoint of stpp, such as results/NAME/model.pt, or a state dict of the ST++ authors' code"


def add_model_commands(commands: Any) -> None:
    """Add `segment` and `export`."""
    _add_segment(commands)
    _add_export(commands)


def _add_segment(commands: Any) -> None:
    command = subcommand(
        commands,
        "segment",
        "segment images of any size with a trained model",
        "Write a palette PNG and an overlay of each image, below OUT/masks and OUT/overlays, the share of each class "
        "in each image to OUT/areas.csv, and the classes and their colours to OUT/classes.txt. Images that cannot be "
        "read are reported at the end.",
        "stpp segment --model results/demo/model.pt photos --out segmented",
        _segment,
    )
    command.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="file; folder, with all images at any depth; or a pattern in quotes, such as 'photos/*.jpg'",
    )
    command.add_argument("--model", type=Path, required=True, metavar="M", help=MODEL)
    add_output(command, "--out", required=True, metavar="DIR", help="folder to write into")
    command.add_argument(
        "--probabilities",
        action="store_true",
        help="also write OUT/probabilities/NAME.npz: `probabilities`, float16 (classes, height, width), and `classes`",
    )
    command.add_argument(
        "--resume", action="store_true", help="continue a call that was stopped: leave images whose files all exist"
    )
    add_prediction_options(command)
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    command.add_argument("--threads", type=int, default=_cores(), metavar="N", help="CPU threads; default: all")


def add_prediction_options(command: argparse.ArgumentParser) -> None:
    """Add how images are read, where it is to be otherwise than the model was evaluated."""
    command.add_argument(
        "--long-side", type=int, metavar="PX", help="resize images to this long side first; default: the model's own"
    )
    command.add_argument(
        "--tile", type=int, metavar="PX", help="read larger images in tiles of this side; default: the model's own"
    )


def _segment(options: argparse.Namespace) -> None:
    from stpp.commands.output import Outputs
    from stpp.commands.segment import segment
    from stpp.runtime.process import prepare_process

    prepare_process(options.threads)
    outputs = Outputs([options.model], options.overwrite or options.resume, "or continue with --resume")
    kinds = {"probabilities": options.probabilities, "resume": options.resume}
    try:
        count = segment(_loaded(options), options.images, options.out, outputs, **kinds)
    except KeyboardInterrupt:
        print("\nstopped; the same command with --resume continues", file=sys.stderr)
        raise
    print(f"{counted(count, 'image')} in {options.out}")


def _add_export(commands: Any) -> None:
    command = subcommand(
        commands,
        "export",
        "export a trained model to ONNX and torch.export",
        "Write OUT/model.onnx, OUT/model.pt2 and OUT/model-card.md, which says how to use them. Either graph takes RGB "
        "images as they are, uint8 (N, H, W, 3) of any N, H and W, and gives masks and probabilities. Each is run, the "
        "former in onnxruntime, and refused unless 99.99 % of the pixels have the class that the model itself gives "
        "them. Needs the extra `export`.",
        "stpp export results/demo/model.pt --out exported",
        _export,
    )
    command.add_argument("model", type=Path, metavar="MODEL", help=MODEL)
    add_output(command, "--out", required=True, metavar="DIR", help="folder to write into")
    command.add_argument(
        "--images",
        nargs="+",
        metavar="IMAGE",
        help="files, folders or patterns of images for the check; default: smooth noise",
    )


def _export(options: argparse.Namespace) -> None:
    from stpp.commands.export import export
    from stpp.commands.output import Outputs
    from stpp.runtime.process import prepare_process

    prepare_process(_cores())
    for line in export(options.model, options.out, options.images or [], Outputs([options.model], options.overwrite)):
        print(line)


def add_list_options(command: argparse.ArgumentParser) -> None:
    """Add the options with which `stpp evaluate` takes a model and a list instead of a stage."""
    add_example(command, "stpp evaluate results/demo/model.pt --list val.txt --root my-images")
    command.add_argument("--list", type=Path, metavar="LIST", help="lines `image mask` to evaluate a model on")
    what = "folder that its paths are relative to; default: here, or for absolute paths the folder that holds them all"
    command.add_argument("--root", type=Path, help=what)
    add_output(command, "--out", metavar="DIR", help="folder for metrics.json and images.csv; default: none")
    add_prediction_options(command)


def evaluate_list(options: argparse.Namespace) -> None:
    """`stpp evaluate MODEL --list LIST`: print mIoU and IoU of a model on a list. Raises StppError without a list."""
    if options.list is None:
        raise StppError(f"{options.folder} is a file, not the folder of a stage; to evaluate a model, give its --list")
    from stpp.commands.evaluate_list import as_text, evaluate
    from stpp.commands.output import Outputs
    from stpp.runtime.process import prepare_process

    prepare_process(options.threads)
    outputs = Outputs([options.folder, options.list], options.overwrite)
    report = evaluate(_loaded(options), options.list, options.root, options.out, outputs)
    print(as_text(report), end="")


def _loaded(options: argparse.Namespace) -> Any:
    from stpp.commands.segmenter import load
    from stpp.runtime.lease import lease

    path = options.model if "model" in options else options.folder
    device = lease(getattr(options, "gpus", 1), options.device)
    return load(path, device, long_side=options.long_side, tile=options.tile)


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))
