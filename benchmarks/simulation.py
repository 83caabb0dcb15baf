"""What the simulations on a bed share: which images it has, configurations on lists of them, and runs of the workflow.

A bed is a configuration on fully labeled images, such as experiments/beds/cars.yaml. A simulation takes its classes,
network, training, and its splits for test and val, and says itself which of the other images are labeled.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.files import write_text
from stpp.data.index import Index, look
from stpp.data.manifest import Row
from stpp.report.statistics import t_interval
from stpp.report.table import percent
from stpp.settings.config import Config
from stpp.settings.configfile import load, read
from stpp.settings.yamlfile import read_yaml

SNAKEMAKE = [sys.executable, "-P", "-m", "snakemake", "--snakefile", str(Path(__file__).parents[1] / "Snakefile")]
OTHERS = ("controls", "outlook", "folds", "partitions", "published", "baseline")
"""What a bed asks for beside its data, network and training, and a simulation does not."""
DRAWN = ("partition", "val_split", "test_split", "group_by")


def parser_of(what: str, iterations: int) -> argparse.ArgumentParser:
    """A parser with the options that simulations share; `what` is the docstring of the program."""
    parser = argparse.ArgumentParser(description=what.partition("\n")[0])
    parser.add_argument("config", type=Path, metavar="BED", help="configuration of a bed: experiments/beds/cars.yaml")
    parser.add_argument("--root", help="where its images are; default: what the configuration says")
    parser.add_argument("--weights", help="initial weights; default: what the configuration says")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED", help="default: 0 1 2")
    parser.add_argument(
        "--iterations", type=int, default=iterations, metavar="N", help="of each training; default: %(default)s"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--cores", default="all", metavar="N", help="cores to use at once; default: all")
    return parser


def bed(options: argparse.Namespace, prefix: str) -> dict[str, Any]:
    """The configuration of the bed as YAML has it, with the places, the length and the seeds that `options` ask for.

    Its name begins with `prefix`. It has one experiment, `suponly`. Raises StppError where the file cannot be used.
    """
    given = read(options.config)  # which says what is wrong with it
    raw = {key: value for key, value in read_yaml(options.config).items() if key not in OTHERS}
    raw = deepcopy(raw) | {"name": f"{prefix}-{given.name}", "results": str(options.results), "seeds": options.seeds}
    raw["data"] |= {"root": options.root} if options.root else {}
    raw["network"] = raw.get("network", {}) | ({"weights": options.weights} if options.weights else {})
    teacher = {key: value for key, value in raw["training"]["teacher"].items() if key != "epochs"}
    # Val is looked at once, after the last of the twenty epochs that a length in iterations has.
    raw["training"] = raw["training"] | {"teacher": teacher | {"iterations": options.iterations, "validate_every": 20}}
    return raw | {"experiments": {"suponly": {"method": "suponly"}}}


def place_of(raw: Mapping[str, Any]) -> Path:
    """Where the configurations and lists of a simulation lie: not where the workflow keeps its own links in order."""
    return Path(raw["results"]) / "simulations" / raw["name"]


def images_of(raw: Mapping[str, Any], labeled: int, seed: int) -> Index:
    """The images of a bed, of which so many count as labeled, drawn by `seed`; the masks of others are in `truth`.

    Raises StppError where the data cannot be used, or where there are not so many images.
    """
    partition = {"count": labeled, "seed": seed, "cover_classes": True}
    config = load({**raw, "data": {**raw["data"], "partition": partition}})
    data = config.data.model_dump(mode="json")
    return look(data, Path(config.results), batch_size=1, need_unlabeled=True, log=lambda line: None)


def data_of(raw: Mapping[str, Any], index: Index, root: str, lists: Path, subsets: Iterable[str]) -> dict[str, Any]:
    """The data settings of a bed in lists below `lists`: what it says of its masks, without what it draws."""
    kept = {key: value for key, value in raw["data"].items() if key not in DRAWN}
    named = {subset: str(lists / f"{subset}.txt") for subset in subsets}
    return kept | {"layout": "lists", "root": root, "classes": index.record["classes"]} | named


def write_list(path: Path, files: Iterable[Sequence[Path | str]]) -> None:
    """A list of images, each with its mask if it has one."""
    write_text(path, "".join("\t".join(map(str, each)) + "\n" for each in files))


def pairs(rows: Iterable[Row]) -> list[tuple[Path, Path]]:
    """Image and mask of each row, as absolute paths."""
    return [(Path(row.image).absolute(), Path(row.true_mask).absolute()) for row in rows]


def written(path: Path, raw: Mapping[str, Any]) -> Config:
    """Write a configuration, and return it as it is read."""
    write_text(path, yaml.safe_dump(dict(raw), sort_keys=False, allow_unicode=True))
    return read(path)


def run(config: Path, stages: Iterable[str], cores: str) -> None:
    """Make these stages of a configuration, by their folders; what is there already is not made again.

    Raises StppError where the workflow fails.
    """
    results = read(config).results
    targets = [f"{results}/{disk.STAGES}/{folder}/{disk.RECORD}" for folder in stages]
    words = [*SNAKEMAKE, *targets, "--cores", cores, "--quiet", "rules", "reason", "--configfile", str(config)]
    if subprocess.run(words, stdout=subprocess.DEVNULL).returncode:  # it says on stderr how it goes
        raise StppError(f"the workflow of {config} failed, see above; put that right and run the same command again")


def with_interval(values: pd.Series, sign: bool = False) -> str:
    """The mean of shares in percent, with its t interval where there are several."""
    low, high = t_interval(values)
    mean = percent(float(values.mean()), sign)
    return mean if pd.isna(low) else f"{mean} [{percent(low, sign)}, {percent(high, sign)}]"
