"""The commands that lead from annotation tools to data sets, and from masks back to the tools."""

import argparse
from pathlib import Path
from typing import Any

from stpp.commands.subcommand import add_output, subcommand
from stpp.common.registry import IMPORTERS, constant, modules


def add_annotation_commands(commands: Any) -> None:
    """Add `import` and `export-labels`."""
    _add_import(commands)
    _add_export_labels(commands)


def _add_import(commands: Any) -> None:
    formats = _described("SUMMARY")
    command = subcommand(
        commands,
        "import",
        "make a data set from the export of an annotation tool",
        "Write the images to OUT/images, a palette PNG with the mask of each to OUT/masks, and the names and colours "
        "of the classes to OUT/classes.txt; print what was left out, and what to write into the configuration. Where "
        f"shapes overlap, the later one counts. Formats: {formats}.",
        "stpp import labelme annotated --out my-images",
        _import,
    )
    command.add_argument("format", choices=list(modules(IMPORTERS)), metavar="FORMAT", help="format of the export")
    command.add_argument("source", type=Path, metavar="SOURCE", help="what the annotation tool exported")
    add_output(command, "--out", required=True, metavar="DIR", help="folder to write into")
    command.add_argument(
        "--classes",
        type=Path,
        metavar="TXT",
        help="class names in label order, one per line; default: background, then the labels in the export's order",
    )
    command.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images, if they are not with the export"
    )
    command.add_argument("--link", action="store_true", help="write links to the images instead of copies")


def _described(what: str) -> str:
    """The formats, each with what its file says of it on a line."""
    names: dict[str, list[str]] = {}
    for name, module in modules(IMPORTERS).items():
        if text := constant(module, what):
            names.setdefault(text, []).append(name)
    return "; ".join(f"{', '.join(same)}: {text}" for text, same in names.items())


def _import(options: argparse.Namespace) -> None:
    from stpp.commands.import_data import import_data
    from stpp.commands.output import Outputs

    outputs = Outputs(overwrite=options.overwrite)
    classes, images = options.classes, options.images
    print(import_data(options.format, options.source, options.out, outputs, classes, images, options.link))


def _add_export_labels(commands: Any) -> None:
    writable = [name for name, module in modules(IMPORTERS).items() if constant(module, "WRITES")]
    formats = _described("WRITES")
    command = subcommand(
        commands,
        "export-labels",
        "write pseudo-labels or predictions for an annotation tool",
        "Write masks in the format of an annotation tool, to be corrected there, and the classes to OUT/classes.txt. "
        "`stpp import FORMAT OUT --classes OUT/classes.txt` reads them again, the same pixels unless --polygons is "
        f"given. Formats: {formats}.",
        "stpp export-labels results/runs/demo/experiments/st++/seed0 --format coco --out corrected",
        _export_labels,
    )
    command.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a masks.h5, the folder of a stage or of a run that has one, or the output of `stpp segment`",
    )
    command.add_argument("--format", required=True, choices=writable, metavar="FORMAT", help="format to write")
    add_output(command, "--out", required=True, metavar="DIR", help="folder to write into")
    command.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder that the ids of the masks start from",
    )
    command.add_argument(
        "--polygons",
        type=float,
        metavar="PX",
        help="write polygons instead of masks, with fewer corners: borders move by at most PX pixels",
    )


def _export_labels(options: argparse.Namespace) -> None:
    from stpp.commands.export_labels import export_labels
    from stpp.commands.output import Outputs

    outputs = Outputs(overwrite=options.overwrite)
    print(export_labels(options.source, options.format, options.out, outputs, options.images, options.polygons))
