"""The parts of the report that say what ran, on which data, with which settings, at what cost, and how to repeat it."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from stpp.common.wording import counted, duration, size
from stpp.methods import method
from stpp.plan.parts import folders
from stpp.report.facts import Facts
from stpp.report.html import Html, details, element, section, table, together
from stpp.report.table import run_name

ANSWER = 2
"""So many sentences of the verdict are the answer; the others explain it."""
MOST_SETTINGS = 30
"""Stages whose settings are written out."""


def lead(facts: Facts) -> Html:
    """The name, the verdict, and what it is on."""
    counts = {subset: len(rows) for subset, rows in facts.subsets.items()}
    data = ", ".join(
        f"{counts[subset]:,} {subset}" for subset in ("labeled", "unlabeled", "val", "test") if subset in counts
    )
    seeds = len({run["seed"] for run in facts.runs})
    text = f"{counted(len(facts.experiments), 'experiment')} with {counted(seeds, 'seed')} on {data} images."
    answer, reasons = facts.table["verdict"][:ANSWER], facts.table["verdict"][ANSWER:]
    sentences = [element("p", sentence, class_="lead") for sentence in answer]
    sentences += [element("p", sentence) for sentence in reasons]
    beforehand = []
    if facts.outlook:
        forecast, *rest = facts.outlook
        said = element("ul", *(element("li", sentence) for sentence in rest))
        beforehand = [
            element("p", f"Forecast from the labels alone, before the methods ran: {forecast}"),
            *([details("What this forecast rests on", said)] if rest else []),
        ]
    return together([element("h1", facts.name), *sentences, *beforehand, element("p", text, class_="soft")])


def warnings(facts: Facts) -> Html:
    """What makes a result doubtful, before the results."""
    found = facts.table["warnings"]
    doubts = counted(len(facts.data_warnings), "warning")
    link = element("a", "What ran", href="#setup")
    where = [f"{doubts} about the data: see ", link, "."] if facts.data_warnings else []
    if not found:
        return element("p", "No stage gave a warning. ", *where, class_="soft")
    return element(
        "div",
        element("h2", f"{counted(len(found), 'warning')}: read these before you trust a number"),
        element("ul", *(element("li", text) for text in found)),
        *([element("p", *where)] if where else []),
        class_="warnings",
        id="warnings",
        role="note",
    )


def what_ran(facts: Facts) -> Html:
    """The experiments, the data and the settings."""
    rows = []
    for experiment, runs in facts.experiments.items():
        numbers = list(dict.fromkeys(str(run["seed"]) for run in runs))
        seeds = f"seed{'s' * (len(numbers) > 1)} {', '.join(numbers)}"
        differs = {k: v for k, v in facts.config["experiments"][experiment].items() if k != "method"}
        what = method(runs[0]["method"]).summary + (f"; {one_line(differs)}" if differs else "")
        rows.append(
            [experiment, runs[0]["method"], what, seeds, str(len({folder for run in runs for folder in folders(run)}))]
        )
    experiments = table(
        ["experiment", "method", "what it is", "runs with", "stages"], rows, "Experiments", text_columns=3
    )
    rows = []
    for subset, images in facts.subsets.items():
        heights, widths = [row.height for row in images], [row.width for row in images]
        name = "unlabeled, with a true mask" if subset == "truth" else subset
        rows.append([name, f"{len(images):,}", extent(heights), extent(widths)])
    data = table(["subset", "images", "height (px)", "width (px)"], rows, f"Data of {run_name(facts.shown)}")
    names = element("p", f"{len(facts.classes)} classes: {', '.join(facts.classes)}.")
    doubts = [element("h3", "Warnings about the data")] if facts.data_warnings else []
    doubts += [element("ul", *(element("li", text) for text in facts.data_warnings))] if doubts else []
    # Seeds differ in nothing else.
    stages = folders(facts.shown)[:MOST_SETTINGS]
    settings = [
        details(
            folder, element("pre", as_yaml({key: facts.records[folder][key] for key in ("settings", "inputs", "data")}))
        )
        for folder in stages
    ]
    full = details(f"All settings of each stage of {run_name(facts.shown)}", *settings)
    lengths = [element("p", length_found(facts.length))] if facts.length else []
    return section("setup", "What ran", experiments, *lengths, data, *doubts, names, full)


def length_found(length: Mapping[str, Any]) -> str:
    """What a `length.json` says, as sentences."""
    tried = ", ".join(f"{each['iterations']:,} iterations {100 * each['miou']:.1f} %" for each in length["tried"])
    return (
        f"All trainings took {length['factor']:g} times as long as they were given. Labels alone reached a mIoU of "
        f"{tried}; after that, longer trainings brought less than a point."
        if length["factor"] < length["tried"][-1]["factor"]
        else f"All trainings took {length['factor']:g} times as long as they were given, the most that is tried, and "
        f"labels alone were still gaining: {tried} mIoU."
    )


def costs(facts: Facts) -> Html:
    """Time and memory: by kind of stage, and by stage."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for folder, record in facts.records.items():
        kinds.setdefault(folder.partition("/")[0], []).append(record)
    most = max(total_of(records, "seconds") for records in kinds.values())
    by_kind = [
        [
            kind,
            str(len(records)),
            duration(total_of(records, "seconds")),
            duration(total_of(records, "cpu_seconds")),
            memory(max((record.get("peak_memory_mb") or 0 for record in records), default=0)),
            bar(total_of(records, "seconds") / most),
        ]
        for kind, records in sorted(kinds.items(), key=lambda item: -total_of(item[1], "seconds"))
    ]
    header = ["stage", "jobs", "time", "CPU time", "peak memory"]
    whole = total_of(facts.records.values(), "seconds")
    caption = f"By kind of stage; {duration(whole)} in all, one after the other"
    summary = table([*header, ""], by_kind, caption)
    rows = [
        [
            folder,
            duration(record["seconds"]),
            duration(record["cpu_seconds"]),
            memory(record.get("peak_memory_mb") or 0),
            where(record),
            record["started"].replace("T", " ").removesuffix("+00:00"),
        ]
        for folder, record in facts.records.items()
    ]
    header = ["stage", "time", "CPU time", "peak memory", "where", "started (UTC)"]
    return section("costs", "Time and memory", summary, details("Each stage", table(header, rows, "Each stage")))


def reproduction(facts: Facts) -> Html:
    """The configuration, the command and the versions that give the same results again."""
    records = list(facts.records.values())
    versions = sorted({f"{name} {version}" for record in records for name, version in record["versions"].items()})
    commits = sorted({record["commit"] for record in records if record.get("commit")})
    code = sorted({f"{folder.partition('/')[0]} {record['code']}" for folder, record in facts.records.items()})
    prints = [f"{subset} {fingerprint[:16]}" for subset, fingerprint in facts.fingerprints.items()]
    file = f"{facts.name}.yaml"
    rows = [
        ["versions", ", ".join(versions)],
        ["commit", ", ".join(commits) or "not from a git checkout"],
        ["code of the stages", ", ".join(code)],
        ["data", ", ".join(prints)],
        ["ran on", "; ".join(sorted({where(record) for record in records if "device" in record}))],
    ]
    return section(
        "reproduce",
        "How to reproduce it",
        element(
            "p",
            "Save this as ",
            element("code", file),
            ", check that ",
            element("code", "data"),
            " leads to the images:",
        ),
        element("pre", as_yaml(config_with_numbers(facts.config))),
        element("p", "and run:"),
        element("pre", f"stpp run {file}"),
        table(["", ""], rows, "What made these results", text_columns=2),
        element(
            "p",
            "Results are equal byte for byte for the same configuration, data, seed, versions, kind of device and "
            "number of threads. Memory, threads, devices and the folder of results are left out of the configuration.",
            class_="soft",
        ),
    )


def config_with_numbers(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as it is written in YAML: JSON has made text of the values in a label map."""
    data = dict(config["data"])
    if data.get("label_map"):
        data["label_map"] = {
            int(value) if value.isdecimal() else value: label for value, label in data["label_map"].items()
        }
    return {**config, "data": data}


def as_yaml(content: Mapping[str, Any]) -> str:
    """YAML, in the order of the content."""
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def one_line(content: Mapping[str, Any]) -> str:
    """YAML in one line."""
    return yaml.safe_dump(dict(content), default_flow_style=True, allow_unicode=True, width=10**6).strip()[1:-1]


def where(record: Mapping[str, Any]) -> str:
    """Host, device, threads and processes of a stage, as far as they are recorded."""
    parts = [record["host"], record.get("device")]
    parts += [counted(record["threads"], "thread") if record.get("threads") else None]
    parts += [counted(record["processes"], "process", "es") if (record.get("processes") or 1) > 1 else None]
    return ", ".join(part for part in parts if part)


def total_of(records: Iterable[Mapping[str, Any]], key: str) -> float:
    """Sum over stages."""
    return sum(record[key] for record in records)


def memory(megabytes: float) -> str:
    """Memory as people say it; nothing for 0, of stages that did not record it."""
    return size(round(1e6 * megabytes)) if megabytes else ""


def bar(share: float) -> Html:
    """A bar of this share of its place."""
    return element("span", element("span", class_="filled", style=f"width:{100 * share:.1f}%"), class_="bars")


def extent(values: Iterable[int]) -> str:
    """One number, or the smallest and the largest."""
    low, high = min(values := list(values)), max(values)
    return str(low) if low == high else f"{low} to {high}"
