"""Which network is handed over, against the rule computed by hand, and what is said of unlabeled images."""

import json
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

import fabricate
import pandas as pd
import pytest
import torch
from PIL import Image

import stpp
from stpp.commands.cli import main
from stpp.commands.origin import palette_beside, provenance
from stpp.common.errors import Problems, StppError
from stpp.common.wording import in_markdown
from stpp.report.statistics import PAIRED_BY
from stpp.report.verdict import Candidate, advice, comparison, doubts, measured, standard_error, verdict
from stpp.store.masks import voc_palette

PREDICTION = {"precision": "fp32", "long_side": None, "tile": None, "overlap": None}
VAL = {"folds": 0, "images": 40, "names": ["a", "b"], "confusion": [[3, 1], [2, 2]], "miou": 0.5}


def candidate(
    experiment: str, by_image: list[list[float]], trainings: int = 1, test: list[float] | None = None
) -> Candidate:
    """A network with these mIoU by run and image; that of val is their mean."""
    keys = [(0, seed) for seed in range(len(by_image))]
    index = pd.MultiIndex.from_tuples(keys, names=["partition", "seed"])
    val = pd.Series([statistics.mean(row) for row in by_image], index)
    images = pd.DataFrame(by_image, index)
    runs = [{"partition": 0, "seed": seed, "checkpoint": f"train/{experiment}{seed}/last.pt"} for _, seed in keys]
    recipe = {
        "experiment": experiment,
        "network": "x",
        "title": "final student" if trainings > 1 else "teacher",
        "trainings": trainings,
        "unlabeled": trainings > 1,
        "scored": trainings > 2,
        "prediction": PREDICTION,
        "runs": runs,
    }
    return Candidate(recipe, val, pd.Series(test or [], index if test else None, dtype=float), images)


def test_a_clearly_better_student_is_taken_and_its_best_run() -> None:
    teacher = candidate("suponly", [[0.50, 0.52, 0.51], [0.51, 0.50, 0.52]])
    student = candidate("st", [[0.60, 0.62, 0.61], [0.63, 0.62, 0.64]], trainings=2)
    found = verdict([teacher, student], VAL)
    assert (found.chosen, found.run) == (student, 1)
    assert found.sentences[0] == "model.pt is the final student of st, seed 1: 63.0 % mIoU on 40 val images."
    assert found.sentences[-1] == "2 networks of suponly, st were compared on val."


def test_a_student_within_the_noise_is_not_worth_another_training() -> None:
    teacher = candidate("suponly", [[0.50, 0.60, 0.40, 0.50]])
    student = candidate("st", [[0.60, 0.50, 0.50, 0.44]], trainings=2)
    found = verdict([teacher, student], VAL)
    assert found.chosen is teacher
    assert "so the simpler network is preferred" in found.sentences[3]
    differences = [0.1, -0.1, 0.1, -0.06]
    error = 100 * statistics.stdev(differences) / 2
    assert (
        f"(one run says nothing about other seeds; over the images of val, the standard error is {error:.1f} points)"
        in (found.sentences[2])
    )
    assert found.advice[0].endswith(", or repeat this with `seeds: [0, 1, 2]` to know how much chance is in it.")


def test_a_student_below_its_teacher_is_never_taken() -> None:
    teacher = candidate("suponly", [[0.60, 0.62, 0.61]])
    student = candidate("st", [[0.50, 0.52, 0.51]], trainings=2)
    assert verdict([teacher, student], VAL).chosen is teacher
    assert verdict([student, teacher], VAL).chosen is teacher


def test_the_standard_error_adds_images_and_runs_in_squares() -> None:
    one = candidate("a", [[0.5, 0.7, 0.6], [0.4, 0.6, 0.8]])
    two = candidate("b", [[0.4, 0.5, 0.6], [0.5, 0.5, 0.6]])
    by_image = [(0.1 - 0.1) / 2, (0.2 + 0.1) / 2, (0.0 + 0.2) / 2]
    by_run = [0.6 - 0.5, 0.6 - 1.6 / 3]
    expected = math.sqrt(statistics.variance(by_image) / 3 + statistics.variance(by_run) / 2)
    assert standard_error(one, two) == pytest.approx(expected)
    assert standard_error(one, one) == 0


def test_of_several_partitions_each_counts_once_in_the_standard_error() -> None:
    index = pd.MultiIndex.from_tuples([(1, 0), (1, 1), (2, 0), (2, 1)], names=["partition", "seed"])
    one, two = candidate("a", [[0.5]]), candidate("b", [[0.5]])
    values = [0.6, 0.7, 0.5, 0.5]
    one = Candidate(one.recipe, pd.Series(values, index), one.test, one.images)
    two = Candidate(two.recipe, pd.Series([0.5] * 4, index), two.test, two.images)
    assert standard_error(one, two) == pytest.approx(math.sqrt(statistics.variance([0.15, 0.0]) / 2))


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ([[0.50, 0.51, 0.52], [0.60, 0.611, 0.621]], "Unlabeled images paid: 61.1 % mIoU with them +10.1"),
        (
            [[0.50, 0.51, 0.52], [0.60, 0.30, 0.70]],
            "Unlabeled images may have paid: 53.3 % mIoU with them +2.3",
        ),
        ([[0.50, 0.51, 0.52], [0.40, 0.41, 0.42]], "Unlabeled images did not pay: 41.0 % mIoU with them -10.0"),
    ],
)
def test_whether_unlabeled_images_paid_is_measured_on_test(test: list[list[float]], said: str) -> None:
    rows = [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    teacher, student = candidate("suponly", rows, 1, test[0]), candidate("st", rows, 2, test[1])
    _, answer, reason, *_ = verdict([teacher, student], VAL).sentences
    begins, _, gain = said.rpartition(" ")
    assert answer == f"{begins}, 51.0 % with labels alone."
    assert reason.startswith(
        "This is the final student of st against the teacher of suponly, the best from labels alone, on test: "
        f"{gain} points (95 % interval ["
    )


def test_what_to_do_next_depends_on_what_is_known() -> None:
    def advice_of(without: list[float], with_them: list[float], trainings: int = 2, partitions: bool = False) -> str:
        teacher = candidate("suponly", [[each] for each in without])
        student = candidate("st", [[each] for each in with_them], trainings)
        if partitions:
            for each in (teacher, student):
                each.val.index = pd.MultiIndex.from_tuples([(1 + n, 0) for n in range(2)], names=PAIRED_BY)
        judged = [teacher, student]
        (said,) = advice(judged, comparison(judged))
        return said

    by_seeds = "Next: label more images, or repeat this with `seeds: [0, 1, 2]` to know how much chance is in it."
    assert advice_of([0.5], [0.6]) == by_seeds
    assert advice_of([0.5, 0.5], [0.6, 0.4]) == by_seeds
    assert advice_of([0.5, 0.5], [0.6, 0.4], partitions=True) == by_seeds.replace(
        "`seeds: [0, 1, 2]`", "more partitions"
    )
    alone = "Next: label more images."
    assert advice_of([0.5, 0.5], [0.601, 0.6]) == advice_of([0.5, 0.5], [0.401, 0.4]) == alone
    assert advice_of([0.5] * 3, [0.6, 0.4, 0.5]) == alone
    assert advice_of([0.5] * 3, [0.6, 0.4, 0.5], trainings=3) == "Next: label more images, which `stpp next` chooses."
    alone_judged = [candidate("suponly", [[0.5]])]
    assert comparison(alone_judged) is None and advice(alone_judged, None) == []


def test_without_val_the_fewest_trainings_are_taken_and_the_reason_is_said() -> None:
    teacher = candidate("suponly", [[0.5]])
    unmeasured = Candidate(teacher.recipe, pd.Series(dtype=float), teacher.test, pd.DataFrame())
    found = verdict([unmeasured], None)
    assert found.chosen is unmeasured
    assert "There is no val set" in found.sentences[1]


def test_a_poor_val_set_is_said_to_be_one() -> None:
    assert doubts(VAL) == []
    small, absent = doubts(VAL | {"images": 19, "confusion": [[3, 1], [0, 0]]})
    assert small == "19 val images are too few to choose by: give val at least 20."
    assert absent == "No val image shows b, so nothing is known of it."
    (few,) = doubts(VAL | {"folds": 3, "images": 1})
    assert few == "1 labeled image is too few to choose by: label at least 20."


def test_folds_stand_for_val_and_are_named() -> None:
    teacher = candidate("suponly", [[0.50, 0.60, 0.40, 0.50]], 1)
    student = candidate("st", [[0.60, 0.50, 0.50, 0.44]], trainings=2)
    said = verdict([teacher, student], VAL | {"folds": 4}).sentences
    assert said[0].endswith(
        "50.0 % mIoU on the 40 labeled images, each predicted by a network of the same kind that had not seen it "
        "(4 folds)."
    )
    assert said[1] == "Unlabeled images may have paid: 51.0 % mIoU with them, 50.0 % with labels alone."
    assert "on the folds, which chose both: +1.0 points" in said[2]
    assert said[3].startswith("On the folds, the final student of st is 1.0 points higher")


def test_folds_are_judged_together(tmp_path: Path) -> None:
    experiments = {name: {"method": name} for name in ("suponly", "st")}
    changes: dict[str, Any] = {"folds": 2, "data": fabricate.TINY["data"] | {"val": None}, "experiments": experiments}
    folder = fabricate.computed(tmp_path / "run", "chart", "report", **changes)
    stages = folder / "my results/stages"
    (stage,) = stages.glob("verdict/*")
    for each in json.loads((stage / "recipe.json").read_text())["settings"]["candidates"]:
        (run,) = each["runs"]
        held = [json.loads((stages / path / "metrics.json").read_text()) for path in run["folds"]]
        confusion = [[sum(metrics["confusion"][i][j] for metrics in held) for j in range(3)] for i in range(3)]
        iou = []
        for c in range(3):
            either = sum(confusion[c]) + sum(row[c] for row in confusion) - confusion[c][c]
            iou += [confusion[c][c] / either] if either else []
        found = measured(each, stages)
        assert found.val.tolist() == [pytest.approx(statistics.mean(iou))]
        assert sorted(found.images.columns) == [f"images/labeled{number}" for number in range(4)]
        # Each network of a fold has learned from the other labeled images alone.
        for path, metrics in zip(run["folds"], held):
            recipe = json.loads((stages / path / "recipe.json").read_text())
            training = stages / recipe["inputs"]["checkpoint"].rpartition("/")[0]
            assert metrics["images"] == 2 and metrics["subset"] == "test"
            assert json.loads((training / "recipe.json").read_text())["data"]["labeled"] != recipe["data"]["test"]
        assert "/".join(run["checkpoint"].split("/")[:2]) not in {
            json.loads((stages / path / "recipe.json").read_text())["inputs"]["checkpoint"].rpartition("/")[0]
            for path in run["folds"]
        }
    assert "(2 folds)" in json.loads((stage / "verdict.json").read_text())["sentences"][0]


def test_folds_beside_a_val_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Problems, match="`folds: 3` stands for a val set, but there is one, of 2 images"):
        fabricate.planned(tmp_path, folds=3)


def test_the_candidates_of_a_plan_are_all_networks_once_but_for_the_upper_bound() -> None:
    experiments = {name: {"method": name} for name in ("suponly", "st", "st++", "supervised")}
    plan = fabricate.plan_of(fabricate.tiny(experiments=experiments))
    found = plan.stages[plan.verdict].settings["candidates"]
    told = [(each["experiment"], each["network"], each["trainings"], each["unlabeled"]) for each in found]
    assert told == [
        ("suponly", "teacher", 1, False),
        ("st", "student", 2, True),
        ("st++", "phase1", 2, True),
        ("st++", "student", 3, True),
    ]


def test_other_data_are_no_competition() -> None:
    experiments: dict[str, Any] = {
        "suponly": {"method": "suponly"},
        "fewer": {"method": "suponly", "data": {"label_map": {0: 0, 1: 1}}},
    }
    plan = fabricate.plan_of(fabricate.tiny(experiments=experiments))
    assert [each["experiment"] for each in plan.stages[plan.verdict].settings["candidates"]] == ["suponly"]


def test_the_model_is_the_chosen_checkpoint(finished: Path) -> None:
    folder = finished / "my results/tiny"
    told = json.loads((folder / "verdict.json").read_text())
    model = told["model"]
    run = (
        finished / "my results/runs/tiny/experiments" / model["experiment"] / f"seed{model['seed']}" / model["network"]
    )
    ours, chosen = (
        torch.load(path, weights_only=True) for path in (folder / "model.pt", run / Path(model["checkpoint"]).name)
    )
    state, same = ours.pop("state_dict"), chosen.pop("state_dict")
    assert all(torch.equal(value, same[name]) for name, value in state.items()) and state.keys() == same.keys()
    usage = {"prediction": PREDICTION, "palette": voc_palette(3)}
    assert ours == chosen | usage
    assert (folder / "table.txt").read_text().startswith("\n".join(told["sentences"]))


def test_the_model_has_a_card(finished: Path) -> None:
    folder = finished / "my results/tiny"
    told = json.loads((folder / "verdict.json").read_text())
    text = (folder / "model-card.md").read_text()
    sentences = [sentence for sentence in told["sentences"] if not sentence.startswith("Next: ")]
    assert len(sentences) == len(told["sentences"]) - 1
    assert all(f"\n- {in_markdown(sentence)}\n" in text for sentence in sentences) and "Next: " not in text
    evaluations = provenance(folder / "model.pt").evaluations
    shares = {each.metrics["subset"]: each.metrics["iou"] for each in evaluations}
    assert shares
    for name in stpp.load(folder / "model.pt", "cpu").classes:
        cells = next(line for line in text.splitlines() if line.startswith(f"| {in_markdown(name)} |"))
        known = [shares[subset][name] for subset in ("val", "test") if subset in shares]
        assert [cell.strip() for cell in cells.split("|")[2:-1]] == [
            "" if share is None else f"{100 * share:.2f}" for share in known
        ]
    training = json.loads(
        (finished / "my results/stages" / told["model"]["checkpoint"]).with_name("recipe.json").read_text()
    )
    assert json.loads(text.split("```json")[1].split("```")[0]) == training["settings"]
    assert all(fingerprint in text for fingerprint in training["data"].values())


def test_the_model_has_the_past_of_the_chosen_checkpoint(finished: Path) -> None:
    told = json.loads((finished / "my results/tiny/verdict.json").read_text())
    checkpoint = finished / "my results/stages" / told["model"]["checkpoint"]
    found = provenance(finished / "my results/tiny/model.pt")
    (of_stage,) = (finished / "my results/stages/verdict").glob("*/model.pt")
    assert found == provenance(checkpoint) == provenance(of_stage)
    assert found.training is not None and found.evaluations


COLOURS = ["#102030", "#405060", "#708090"]


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a data set with colours of its own, whose images are resized to 24 px before they are read."""
    changes = {
        "data": fabricate.TINY["data"] | {"colors": COLOURS},
        "prediction": {"long_side": 24},
        "experiments": {"st": {"method": "st"}},
    }
    return fabricate.computed(tmp_path_factory.mktemp("coloured"), "table", "chart", "report", **changes)


def test_a_model_says_how_it_is_used_wherever_it_lies(coloured: Path, tmp_path: Path) -> None:
    shutil.copy(coloured / "my results/tiny/model.pt", tmp_path / "mine.pt")
    alone = stpp.load(tmp_path / "mine.pt", "cpu")
    assert alone.palette == [list(bytes.fromhex(colour[1:])) for colour in COLOURS]
    assert alone.prediction["long_side"] == 24
    assert alone.provenance.training is None


def test_every_checkpoint_and_every_mask_has_the_colours_of_the_data(coloured: Path, tmp_path: Path) -> None:
    run = coloured / "my results/runs/tiny/experiments/st/seed0"
    own = [list(bytes.fromhex(colour[1:])) for colour in COLOURS]
    for network in ("teacher", "student"):
        assert stpp.load(run / network / "last.pt", "cpu").palette == own
    assert main(["masks", str(run / "labels/masks.h5"), "--out", str(tmp_path / "pngs")]) == 0
    for path in (tmp_path / "pngs").rglob("*.png"):
        assert Image.open(path).getpalette()[:9] == [part for colour in own for part in colour]  # type: ignore[index]
    assert main(["export-labels", str(run), "--format", "voc", "--out", str(tmp_path / "voc")]) == 0
    assert all(colour in (tmp_path / "voc/classes.txt").read_text() for colour in COLOURS)


@pytest.mark.parametrize("palette", [7, [[0, 0]], [[0, 0, 256]], [["0", 0, 0]], [[0, 0, 0]] * 4])
def test_a_recipe_with_other_things_than_colours_is_refused(palette: object, coloured: Path, tmp_path: Path) -> None:
    (stage,) = (coloured / "my results/stages/train").glob("teacher*")
    recipe = json.loads((stage / "recipe.json").read_text())
    (tmp_path / "recipe.json").write_text(json.dumps(recipe | {"palette": palette}))
    with pytest.raises(StppError, match="was not written by stpp, or was edited: palette is "):
        palette_beside(tmp_path / "last.pt", ["a", "b", "c"])


@pytest.mark.parametrize("checkpoint", ["train/../../x.pt", "/x/y.pt", "evaluate/a/b.pt", 7, None])
def test_a_verdict_that_names_no_checkpoint_of_a_training_is_refused(checkpoint: object, tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text(json.dumps({"model": {"checkpoint": checkpoint}}))
    with pytest.raises(StppError, match=r"was not written by stpp, or was edited: model\.checkpoint is "):
        provenance(tmp_path / "model.pt")
