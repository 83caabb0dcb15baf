"""How many label errors `stpp suspects` finds, where it is known which labels are wrong.

    python benchmarks/label_errors.py experiments/beds/cars.yaml --root ../shared/beds/car-parts

For each seed, some images of the bed are labeled, and a share of their regions gets another class. A region is a
connected part of a mask with one class, other than the first one, which is mostly the background, and large enough to
be seen. Then `suponly` and the outlook are made from these labels, and `stpp suspects` lists what it doubts. A suspect
counts as found where at least half of the pixels in its box that have its label were given it here. The last column is
the share of them if the confidence alone orders the suspects. What was computed is kept: the same command goes on where
it was.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from simulation import bed, data_of, images_of, parser_of, place_of, run, with_interval, write_list, written

from stpp.commands.output import Outputs
from stpp.commands.suspects import LIST, list_suspects
from stpp.commands.workflow import prepare
from stpp.common.errors import StppError
from stpp.common.files import replacing
from stpp.common.labels import IGNORE, encoding_of
from stpp.common.wording import columns, counted
from stpp.data.encoded import encoded
from stpp.data.reading import mask_of
from stpp.report.table import percent
from stpp.settings.configfile import load

Mask = NDArray[np.uint8]


class Flipped(NamedTuple):
    """Masks by image id, uint8 (H, W), of which some regions have another class; `regions` could have one.

    `wrong` are maps of the same sizes: the number of the flipped region that a pixel is in, from 1 on, or 0.
    """

    masks: dict[str, Mask]
    wrong: dict[str, NDArray[np.int64]]
    regions: int
    count: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = parser_of(__doc__ or "", iterations=600)
    parser.add_argument("--labeled", type=int, default=200, metavar="N", help="images; default: %(default)s")
    parser.add_argument("--share", type=float, default=0.05, help="of the regions; default: %(default)s")
    parser.add_argument("--area", type=int, default=100, metavar="PX", help="of a region; default: %(default)s")
    parser.add_argument("--number", type=int, default=100, metavar="N", help="first suspects; default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        raw = bed(options, "label-errors")
        found = pd.DataFrame([errors_found(raw, seed, options) for seed in options.seeds])
    except StppError as error:
        print(f"label_errors.py: {error}", file=sys.stderr)
        return 1
    print(f"{raw['name']}: {counted(options.labeled, 'labeled image')}, {options.iterations} iterations\n")
    print("\n".join(columns(table(found), ())))
    return 0


def errors_found(raw: Mapping[str, Any], seed: int, options: Any) -> dict[str, int]:
    """What `suspects` finds with this seed: the numbers of regions, of those flipped, of suspects, and of hits.

    `suspects` are the first ones, `hits` those that point at a flipped region, `found` the flipped regions that they
    point at, and `sure` the hits among as many suspects that are first by their confidence. Raises StppError where the
    bed has too few images or regions, or the workflow fails.
    """
    folder = place_of(raw) / f"seed{seed}"
    index = images_of(raw, options.labeled, seed)
    if "val" not in index.rows:
        raise StppError("the bed has no val images; give it a `val_split`")
    encoding = encoding_of(load(raw).data.model_dump(), len(index.record["classes"]))
    true = {row.id: mask_of(row, encoding) for row in index.rows["labeled"]}
    flipped = flip(true, len(index.record["classes"]), options.share, options.area, seed)
    place = folder / "data"
    for subset in ("labeled", "val", "unlabeled"):
        rows = index.rows[subset][: 1 if subset == "unlabeled" else None]  # the outlook looks at all of them
        images = [place / f"{row.id}{Path(row.image).suffix}" for row in rows]
        masks = [place / "labels" / f"{row.id}.png" for row in rows] if subset != "unlabeled" else []
        for row, image in zip(rows, images):
            image.parent.mkdir(parents=True, exist_ok=True)
            image.unlink(missing_ok=True)
            image.symlink_to(Path(row.image).absolute())
        for row, path in zip(rows, masks):
            mask = flipped.masks[row.id] if subset == "labeled" else mask_of(row, encoding)
            with replacing(path) as aside:
                Image.fromarray(encoded(mask, encoding)).save(aside, format="PNG")
        files = zip(images, masks) if masks else ((image,) for image in images)
        write_list(folder / f"{subset}.txt", [[path.absolute() for path in each] for each in files])
    data = data_of(raw, index, str(place), folder, ("labeled", "unlabeled", "val"))
    config = written(folder / "config.yaml", {**raw, "seeds": [seed], "outlook": True, "data": data})
    plan = prepare(config, lambda line: None)
    run(folder / "config.yaml", [plan.outlook], options.cores)
    list_suspects(plan, Path(config.results), sys.maxsize, folder / "suspects", Outputs(overwrite=True))
    listed = pd.read_csv(folder / "suspects" / LIST, dtype={"id": str}, keep_default_na=False)
    suspects = listed.head(options.number)
    surest = listed.sort_values("confidence", ascending=False, kind="stable").head(options.number)
    hits, of_surest = (hits_of(found, flipped, index.record["classes"]) for found in (suspects, surest))
    return {
        "seed": seed,
        "regions": flipped.regions,
        "flipped": flipped.count,
        "suspects": len(suspects),
        "hits": len(hits),
        "found": len({(id_, number) for id_, numbers in hits for number in numbers}),
        "sure": len(of_surest),
    }


def hits_of(suspects: pd.DataFrame, flipped: Flipped, classes: Sequence[str]) -> list[tuple[str, set[int]]]:
    """The image and the flipped regions of each suspect that points at some."""
    rows = suspects.to_dict("records")
    pointed = [(str(suspect["id"]), pointed_at(suspect, flipped, classes)) for suspect in rows]
    return [(id_, numbers) for id_, numbers in pointed if numbers]


def components(mask: Mask) -> NDArray[np.int64]:
    """The connected parts of a mask (H, W) with one value each: for every pixel the flat index of its part's first one.

    Pixels are neighbours at their edges, not at their corners. Labels spread by minima, and each pixel takes over what
    the pixel has found that it points at, so the number of rounds is about the logarithm of a part's length.
    """
    found = np.arange(mask.size).reshape(mask.shape)
    while True:
        before = found.copy()
        for near, far in (((slice(1, None),), (slice(-1),)), ((slice(None), slice(1, None)), (slice(None), slice(-1)))):
            same = mask[near] == mask[far]
            least = np.minimum(found[near], found[far])[same]
            found[near][same] = least
            found[far][same] = np.minimum(found[far][same], least)  # of which some have just become smaller
        found = found.ravel()[found]
        if np.array_equal(found, before):
            return found


def flip(true: Mapping[str, Mask], classes: int, share: float, area: int, seed: int) -> Flipped:
    """Give a share of the regions another class, each another one, drawn by `seed`.

    Regions have at least `area` pixels, and neither class 0 nor the ignored value; at least one is flipped, and its new
    class is any other one, also 0. Raises StppError where there is no region.
    """
    parts = {id_: components(mask) for id_, mask in true.items()}
    regions = []
    for id_, mask in true.items():
        numbers, counts = np.unique(parts[id_], return_counts=True)
        large = numbers[(counts >= area) & ~np.isin(mask.ravel()[numbers], (0, IGNORE))]
        regions += [(id_, int(number)) for number in large]
    if not regions:
        raise StppError(f"no region of the labeled images has {area} pixels; ask for a smaller --area")
    rng = np.random.default_rng(seed)
    drawn = sorted(rng.choice(len(regions), max(1, round(share * len(regions))), replace=False).tolist())
    masks = {id_: mask.copy() for id_, mask in true.items()}
    wrong = {id_: np.zeros(mask.shape, np.int64) for id_, mask in true.items()}
    for count, number in enumerate(drawn, 1):
        id_, first = regions[number]
        region = parts[id_] == first
        others = [class_ for class_ in range(classes) if class_ != true[id_].ravel()[first]]
        masks[id_][region], wrong[id_][region] = rng.choice(others), count
    return Flipped(masks, wrong, len(regions), len(drawn))


def pointed_at(suspect: Mapping[Any, Any], flipped: Flipped, classes: Sequence[str]) -> set[int]:
    """The numbers of the flipped regions that a row of suspects.csv points at; none where most of it is right."""
    box = np.s_[suspect["top"] : suspect["bottom"], suspect["left"] : suspect["right"]]
    doubted = flipped.masks[suspect["id"]][box] == classes.index(suspect["labeled"])
    wrong = flipped.wrong[suspect["id"]][box][doubted]
    return {*wrong[wrong > 0].tolist()} if 2 * np.count_nonzero(wrong) >= wrong.size else set()


def table(found: pd.DataFrame) -> list[list[str]]:
    """The rows of the table, its head first: a row a seed, and the means with their 95 % t intervals."""
    rows = [["seed", "regions", "flipped", "chance %", "suspects", "of flipped regions", "share %", "regions found"]]
    rows[0].append("share % by confidence")
    shares, chances = found["hits"] / found["suspects"], found["flipped"] / found["regions"]
    surest = found["sure"] / found["suspects"]
    for row, share, chance, sure in zip(found.to_dict("records"), shares, chances, surest):
        counts = [str(row[name]) for name in ("seed", "regions", "flipped")]
        rows.append([*counts, percent(chance), *(str(row[name]) for name in ("suspects", "hits")), percent(share)])
        rows[-1] += [str(row["found"]), percent(sure)]
    return [*rows, ["mean", "", "", percent(chances.mean()), "", "", with_interval(shares), "", with_interval(surest)]]


if __name__ == "__main__":
    sys.exit(main())
