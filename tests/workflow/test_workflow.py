"""The workflow, through Snakemake itself: what runs, what does not run again, and what a rebuild gives."""

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fabricate
import numpy as np
import pytest
import yaml
from conftest import ROOT, Snakemake
from PIL import Image
from runs import TIMES

from stpp.settings.config import RESERVED

STAGE = re.compile(r"stages/(\w+)/([\w.+-]+?)-[0-9a-f]{8}\b")

Stages = Counter[str]


def planned(folder: Path, snakemake: Snakemake, project: Path = ROOT) -> Stages:
    """What a dry run would execute: `kind/slug` -> how many; seed and network are left out of the slugs."""
    output = snakemake(folder, "--dry-run", project=project).stdout
    commands = [line for line in output.splitlines() if line.startswith("Shell command: stpp")]
    stages = [STAGE.search(line.replace("'", "")) for line in commands]
    return Counter(
        f"{stage[1]}/{re.sub('-(val|noval)-deeplabv3plus-tiny|-seed[0-9]+', '', stage[2])}" for stage in stages if stage
    )


def test_the_outlook_is_made_first(tmp_path: Path, snakemake: Snakemake) -> None:
    fabricate.write_scenes(tmp_path / "my scenes")
    fabricate.write_config(tmp_path, fabricate.tiny(outlook=True, experiments={"st": {"method": "st"}}))
    snakemake(tmp_path, cores=("--cores", "1"))
    ended = {path.parent.name: path.stat().st_mtime for path in tmp_path.glob("my results/stages/*/*/stage.json")}
    (outlook,) = tmp_path.glob("my results/stages/outlook/*")
    later = {name for name, when in ended.items() if when > ended[outlook.name]}
    assert any(name.startswith("student") for name in later)
    assert not any(name.startswith("student") for name in ended.keys() - later)


TEACHER = Counter({"train/teacher-k3": 1, "evaluate/teacher-val": 1, "evaluate/teacher-test": 1})
MASKS = Counter({f"predict/masks-checkpoint{k}": 1 for k in (1, 2, 3)})
SCORE = Counter({"score/k3": 1})
STABLE = Counter({"select/stable-0.5": 1, "evaluate/stability-truth": 1})
RANDOM = Counter({"select/random-0.5": 1})
LABELS = Counter({"predict/labels-teacher": 1, "evaluate/labels-truth": 1})
STUDENT = Counter({"train/student": 1, "evaluate/student-val": 1, "evaluate/student-test": 1})
LABELS1 = Counter({"predict/labels-teacher-reliable": 2, "evaluate/labels1-truth": 2})
PHASES = Counter(
    {
        "train/student-phase1": 2,
        "evaluate/phase1-val": 2,
        "evaluate/phase1-test": 2,
        "predict/labels-phase1-unreliable": 2,
        "evaluate/labels2-truth": 2,
        "train/student-phase2": 2,
        "evaluate/student-val": 2,
        "evaluate/student-test": 2,
    }
)
TABLE = Counter({f"{stage}-tiny": 1 for stage in ("chart/pseudo-labels", "chart/phases", "chart/stability")})
TABLE |= Counter({"table/tiny": 1, "report/tiny": 1})
END = TABLE + Counter({"verdict/tiny": 1})
EVERYTHING = TEACHER + MASKS + SCORE + STABLE + RANDOM + LABELS + STUDENT + LABELS1 + PHASES + END
NOTHING: Stages = Counter()
AFTER_LABELING = LABELS + STUDENT + LABELS1 + PHASES + END


def renamed(stages: Stages, old: str, new: str) -> Stages:
    """The same stages with a part of their names replaced."""
    return Counter({name.replace(old, new): count for name, count in stages.items()})


def setting(*path: str, to: object) -> Callable[[Path, Path], None]:
    """An edit of `config.yaml`."""

    def edit(folder: Path, project: Path) -> None:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        section = config
        for key in path[:-1]:
            section = section.setdefault(key, {})
        section[path[-1]] = to
        fabricate.write_config(folder, config)

    return edit


def mask_pixel(name: str) -> Callable[[Path, Path], None]:
    """An edit of one pixel of a mask."""

    def edit(folder: Path, project: Path) -> None:
        path = folder / "my scenes" / "masks" / f"{name}.png"
        mask = np.array(Image.open(path))
        mask[0, 0] = 2 - mask[0, 0]
        Image.fromarray(mask).save(path)

    return edit


def touch(folder: Path, project: Path) -> None:
    """Every file of the data gets another time stamp."""
    for path in (folder / "my scenes").rglob("*"):
        os.utime(path, (1, 1))


def unlabeled_image(folder: Path, project: Path) -> None:
    """One more image, without a mask, in the unlabeled list."""
    scenes = folder / "my scenes"
    fabricate.write_scene(scenes, "extra", np.random.default_rng(9))
    (scenes / "masks/extra.png").unlink()
    fabricate.write_list(scenes, "unlabeled", [*(f"unlabeled{i}" for i in range(6)), "extra"])


EDITED = ("stpp/scoring/stability.py", "stpp/stages/train.py", "stpp/report/table.py")


def code(module: str, line: str) -> Callable[[Path, Path], None]:
    """A line of code at the end of one of these modules."""
    assert module in EDITED

    def edit(folder: Path, project: Path) -> None:
        path = project / module
        path.write_text(path.read_text() + f"\n{line}\n")

    return edit


K2 = renamed(EVERYTHING - RANDOM - Counter({"predict/masks-checkpoint3": 1}), "k3", "k2")
SHARE = renamed(STABLE + RANDOM, "0.5", "0.34") + LABELS1 + PHASES + END

EDITS: dict[str, tuple[Callable[[Path, Path], None], Stages]] = {
    "a label's bytes": (mask_pixel("labeled0"), EVERYTHING - RANDOM),
    "touched files": (touch, NOTHING),
    "an unlabeled image more": (unlabeled_image, EVERYTHING - TEACHER),
    "a val mask": (mask_pixel("val0"), EVERYTHING - RANDOM),
    "a test mask": (
        mask_pixel("test0"),
        Counter({"evaluate/teacher-test": 1, "evaluate/phase1-test": 2, "evaluate/student-test": 3}) + END,
    ),
    "a true mask of an unlabeled image, whose file has another size then": (
        mask_pixel("unlabeled0"),
        Counter({"evaluate/labels-truth": 1, "evaluate/labels1-truth": 2, "evaluate/labels2-truth": 2})
        + Counter({"evaluate/stability-truth": 1})
        + TABLE,
    ),
    "K": (setting("selection", "checkpoints", to=2), K2),
    "the teacher's epochs": (setting("training", "teacher", "epochs", to=4), EVERYTHING - RANDOM),
    "the students' epochs": (setting("training", "student", "epochs", to=3), STUDENT + PHASES + END),
    "a weak augmentation of the teacher": (
        setting("augmentation", "teacher", "labeled", "flip", to=0.0),
        EVERYTHING - RANDOM,
    ),
    "a weak augmentation of the students": (
        setting("augmentation", "student", "labeled", "flip", to=0.0),
        STUDENT + PHASES + END,
    ),
    "a strong augmentation": (
        setting("augmentation", "student", "unlabeled", "grayscale", to={"p": 0.3}),
        STUDENT + PHASES + END,
    ),
    "the reliable share": (setting("selection", "share", to=0.34), SHARE),
    "the labelling teacher's checkpoint": (setting("labeling", "teacher", to="best"), AFTER_LABELING),
    "the scales of the pseudo-labels": (setting("labeling", "scales", to=[1.0, 1.5]), AFTER_LABELING),
    "the seed": (setting("seeds", to=[1]), EVERYTHING),
    "workers, threads, memory and shards": (
        setting("runtime", to={"shards": 3, "train": {"workers": 2, "threads": 2}, "predict": {"memory": 999}}),
        NOTHING,
    ),
    "the experiments' order and names": (
        setting("experiments", to={"b": {"method": "st++"}, "a": {"method": "st"}}),
        END,
    ),
    "a line of code in scoring": (
        code("stpp/scoring/stability.py", "EXTRA = 1"),
        SCORE + STABLE + RANDOM + LABELS1 + PHASES + END,
    ),
    "a line of code in training": (code("stpp/stages/train.py", "EXTRA = 1"), EVERYTHING - RANDOM),
    "a line of code in the table": (code("stpp/report/table.py", "EXTRA = 1"), TABLE),
    "a comment and a docstring": (code("stpp/stages/train.py", '# a comment\n"""A text."""'), NOTHING),
}


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return shutil.copytree(finished, tmp_path / "run it", symlinks=True)


@pytest.fixture(scope="module")
def edited(
    finished: Path, tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake
) -> Iterator[tuple[Path, Path]]:
    """A copy of the finished run and one of the project, for edits that are undone; then there is nothing to do."""
    folder, project = (tmp_path_factory.mktemp("edits") / name for name in ("run it", "project"))
    shutil.copytree(finished, folder, symlinks=True)
    for name in ("stpp", "rules", "profiles", "envs"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy2(ROOT / name, project / name)
    yield folder, project
    assert planned(folder, snakemake, project) == NOTHING


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_runs_exactly_what_it_touches_and_its_undoing_nothing(
    edit: str, edited: tuple[Path, Path], finished: Path, snakemake: Snakemake
) -> None:
    """What is left of an edit would run with the next one, or after the last one."""
    folder, project = edited
    change, expected = EDITS[edit]
    change(folder, project)
    try:
        assert planned(folder, snakemake, project) == expected
    finally:
        shutil.rmtree(folder / "my scenes")
        shutil.copytree(finished / "my scenes", folder / "my scenes", copy_function=shutil.copy)  # new time stamps
        shutil.copy(finished / "config.yaml", folder / "config.yaml")
        for module in {path for path in EDITED if (project / path).read_bytes() != (ROOT / path).read_bytes()}:
            shutil.copy(ROOT / module, project / module)


def test_the_first_dry_run_plans_everything_and_computes_nothing(tmp_path: Path, snakemake: Snakemake) -> None:
    fabricate.write_scenes(tmp_path / "my scenes")
    fabricate.write_config(tmp_path, fabricate.TINY)
    assert planned(tmp_path, snakemake) == EVERYTHING
    assert not list(tmp_path.glob("my results/stages/**/*.pt"))
    assert not list(tmp_path.glob("my results"))


def test_a_second_run_does_nothing(copy: Path, snakemake: Snakemake) -> None:
    before = checksums(copy)
    done = snakemake(copy)
    assert "Nothing to be done" in done.stdout + done.stderr
    verdict = json.loads((copy / "my results/tiny/verdict.json").read_text())["sentences"]
    assert done.stderr.endswith("\n- ".join(["my results/tiny:", *verdict]) + "\n")
    assert checksums(copy) == before


@pytest.mark.parametrize(
    ("artifact", "consumers"),
    [
        ("predict/masks-checkpoint1-*/masks.h5", SCORE),
        pytest.param(
            "predict/labels-teacher-seed*/masks.h5",
            Counter({"train/student": 1, "evaluate/labels-truth": 1}),
            marks=pytest.mark.manual,
        ),
        pytest.param("score/*/scores.csv", Counter({"select/stable-0.5": 1}), marks=pytest.mark.manual),
        (
            "train/teacher-*/checkpoint-1.pt",
            MASKS
            + Counter({"predict/labels-teacher": 1, "predict/labels-teacher-reliable": 2})
            + Counter({"evaluate/teacher-val": 1, "evaluate/teacher-test": 1}),
        ),
    ],
    ids=lambda value: value.split("/")[0] if isinstance(value, str) else "",
)
def test_a_deleted_intermediate_is_rebuilt_with_at_most_its_consumers(
    artifact: str, consumers: Stages, copy: Path, snakemake: Snakemake
) -> None:
    before = checksums(copy)
    (path,) = copy.glob(f"my results/stages/{artifact}")
    path.unlink()
    stages = planned(copy, snakemake)
    own = {name for name in stages if path.parent.name.startswith(name.split("/")[1])}
    assert len(own) == 1
    assert set(stages) - own <= set(consumers) | set(TABLE)
    assert sum(stages.values()) <= 1 + sum((consumers + TABLE).values())
    snakemake(copy)
    assert checksums(copy) == before


@pytest.mark.parametrize("method", ["st", pytest.param("st++", marks=pytest.mark.manual)])
def test_jobs_are_reproducible_whatever_the_workers_and_shards(
    method: str, finished: Path, tmp_path: Path, snakemake: Snakemake
) -> None:
    fabricate.write_scenes(tmp_path / "my scenes")
    runtime = fabricate.tiny()["runtime"] | {"shards": 3}
    runtime["train"]["workers"] = 2
    fabricate.write_config(tmp_path, fabricate.tiny(runtime=runtime, experiments={method: {"method": method}}))
    snakemake(tmp_path, "students")
    found, expected = checksums(tmp_path), checksums(finished)
    assert {path.split("/")[2] for path in found if path.endswith((".pt", ".h5"))} == {"train", "predict"}
    assert found == {path: expected[path] for path in found}


def test_each_stage_says_what_made_it(finished: Path) -> None:
    for path in finished.glob("my results/stages/*/*/stage.json"):
        stage = json.loads(path.read_text())
        assert stage["identity"].startswith(path.parent.name[-8:])
        assert set(stage["sha256"]) == {*stage["outputs"]} - {"stage.json"}
        for name, digest in stage["sha256"].items():
            assert hashlib.sha256((path.parent / name).read_bytes()).hexdigest() == digest
        assert stage["seconds"] > 0
        assert stage["versions"]["numpy"] == np.__version__


def test_people_find_the_stages_of_an_experiment(finished: Path) -> None:
    seed = finished / "my results/runs/tiny/experiments/st++/seed0"
    assert (seed / "student/last.pt").resolve().is_file()
    assert (seed / "teacher").resolve() == (seed.parent.parent / "suponly/seed0/teacher").resolve()
    table = (finished / "my results/tiny/table.txt").read_text()
    assert all(name in table for name in fabricate.TINY["experiments"])
    assert not list((finished / "my results").rglob("*.tmp"))


def test_targets_are_steps_and_methods(tmp_path: Path, snakemake: Snakemake) -> None:
    fabricate.write_scenes(tmp_path / "my scenes")
    fabricate.write_config(tmp_path, fabricate.TINY)

    def kinds(target: str) -> set[str]:
        output = snakemake(tmp_path, "--dry-run", target).stdout.replace("'", "")
        return {match[1] for match in STAGE.finditer("\n".join(re.findall("Shell command: stpp.*", output)))}

    assert kinds("teacher") == {"train"}
    assert kinds("scores") == {"train", "predict", "score"}
    assert kinds("selection") == {"train", "predict", "score", "select"}
    assert kinds("suponly") == {"train", "evaluate"}
    assert kinds("st") == {"train", "predict", "evaluate"}


def test_config_on_the_command_line_changes_nested_settings(tmp_path: Path, snakemake: Snakemake) -> None:
    fabricate.write_scenes(tmp_path / "my scenes")
    fabricate.write_config(tmp_path, fabricate.TINY)
    changes = ("--config", "seeds=[4, 5]", 'selection={"share": 0.4}', 'labeling={"flip": false}')
    output = snakemake(tmp_path, "--dry-run", *changes).stdout
    assert set(re.findall(r"-seed(\d)-", output)) == {"4", "5"}
    assert "stable-0.4-seed5" in output


def test_results_have_no_folder_but_the_reserved_ones_and_the_view(finished: Path) -> None:
    folders = {path.name for path in (finished / "my results").iterdir() if not path.name.startswith(".")}
    assert folders == {"tiny", *RESERVED} - {"weights"}  # which are there only where some were fetched


def test_a_configuration_without_a_name_is_refused_and_is_not_the_demo(tmp_path: Path, snakemake: Snakemake) -> None:
    config = fabricate.tiny()
    del config["name"]
    fabricate.write_config(tmp_path, config)
    done = snakemake(tmp_path, "--dry-run", check=False)
    assert done.returncode == 1
    assert "name: this setting is required" in done.stderr
    planned = subprocess.run(["stpp", "plan", "config.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert planned.returncode == 1
    assert done.stderr.endswith(planned.stderr)
    assert not (tmp_path / "data").exists()


def test_a_users_mistake_is_a_message_before_anything_runs(tmp_path: Path, snakemake: Snakemake) -> None:
    fabricate.write_scenes(tmp_path / "my scenes")
    config = fabricate.tiny(seletion={})
    fabricate.write_config(tmp_path, config)
    done = snakemake(tmp_path, check=False)
    assert done.returncode != 0
    assert "seletion: unknown setting; did you mean 'selection'?" in done.stderr
    assert "Traceback" not in done.stderr and "File " not in done.stderr
    (tmp_path / "my scenes/masks/labeled1.png").write_bytes(b"no picture")
    fabricate.write_config(tmp_path, fabricate.TINY)
    done = snakemake(tmp_path, check=False)
    assert done.returncode != 0
    assert "labeled1.png" in done.stderr
    assert "Traceback" not in done.stderr and "File " not in done.stderr
    assert not (tmp_path / "my results/stages").exists()


def checksums(folder: Path) -> dict[str, str]:
    """Digest of every artifact but those that tell times."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("my results/stages/*/*/*"))
        if path.is_file() and path.name not in ("stage.json", "recipe.json", *TIMES)
    }


@pytest.mark.manual
def test_planning_the_demo_costs_little_beside_snakemakes_own_start(tmp_path: Path) -> None:
    """CPU seconds of a dry run, the best of three, against a workflow of one rule."""
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "Snakefile").write_text('rule all:\n    output: "a"\n    shell: "touch a"\n')

    def seconds(*arguments: str, folder: Path) -> float:
        times = []
        for _ in range(4):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = ["snakemake", "--dry-run", *arguments]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(times[1:])

    subprocess.run(["stpp", "index", str(ROOT / "config.yaml")], cwd=tmp_path, check=True, capture_output=True)
    demo = seconds("--snakefile", str(ROOT / "Snakefile"), folder=tmp_path)
    assert demo - seconds(folder=bare) < 0.5
