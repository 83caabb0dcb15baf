"""The paper's experiments: each plans its rows, shares what its rows share, and has the paper's numbers beside it."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Snakemake
from identities import folders
from test_experiments import dry_run, jobs, write_pair

from stpp.engine.optimisation import base_rate
from stpp.methods import methods
from stpp.plan.counts import labeled_repeat
from stpp.settings.configfile import read, resolved

PAPER = ROOT / "experiments/paper"
IMAGES = 32

with (PAPER / "published.csv").open(newline="") as file:
    PUBLISHED = list(csv.DictReader(file))


def write_pascal(root: Path, splits: list[str]) -> None:
    """One pool of images with masks; each split has another half of them as its labeled ones."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(IMAGES):
        image, mask = f"JPEGImages/{i}.jpg", f"SegmentationClass/{i}.png"
        write_pair(root / image, root / mask, 21, rng)
        lines.append(f"{image} {mask}\n")
    write_pair(root / "JPEGImages/val.jpg", root / "SegmentationClass/val.png", 21, rng)
    lists = {"val": ["JPEGImages/val.jpg SegmentationClass/val.png\n"]}
    for start, split in enumerate(splits):
        turned = lines[start:] + lines[:start]
        half = IMAGES // 2
        lists |= {f"{split}/labeled": turned[:half], f"{split}/unlabeled": turned[half:]}
    for name, content in lists.items():
        path = root / "splits" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(content))


def trainings(counts: dict[str, int]) -> dict[str, int]:
    """Number of trainings: of teachers, whatever their K, and of each kind of student."""
    found: dict[str, int] = {}
    for rule, count in counts.items():
        if rule.startswith("train_"):
            kind = "teacher" if rule.startswith("train_teacher") else rule.removeprefix("train_").removesuffix("_val")
            found[kind] = found.get(kind, 0) + count
    return found


def two_phases(count: int) -> dict[str, int]:
    """Both students of so many rows that share none."""
    return {"student_phase1": count, "student_phase2": count}


THIRDS = ["1_16", "1_8", "1_4"]
OTHERS = {"cct": 3, "dcc": 9, "ecs": 2, "advsemiseg": 3, "s4l": 3, "gct": 6, "s4gan": 3}
PASCAL: dict[str, tuple[list[str], dict[str, int]]] = {
    # a teacher for each network and labeled set serves three rows
    "pascal": (THIRDS, {"teacher": 12, "student": 12, **two_phases(12), "mean_teacher": 3, **OTHERS}),
    "pascal-cps": (
        [f"cps/{part}" for part in THIRDS],
        {
            "teacher": 6,
            "student": 6,
            **two_phases(6),
            "cutmix_seg": 6,
            "cps": 6,
            "cps_cutmix": 6,
            "unimatch": 3,
            "augseg": 6,
            "u2pl": 6,
            "cct": 6,
            "gct": 6,
        },
    ),
    "pascal-high-quality": (
        [f"high-quality/{count}" for count in (92, 183, 366, 732, 1464)],
        {
            "teacher": 5,
            "student": 5,
            **two_phases(5),
            "supervised": 1,
            "cutmix_seg": 4,
            "cps": 4,
            "unimatch": 5,
            "u2pl": 5,
            "augseg": 5,
            "gct": 4,
            "pseudoseg": 5,
            "pc2seg": 5,
        },
    ),
    "pascal-dinov2": (
        [f"high-quality/{count}" for count in (92, 183, 366, 732, 1464)],
        {"teacher": 10, "unimatch": 5, "unimatch_v2": 15},
    ),
    "ablations": (
        THIRDS,
        {
            # one for each labeled set, and for K = 2 and K = 5
            "teacher": 3 + 2,
            # plain, strong on all, st; each augmentation alone, all but each
            "student": 3 * 3 + 4 + 4,
            # random, st++, pixel; shares, K, all pairs, confidence
            "student_phase1": 3 * 3 + 2 + 2 + 1 + 1,
            # those, and the student's labels for the reliable images
            "student_phase2": 3 * 3 + 2 + 2 + 1 + 1 + 1,
            "student_phase3": 1,
            "student_phase4": 1,
            "supervised": 1,
        },
    ),
}


def test_the_rates_with_dinov2_are_those_of_unimatch_v2_in_every_row() -> None:
    """5e-6 for the encoder and 40 times as much for the decoder, with 16 labeled images a batch."""
    config = read(PAPER / "pascal-dinov2.yaml")
    for name, experiment in config.experiments.items():
        training = getattr(resolved(config, name).training, "teacher" if experiment.method == "suponly" else "student")
        assert base_rate(training.model_dump()) == pytest.approx(5e-6), name
        assert training.head_multiplier == 40 and training.batch_size == (16 if experiment.method == "suponly" else 32)


@pytest.mark.parametrize("name", PASCAL)
def test_a_table_on_pascal_trains_what_its_rows_do_not_share(name: str, tmp_path: Path, snakemake: Snakemake) -> None:
    splits, expected = PASCAL[name]
    write_pascal(tmp_path / "voc", splits)
    weights = tmp_path / "data/weights/deeplabv2-coco.pth"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    counts = jobs(dry_run(tmp_path, PAPER / f"{name}.yaml", tmp_path / "voc", snakemake))
    assert trainings(counts) == expected
    assert counts["weights"] == (2 if name in ("pascal", "pascal-cps", "pascal-dinov2") else 1)
    if name == "ablations":
        # K = 3 on three labeled sets, K = 2, K = 5, and all pairs
        assert counts["score"] == 3 + 2 + 1
        # stable ones of each score, two more shares, random ones of each labeled set
        assert counts["select"] == 6 + 2 + 3
        assert counts["pixels"] == 3 + 1


def test_the_table_on_cityscapes_has_a_teacher_a_network_and_labeled_set(tmp_path: Path, snakemake: Snakemake) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "cityscapes"
    for split, count in (("train", 760), ("val", 1)):
        for i in range(count):
            stem = f"{split}/ulm/ulm_{i:06d}_000019"
            image, mask = f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelTrainIds.png"
            if i == 0:
                write_pair(root / image, root / mask, 19, rng)
                first = image, mask
            else:  # the same picture: nobody compares unlabeled ones
                for path, source in zip((image, mask), first):
                    (root / path).write_bytes((root / source).read_bytes() + f"{i}".encode())
    counts = jobs(dry_run(tmp_path, PAPER / "cityscapes.yaml", root, snakemake))
    online = {"cutmix_seg": 3, "classmix": 2, "cps_cutmix": 2, "unimatch": 4, "augseg": 4, "u2pl": 4}
    online |= {"pseudoseg": 3, "dcc": 2}
    assert trainings(counts) == {"teacher": 6, "student": 3, **two_phases(3), **online}
    assert counts["weights"] == 2


def test_camvid_has_a_teacher_a_labeled_set_and_one_that_trains_as_long_as_a_student(
    tmp_path: Path, snakemake: Snakemake
) -> None:
    root = tmp_path / "camvid"
    rng = np.random.default_rng(0)
    (root / "splits").mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(f"c{c}" for c in range(11)))
    lines = [f"images/{i}.png masks/{i}.png\n" for i in range(368)]
    write_pair(root / "images/0.png", root / "masks/0.png", 11, rng)
    for i in range(1, 368):
        for kind in ("images", "masks"):
            (root / f"{kind}/{i}.png").write_bytes((root / f"{kind}/0.png").read_bytes() + f"{i}".encode())
    (root / "splits/val.txt").write_text(lines.pop())
    for split, labeled in (("1_8", 45), ("1_16", 22)):
        (root / "splits" / split).mkdir()
        (root / f"splits/{split}/labeled.txt").write_text("".join(lines[:labeled]))
        (root / f"splits/{split}/unlabeled.txt").write_text("".join(lines[labeled:]))

    counts = jobs(dry_run(tmp_path, ROOT / "experiments/camvid.yaml", root, snakemake))
    assert trainings(counts) == {"teacher": 3 * 4, "student": 3 * 2, **two_phases(3 * 4)}
    training = read(ROOT / "experiments/camvid.yaml").training
    for long, labeled in ((672, 45), (1720, 22)):
        teacher = labeled * labeled_repeat("teacher", labeled, 0) // training.teacher.batch_size
        pseudo = 367 - labeled
        student = (labeled * labeled_repeat("student", labeled, pseudo) + pseudo) // training.student.batch_size
        assert long * teacher == training.student.epochs * student


def test_the_ablations_on_the_demo_have_one_teacher_a_seed_and_k(tmp_path: Path, snakemake: Snakemake) -> None:
    few: dict[str, Any] = {"demo": {"labeled": 16, "unlabeled": 20, "val": 1, "test": 1, "seed": 0}}
    output = dry_run(tmp_path, ROOT / "experiments/ablations-demo.yaml", tmp_path / "scenes", snakemake, data=few)
    per_seed = {
        "teacher": 1 + 2,
        "student": 3 + 4 + 4,
        "student_phase1": 3 + 2 + 2 + 1 + 1,
        "student_phase2": 3 + 2 + 2 + 1 + 1 + 1,
        "student_phase3": 1,
        "student_phase4": 1,
        "supervised": 1,
    }
    assert trainings(jobs(output)) == {kind: 3 * count for kind, count in per_seed.items()}


def test_the_methods_on_the_demo_share_the_teachers_and_train_each_control(
    tmp_path: Path, snakemake: Snakemake
) -> None:
    few: dict[str, Any] = {"demo": {"labeled": 16, "unlabeled": 20, "val": 1, "test": 1, "seed": 0}}
    output = dry_run(tmp_path, ROOT / "experiments/methods-demo.yaml", tmp_path / "scenes", snakemake, data=few)
    online = {method.target: 2 for method in methods() if method.online}
    phases = {"student_phase1": 2, "student_phase2": 2, **{f"dmt{number}": 1 for number in (1, 2, 3, 4)}}
    per_seed = {"teacher": 1, "peer": 1, "student": 1, "supervised": 1, **phases, **online}
    per_seed["cutmix_seg"] += 1  # from the teacher
    assert trainings(jobs(output)) == {kind: 3 * count for kind, count in per_seed.items()}


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("config.yaml", "experiments/ablations-demo.yaml"),
        ("experiments/pascal.yaml", "experiments/paper/ablations.yaml"),
    ],
)
def test_a_configuration_is_a_part_of_its_ablations(small: str, large: str) -> None:
    assert set(folders(ROOT / small)) <= set(folders(ROOT / large))


def test_the_ablations_on_the_demo_are_the_papers() -> None:
    paper = read(PAPER / "ablations.yaml").experiments
    demo = read(ROOT / "experiments/ablations-demo.yaml").experiments
    assert list(demo) == [name.removeprefix("1_8-") for name in paper if name.startswith("1_8-")]
    for name, experiment in demo.items():
        assert experiment == paper[f"1_8-{name}"].model_copy(update={"data": {}}) or name == "strong-on-all"


# --- published numbers ------------------------------------------------------------------------------------------------


def test_every_row_of_the_papers_tables_has_its_number() -> None:
    for path in PAPER.glob("*.yaml"):
        config = read(path)
        assert config.published == "experiments/paper/published.csv"
        ours = [row for row in PUBLISHED if row["config"] == config.name and row["experiment"]]
        rows = {row["experiment"] for row in ours}
        assert rows <= set(config.experiments)
        # One number stands in the column of a row of the table.
        assert len({(row["experiment"], row["role"]) for row in ours}) == len(ours)
        if path.stem != "ablations":
            # This one is what another is compared with.
            assert set(config.experiments) - rows == ({"1_30-r101-suponly"} if path.stem == "cityscapes" else set())
        for row in ours:
            method = config.experiments[row["experiment"]].method
            roles = {"suponly": {"teacher"}, "supervised": {"supervised"}, "pixel": {"phase1", "student"}}
            assert row["role"] in roles.get(method, {"student"}), row
            assert row["experiment"].startswith(row["labels"].replace("/", "_")) or path.stem not in (
                "cityscapes",
                "ablations",
            )


def test_a_number_stands_beside_its_network() -> None:
    for path in PAPER.glob("*.yaml"):
        config = read(path)
        for row in PUBLISHED:
            if row["config"] == config.name and row["experiment"]:
                network = resolved(config, row["experiment"]).network
                name = f"{network.architecture} {network.backbone}"
                said = row["network"].lower().replace("+", "plus").replace("resnet-", "resnet").split(",")[0]
                for size in ("small", "base"):
                    said = said.replace(f"dinov2-{size[0]}", f"timm/vit_{size}_patch14_dinov2.lvd142m")
                assert said == name, row


def test_every_number_says_what_it_is_and_where_it_stands() -> None:
    keys = [tuple(row[key] for key in ("config", "network", "labels", "method")) for row in PUBLISHED]
    assert len(set(keys)) == len(keys)
    names = {read(path).name for path in PAPER.glob("*.yaml")}
    for row in PUBLISHED:
        assert row["config"] in names
        assert row["source"] and row["method"] and row["network"] and row["labels"]
        assert bool(row["experiment"]) == bool(row["role"])
        assert 40 < float(row["miou"]) < 95


def test_the_numbers_of_the_paper_say_what_its_text_says() -> None:
    """In each table ST is better than the labels alone, and ST++ better than ST."""
    by_row = {(row["config"], row["experiment"]): float(row["miou"]) for row in PUBLISHED if row["role"] != "phase1"}
    compared = 0
    for (config, experiment), miou in by_row.items():
        if experiment.endswith("-st++"):
            start = experiment.removesuffix("st++")
            assert miou > by_row[config, f"{start}st"]
            assert by_row[config, f"{start}st"] > by_row.get((config, f"{start}suponly"), 0)
            compared += 1
    assert compared == 12 + 6 + 5 + 3 + 3


def test_students_of_the_paper_train_for_longer_than_its_teachers_as_the_documentation_says() -> None:
    def times(labeled: int, images: int, share: float = 1) -> float:
        """Images in an epoch of a student, over those in an epoch of the teacher."""
        pseudo = int(share * (images - labeled))
        student = pseudo + labeled * labeled_repeat("student", labeled, pseudo)
        return student / (labeled * labeled_repeat("teacher", labeled, 0))

    sizes = [*((labeled, 10582) for labeled in (662, 1323, 2645)), *((labeled, 2975) for labeled in (100, 372, 744))]
    found = [times(*size, share) for size in sizes for share in (0.5, 1)]
    text = (ROOT / "docs/experiments.md").read_text()
    assert f"{min(found):.2g} times (the first phase with 1/4 labeled) to {max(found):.0f} times (1/16 of" in text
    assert min(found) == times(744, 2975, 0.5) and max(found) == times(662, 10582)
    assert f"with 92 labeled images for {times(92, 10582):.0f} times" in text
