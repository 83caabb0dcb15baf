"""The commands to begin with: a configuration for one's own images, and the run of the workflow."""

import argparse
import os
from pathlib import Path
from typing import Any

from stpp.commands.cli_results import tell
from stpp.commands.subcommand import add_example, add_output, subcommand
from stpp.common import disk
from stpp.common.errors import StppError
from stpp.plan.graph import Plan
from stpp.plan.targets import TARGETS


def add_start_commands(commands: Any) -> None:
    """Add `new` and `run`."""
    _add_new(commands)
    _add_run(commands)


def _add_new(commands: Any) -> None:
    command = subcommand(
        commands,
        "new",
        "write a configuration for your own images",
        "Look at your images, at the masks of those that are labeled, and at this machine. Write a configuration with "
        "classes, sizes and lengths that fit, and say how long it will take. FOLDER holds the images in images/ and "
        "the masks in masks/, by the same names; --images and --masks name other folders.",
        "stpp new photos",
        _new,
    )
    add_example(command, "stpp new --images shots --masks drawn --out shots.yaml")
    command.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="folder with images/ and masks/")
    command.add_argument("--images", type=Path, metavar="DIR", help="folder of all images; default: FOLDER/images")
    command.add_argument("--masks", type=Path, metavar="DIR", help="folder of the masks; default: FOLDER/masks")
    add_output(command, "--out", default=Path("my.yaml"), metavar="YAML", help="file to write; default: %(default)s")


def _new(options: argparse.Namespace) -> None:
    from stpp.commands.new import write_new
    from stpp.commands.output import Outputs
    from stpp.commands.workflow import prepare
    from stpp.settings.configfile import read

    if options.folder is None and (options.images is None or options.masks is None):
        raise StppError("give the folder that holds images/ and masks/, or both --images and --masks")
    images, masks = options.images or options.folder / "images", options.masks or options.folder / "masks"
    outputs = Outputs(overwrite=options.overwrite)

    def planned(path: Path) -> tuple[Plan, dict[str, Any]]:
        config = read(path)
        return prepare(config, tell), config.runtime.model_dump()

    write_new(images, masks, options.folder, options.out, outputs, planned)


def _add_run(commands: Any) -> None:
    command = subcommand(
        commands,
        "run",
        "run the workflow, and show its progress",
        "Check a configuration, run the workflow, and show which stages run, how fast, and the time left; without a "
        "terminal, print a line for each event. Ctrl-C stops it; run it again to resume. TARGET "
        f"is {', '.join(name for name, target in TARGETS.items() if target.method is None)}, or a method. "
        "Arguments after -- are passed to Snakemake, but options that would change the workflow, the configuration or "
        "the folder are refused.",
        "stpp run my.yaml",
        _run,
    )
    add_example(command, "stpp run my.yaml teacher --slurm ours")
    command.add_argument("config", type=Path, help="configuration file")
    command.add_argument(
        "target", nargs="?", default="all", metavar="TARGET", help="what to make; default: %(default)s"
    )
    command.add_argument("--cores", type=int, metavar="N", help="cores to use at once; default: all")
    command.add_argument("--slurm", type=Path, metavar="PROFILE", help="submit the jobs by the profile in this folder")
    command.add_argument(
        "--dry", action="store_true", help="say what would run, and what the jobs ask for; run nothing"
    )


def _run(options: argparse.Namespace) -> int:
    from stpp.commands import launcher, needs, run, workflow
    from stpp.commands.view import findings
    from stpp.settings.configfile import read

    config = read(options.config)
    results = Path(config.results)
    words = launcher.command(options.config, options.target, options.cores, options.slurm, options.more)
    if (at_work := workflow.at_work(results)) and not options.dry:
        raise StppError(f"the workflow already runs in {results} ({at_work}); wait until it ends")
    if new := not options.dry and not results.exists():
        results.mkdir(parents=True)  # so that the look at the data is remembered
    try:
        plan = workflow.prepare(config, tell)
    except StppError:
        if new:
            results.rmdir()
        raise
    workflow.warn_of_stale(config, plan, tell)
    asked = run.wish(plan, results, options.target)
    if options.dry:
        print(run.dry(plan, results, asked, config.runtime.model_dump(), options.slurm), end="")
        return 0
    for line in needs.crops_warning(plan, asked.to_run):
        tell(line)
    cores = None if options.slurm else options.cores or len(os.sched_getaffinity(0))
    code = run.follow(plan, results, asked, words, run.takes(plan, config.runtime.model_dump(), cores), cores)
    if code == 0 and options.target == run.ALL:
        print("\n".join(findings(config, plan)))
        print(f"Look at {results / plan.name / disk.REPORT}")
    return code
