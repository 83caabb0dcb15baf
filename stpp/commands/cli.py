"""The command line: one sub-command a stage, and the commands for people."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stpp.commands.cli_import import add_annotation_commands
from stpp.commands.cli_model import add_list_options, add_model_commands, evaluate_list
from stpp.commands.cli_results import add_results_commands
from stpp.commands.cli_start import add_start_commands
from stpp.commands.subcommand import add_example, add_output, subcommand
from stpp.common import disk
from stpp.common.errors import StppError, of_the_machine, of_the_system
from stpp.common.terminal import prepare_streams
from stpp.common.wording import counted
from stpp.runtime.progress import Stopped

if TYPE_CHECKING:
    from stpp.runtime.job import Job, Runtime


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `stpp`; a user's mistake, or a machine that lacks something, is one message on stderr and exit code 1.

    A stage that a signal stopped after it saved its work exits with 128 + the signal's number, as shells say it.
    """
    prepare_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    words, more = list(arguments), []
    if words[:1] == ["run"] and "--" in words:  # what stands behind it is Snakemake's
        words, more = words[: words.index("--")], words[words.index("--") + 1 :]
    options = parser().parse_args(words, argparse.Namespace(arguments=arguments, more=more))
    try:
        code: int | None = options.handler(options)
        sys.stdout.flush()  # here, where it is known what a closed pipe means
    except StppError as error:
        print(f"stpp: {error}", file=sys.stderr)
        return 128 + error.signal if isinstance(error, Stopped) else 1
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it once more
        return 1
    except OSError as error:
        print(f"stpp: {of_the_system(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # where there is nothing to save: a stage answers signals itself
        return 128 + signal.SIGINT
    except Exception as error:
        if (said := of_the_machine(error)) is None:
            raise  # a bug
        print(f"stpp: {said}", file=sys.stderr)
        return 1
    return code or 0


def parser() -> argparse.ArgumentParser:
    """The parser with all sub-commands; each stores its handler in `handler`."""
    top = argparse.ArgumentParser(
        prog="stpp",
        description="Semi-supervised semantic segmentation by ST++. Begin with `stpp new`.",
        epilog="example: stpp new photos",
        formatter_class=_CommandList,
        usage="stpp [--help] [--version] COMMAND ...",
        add_help=False,
    )
    # These stand in the first line alone, so that the list of commands fits a screen.
    top.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    top.add_argument("--version", action=_Version, nargs=0, help=argparse.SUPPRESS)
    commands = top.add_subparsers(metavar="COMMAND", required=True, title="commands", prog="stpp")
    add_start_commands(commands)
    _add_index(commands)
    add_annotation_commands(commands)
    add_results_commands(commands)
    _add_weights(commands)
    for kind, what in STAGES.items():
        _add_stage(commands, kind, what)
    add_model_commands(commands)
    _add_masks(commands)
    _add_demo(commands)
    _add_config(commands)
    _add_stamp(commands)
    return top


class _CommandList(argparse.HelpFormatter):
    """Help without a line of its own for the word COMMAND, so that the list of commands fits a screen."""

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        return text.partition("\n")[2] if action.nargs == argparse.PARSER else text


class _Version(argparse.Action):
    """Prints the version of the installed package."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"stpp {version('stpp')}")
        parser.exit()


# --- stages -----------------------------------------------------------------------------------------------------------

TRAINING = ("length", "train")
"""The stages that train networks."""
PREDICTING = ("encode", "predict", "evaluate", "report")
"""The stages that run a network without training it."""
SHARDED = ("encode", "predict")
"""Those that several jobs can share."""
PAGES = ("reference", "schema", "methods")
"""What `stpp config` prints."""
STAGES = {
    "length": "find how long trainings have to be",
    "encode": "compute and store the features of a frozen encoder",
    "train": "train a teacher or a student",
    "predict": "predict the masks of unlabeled images",
    "score": "score the stability of the checkpoints' masks",
    "select": "split the unlabeled images into reliable and unreliable ones",
    "pixels": "keep the reliable pixels of pseudo-labels",
    "evaluate": "measure mIoU of a model or of pseudo-labels",
    "outlook": "predict whether unlabeled images will help",
    "verdict": "choose the best network on the val set",
    "table": "gather the numbers of all experiments in a table",
    "chart": "draw a chart of several experiments, as in the paper",
    "report": "write the page that shows a run and its results",
}


def _add_stage(commands: Any, kind: str, what: str) -> None:
    command = subcommand(
        commands,
        kind,
        what,
        f"{what[0].upper()}{what[1:]}. The stage is a folder with a recipe.json, which the workflow writes; "
        "the results go to the same folder.",
        f"stpp {kind} results/stages/{kind}/SLUG-1a2b3c4d",
        lambda options: _run_stage(kind, options),
    )
    models = kind == "evaluate"
    what_folder = "folder of the stage; or a model, with --list" if models else "folder of the stage"
    command.add_argument("folder", type=Path, help=what_folder)
    if models:
        add_list_options(command)
    if kind in (*TRAINING, *PREDICTING):
        command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
        command.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads; default: %(default)s")
    if kind in ("length", *PREDICTING):
        command.add_argument("--gpus", type=int, default=1, choices=(0, 1), help="0: compute on the CPU; default: 1")
    if kind == "train":
        command.add_argument(
            "--gpus",
            type=int,
            default=1,
            metavar="G",
            help="0: compute on the CPU; several: that many processes share each batch, by torchrun, one for each GPU, "
            "or all on the CPU with --device cpu; default: 1",
        )
    if kind in TRAINING:
        command.add_argument(
            "--workers", type=int, default=0, metavar="N", help="loader processes (of each process); default: 0"
        )
        command.add_argument(
            "--cache",
            type=int,
            default=4000,
            metavar="MB",
            help="decoded images that are kept in $TMPDIR, so that each is decoded once; default: %(default)s",
        )
        command.add_argument("--compile", action="store_true", help="compile the network first, for faster steps")
    if kind in ("encode", *TRAINING, "predict", "score"):
        command.add_argument(
            "--save-minutes",
            type=float,
            default=5.0,
            metavar="M",
            help="how often unfinished work is saved; default: %(default)s",
        )
    if kind in SHARDED:
        command.add_argument("--shard", type=int, default=0, metavar="I", help="which part, from 0; default: 0")
        command.add_argument("--shards", type=int, default=1, metavar="N", help="number of parts; default: 1")
        command.add_argument("--join", action="store_true", help="join the parts that N shards wrote")


def _run_stage(kind: str, options: argparse.Namespace) -> int | None:
    if kind == "evaluate" and (options.list is not None or options.folder.is_file()):
        evaluate_list(options)
        return None
    from stpp.runtime.job import Job, Runtime
    from stpp.runtime.launch import STORE

    runtime = Runtime(**{key: value for key, value in vars(options).items() if key in Runtime.__dataclass_fields__})
    job = Job(options.folder, kind)
    if STORE in os.environ:  # a process of a team, which has the stage already
        return _run(job, runtime, options)
    part = ""
    if kind in SHARDED and options.shards > 1 and not options.join:
        part = disk.part_of_store(options.shard, options.shards)
    with job.held(part) as made:
        if made:
            print(f"another process has just made {options.folder}", file=sys.stderr)
            return None
        return _run(job, runtime, options)


def _run(job: "Job", runtime: "Runtime", options: argparse.Namespace) -> int | None:
    from importlib import import_module

    from stpp.plan.code import MODULES
    from stpp.runtime.launch import trained_by_team

    kind = job.recipe["stage"]
    if kind == "train" and (code := trained_by_team(job, runtime, options.arguments)) is not None:
        return code
    if getattr(options, "join", False):
        import_module("stpp.stages.shards").join(job, runtime)
    else:
        import_module(MODULES[kind]).run(job, runtime)
    return None


# --- before the stages ------------------------------------------------------------------------------------------------


def _add_index(commands: Any) -> None:
    command = subcommand(
        commands,
        "index",
        "check the data and write the manifests",
        "Read every header and every mask, report all problems at once, and write one manifest and one fingerprint "
        "per subset, for the data of all experiments.",
        "stpp index experiments/camvid-cpu.yaml",
        _index,
    )
    command.add_argument("config", type=Path, help="configuration file")
    command.add_argument(
        "--verify", action="store_true", help="decode the unlabeled images as well, and compare their contents"
    )


def _index(options: argparse.Namespace) -> None:
    from stpp.commands.workflow import index_all
    from stpp.settings.configfile import read

    for manifest in dict.fromkeys(index_all(read(options.config), verify=options.verify)):
        print(manifest)


def _add_weights(commands: Any) -> None:
    command = subcommand(
        commands,
        "weights",
        "fetch the published weights of a backbone",
        "Fetch ImageNet weights by torchvision, or the weights of an encoder of timm, and save them as a state dict.",
        "stpp weights resnet50 results/weights/resnet50.pth",
        _weights,
    )
    command.add_argument("backbone", help="resnet18, resnet34, resnet50, resnet101, mobilenet_v2 or timm/NAME")
    add_output(command, "out", help="file to write")


def _weights(options: argparse.Namespace) -> None:
    from stpp.commands.output import Outputs
    from stpp.models.weights import published_weights
    from stpp.store.tensorfile import write_tensors

    outputs = Outputs(overwrite=options.overwrite)
    outputs.claim([options.out])
    state = published_weights(options.backbone)
    with outputs.writing(options.out) as path:
        write_tensors(state, path)


# --- for people -------------------------------------------------------------------------------------------------------


def _add_masks(commands: Any) -> None:
    command = subcommand(
        commands,
        "masks",
        "write stored masks as palette PNGs",
        "Write each mask of a mask store as a palette PNG, in the folders that the image ids name.",
        "stpp masks results/runs/demo/experiments/st++/seed0/labels1/masks.h5 --out pngs",
        _masks,
    )
    command.add_argument("store", type=Path, help="a masks.h5")
    add_output(command, "--out", required=True, help="folder to write into")


def _masks(options: argparse.Namespace) -> None:
    from stpp.commands.export_labels import ids_below
    from stpp.commands.origin import palette_of
    from stpp.commands.output import Outputs
    from stpp.store.colours import class_colours
    from stpp.store.masks import MaskStore, write_palette_png

    with MaskStore(options.store) as store:
        outputs = Outputs([options.store], options.overwrite)
        outputs.claim(options.out / f"{id}.png" for id in ids_below(store, options.out))
        colours = class_colours(palette_of(store)).tolist()
        for id, mask in store:
            with outputs.writing(options.out / f"{id}.png") as path:
                write_palette_png(mask, colours, path)
        print(f"{counted(len(store), 'mask')} in {options.out}")


def _add_demo(commands: Any) -> None:
    command = subcommand(
        commands,
        "demo",
        "draw a preview of the demo scenes",
        "Draw a sheet of the procedural demo scenes and their masks.",
        "stpp demo --preview sheet.png",
        _demo,
    )
    add_output(command, "--preview", required=True, metavar="PNG", help="picture to write")
    command.add_argument("--seed", type=int, default=0, help="seed of the scenes; default: 0")


def _demo(options: argparse.Namespace) -> None:
    from stpp.commands.output import Outputs
    from stpp.data.demo import preview_sheet

    outputs = Outputs(overwrite=options.overwrite)
    outputs.claim([options.preview])
    with outputs.writing(options.preview) as path:
        preview_sheet(path, seed=options.seed)
    print(options.preview)


def _add_config(commands: Any) -> None:
    command = subcommand(
        commands,
        "config",
        "check a configuration, or print all settings",
        "Check the settings of a configuration, without its data and without running code that it may contain; or "
        "print every setting with its default, range, unit and meaning.",
        "stpp config check config.yaml",
        _config,
    )
    add_example(command, "stpp config reference")
    what = "whether FILE is valid; or the settings in Markdown, their JSON schema, or the methods in Markdown"
    command.add_argument("what", choices=("check", *PAGES), help=what)
    command.add_argument("file", type=Path, nargs="?", metavar="FILE", help="configuration file, for `check` alone")


def _config(options: argparse.Namespace) -> None:
    if (options.what == "check") != (options.file is not None):
        raise StppError(
            f"`stpp config {options.what}` takes {'one file' if options.what == 'check' else 'no file'}; write "
            f"`stpp config check FILE`, or `stpp config` with one of {', '.join(PAGES)}"
        )
    if options.what == "check":
        from stpp.commands.fitting import check_encoders
        from stpp.settings.configfile import read

        check_encoders(read(options.file))
        print(f"{options.file} is a valid configuration.")
        return
    from stpp.settings import reference

    print(getattr(reference, options.what)(), end="")


def _add_stamp(commands: Any) -> None:
    command = subcommand(
        commands,
        "stamp",
        "for developers: record the code of the stages",
        "After a change of code: record it in stages.lock, as giving the same result (cached stages stay valid) or "
        "as a new version (they run again).",
        "stpp stamp --same-result",
        _stamp,
    )
    command.add_argument(
        "parts", nargs="*", metavar="PART", help="stages, or modules of components; default: all whose code changed"
    )
    choice = command.add_mutually_exclusive_group(required=True)
    choice.add_argument("--same-result", action="store_true", help="the results are the same, byte for byte")
    choice.add_argument("--new-version", action="store_true", help="the results differ")


def _stamp(options: argparse.Namespace) -> None:
    from stpp.plan.code import changed, parts, stamp

    if unknown := sorted(set(options.parts) - set(parts())):
        raise StppError(f"no stage or component {', '.join(unknown)}; there are {', '.join(parts())}")
    for part in options.parts or changed():
        print(f"{part}: version {stamp(part, options.same_result)}")


if __name__ == "__main__":
    sys.exit(main())
