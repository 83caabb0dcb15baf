"""Whether the images that `stpp next` chooses teach more than random ones: labels are hidden, then given in rounds.

    python benchmarks/labeling.py experiments/beds/cars.yaml --root ../shared/beds/car-parts

For each seed, some images of the bed are labeled at first. In each round, more are chosen among the others, by
`stpp next` or at random, and get their true masks; then `suponly` is trained anew on all that are labeled, and
evaluated on test. Both ways begin with the same images, and train with the same seed, so their difference is paired by
seed. What was computed is kept: the same command goes on where it was.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from simulation import bed, data_of, images_of, pairs, parser_of, place_of, run, with_interval, write_list, written

from stpp.commands.label_next import LIST, label_next
from stpp.commands.output import Outputs
from stpp.commands.workflow import prepare
from stpp.common import disk
from stpp.common.errors import StppError
from stpp.common.wording import columns, counted
from stpp.data.manifest import Row
from stpp.plan.graph import Plan, Run
from stpp.plan.parts import evaluations, score
from stpp.runtime.job import verified
from stpp.runtime.process import prepare_process
from stpp.settings.configfile import read, resolved
from stpp.store.evaluations import read_metrics

WAYS = ("next", "random")
Labeled = dict[tuple[str, int], list[str]]
"""The ids of the labeled images by way and seed, in the order in which they were labeled."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = parser_of(__doc__ or "", iterations=400)
    parser.add_argument("--start", type=int, default=20, metavar="N", help="images at first; default: %(default)s")
    parser.add_argument("--number", type=int, default=20, metavar="N", help="images a round; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    options = parser.parse_args(arguments)
    prepare_process(1)
    try:
        raw = bed(options, "labeling")
        found = simulate(raw, options.start, options.number, options.rounds, options.cores)
    except StppError as error:
        print(f"labeling.py: {error}", file=sys.stderr)
        return 1
    print(f"{raw['name']}: mIoU on test in %, {counted(len(options.seeds), 'seed')}, {options.iterations} iterations\n")
    print("\n".join(columns(table(found), ())))
    return 0


def simulate(raw: Mapping[str, Any], start: int, number: int, rounds: int, cores: str) -> pd.DataFrame:
    """`miou` in [0, 1] for each `round`, number of `labeled` images, `way` of choosing them, and `seed`.

    Round 0 is before any choice. Raises StppError where the bed has too few images, or the workflow fails.
    """
    folder = place_of(raw)
    pools = {seed: images_of(raw, start, seed) for seed in raw["seeds"]}
    first = next(iter(pools.values()))
    rows = {row.id: row for subset in ("labeled", "truth") for row in first.rows.get(subset, [])}
    if len(rows) <= start + rounds * number:
        raise StppError(
            f"{len(rows)} images can be labeled, and {start + rounds * number} would be; ask for fewer, so that some "
            "are left to choose from"
        )
    for subset in ("val", "test"):
        if subset not in first.rows:
            raise StppError(f"the bed has no {subset} images; give it a `{subset}_split`")
        write_list(folder / f"{subset}.txt", pairs(first.rows[subset]))
    base = {**raw, "data": data_of(raw, first, raw["data"]["root"], folder, ("val", "test"))}
    labeled: Labeled = {(way, seed): [row.id for row in pools[seed].rows["labeled"]] for way in WAYS for seed in pools}
    measured = []
    for step in range(rounds + 1):
        config = folder / f"round{step}.yaml"
        plan, runs = planned(config, base, labeled, rows, more=step < rounds)
        evaluated = {key: evaluations(each.record(), "test")["teacher"] for key, each in runs.items()}
        scores = [stage for each in runs.values() if (stage := score(each.record()))]
        run(config, dict.fromkeys([*evaluated.values(), *scores]), cores)
        for (way, seed), stage in evaluated.items():
            metrics = read_metrics(verified(Path(raw["results"]) / disk.STAGES / stage / disk.METRICS))
            measured.append([step, len(labeled[way, seed]), way, seed, metrics["miou"]])
        if step < rounds:
            for seed in pools:
                chosen = chosen_by_next(plan, runs["next", seed], config, number)
                others = sorted(rows.keys() - {*labeled["random", seed]})
                drawn = np.random.default_rng([seed, step]).choice(len(others), len(chosen), replace=False)
                labeled["next", seed] += chosen
                labeled["random", seed] += [others[n] for n in sorted(drawn)]
    return pd.DataFrame(measured, columns=["round", "labeled", "way", "seed", "miou"])


def planned(
    path: Path, base: Mapping[str, Any], labeled: Labeled, rows: Mapping[str, Row], more: bool
) -> tuple[Plan, dict[tuple[str, int], Run]]:
    """Write the configuration of a round and its lists; returns its plan, and the run of each way and seed.

    An experiment has the images of one way and one seed, so of its runs only the one with this seed counts. With
    `more`, images are to be chosen from the scores of `next`.
    """
    experiments = {}
    for (way, seed), ids in labeled.items():
        lists = path.with_suffix("") / f"{way}{seed}"
        write_list(lists / "labeled.txt", pairs(rows[id_] for id_ in ids))
        hidden = pairs(rows[id_] for id_ in rows.keys() - {*ids})
        write_list(lists / "unlabeled.txt", sorted((image,) for image, _ in hidden))
        data = {subset: str(lists / f"{subset}.txt") for subset in ("labeled", "unlabeled")}
        method = "st++" if more and way == "next" else "suponly"
        experiments[f"{way}{seed}"] = {"method": method, "data": data}
    some = next(iter(experiments.values()))["data"]
    config = written(path, {**base, "data": base["data"] | some, "experiments": experiments})
    plan = prepare(config, lambda line: None)
    return plan, {key: one(plan, key) for key in labeled}


def one(plan: Plan, key: tuple[str, int]) -> Run:
    """The run of a way and a seed."""
    way, seed = key
    return next(run for run in plan.runs if (run.experiment, run.seed) == (f"{way}{seed}", seed))


def chosen_by_next(plan: Plan, its: Run, path: Path, number: int) -> list[str]:
    """The ids of the images that `stpp next` chooses by the scores of a run; the choice is kept beside its lists."""
    config = resolved(read(path), its.experiment)
    out = path.with_suffix("") / its.experiment / f"next{number}-{Path(score(its.record()) or '').name}"
    if not (out / LIST).is_file():
        data = config.data.model_dump()
        label_next(replace(plan, runs=[its]), Path(config.results), data, number, out, Outputs(overwrite=True), "cpu")
    with (out / LIST).open(encoding="utf-8") as file:
        return [row["id"] for row in csv.DictReader(file)]


def table(found: pd.DataFrame) -> list[list[str]]:
    """The rows of the table, its head first: means over seeds with their 95 % t intervals."""
    rows = [["round", "labels", "next", "random", "difference"]]
    for step, group in found.groupby("round"):
        by_way = {way: part.set_index("seed")["miou"] for way, part in group.groupby("way")}
        labels = sorted({*group["labeled"]})
        counts = str(labels[0]) if len(labels) == 1 else f"{labels[0]} to {labels[-1]}"
        difference = with_interval(by_way["next"] - by_way["random"], sign=True)
        rows.append([str(step), counts, *(with_interval(by_way[way]) for way in WAYS), difference])
    return rows


if __name__ == "__main__":
    sys.exit(main())
