"""Which experiments stand beside each other, and the runs over several partitions."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fabricate
import pytest
from conftest import ROOT
from fabricate import plan_of

from stpp.commands.workflow import prepare, write
from stpp.common.errors import Problems
from stpp.plan.comparisons import baselines
from stpp.plan.graph import Plan
from stpp.settings.configfile import load, read, resolved

STRONG = ("jitter", "grayscale", "blur", "cutout")


def only(*parts: str) -> dict[str, Any]:
    """An ST with these parts of the strong augmentation."""
    off = {part: None for part in STRONG if part not in parts}
    return {"method": "st", "augmentation": {"student": {"unlabeled": off}}}


def chart(plan: Plan, name: str) -> dict[str, Any]:
    """The settings of a chart."""
    return dict(plan.stages[plan.charts[name]].settings)


def planned(experiments: dict[str, Any], **changes: Any) -> Plan:
    return plan_of(fabricate.tiny(experiments=experiments, **changes))


@pytest.mark.parametrize(
    ("methods", "expected"),
    [(["st", "suponly", "random"], "suponly"), (["st", "random"], "st"), (["suponly"], "suponly")],
)
def test_the_baseline_is_the_first_suponly_or_the_first(methods: Sequence[str], expected: str) -> None:
    config = load(fabricate.tiny(experiments={method: {"method": method} for method in methods}))
    assert baselines(config, resolved) == dict.fromkeys(methods, expected)


def test_the_baseline_can_be_named() -> None:
    experiments = {"suponly": {"method": "suponly"}, "st": {"method": "st"}}
    assert baselines(load(fabricate.tiny(experiments=experiments, baseline="st")), resolved)["suponly"] == "st"
    with pytest.raises(Problems, match="baseline must be one of the experiments suponly, st"):
        load(fabricate.tiny(experiments=experiments, baseline="supony"))


def test_the_papers_tables_compare_within_a_network_and_a_labeled_set() -> None:
    config = read(ROOT / "experiments/paper/pascal.yaml")
    for name, baseline in baselines(config, resolved).items():
        assert baseline == f"{name.rpartition('-')[0]}-suponly"


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").rglob("*.yaml")), ids=lambda path: path.stem)
def test_the_projects_experiments_are_compared_with_labels_alone_of_the_same_set_and_network(path: Path) -> None:
    config = read(path)
    for name, baseline in baselines(config, resolved).items():
        ours, other = resolved(config, name), resolved(config, baseline)
        assert (ours.data, ours.network) == (other.data, other.network)
        assert config.experiments[baseline].method == "suponly" or len(config.experiments) == 1


def test_camvid_is_compared_with_labels_alone_for_as_many_iterations() -> None:
    config = read(ROOT / "experiments/camvid.yaml")
    assert set(baselines(config, resolved).values()) == {"suponly-long", "1_16-suponly-long"}


def test_charts_are_drawn_of_what_there_will_be() -> None:
    assert planned({"st": {"method": "st"}}).charts == {}
    plan = planned({"st++": {"method": "st++"}, "random": {"method": "random"}}, seeds=[0, 1])
    assert set(plan.charts) == {"pseudo-labels", "phases", "stability"}
    assert chart(plan, "pseudo-labels")["experiments"] == ["st++"]
    assert chart(plan, "phases")["experiments"] == ["st++", "random"]
    stability = plan.stages[plan.charts["stability"]]
    assert [run["seed"] for run in stability.settings["runs"]] == [0, 1]
    assert len(stability.inputs["scores"]) == len(stability.inputs["images"]) == 2


def test_the_chart_of_augmentations_compares_what_differs_in_nothing_else() -> None:
    experiments = {
        "plain": {"method": "plain"},
        "st": {"method": "st"},
        "jitter": only("jitter"),
        "no-blur": only("jitter", "grayscale", "cutout"),
        "k-2": only("blur") | {"selection": {"checkpoints": 2}},
        "labeled-too": {"method": "st", "augmentation": {"student": {"labeled": {"jitter": {}}}}},
    }
    strong = {"augmentation": {"student": {"unlabeled": {key: {} for key in STRONG}}}}
    rows = chart(planned(experiments, **strong), "augmentations")["rows"]
    assert {row["experiment"]: row["label"] for row in rows} == {
        "plain": "none",
        "jitter": "jitter alone",
        "no-blur": "all but blur",
        "st": "all four",
    }
    del experiments["st"]
    assert "augmentations" not in planned(experiments, **strong).charts


def test_iterations_are_those_of_the_longest_chains() -> None:
    experiments = {
        "st++": {"method": "st++"},
        "three": {"method": "st++", "training": {"further_phases": 1}},
        "four": {"method": "st++", "training": {"further_phases": 2}},
        "other": {"method": "random", "training": {"further_phases": 1}},
    }
    plan = planned(experiments)
    assert chart(plan, "iterations")["experiments"] == ["four", "other"]
    assert chart(plan, "phases")["experiments"] == ["st++"]
    # they share the scores
    assert {run["experiment"] for run in chart(plan, "stability")["runs"]} == {"st++"}


def test_the_ablations_have_every_chart_of_the_paper() -> None:
    config = read(ROOT / "experiments/ablations-demo.yaml")
    plan = plan_of(config.model_dump(exclude_unset=True, exclude={"baseline"}))
    assert set(plan.charts) == {"augmentations", "pseudo-labels", "phases", "iterations", "stability"}
    assert len(chart(plan, "augmentations")["rows"]) == 1 + 4 + 4 + 1
    assert chart(plan, "pseudo-labels")["experiments"] == ["st++", "share-25", "share-75", "k-2", "k-5", "all-pairs"]


# --- partitions -------------------------------------------------------------------------------------------------------

DRAWS = [{"partition": {"seed": 1}}, {"partition": {"seed": 2}}]


def test_every_experiment_runs_once_for_each_partition_and_seed(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        fabricate.write_scenes(tmp_path / "my scenes", fabricate.COUNTS | {"labeled": 10})
        config = fabricate.tiny(partitions=DRAWS, seeds=[0, 1], experiments={"suponly": {"method": "suponly"}})
        config["data"] |= {"unlabeled": None, "partition": {"count": 4}}
        checked = read(fabricate.write_config(tmp_path, config))
        write(checked, prepare(checked, print))
    runs = sorted(path.name for path in tmp_path.glob("my results/runs/tiny/experiments/suponly/*"))
    assert runs == ["seed0-partition1", "seed0-partition2", "seed1-partition1", "seed1-partition2"]
    assert len(list(tmp_path.glob("my results/stages/train/*"))) == 4
    assert len(list(tmp_path.glob("my results/data/labeled-*.csv"))) == 2


def test_a_run_says_its_partition_where_there_are_several() -> None:
    assert [run.name for run in planned({"st": {"method": "st"}}, seeds=[3]).runs] == ["seed3"]
    data = fabricate.tiny()["data"] | {"unlabeled": None, "partition": {"count": 4}}
    runs = planned({"st": {"method": "st"}}, partitions=DRAWS, data=data).runs
    assert [(run.partition, run.name) for run in runs] == [(1, "seed0-partition1"), (2, "seed0-partition2")]


@pytest.mark.parametrize(
    ("partitions", "said"),
    [
        ([{"partition": {"sed": 1}}], "partitions.0: data.partition.sed: unknown setting; did you mean 'seed'"),
        (DRAWS[:1] * 2, "partitions must differ from each other"),
    ],
)
def test_a_wrong_partition_is_a_clear_message(partitions: list[Any], said: str) -> None:
    raw = fabricate.tiny(partitions=partitions)
    raw["data"] |= {"unlabeled": None, "partition": {"count": 4}}
    with pytest.raises(Problems) as problems:
        load(raw)
    assert said in str(problems.value)
    assert str(problems.value).count("sed") <= 1
