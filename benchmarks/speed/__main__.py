"""How fast stpp works, against other code doing the same work.

    python benchmarks/speed --reference ST-PlusPlus --images camvid/JPEGImages --masks camvid/SegmentationClass
    python benchmarks/speed --peer smp --backbone resnet50 --images camvid/JPEGImages --masks camvid/SegmentationClass

`--reference` is a checkout of the authors' code, which is run as it is. `--peer smp` is segmentation_models.pytorch,
which has to be installed: a training step and a prediction of DeepLabv3+ with the same encoder, output stride 16 and
separable convolutions; it computes in fp32 throughout. Each kind of work has two contestants, each a process of its own
with one thread. They take turns, A B A B; the first turn of each is not counted. What is measured is a turn's processor
time (on a GPU, wall time), so other load on the machine hardly matters, and a CPU with several cores may do several
kinds of work `--at-once`. The ratio is that of the medians; the range beside it holds the middle half of the ratios of
single turns.

Without either, only stpp runs: enough to see that all of it works. `floor.py` says how near the hardware's limit
it is.
"""

import argparse
import csv
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ours import NETWORK
from PIL import Image
from turns import BACKBONE, COUNT, DESCRIPTION, SIZE, spread

from stpp.models import build
from stpp.store.checkpoint import load_checkpoint
from stpp.store.masks import MaskWriter, voc_palette

HERE = Path(__file__).parent
CLASSES = 21
"""As PASCAL VOC; networks have as many as their weights."""
WORK = {  # counted turns each, and the ratio to reach on a CPU; for stored scores, the images/s
    "weak-png": (15, 5.0),
    "weak-jpeg": (15, 3.4),
    "strong-png": (15, 2.4),
    "strong-jpeg": (15, 2.0),
    "score-memory": (15, 3.6),
    "score-stored": (15, 1000),
    "predict-fp32": (7, 1.3),
    "predict-bf16": (7, 2.8),
    "tta-fp32": (3, None),
    "tta-bf16": (3, 2.6),
    "train-fp32": (5, 1.1),
    "train-bf16": (100, 2.8),  # as many as losses are to be compared over
    "whole": (0, 2.5),  # all of ST++ from images to the last student; no turn before those that count
}
AIMS_OF_PEERS = {"train-fp32": 1.1, "train-bf16": 2.0, "predict-fp32": 1.1, "predict-bf16": 2.0}
SEPARABLE = {"output_stride": 16, "separable": True, "head_channels": 256, "decoder_channels": 256}
PEERS = {"smp": (SEPARABLE, "segmentation_models_pytorch")}
"""What of the network is other than beside the authors' code, and the module that a peer is installed as."""


class Contestant:
    """A process that does one kind of work for one side, turn by turn."""

    def __init__(self, side: str, work: str, options: argparse.Namespace, scratch: Path) -> None:
        command = [sys.executable, str(HERE / f"{side}.py"), work, "--device", options.device]
        command += ["--scratch", str(scratch), *(["--reference", str(options.reference)] if options.reference else [])]
        self.same_weights = side != "smp"
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.turns: list[dict[str, Any]] = []

    def turn(self, number: int) -> None:
        """Let it work; the answer has `seconds`, `images`, `peak_mb` and the path of the `result`."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("a contestant ended")
        self.turns.append(json.loads(line))

    def close(self) -> None:
        """Let it end."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def seconds(self) -> list[float]:
        """For an image, in each counted turn."""
        return [turn["seconds"] / turn["images"] for turn in self.turns[1:] or self.turns]

    def results(self) -> list[np.ndarray]:
        """What came out of each turn."""
        return [np.load(turn["result"]) for turn in self.turns]


def main() -> None:
    """Let all contestants take their turns, and print and write what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reference", type=lambda path: Path(path).resolve(), help="checkout of the authors' code")
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--masks", type=Path, required=True, help="folder of their masks, of the same names")
    parser.add_argument("--peer", choices=PEERS, help="instead of the authors' code, another library")
    parser.add_argument("--backbone", default="resnet50", help="of the network beside a peer's; default: %(default)s")
    parser.add_argument("--count", type=int, default=COUNT, help="how many of them; default: %(default)s")
    parser.add_argument("--crop", type=int, default=321, help="of a training step, in px; default: %(default)s")
    parser.add_argument("--batch", type=int, default=4, help="of a training step, in images; default: %(default)s")
    parser.add_argument(
        "--weights",
        type=Path,
        help='a trained DeepLabv3+ ResNet-50 checkpoint, whose backbone "whole" starts from; default: random',
    )
    parser.add_argument(
        "--only", help=f"kinds of work, by comma; default: {','.join(WORK)}, beside a peer the networks'"
    )
    parser.add_argument("--turns", type=int, help="counted turns of each; default: 3 to 100")
    parser.add_argument("--at-once", type=int, default=1, help="kinds of work at a time; default: %(default)s")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: %(default)s")
    parser.add_argument("--csv", type=Path, help="file to write the figures to")
    parser.add_argument("--plot", type=Path, help="PNG or SVG file to draw the ratios in")
    options = parser.parse_args()
    if options.peer and (options.reference or options.weights):
        parser.error("--peer takes neither --reference nor --weights")
    if options.peer and importlib.util.find_spec(module := PEERS[options.peer][1]) is None:
        parser.error(f"--peer {options.peer}: {module} is not installed; pip install {module.replace('_', '-')}")
    theirs = options.peer or ("authors" if options.reference else None)
    sides = [theirs, "ours"] if theirs else ["ours"]
    work = (options.only or ",".join(AIMS_OF_PEERS if options.peer else WORK)).split(",")
    if unknown := [each for each in work if each not in (AIMS_OF_PEERS if options.peer else WORK)]:
        parser.error(f"--only: no such work beside {theirs or 'nobody'}: {', '.join(unknown)}")
    print(f"{processor()}, {options.device}, torch {torch.__version__}, one thread")
    heads = (
        ("target", 7),
        ("ratio", 7),
        ("middle half", 14),
        ("images/s", 10),
        ("theirs", 11),
        ("MB", 7),
        ("theirs", 9),
    )
    print(f"{'':14}{''.join(f'{head:>{width}}' for head, width in heads)}  equal")
    rows = []
    with tempfile.TemporaryDirectory(prefix="stpp-speed-") as folder:
        prepare(Path(folder), options)
        with ThreadPoolExecutor(options.at_once) as pool:
            for row in pool.map(partial(measured, sides, options, Path(folder)), work):
                rows.append(row)
                print(line(row), flush=True)
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, HEADER)
            writer.writeheader()
            writer.writerows(rows)
    if options.plot:
        draw([row for row in rows if row["ratio"]], options.plot)


def prepare(scratch: Path, options: argparse.Namespace) -> None:
    """The input of all kinds of work: images and masks as files, stores and arrays; weights."""
    rng = np.random.default_rng(0)
    images, masks = [], []
    for folder in ("png", "jpeg", "masks"):
        (scratch / folder).mkdir()
    photographs = sorted(options.images.iterdir())
    chosen = spread(photographs, options.count)
    names = [path.stem for path in chosen]
    for path in chosen:
        with Image.open(path) as image, Image.open(options.masks / f"{path.stem}.png") as mask:
            images.append(np.asarray(image.convert("RGB").resize((480, 360), Image.Resampling.BICUBIC)))
            masks.append(np.asarray(mask.resize((480, 360), Image.Resampling.NEAREST)))
        Image.fromarray(images[-1]).save(scratch / f"png/{path.stem}.png")
        Image.fromarray(images[-1]).save(scratch / f"jpeg/{path.stem}.jpg", quality=90)
        Image.fromarray(masks[-1]).save(scratch / f"masks/{path.stem}.png")
    for folder, suffix in (("png", "png"), ("jpeg", "jpg")):
        lines = [f"{folder}/{name}.{suffix} masks/{name}.png" for name in names]
        (scratch / f"{folder}.txt").write_text("\n".join(lines))
    # Theirs takes sides that its strides divide.
    np.save(scratch / "images.npy", np.array(images)[:, : 352 if options.peer else 360])
    small_data_set(photographs, options.masks, scratch)

    # Masks of three checkpoints: the true ones, which in places are another class, in fewer places for later ones.
    predicted = np.array(masks)[:, None].repeat(3, axis=1) % CLASSES
    for k in range(3):
        wrong = rng.random((len(masks), 45, 60)).repeat(8, 1).repeat(8, 2) < 0.3 - 0.1 * k
        predicted[:, k][wrong] = (predicted[:, k][wrong] + 1 + k) % CLASSES
        with MaskWriter(
            scratch / f"masks-{k + 1}.h5",
            classes=[f"c{c}" for c in range(CLASSES)],
            palette=voc_palette(CLASSES),
            producer="speed",
        ) as writer:
            for name, mask in zip(names, predicted[:, k]):
                writer.add(name, mask)
    np.save(scratch / "masks.npy", predicted)

    corners = rng.integers(
        0, [360 - min(321, options.crop) + 1, 480 - min(321, options.crop) + 1], size=(len(images), 2)
    )
    crops = [np.s_[top : top + options.crop, left : left + options.crop] for top, left in corners]
    several = len(images) // options.batch * options.batch
    stacked = {
        key: np.array([value[crop] for value, crop in zip(values, crops)])[:several]
        for key, values in (("images", images), ("masks", masks))
    }
    batches = {key: value.reshape(-1, options.batch, *value.shape[1:]) for key, value in stacked.items()}
    np.savez(scratch / "batches.npz", **batches)

    described = {**NETWORK, "backbone": options.backbone, **PEERS[options.peer][0]} if options.peer else NETWORK
    (scratch / DESCRIPTION).write_text(json.dumps(described))
    if options.weights:
        network = load_checkpoint(options.weights, torch.device("cpu")).network
        state = network.state_dict()
        (scratch / BACKBONE).parent.mkdir()
        torch.save(network.backbone.state_dict(), scratch / BACKBONE)
    else:
        torch.manual_seed(0)
        state = build(described, CLASSES).state_dict()
    torch.save(state, scratch / "weights.pt")


def small_data_set(photographs: Sequence[Path], masks: Path, scratch: Path) -> None:
    """32 images for "whole", and the lists of the labeled, unlabeled and val ones: a quarter, a half, a quarter."""
    for folder in ("small", "small-masks", "dataset/splits/pascal"):
        (scratch / folder).mkdir(parents=True)
    chosen = spread(photographs, 32)
    for path in chosen:
        with Image.open(path) as image, Image.open(masks / f"{path.stem}.png") as mask:
            image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC).save(scratch / f"small/{path.stem}.png")
            mask.resize(SIZE, Image.Resampling.NEAREST).save(scratch / f"small-masks/{path.stem}.png")
    lines = [f"small/{path.stem}.png small-masks/{path.stem}.png" for path in chosen]
    for name, part in (("labeled", lines[::4]), ("dataset/splits/pascal/val", lines[1::4])):
        (scratch / f"{name}.txt").write_text("\n".join(part))
    (scratch / "unlabeled.txt").write_text("\n".join(lines[2::4] + lines[3::4]))


def measured(sides: Sequence[str], options: argparse.Namespace, scratch: Path, work: str) -> dict[str, Any]:
    """The figures of one kind of work, after all turns of its contestants."""
    contestants = {side: Contestant(side, work, options, scratch) for side in sides}
    for number in range(1 + (options.turns or WORK[work][0])):
        for contestant in contestants.values():
            contestant.turn(number)
    aim = AIMS_OF_PEERS[work] if options.peer else WORK[work][1]
    row = compared(work, aim, contestants)
    for contestant in contestants.values():
        contestant.close()
    return row


def compared(work: str, aim: float | None, contestants: dict[str, Contestant]) -> dict[str, Any]:
    """The figures of one kind of work; those of the other side and the ratio are empty where it did not run."""
    ours, others = contestants["ours"], [each for side, each in contestants.items() if side != "ours"]
    row: dict[str, Any] = dict.fromkeys(HEADER, "")
    row |= {"work": work, "target": aim or ""}
    row |= {"images_per_second": 1 / statistics.median(ours.seconds()), "peak_mb": ours.turns[-1]["peak_mb"]}
    for other in others:
        ratios = [theirs / mine for theirs, mine in zip(other.seconds(), ours.seconds())]
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        median, own = statistics.median(other.seconds()), statistics.median(ours.seconds())
        row |= {"ratio": median / own, "low": low, "high": high}
        row |= {"their_images_per_second": 1 / median, "their_peak_mb": other.turns[-1]["peak_mb"]}
        row["equal"] = how_equal(work.partition("-")[0], other.results(), ours.results()) if other.same_weights else ""
    return row


def how_equal(kind: str, theirs: list[np.ndarray], ours: list[np.ndarray]) -> str:
    """In words, how equal the results of all turns are; of augmented images, the masks of the same geometry."""
    if kind in ("predict", "tta", "weak", "strong"):
        return f"{100 * np.mean([(a == b).mean() for a, b in zip(theirs, ours)]):.2f} % of the pixels"
    if kind == "score":
        return f"differ by {np.max(np.abs(np.array(theirs) - np.array(ours))):.1e}"
    if kind == "whole":
        return f"mIoU {np.mean(theirs):.1f} theirs, {np.mean(ours):.1f} ours"
    apart = np.abs(np.array(ours) / np.array(theirs) - 1)  # the losses of training steps
    return f"losses differ by {100 * apart.mean():.2f} %, at most {100 * apart.max():.2f} %, in {len(ours)} steps"


def line(row: dict[str, Any]) -> str:
    """One line of the printed table."""
    ratio = f"{row['ratio']:7.2f}{row['low']:7.2f}-{row['high']:<6.2f}" if row["ratio"] else f"{'':21}"
    numbers = [f"{row[key]:{width}}" if row[key] == "" else f"{row[key]:{width}{kind}}" for key, width, kind in COLUMNS]
    return f"{row['work']:14}{row['target']:>7}{ratio}{''.join(numbers)}  {row['equal']}"


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A bar for each ratio, from its lower to its upper quartile a line, and a mark at its target."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.35 * len(rows)), layout="constrained")
    names = [row["work"] for row in rows]
    ratios = [row["ratio"] for row in rows]
    spread = [[ratio - row["low"] for ratio, row in zip(ratios, rows)], [r["high"] - x for x, r in zip(ratios, rows)]]
    axes.barh(names, ratios, xerr=np.clip(spread, 0, None), color="#0072b2", height=0.6, ecolor="0.3")
    aims = [(row["target"], row["work"]) for row in rows if row["target"] and row["work"] != "score-stored"]
    axes.scatter(*zip(*aims), marker="|", s=200, color="#d55e00", linewidths=2.5, zorder=3, label="target")
    axes.axvline(1, color="0.6", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("times as fast as the other code")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


HEADER = (
    *("work", "target", "ratio", "low", "high", "images_per_second", "their_images_per_second"),
    *("peak_mb", "their_peak_mb", "equal"),
)
COLUMNS = [
    ("images_per_second", 10, ".4g"),
    ("their_images_per_second", 11, ".4g"),
    ("peak_mb", 7, ".0f"),
    ("their_peak_mb", 9, ".0f"),
]


def processor() -> str:
    """The name of the processor."""
    for entry in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if entry.startswith("model name"):
            return entry.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
