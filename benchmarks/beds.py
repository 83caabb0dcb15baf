"""Whether unlabeled images pay on real photographs: one table over the beds that `make real` has run.

    python benchmarks/beds.py cars nuclei steel camvid

For each bed: the mean mIoU on test of each experiment, its difference to the baseline with a 95 % t interval, and which
part of the headroom that is: the difference between `supervised`, which has all true masks, and the baseline. Below:
whether the bed counts; whether the outlook was right about each method and seed; and what the val set, without the
others, would have handed over for each seed, and how far that is from `suponly` on test.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from stpp.common import disk
from stpp.common.wording import columns
from stpp.report.table import percent
from stpp.report.verdict import Candidate, measured, preferred
from stpp.settings.config import SUPONLY_COMPUTE

LONGER = "suponly-longer"
"""`suponly` with 1.5 times the iterations."""


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("beds", nargs="+", metavar="BED", help="such as cars: what `results/beds-cars/` holds")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: %(default)s")
    options = parser.parse_args()
    found = {bed: options.results / f"beds-{bed}" for bed in options.beds}
    if missing := [str(folder) for folder in found.values() if not (folder / disk.TABLE).is_file()]:
        print(f"beds.py: nothing in {', '.join(missing)}; run `make real` first", file=sys.stderr)
        return 1
    print("\n".join(columns(comparison({bed: pd.read_csv(folder / disk.TABLE) for bed, folder in found.items()}))))
    print(
        "\nA bed counts if labels alone gain less than 1 point from 1.5 times the iterations, and all true masks bring "
        "at least 5 points more:\n"
    )
    print("\n".join(columns([COUNTING, *(counting(bed, folder) for bed, folder in found.items())])))
    print("\nWhether the outlook was right, of the seeds of each method:\n")
    print("\n".join(columns(forecasts({bed: forecast(folder) for bed, folder in found.items()}))))
    print("\nWhat val would hand over, and its distance from suponly on test, in points:\n")
    handed = [row for bed, folder in found.items() for row in handed_over(bed, folder)]
    print("\n".join(columns([["bed", "seed", "network", "difference"], *handed], (0, 2))))
    return 0


def comparison(tables: dict[str, pd.DataFrame]) -> list[list[str]]:
    """The rows of the table, its head first; `tables` are those of `table.csv`, by bed."""
    head = ["experiment"]
    for bed in tables:
        head += [bed, "difference", "95 % interval", "of headroom", "CPU-h"]
    experiments = list(dict.fromkeys(name for table in tables.values() for name in table["experiment"]))
    return [
        head,
        *([name, *(cell for table in tables.values() for cell in cells(table, name))] for name in experiments),
    ]


def cells(table: pd.DataFrame, experiment: str) -> list[str]:
    """What one table says of an experiment; empty where it has none."""
    rows = table.set_index("experiment")
    if experiment not in rows.index:
        return [""] * 5
    row = rows.loc[experiment]
    difference = row.get("difference_mean", float("nan"))
    interval = [percent(row.get(f"difference_{end}", float("nan")), sign=True) for end in ("low", "high")]
    room = rows.loc["supervised", "difference_mean"] if "supervised" in rows.index else float("nan")
    share = "" if pd.isna(difference) or pd.isna(room) or room <= 0 else f"{100 * difference / room:.0f} %"
    bounds = f"[{interval[0]}, {interval[1]}]" if all(interval) else ""
    return [percent(row["miou_mean"]), percent(difference, sign=True), bounds, share, f"{row['cpu_hours']:.2f}"]


COUNTING = ["bed", "longer", "all true masks", "counts"]


def counting(bed: str, folder: Path) -> list[str]:
    """What longer training brings over `suponly`, and all true masks over the better of these two, in points; and
    whether the bed counts by that.

    Empty where one of these has not run.
    """
    means = pd.read_csv(folder / disk.TABLE).set_index("experiment")["miou_mean"]
    if not {"suponly", LONGER, "supervised"} <= set(means.index):
        return [bed, "", "", ""]
    longer, masks = means[LONGER] - means["suponly"], means["supervised"] - means[["suponly", LONGER]].max()
    counts = longer < 0.01 and masks >= 0.05
    return [bed, percent(longer, sign=True), percent(masks, sign=True), "yes" if counts else "no"]


def forecast(folder: Path) -> dict[str, list[bool]]:
    """By experiment with unlabeled images, for each seed: whether it paid as the outlook said, or did not.

    It paid where its test mIoU is above that of the baseline of the same seed. Empty without an outlook.
    """
    told = folder / disk.OUTLOOK
    pays = json.loads(told.read_text())["pays"] if told.is_file() else None
    if pays is None:
        return {}
    runs = pd.read_csv(folder / disk.RUNS)
    miou = runs.pivot(index="seed", columns="experiment", values="miou")
    alone = runs.loc[runs["method"].isin(("suponly", "supervised")), "experiment"].unique()
    gains = {name: (miou[name] - miou[SUPONLY_COMPUTE]).dropna() for name in miou.columns if name not in alone}
    return {name: ((gain > 0) == pays).tolist() for name, gain in gains.items()}


def forecasts(found: dict[str, dict[str, list[bool]]]) -> list[list[str]]:
    """The rows of the table, its head first: of each method how often the outlook was right, and of all of them."""
    methods = list(dict.fromkeys(name for right in found.values() for name in right))
    rows = [[name, *(_share(right.get(name, [])) for right in found.values())] for name in methods]
    every = [[each for own in right.values() for each in own] for right in found.values()]
    total = _share([each for own in every for each in own])
    return [["method", *found], *rows, ["all", *map(_share, every)], ["all beds", total, *[""] * (len(found) - 1)]]


def _share(right: list[bool]) -> str:
    return f"{sum(right)} of {len(right)}" if right else ""


def handed_over(bed: str, folder: Path) -> list[list[str]]:
    """For each seed: the network that the verdict on this seed alone prefers, and its difference to `suponly`."""
    stage = (folder.parent / disk.LINKS / folder.name / disk.COMPARISON / "verdict").resolve()
    recipe: dict[str, Any] = json.loads((stage / disk.RECIPE).read_text())
    candidates = [measured(candidate, stage.parent.parent) for candidate in recipe["settings"]["candidates"]]
    suponly = next(each for each in candidates if each.recipe["experiment"] == "suponly")
    rows = []
    for number, run in enumerate(suponly.recipe["runs"]):
        chosen = preferred([of_run(each, number) for each in candidates])
        difference = chosen.test.iloc[0] - suponly.test.iloc[number]
        rows.append([bed, str(run["seed"]), chosen.name, percent(difference, sign=True)])
    return rows


def of_run(candidate: Candidate, number: int) -> Candidate:
    """The candidate as if it had one run alone."""
    one = slice(number, number + 1)
    recipe = {**candidate.recipe, "runs": candidate.recipe["runs"][one]}
    return Candidate(recipe, candidate.val.iloc[one], candidate.test.iloc[one], candidate.images.iloc[one])


if __name__ == "__main__":
    sys.exit(main())
