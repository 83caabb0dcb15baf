"""A weights file that does not fit is refused when the workflow starts, before the first job."""

import sys
from pathlib import Path

import fabricate
import pytest
import torch
from conftest import Snakemake
from safetensors.torch import save_file

from stpp.commands.fitting import check_networks
from stpp.commands.workflow import prepare
from stpp.common.errors import Problems, StppError
from stpp.engine.initial import initial_network
from stpp.models import build
from stpp.settings.configfile import load

SPEC = {"output_stride": 8, "dropout": 1.0, "architecture": "deeplabv3plus", **fabricate.TINY["network"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with small scenes."""
    monkeypatch.chdir(tmp_path)
    fabricate.write_scenes(tmp_path / "my scenes")
    return tmp_path


def check(content: object, name: str = "w.pth") -> None:
    """What a run does before its first job, where `content` is the file of weights."""
    torch.save(content, name)
    config = load(fabricate.tiny(network=fabricate.TINY["network"] | {"weights": name}))
    check_networks(config, prepare(config, print))


def test_a_file_that_does_not_fit_is_refused_by_each_name(folder: Path) -> None:
    with pytest.raises(Problems, match=r"weights w\.pth do not fit the network") as caught:
        check({"state_dict": build(SPEC, 5).state_dict()})
    assert "classifier.score.bias: (5,) -> (3,)" in caught.value.problems
    with pytest.raises(StppError, match=r"weights log\.pth are no state dict: the entry 'epoch' is a int"):
        check({"epoch": 3}, "log.pth")
    with pytest.raises(StppError, match=r"cannot read other\.pth as a state dict"):
        check(object(), "other.pth")
    with pytest.raises(
        StppError, match=r"cannot read large\.pth as a state dict: its tensors claim 4,000,000,000 bytes"
    ):
        check({"weight": torch.zeros(()).expand(10**9)}, "large.pth")
    assert not (folder / "my results/weights").exists()


def test_a_file_of_safetensors_is_read(folder: Path) -> None:
    source, settings = build(SPEC, 3), {"network": SPEC | {"weights": "x"}, "classes": ["a", "b", "c"]}
    save_file(source.state_dict(), "w.safetensors")
    network, said = initial_network(settings, "w.safetensors")
    assert said.startswith("Loaded the whole network")
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in source.state_dict().items())
    Path("broken.safetensors").write_bytes(b"\xff" * 99)
    with pytest.raises(StppError, match=r"cannot read broken\.safetensors as a state dict"):
        initial_network(settings, "broken.safetensors")


def test_a_file_that_fits_is_looked_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"model": build(SPEC, 3).state_dict(), "epoch": 3}
    check(content)
    remembered = (folder / "my results/weights/checked.json").read_text()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "stpp.engine.initial", None)
        check(content)
        with pytest.raises(ImportError):
            check(build(SPEC, 3).state_dict(), "other.pth")
    assert (folder / "my results/weights/checked.json").read_text() == remembered


def test_the_training_begins_with_what_was_wrapped(folder: Path) -> None:
    state = build(SPEC, 3).state_dict()
    torch.save({"state_dict": state}, "w.pth")
    settings = {"network": SPEC | {"weights": "somewhere"}, "classes": ["a", "b", "c"]}
    network, said = initial_network(settings, "w.pth")
    assert said == f"Loaded the whole network, {len(state)} tensors, from w.pth."
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_the_workflow_starts_no_job_with_a_file_that_does_not_fit(folder: Path, snakemake: Snakemake) -> None:
    torch.save({"model": build(SPEC, 5).state_dict()}, "w.pth")
    network = fabricate.TINY["network"] | {"weights": "w.pth"}
    fabricate.write_config(folder, fabricate.tiny(network=network, experiments={"s": {"method": "suponly"}}))
    done = snakemake(folder, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "stpp: weights w.pth do not fit the network" in done.stderr
    assert not list(folder.glob("my results/stages/[!.]*")) and not list(folder.glob("my results/logs/*"))
