"""What the jobs of a run ask for: cores, GPUs, memory, time and, on a cluster, the partition."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stpp.common.wording import columns
from stpp.plan.graph import Plan, Stage, training_of, training_rule
from stpp.plan.targets import NETWORKS, SMALL, SMALL_JOBS, TRAININGS


def jobs_text(plan: Plan, folders: Collection[str], runtime: Mapping[str, Any], profile: Path | None) -> str:
    """A line for each kind of job of the stages in `folders`, and the kinds that are no jobs; empty if there is none.

    `runtime` is that section of the configuration, `profile` the folder of a profile for a cluster. Trainings are one
    kind, unless the profile has their rules ask for different things.
    """
    site = _site(profile)
    jobs: dict[str, Counter[str]] = {}
    for stage in (plan.stages[folder] for folder in plan.stages if folder in folders):
        jobs.setdefault(stage.kind, Counter()).update(_rules(stage, runtime["shards"]))
    rows = [["job", "jobs", "cores", "GPUs", "memory", "time", *(["partition"] if profile else [])]]
    for kind in (kind for kind in jobs if kind in (*NETWORKS, *SMALL_JOBS)):
        asked = {rule: _asked(kind, rule, runtime, site) for rule in jobs[kind]}
        if kind == "train" and len(set(asked.values())) == 1:
            asked, jobs[kind] = {kind: asked.popitem()[1]}, Counter({kind: jobs[kind].total()})
        rows += [[rule, str(jobs[kind][rule]), *cells][: len(rows[0])] for rule, cells in asked.items()]
    here = [kind for kind in jobs if kind not in (*NETWORKS, *SMALL_JOBS)]
    said = [*columns(rows, left=(0, 6)), ""] if len(rows) > 1 else []
    if profile and len(rows) > 1:
        said.append(
            "Cores are those of `runtime`. The table leaves out `set-threads`, `cpus_per_task` and `mem_mb_per_cpu` "
            "of the profile."
        )
    said += [f"Run inside Snakemake, not as jobs: {', '.join(here)}."] if here else []
    return "".join(f"{line}\n" for line in said)


def resources_of(kind: str, runtime: Mapping[str, Any]) -> Mapping[str, Any]:
    """What that section of the configuration gives a job of a kind that runs a network: `gpu`, `memory` and so on.

    The search for the length of trainings is one process, whatever number of GPUs a training takes.
    """
    own: Mapping[str, Any] = runtime["train" if kind in TRAININGS else "predict"]
    return {**own, "gpu": min(1, own["gpu"])} if kind == "length" else own


def cores_of(kind: str, own: Mapping[str, Any]) -> int:
    """The cores of such a job, with these resources; the report reads no images ahead."""
    cores: int = max(1, own["gpu"]) * (own["threads"] + (own["workers"] if kind != "report" else 0))
    return cores


JOINS = {"predict": "join_shards", "encode": "join_encoded"}
"""The rules that join the shards of a kind of stage."""
NAMES = {"length": "find_length", "report": "write_report"}
"""The rules that are not called as the kinds of their stages."""


def _rules(stage: Stage, shards: int) -> dict[str, int]:
    """The rules that make a stage, and how many jobs each has."""
    if stage.kind in JOINS and shards > 1:
        return {f"{stage.kind}_shard": shards, JOINS[stage.kind]: 1}
    if stage.kind == "train":
        return {training_rule(training_of(stage.slug)): 1}
    return {NAMES.get(stage.kind, stage.kind): 1}


class _Site(NamedTuple):
    """What a profile says of resources, by name: of all rules, of single ones, and the most that a job gets."""

    default: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]
    limits: Mapping[str, Any]


def _asked(kind: str, rule: str, runtime: Mapping[str, Any], site: _Site) -> tuple[str, ...]:
    """The columns from cores to partition, of a first attempt.

    As in Snakemake, what a rule asks for goes before the `default-resources` of a profile, and its `set-resources`
    before both.
    """
    cores, asked = 1, {"mem_mb": SMALL.memory, "runtime": SMALL.minutes}
    if kind in NETWORKS and rule not in JOINS.values():
        own = resources_of(kind, runtime)
        cores, asked = cores_of(kind, own), {"mem_mb": own["memory"], "runtime": own["minutes"]}
        asked |= {"gpu": own["gpu"]} if own["gpu"] else {}
    laid = {"gpu": 0, **site.default, **asked, **site.own.get(rule, {})}

    def cell(name: str, unit: str = "") -> str:
        value, limit = laid.get(name), site.limits.get(name)
        if not isinstance(value, int):
            return value or "-"  # as it stands in the profile: `16GB`, `2h`, `attempt * 8000`
        return f"{min(value, limit) if isinstance(limit, int) else value:,}{unit}"

    partition = str(laid.get("slurm_partition") or "-")
    return str(cores), cell("gpu"), cell("mem_mb", " MB"), cell("runtime", " min"), partition


def _site(profile: Path | None) -> _Site:
    content = (yaml.safe_load((profile / "config.yaml").read_text(encoding="utf-8")) if profile else None) or {}
    own = content.get("set-resources") or {}
    if not isinstance(own, Mapping):  # `rule:name=value`
        texts = [str(text).partition(":") for text in own]
        own = {rule: [pair for other, _, pair in texts if other == rule] for rule, _, _ in texts}
    default, limits = _resources(content.get("default-resources")), _resources(content.get("resources"))
    return _Site(default, {rule: _resources(given) for rule, given in own.items()}, limits)


def _resources(given: Any) -> dict[str, Any]:
    """Resources of a profile, a mapping or a list of `name=value`: a whole number, None, or text."""
    pairs = given if isinstance(given, Mapping) else dict(str(text).partition("=")[::2] for text in given or [])
    texts = {"mem_mb" if name == "mem" else name: str(value).strip("'\"") for name, value in pairs.items()}
    return {name: int(text) if text.isdecimal() else None if text == "None" else text for name, text in texts.items()}
