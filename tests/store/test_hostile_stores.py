"""Checkpoints and mask stores that lie: malicious pickles, networks and images that claim any size, flipped bytes."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabricate
import h5py
import numpy as np
import pytest
import torch
from hostile import quick, refused
from test_masks import random_masks, write
from trained import SPEC

from stpp.commands.cli import main
from stpp.common.description import NetworkDescription
from stpp.common.errors import StppError
from stpp.models import build
from stpp.models.network import OF_IMAGENET
from stpp.store.checkpoint import load_checkpoint, save_checkpoint
from stpp.store.masks import CHUNK, MaskStore, MaskWriter

CPU = torch.device("cpu")

Content = dict[str, Any]


class Bomb:
    """An object whose unpickling runs a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "last.pt"
    save_checkpoint(path, build(SPEC, 3).state_dict(), {"network": SPEC, "classes": ["x", "y", "z"]}, 7, OF_IMAGENET)
    return path


def weights(change: Callable[[Content], object]) -> Callable[[Content], object]:
    """A change of the state dict."""
    return lambda content: change(content["state_dict"])


def network(**parts: Any) -> Callable[[Content], object]:
    """A change of the description of the network."""
    return lambda content: content["network"].update(parts)


def first(state: dict[str, torch.Tensor]) -> str:
    return next(iter(state))


CHECKPOINTS: dict[str, tuple[Callable[[Content], object], str]] = {
    **{
        f"no {part}": (lambda content, part=part: content.pop(part), part)
        for part in ("format", "network", "classes", "mean", "std", "state_dict")
    },
    "another format": (lambda content: content.update(format=2), "no format 1"),
    "a format that is text": (lambda content: content.update(format="1"), "no format 1"),
    "a format that is a tensor": (lambda content: content.update(format=torch.zeros(3)), "checkpoint of stpp"),
    "another normalisation": (lambda content: content.update(mean=[0.0, 0.0, 0.0]), "normalisation"),
    "classes that are text": (lambda content: content.update(classes="xyz"), "no list of names"),
    "classes that are numbers": (lambda content: content.update(classes=[1, 2, 3]), "no list of names"),
    "a class less": (lambda content: content["classes"].pop(), "expected torch.float32 (2,"),
    "a network that is text": (
        lambda content: content.update(network="tiny"),
        "expected its parts by name",
    ),
    "an unknown part of the network": (network(attention=8), "unknown parts: attention; expected those of"),
    "an unknown backbone": (network(backbone="vit"), "backbone is 'vit'; expected 'mobilenet_v2'"),
    "an unknown architecture": (network(architecture="unet"), "architecture is 'unet'; expected 'deeplabv2'"),
    "another output stride": (network(output_stride=3), "output_stride is 3; expected 8, 16 or 32"),
    "channels that are text": (network(head_channels="many"), "head_channels is 'many'; expected a valid integer"),
    "negative channels": (network(head_channels=-8), "head_channels is -8; expected greater"),
    "ten thousand channels": (network(head_channels=10**4), "expected torch.float32 (10000,"),
    "a million channels": (
        network(head_channels=10**6),
        "expected less than or equal to 65536",
    ),
    "10^30 channels": (network(head_channels=10**30), "head_channels is 1000"),
    "a network of gigabytes": (network(head_channels=10**4, decoder_channels=10**4), "(10000,"),
    "a million rates": (network(rates=[1] * 10**6), "at most 8 items"),
    "rates that are text": (network(rates="123"), "rates is '123'; expected a valid list"),
    "another backbone's weights": (network(backbone="resnet18"), "last.pt"),
    "a tensor less": (weights(lambda state: state.pop(first(state))), "KeyError"),
    "a tensor more": (
        weights(lambda state: state.update(more=torch.zeros(1))),
        'Unexpected key(s) in state_dict: "more"',
    ),
    "no tensors": (weights(lambda state: state.clear()), "KeyError"),
    "a tensor that is a list": (weights(lambda state: state.update({first(state): [1.0]})), "checkpoint of stpp"),
    "a tensor of another shape": (
        weights(lambda state: state.update({first(state): torch.zeros(2)})),
        "expected torch",
    ),
    "a tensor of another type": (
        weights(lambda state: state.update({k: v.double() for k, v in state.items()})),
        "float64",
    ),
    "a sparse tensor": (
        weights(lambda state: state.update({first(state): state[first(state)].to_sparse()})),
        "no plain one",
    ),
    "weights that are not numbers": (weights(lambda state: state[first(state)].fill_(torch.nan)), "not finite"),
    "one infinite weight": (weights(lambda state: state[first(state)].view(-1)[:1].fill_(torch.inf)), "not finite"),
    "a state dict that is a list": (lambda content: content.update(state_dict=[1]), "checkpoint of stpp"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_lies_is_refused(name: str, checkpoint: Path, tmp_path: Path) -> None:
    change, expected = CHECKPOINTS[name]
    content = torch.load(checkpoint, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "last.pt")
    with refused("last.pt", expected):
        load_checkpoint(tmp_path / "last.pt", CPU)


def test_an_honest_checkpoint_is_read(checkpoint: Path) -> None:
    assert load_checkpoint(checkpoint, CPU).classes == ["x", "y", "z"]


def test_what_a_checkpoint_does_not_say_of_its_network_is_at_its_default(checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    at_default = [
        key for key, value in content["network"].items() if value == NetworkDescription.model_fields[key].default
    ]
    assert {"output_stride", "architecture"} <= set(at_default)
    for key in at_default:
        del content["network"][key]
    torch.save(content, tmp_path / "last.pt")
    whole, partly = (load_checkpoint(path, CPU).network for path in (checkpoint, tmp_path / "last.pt"))
    image = torch.randn(1, 3, 40, 50)
    assert torch.equal(whole(image), partly(image))


PICKLES: dict[str, Callable[[Path], object]] = {
    "a pickle that runs a command": lambda path: path.write_bytes(pickle.dumps(Bomb(path.with_name("exploded")))),
    "a checkpoint that runs a command": lambda path: torch.save(
        {"format": 1, "state_dict": Bomb(path.with_name("exploded"))}, path
    ),
    "a list": lambda path: torch.save([1, 2], path),
    "a tensor": lambda path: torch.save(torch.zeros(3), path),
    "a whole module": lambda path: torch.save(build(SPEC, 3), path),
    "an empty archive": lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)),
    "an array of numpy": lambda path: np.savez(path.open("wb"), a=np.zeros(3)),
    "text": lambda path: path.write_text("hello"),
    "a folder": lambda path: path.mkdir(),
    "a loop of links": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_what_is_no_checkpoint_is_refused_and_never_run(name: str, tmp_path: Path) -> None:
    PICKLES[name](tmp_path / "last.pt")
    with refused("last.pt", "checkpoint of stpp"):
        load_checkpoint(tmp_path / "last.pt", CPU)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("kept", [1, 20, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(kept: float, checkpoint: Path, tmp_path: Path) -> None:
    content = checkpoint.read_bytes()
    (tmp_path / "last.pt").write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with refused("last.pt"):
        load_checkpoint(tmp_path / "last.pt", CPU)


def test_weights_that_run_a_command_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fabricate.write_scenes(tmp_path / "my scenes")
    torch.save({"backbone.x": Bomb(tmp_path / "exploded")}, tmp_path / "my weights.pth")
    config = fabricate.tiny(experiments={"s": {"method": "suponly"}})
    config["network"]["weights"] = "my weights.pth"
    assert main(["plan", "--recipes", str(fabricate.write_config(tmp_path, config))]) == 0
    (stage,) = tmp_path.glob("my results/stages/train/*")
    assert main(["train", str(stage)]) == 1
    assert "cannot read my weights.pth as a state dict" in capsys.readouterr().err
    assert not (tmp_path / "exploded").exists()


# --- mask stores ------------------------------------------------------------------------------------------------------


def replaced(name: str, **options: Any) -> Callable[[h5py.File], None]:
    """A dataset in the place of another."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **options)

    return change


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def claimed(file: h5py.File) -> None:
    """One image of 3.6 billion pixels, none of which was ever written."""
    for name, data in (("shapes", [[60_000, 60_000]]), ("offsets", [0]), ("ids", ["a"])):
        dtype = h5py.string_dtype() if name == "ids" else file[name].dtype
        replaced(name, data=data, dtype=dtype)(file)
    replaced("pixels", shape=(60_000**2,), dtype=np.uint8, chunks=(CHUNK,))(file)


def group(file: h5py.File) -> None:
    del file["pixels"]
    file.create_group("pixels")


def elsewhere(file: h5py.File) -> None:
    """Pixels that are another file's bytes."""
    size = file["pixels"].size
    replaced("pixels", shape=(size,), dtype=np.uint8, external=[("/etc/passwd", 0, size)])(file)


def linked(name: str, link: Any) -> Callable[[h5py.File], None]:
    """A link in the place of a dataset."""

    def change(file: h5py.File) -> None:
        file.move(name, "other")
        file[name] = link

    return change


def virtual(name: str, source: str) -> Callable[[h5py.File], None]:
    """A dataset made of one of another file, as long as that one happens to be, in the place of another."""

    def change(file: h5py.File) -> None:
        shape, dtype = file[name].shape, file[name].dtype
        del file[name]
        layout = h5py.VirtualLayout(shape, dtype, maxshape=(None, *shape[1:]))
        whole = h5py.VirtualSource(source, name, shape, dtype, maxshape=(None, *shape[1:]))
        unlimited = (h5py.h5s.UNLIMITED, *shape[1:])
        space = slice(0, unlimited[0])
        layout[space] = whole[space]
        file.create_virtual_dataset(name, layout)

    return change


def outside(name: str, pipe: str) -> Callable[[h5py.File], None]:
    """A dataset whose values are the bytes of a pipe, in the place of another."""

    def change(file: h5py.File) -> None:
        shape, dtype, size = file[name].shape, file[name].dtype, file[name].nbytes
        del file[name]
        file.create_dataset(name, shape=shape, dtype=dtype, external=[(pipe, 0, size)])

    return change


PARTS = ("pixels", "confidence", "ids", "shapes", "offsets")
ELSEWHERE: dict[str, tuple[Callable[[str], Callable[[h5py.File], None]], str]] = {
    "an external link to a pipe": (lambda name: linked(name, h5py.ExternalLink("pipe", name)), "are a link"),
    "an external link to itself": (lambda name: linked(name, h5py.ExternalLink(f"{name}.h5", "other")), "are a link"),
    "a soft link": (lambda name: linked(name, h5py.SoftLink("/other")), "are a link"),
    "a soft link to nothing": (lambda name: linked(name, h5py.SoftLink("/nothing")), "are a link"),
    "a virtual dataset over a pipe": (lambda name: virtual(name, "pipe"), "are in other files"),
    "external storage in a pipe": (lambda name: outside(name, "pipe"), "are in other files"),
    "a group": (lambda name: lambda file: (file.move(name, "other"), file.create_group(name)), "are no dataset"),
    "another filter": (
        lambda name: lambda file: replaced(name, data=file[name][:], compression="gzip")(file),
        "are packed by another filter than zstd",
    ),
}


READ = """
import sys
from stpp.common.errors import StppError
from stpp.store.masks import MaskStore

for path in sys.argv[1:]:
    try:
        dict(MaskStore(path))
    except StppError as error:
        print(error)
"""


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_a_store_whose_values_are_elsewhere_is_refused_before_they_are_looked_for(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, expected = ELSEWHERE[kind]
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    mask = np.arange(12, dtype=np.uint8).reshape(4, 3) % 3
    for name in PARTS:
        path, how = Path(f"{name}.h5"), {"classes": ["x", "y", "z"], "palette": [[0] * 3] * 3, "producer": "x"}
        with MaskWriter(path, confidence=True, **how) as store:
            store.add("a", mask, np.ones(mask.shape))
        with h5py.File(path, "r+") as file:
            change(name)(file)
    # In a process of its own: while HDF5 waits for a pipe, Python hears no alarm.
    command = [sys.executable, "-c", READ, *(f"{name}.h5" for name in PARTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = done.stdout.splitlines()
    assert [f"{name}.h5" in line and f"its {name} {expected}" in line for name, line in zip(PARTS, said)] == [True] * 5


STORES: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    **{
        f"no {name}": (lambda file, name=name: file.__delitem__(name), name)
        for name in ("pixels", "ids", "shapes", "offsets")
    },
    **{
        f"no {name}": (lambda file, name=name: file.attrs.__delitem__(name), "no complete mask store")
        for name in ("format", "classes", "palette", "producer", "class_pixels")
    },
    "another format": (attribute("format", 99), "its format is 99"),
    "pixels of another type": (replaced("pixels", data=np.zeros(24), chunks=(24,)), "its pixels are float64"),
    "signed pixels": (replaced("pixels", data=np.zeros(24, np.int8), chunks=(24,)), "its pixels are int8"),
    "pixels in two dimensions": (replaced("pixels", data=np.zeros((4, 6), np.uint8), chunks=(4, 6)), "its pixels are"),
    "a group of pixels": (group, "no complete mask store"),
    "pixels in another file": (elsewhere, "its pixels are"),
    "an image that was never written": (claimed, "its pixels are incomplete"),
    "a terabyte of shapes": (replaced("shapes", shape=(2**37, 2), dtype=np.int32, chunks=(1024, 2)), "its shapes"),
    "a terabyte of offsets": (replaced("offsets", shape=(2**37,), dtype=np.int64, chunks=(1024,)), "its offsets"),
    "a terabyte of ids": (replaced("ids", shape=(2**36,), dtype=h5py.string_dtype(), chunks=(1024,)), "its shapes"),
    "negative shapes": (lambda file: file["shapes"].__setitem__(0, (-4, -3)), "does not fit"),
    "an empty shape": (lambda file: file["shapes"].__setitem__(0, (0, 0)), "does not fit"),
    "huge shapes": (lambda file: file["shapes"].__setitem__(0, (2**31 - 1, 2**31 - 1)), "does not fit"),
    "shapes that are text": (replaced("shapes", data=[["4", "3"]] * 2, dtype=h5py.string_dtype()), "its shapes are"),
    "shapes with a third side": (replaced("shapes", data=np.ones((2, 3), np.int32)), "its shapes are"),
    "a shape less": (replaced("shapes", data=np.array([[4, 3]], np.int32)), "its shapes are"),
    "negative offsets": (lambda file: file["offsets"].__setitem__(0, -1), "does not fit"),
    "offsets that overlap": (lambda file: file["offsets"].__setitem__(1, 0), "does not fit"),
    "offsets that are fractions": (replaced("offsets", data=np.array([0.0, 12.0])), "its offsets are float64"),
    "ids that are numbers": (replaced("ids", data=np.arange(2)), "no complete mask store"),
    "ids that are not UTF-8": (replaced("ids", data=[b"\xff", b"b"], dtype=h5py.string_dtype()), "codec can't decode"),
    "an id twice": (replaced("ids", data=["a", "a"], dtype=h5py.string_dtype()), "an image twice"),
    "an id more": (replaced("ids", data=["a", "b", "c"], dtype=h5py.string_dtype()), "its shapes are"),
    "classes that are no JSON": (attribute("classes", "[a"), "Expecting value"),
    "classes that are numbers": (attribute("classes", "[1, 2, 3]"), "no names"),
    "classes that are one number": (attribute("classes", "3"), "no complete mask store"),
    "no class": (attribute("classes", "[]"), "no names"),
    "classes nested without end": (attribute("classes", "[" * 20_000), "no complete mask store"),
    "fewer classes than labels": (attribute("classes", '["a", "b"]'), "counts of pixels do not fit"),
    "a palette of text": (attribute("palette", '["red", "green", "blue"]'), "no complete mask store"),
    "a palette of two colours": (attribute("palette", "[[0, 0, 0], [1, 1, 1]]"), "no colour for each class"),
    "a palette beyond 255": (attribute("palette", "[[0, 0, 300], [1, 1, 1], [2, 2, 2]]"), "no complete mask store"),
    "a producer that is a number": (attribute("producer", 7), "no names"),
    "counts that are text": (attribute("class_pixels", "many"), "no complete mask store"),
    "counts below zero": (attribute("class_pixels", [-9, 0, 0]), "counts of pixels do not fit"),
    "confidence of another size": (
        lambda file: file.create_dataset("confidence", data=np.zeros(5, np.uint8), chunks=(5,)),
        "its confidence are",
    ),
    "labels that are no classes": (lambda file: file["pixels"].__setitem__(0, 77), "values that are no classes"),
}


@pytest.mark.parametrize("name", STORES)
def test_a_mask_store_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    change, expected = STORES[name]
    masks = {"a": np.arange(12, dtype=np.uint8).reshape(4, 3) % 3, "b": np.full((2, 6), 255, np.uint8)}
    path = write(tmp_path / "masks.h5", masks, classes=["x", "y", "z"])
    with h5py.File(path, "r+") as file:
        change(file)
    with refused("masks.h5", expected), MaskStore(path) as store:
        list(store)
        len(store.ids)


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "dangling"])
def test_what_is_no_file_is_no_store(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "masks.h5"
    make: dict[str, Callable[[], object]] = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "loop": lambda: path.symlink_to(path),
        "dangling": lambda: path.symlink_to("gone"),
    }
    make[kind]()
    with refused("masks.h5", "run the prediction"):
        len(MaskStore(path))


def test_a_flipped_byte_gives_masks_of_the_right_kind_or_an_error(tmp_path: Path) -> None:
    """A stage refuses all of them by their SHA-256; without it, nothing worse than other labels may come."""
    whole = write(tmp_path / "whole.h5", random_masks(6, largest=40)).read_bytes()
    path = tmp_path / "broken.h5"
    rng = np.random.default_rng(0)
    refusals = 0
    for at in rng.choice(len(whole), 300, replace=False).tolist():
        broken = bytearray(whole)
        broken[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        with quick():
            try:
                with MaskStore(path) as store:
                    for _, mask in store:
                        assert mask.dtype == np.uint8 and mask.ndim == 2
            except StppError as error:
                refusals += "broken.h5" in str(error)
    assert refusals > 20


@pytest.mark.parametrize("id", ["../outside", "/outside", "a/../../outside"])
def test_a_store_writes_no_picture_outside_of_the_folder(
    id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = write(tmp_path / "masks.h5", {"good": np.zeros((2, 2), np.uint8), id: np.zeros((2, 2), np.uint8)})
    assert main(["masks", str(store), "--out", str(tmp_path / "a" / "pngs")]) == 1
    assert f"{id!r}, which leads out of" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png"))
