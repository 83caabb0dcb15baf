"""The commands that look at results: what would run or runs, how experiments differ, what is damaged or unused."""

import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from stpp.commands.subcommand import add_example, add_output, subcommand
from stpp.common import disk


def tell(line: str) -> None:
    """Print what a look at the data says beside the answer, to stderr."""
    print(line, file=sys.stderr)


def add_results_commands(commands: Any) -> None:
    """Add `plan`, `status`, `next`, `suspects`, `diff`, `verify` and `gc`."""
    _add_plan(commands)
    _add_status(commands)
    _add_next(commands)
    _add_suspects(commands)
    _add_diff(commands)
    _add_verify(commands)
    _add_gc(commands)


def _add_plan(commands: Any) -> None:
    command = subcommand(
        commands,
        "plan",
        "show what would run, why, and for how long",
        "Say which stages of a configuration would run; why: which setting, data or code differs from the nearest "
        "existing stage of the same role; and how long that one took, or an estimate, marked ~. Say how much disk and "
        "memory that takes. Before a training has run on this machine, a step of the network is timed.",
        "stpp plan config.yaml",
        _plan,
    )
    command.add_argument("config", type=Path, help="configuration file")
    command.add_argument(
        "--recipes",
        action="store_true",
        help="write the recipes of all stages, and list these in an order in which they can be run by hand",
    )


def _plan(options: argparse.Namespace) -> None:
    from stpp.commands import needs
    from stpp.commands.forecast import as_list, as_text, forecast
    from stpp.commands.mapsize import said_of_maps
    from stpp.commands.view import looked_ahead
    from stpp.commands.workflow import prepare, write_recipes
    from stpp.plan.staleness import as_text as stale_text
    from stpp.settings.configfile import read

    config = read(options.config)
    plan = prepare(config, tell)
    stages = Path(config.results) / disk.STAGES
    if options.recipes:
        found = forecast(plan, stages)
        write_recipes(config, plan)
        print(as_list(plan, found, stages), end="")
        return
    found, sentences = needs.foreseen(plan, stages, config.runtime.model_dump())
    print(as_text(config.name, found, sentences) + stale_text(stages, found.stale), end="")
    to_run = (task.folder for task in found.tasks)
    for sentence in [*said_of_maps(plan, to_run, Path(config.results)), *looked_ahead(plan, stages)]:
        print(f"- {sentence}")


def _add_status(commands: Any) -> None:
    command = subcommand(
        commands,
        "status",
        "show which stages are done, running, failed or waiting",
        "List every stage of a configuration: done; running, on which host and how far (epoch, loss, val mIoU, time "
        "left; images for predictions); waiting for an earlier stage, or ready; stopped, with its work saved; failed, "
        "with the last lines of its log. The most important ones are last. It changes nothing, so you can call it at "
        "any time.",
        "stpp status config.yaml",
        _status,
    )
    add_example(command, "watch 'stpp status config.yaml | tail'")
    command.add_argument("config", type=Path, help="configuration file")


def _status(options: argparse.Namespace) -> None:
    from stpp.commands.status import as_text, states
    from stpp.commands.workflow import at_work, prepare
    from stpp.plan.staleness import advice
    from stpp.settings.configfile import read

    config = read(options.config)
    plan = prepare(config, tell)
    results = Path(config.results)
    workflow = at_work(results)
    found = states(plan, results, workflow)
    stale = [state.folder for state in found if state.state == "stale"]
    print(as_text(config.name, found, workflow) + advice(results / disk.STAGES, stale), end="")


def _add_next(commands: Any) -> None:
    command = subcommand(
        commands,
        "next",
        "choose the unlabeled images to label next",
        "Of the unlabeled images on which the checkpoints of the teacher agree least, choose those that differ most "
        "from the labeled ones and from each other. OUT/next.html shows them and OUT/next.csv lists them; OUT "
        "contains links to the images and predicted masks for you to correct. It needs the stability scores of a run.",
        "stpp next my.yaml -n 20",
        _next,
    )
    command.add_argument("config", type=Path, help="configuration file")
    command.add_argument("-n", "--number", type=_count, default=20, metavar="N", help="images; default: %(default)s")
    add_output(command, "--out", default=Path("next"), metavar="DIR", help="folder to write into; default: %(default)s")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    command.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="CPU threads; default: all"
    )


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 100000")
    return int(text)


def _next(options: argparse.Namespace) -> None:
    from stpp.commands.label_next import label_next
    from stpp.commands.output import Outputs
    from stpp.commands.workflow import prepare
    from stpp.runtime.lease import lease
    from stpp.runtime.process import prepare_process
    from stpp.settings.configfile import read

    config = read(options.config)
    prepare_process(options.threads)
    outputs = Outputs([options.config], options.overwrite)
    plan, data = prepare(config, tell), config.data.model_dump()
    device = lease(1, options.device)
    print(label_next(plan, Path(config.results), data, options.number, options.out, outputs, device))


def _add_suspects(commands: Any) -> None:
    command = subcommand(
        commands,
        "suspects",
        "find the labels that are probably wrong",
        "Find labels that networks contradict with confidence. The networks are those of the outlook that learned "
        "from one half of the labeled images each; each judges the other half. OUT/suspects.html shows them, the "
        "largest and surest first, and OUT/suspects.csv lists them. It needs `outlook: true`.",
        "stpp suspects my.yaml -n 50",
        _suspects,
    )
    command.add_argument("config", type=Path, help="configuration file")
    command.add_argument("-n", "--number", type=_count, default=50, metavar="N", help="suspects; default: %(default)s")
    add_output(
        command, "--out", default=Path("suspects"), metavar="DIR", help="folder to write into; default: %(default)s"
    )


def _suspects(options: argparse.Namespace) -> None:
    from stpp.commands.output import Outputs
    from stpp.commands.suspects import list_suspects
    from stpp.commands.workflow import prepare
    from stpp.settings.configfile import read

    config = read(options.config)
    outputs = Outputs([options.config], options.overwrite)
    print(list_suspects(prepare(config, tell), Path(config.results), options.number, options.out, outputs))


def _add_diff(commands: Any) -> None:
    command = subcommand(
        commands,
        "diff",
        "compare two experiments",
        "Compare two experiments, of one configuration or of two: which settings, data and code differ; by how much "
        "each metric differs, with its spread over the seeds, paired by seed; and what share of pixels has a different "
        "pseudo-label, also by class. Runs that are not finished are left out.",
        "stpp diff results/runs/demo/experiments/st results/runs/demo/experiments/st++",
        _diff,
    )
    what = "folder of an experiment, results/runs/NAME/experiments/EXPERIMENT, or of a run in it, such as seed0"
    command.add_argument("a", type=Path, metavar="A", help=what)
    command.add_argument("b", type=Path, metavar="B", help="the other one; differences are B minus A")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--md", action="store_true", help="print Markdown")
    form.add_argument("--json", action="store_true", help="print JSON; metrics and shares are in 0..1 there")


def _diff(options: argparse.Namespace) -> None:
    import json

    from stpp.commands.diff import as_markdown, as_text, compare, side_of

    found = compare(side_of(options.a), side_of(options.b))
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print(as_markdown(found) if options.md else as_text(found), end="")


def _add_verify(commands: Any) -> None:
    command = subcommand(
        commands,
        "verify",
        "verify the checksums of all artifacts and of their inputs",
        "Read every artifact of every finished stage, and all that it was made from: manifests, labeled, val and test "
        "files, artifacts of other stages. Print a line for each fault, with the command that repairs it. "
        "Nothing is changed. Exit code 1 if there is a fault.",
        "stpp verify results",
        _verify,
    )
    command.add_argument("results", type=Path, help="the folder that the setting `results` names")


def _verify(options: argparse.Namespace) -> int:
    from stpp.commands.verify import as_text, verify
    from stpp.commands.workflow import at_work

    found = verify(options.results, at_work(options.results))
    print(as_text(options.results, found), end="")
    return 1 if found.faults else 0


def _add_gc(commands: Any) -> None:
    command = subcommand(
        commands,
        "gc",
        "list and remove stages that nothing uses",
        "List the stages that no given configuration uses and that nothing in results/runs links to, with their logs "
        "and bytes, such as those of earlier settings. To give up the stages of a configuration, do not give it, and "
        "remove its results/NAME and results/runs/NAME first. Nothing is removed without --remove, or while a workflow "
        "or a job is running.",
        "stpp gc config.yaml experiments/camvid-cpu.yaml --remove",
        _gc,
    )
    command.add_argument("configs", type=Path, nargs="+", metavar="CONFIG", help="all configurations that are in use")
    command.add_argument("--remove", action="store_true", help="remove what is listed; it can only be computed again")


def _gc(options: argparse.Namespace) -> None:
    from stpp.commands.gc import alone, as_text, garbage, remove, results_of
    from stpp.commands.workflow import prepare
    from stpp.settings.configfile import read

    configs = [read(path) for path in options.configs]
    results = results_of(config.results for config in configs)
    with alone(results) if options.remove else nullcontext():
        found = garbage(results, [prepare(config, tell) for config in configs])
        if options.remove:
            remove(results, found)
    print(as_text(results, found, options.remove), end="")
