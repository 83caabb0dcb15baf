"""What the jobs of a run ask for: cores, GPUs, memory, time and, on a cluster, the partition."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from stpp.common.wording import columns
from stpp.plan.graph import Plan
from stpp.plan.targets import NETWORKS, SMALL, SMALL_JOBS, TRAININGS


def jobs_text(plan: Plan, folders: Collection[str], runtime: Mapping[str, Any], profile: Path | None) -> str:
    """A line for each kind of job of the stages in `folders`, and the kinds that are no jobs; empty if there is none.

    `runtime` is that section of the configuration, `profile` the folder of a profile for a cluster.
    """
    counts = Counter(plan.stages[folder].kind for folder in plan.stages if folder in folders)
    partitions = _partitions(profile) if profile else {}
    rows = [["job", "jobs", "cores", "GPUs", "memory", "time", *(["partition"] if profile else [])]]
    for kind, count in counts.items():
        for rule, jobs in _rules(kind, count, runtime["shards"]).items():
            if kind in NETWORKS and rule not in JOINS.values():
                own = resources_of(kind, runtime)
                asked = [cores_of(kind, own), own["gpu"], f"{own['memory']:,} MB", f"{own['minutes']:,} min"]
            elif kind in SMALL_JOBS or rule in JOINS.values():
                asked = [1, 0, f"{SMALL.memory:,} MB", f"{SMALL.minutes:,} min"]
            else:
                continue
            partition = [partitions.get(rule, partitions.get("", "-"))] if profile else []
            rows.append([rule, str(jobs), *map(str, asked), *partition])
    here = [kind for kind in counts if kind not in (*NETWORKS, *SMALL_JOBS)]
    said = [*columns(rows, left=(0, 6)), ""] if len(rows) > 1 else []
    if profile and len(rows) > 1:
        said.append("Cores, GPUs, memory and time are those of `runtime`; resources in the profile may change them.")
    said += [f"Run inside Snakemake, not as jobs: {', '.join(here)}."] if here else []
    return "".join(f"{line}\n" for line in said)


def resources_of(kind: str, runtime: Mapping[str, Any]) -> Mapping[str, Any]:
    """What that section of the configuration gives a job of a kind that runs a network: `gpu`, `memory` and so on.

    The search for the length of trainings is one process, whatever number of GPUs a training takes.
    """
    own: Mapping[str, Any] = runtime["train" if kind in TRAININGS else "predict"]
    return {**own, "gpu": min(1, own["gpu"])} if kind == "length" else own


def cores_of(kind: str, own: Mapping[str, Any]) -> int:
    """The cores of such a job, with these resources; only trainings have loader processes."""
    cores: int = max(1, own["gpu"]) * (own["threads"] + (own["workers"] if kind in TRAININGS else 0))
    return cores


JOINS = {"predict": "join_shards", "encode": "join_encoded"}
"""The rules that join the shards of a kind of stage."""


def _rules(kind: str, count: int, shards: int) -> dict[str, int]:
    """The rules that make stages of a kind, and how many jobs each has."""
    if kind in JOINS and shards > 1:
        return {f"{kind}_shard": count * shards, JOINS[kind]: count}
    return {kind: count}


def _partitions(profile: Path) -> dict[str, str]:
    """Rule -> partition of its jobs, by a profile; "" is that of all others. Trainings are called `train`."""
    content = yaml.safe_load((profile / "config.yaml").read_text(encoding="utf-8")) or {}
    found = {"": _partition(content.get("default-resources"))}
    for rule, resources in _pairs(content.get("set-resources"), ":").items():
        name = "train" if rule.startswith("train_") else rule
        found[name] = _partition(resources if isinstance(resources, Mapping) else [resources])
    return {rule: partition for rule, partition in found.items() if partition}


def _partition(resources: Any) -> str:
    return str(_pairs(resources, "=").get("slurm_partition", ""))


def _pairs(given: Any, sign: str) -> dict[str, Any]:
    """A mapping of a profile, which may also be a list of texts with a sign between key and value."""
    if isinstance(given, Mapping):
        return dict(given)
    return {key: value for key, _, value in (str(text).partition(sign) for text in given or [])}
