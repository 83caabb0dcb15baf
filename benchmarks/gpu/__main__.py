"""All that a GPU has to say, at the press of a button.

    make gpu
    make gpu PART="floor encoders"
    python benchmarks/gpu --docs

Each part fills a table, row by row, in less than ten minutes: what is not done by then is left for the next run. A row
that results/gpu/gpu.json has for the same commit and device is not measured again. All tables are printed and written
to results/gpu/gpu.md, with "not measured" where nothing is; without a GPU nothing is measured. `--docs` puts the tables
of the latest device into the documentation, and what they are made from into docs/gpu.json. Nothing is fetched. Without
Snakemake, the stages of whole trainings run one by one.
"""

import argparse
import importlib.util
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from parts import PARTS, PROJECT, Part, Run
from record import NOTHING, Record, as_markdown, commit, in_page, of, read, write
from running import Clock, Unmeasured

from stpp.common.files import write_text

CPU = "CPU"
"""What the device of a record begins with that is no GPU."""
LIMIT = 450.0
"""Seconds of a part: it ends in ten minutes, also where a command takes all the time that it has to save its work."""
NEEDED = ("timm", "pydantic", "h5py", "hdf5plugin", "pandas", "tqdm", "PIL", "contourpy", "pytest", "hypothesis")
"""Modules without which a part cannot be measured, in addition to PyTorch and PyYAML."""
ADOPTED = PROJECT / "docs/gpu.json"
"""What the tables of the documentation are made from."""


def main() -> int:
    """Measure what is asked for and not measured yet; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument(
        "--out", type=lambda path: Path(path).absolute(), default=PROJECT / "results/gpu", help="folder of the results"
    )
    parser.add_argument("--reference", type=lambda path: Path(path).resolve(), help="checkout of the authors' code")
    shared = PROJECT.parent / "shared"
    for name, default, what in (
        ("camvid", shared / "camvid", "CamVid's JPEGImages/, SegmentationClass/ and splits/"),
        ("beds", shared / "beds", "folder of the beds"),
        ("weights", shared / "weights/mobilenet_v2-imagenet.pth", "of MobileNetV2; where absent, random ones"),
    ):
        path = {"type": lambda path: Path(path).resolve(), "default": default}
        parser.add_argument(f"--{name}", **path, help=f"{what}; default: ../shared/{default.relative_to(shared)}")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="of a part; default: %(default)s")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"), help="cpu: to try the parts")
    parser.add_argument("--tiny", action="store_true", help="at tiny sizes: to try the parts")
    parser.add_argument("--docs", action="store_true", help="measure nothing; put the tables into the documentation")
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    records = read(options.out / "gpu.json")
    if options.docs:
        return to_docs([record for record in records if not record.device.startswith(CPU)][-1:])
    record = records[-1] if records else None
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if options.device == "cuda" and not torch.cuda.is_available():
        print("No GPU here, so nothing is measured.\n")
    elif missing:
        print(
            f"Not installed here, so nothing is measured: {', '.join(missing)}. `make gpu-wheels`, where there is a "
            "network, fetches what is missing on a machine with PyTorch, timm and h5py; copy wheels/ here.\n"
        )
    else:
        gpu = options.device == "cuda"
        device = torch.cuda.get_device_name(0) if gpu else f"{CPU}{', tiny sizes' if options.tiny else ''}"
        software = f"torch {torch.__version__}, Python {platform.python_version()}"
        record = of(records, commit(PROJECT), device, software)
        chosen = {name: PARTS[name] for name in options.parts or PARTS}
        measure(chosen, record, options, lambda: write(options.out / "gpu.json", records))
    text = as_markdown(record, {name: part.table for name, part in PARTS.items()})
    write_text(options.out / "gpu.md", text)
    print(text)
    return int(bool(missing) and torch.cuda.is_available())


def measure(chosen: Mapping[str, Part], record: Record, options: argparse.Namespace, save: Callable[[], None]) -> None:
    """Measure the rows of these parts that the record lacks; `save()` is called after each."""
    for name, part in chosen.items():
        clock = Clock(options.seconds)
        for number, (row, measured) in enumerate(part.rows.items()):
            if record.done(name, row):
                print(f"{name}: {row}: is there", flush=True)
                continue
            if clock.left <= 0:
                print(f"{name}: its time is up; the next run goes on with {row}", flush=True)
                break
            print(f"{name}: {row}", flush=True)
            try:
                values = measured(Run(options, options.out / "work" / record.folder / name / str(number), clock))
            except Unmeasured as problem:
                values = {"problem": str(problem)}
                print(f"  {problem}", flush=True)
            record.add(name, row, values)
            save()


def to_docs(latest: list[Record]) -> int:
    """Write the tables of the latest record of a GPU into the pages of the documentation; returns the exit code."""
    if not latest:
        print(NOTHING, file=sys.stderr)
        return 1
    write(ADOPTED, latest)
    tables = {name: part.table for name, part in PARTS.items()}
    for page in sorted({table.page for table in tables.values()}):
        path = PROJECT / "docs" / page
        write_text(path, in_page(path.read_text(), page, latest[-1], tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
