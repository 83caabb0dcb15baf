"""Peak memory of the stages that read or write all unlabeled images, for few and for many of them, and of checkpoints.

    python benchmarks/memory.py

The many images are entries of a manifest that all name one scene of the demo, so that predict, score and select do all
that they do for as many files. Exits with 1 if more images, or more checkpoints, take over 10 % more memory.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from scale import PROJECT, STPP, configuration, enlarge, measure

LIMIT = 1.10
"""How many times the memory for few images, or checkpoints, many may take."""


def main() -> int:
    """Print the figures; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--few", type=int, default=1_000, help="images; default: %(default)s")
    parser.add_argument("--many", type=int, default=20_000, help="images; default: %(default)s")
    parser.add_argument("--checkpoints", type=int, default=10, help="instead of 3; default: %(default)s")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(PROJECT)
    few = peaks_for(options.few, 3)
    more = {
        f"{options.many:,} images": peaks_for(options.many, 3),
        f"{options.checkpoints} checkpoints": peaks_for(options.few, options.checkpoints),
    }
    print(f"\nwhat these take more than {options.few:,} images and 3 checkpoints")
    growth = {what: {stage: peaks[stage] / few[stage] - 1 for stage in few} for what, peaks in more.items()}
    for what, shares in growth.items():
        print(f"{what}: {', '.join(f'{stage} {share:+.1%}' for stage, share in shares.items())}")
    return max(share for shares in growth.values() for share in shares.values()) > LIMIT - 1


def peaks_for(count: int, checkpoints: int) -> dict[str, float]:
    """Peak memory, in MB, of predict, score and select for `count` unlabeled images."""
    config = configuration({"st++": {"method": "st++"}})
    config["training"]["teacher"] |= {"epochs": checkpoints}
    config["selection"] = {"checkpoints": checkpoints}
    with tempfile.TemporaryDirectory(prefix="stpp-memory-") as folder:
        os.chdir(folder)
        Path("config.yaml").write_text(yaml.safe_dump(config))
        subprocess.run([*STPP, "index", "config.yaml"], check=True, stdout=subprocess.DEVNULL)
        enlarge(count)
        print(f"{count:,} unlabeled images, {checkpoints} checkpoints")
        print(f"{'':30}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}  files")
        measure("plan", [*STPP, "plan", "--recipes", "config.yaml"])
        stages = Path("results/stages")
        teacher = next(stages.glob("train/teacher*"))
        subprocess.run([*STPP, "train", str(teacher)], check=True, stderr=subprocess.DEVNULL)
        peaks: dict[str, float] = {}
        for stage in [*stages.glob("predict/masks-*"), *stages.glob("score/*"), *stages.glob("select/*")]:
            kind = stage.parent.name
            peaks[kind] = max(peaks.get(kind, 0.0), measure(stage.name[:28], [*STPP, kind, str(stage)], stage).peak)
        os.chdir("/")
    return peaks


if __name__ == "__main__":
    sys.exit(main())
