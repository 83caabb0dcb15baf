"""Models that lie: checkpoints that claim more than they hold, and records beside them that no stage wrote."""

import copy
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import quick, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trained import checkpoint, picture

import stpp
from stpp.commands.cli import main
from stpp.common.errors import StppError
from stpp.common.files import sha256

# --- checkpoints ------------------------------------------------------------------------------------------------------

WEIGHT = "classifier.score.weight"
PLAIN = {"precision": "fp32", "long_side": None, "tile": None, "overlap": None}


def with_part(**parts: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content | {"network": content["network"] | parts}


def with_weight(value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content | {"state_dict": content["state_dict"] | {WEIGHT: value}}


def large(content: dict[str, Any]) -> dict[str, Any]:
    """A network of 2 GB, in a file of some KB."""
    from stpp.models import build

    network = content["network"] | {"decoder_channels": 8000}
    with torch.device("meta"):
        state = build(network, 3).state_dict()
    state = {name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in state.items()}
    return content | {"network": network, "state_dict": state}


CHECKPOINTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "weights that repeat one value": (large, "its tensors claim"),
    "one storage for many": (
        lambda content: content | {"more": dict.fromkeys(range(9999), torch.zeros(999))},
        "its tensors claim",
    ),
    "a sparse tensor": (with_weight(torch.zeros(3, 8, 1, 1).to_sparse()), "no plain one"),
    "a quantized tensor": (with_weight(torch.quantize_per_tensor(torch.zeros(3, 8), 1, 0, torch.qint8)), "model"),
    "weights on no device": (with_weight(torch.zeros(3, 8, 1, 1, device="meta")), "model"),
    "no classes": (lambda content: content | {"classes": []}, "it has 0 classes"),
    "300 classes": (lambda content: content | {"classes": [str(number) for number in range(300)]}, "has 300 classes"),
    "a class of another type": (lambda content: content | {"classes": ["a", 1, None]}, "no list of names"),
    "a class that moves the cursor": (lambda content: content | {"classes": ["a", "b", "\x1b[2J"]}, "list of names"),
    "a dilation of 10^30": (with_part(rates=[10**30, 1, 1]), "rates is"),
    "a negative dilation": (with_part(rates=[-1, 1, 1]), "rates is"),
    "dilations in text": (with_part(rates="123"), "rates is"),
    "channels that are no number": (with_part(head_channels=float("nan")), "head_channels is nan"),
    "10^30 channels": (with_part(decoder_channels=10**30), "decoder_channels is 1000"),
    "dropout that is no number": (with_part(dropout=float("nan")), "dropout is nan"),
    "an output stride of 0": (with_part(output_stride=0), "output_stride is 0; expected 8, 16 or 32"),
    "an architecture that is a list": (with_part(architecture=[1]), "architecture is [1]"),
    "a network that is a number": (lambda content: content | {"network": 7}, "no checkpoint of stpp"),
    "a prediction at 0 px": (
        lambda content: content | {"prediction": {**PLAIN, "long_side": 0}},
        "its prediction is not the settings of that name",
    ),
    "a colour for too few classes": (
        lambda content: content | {"palette": [[0, 0, 0]]},
        "its palette is not a colour for each class",
    ),
    "a state dict that is a list": (lambda content: content | {"state_dict": []}, "no checkpoint of stpp"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    change, expected = CHECKPOINTS[name]
    path = checkpoint(tmp_path / "model.pt")
    torch.save(change(torch.load(path, weights_only=True)), path)
    with refused(str(path), expected):
        stpp.load(path, "cpu")


def test_a_compressed_checkpoint_is_refused_before_it_takes_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, bomb = checkpoint(tmp_path / "model.pt"), tmp_path / "bomb.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    monkeypatch.setattr("torch.load", None)
    with refused(str(bomb), "is compressed"):
        stpp.load(bomb, "cpu")


@pytest.mark.parametrize("shape", [(300, 256, 1, 1), (3,), (0, 256, 1, 1)])
def test_weights_of_the_authors_with_odd_classes_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    names = ["head.b0.0.weight", *(f"backbone.layer3.{block}.conv3.weight" for block in range(6))]
    state = {name: torch.zeros(1) for name in names} | {"classifier.weight": torch.zeros(shape)}
    torch.save(state, tmp_path / "model.pth")
    with refused(str(tmp_path / "model.pth"), "expected weights for 1 to 255 classes"):
        stpp.load(tmp_path / "model.pth", "cpu")


# --- records ----------------------------------------------------------------------------------------------------------

PREDICTIONS: dict[str, Any] = {
    "tile 0": PLAIN | {"tile": 0, "overlap": 0},
    "a negative tile": PLAIN | {"tile": -32, "overlap": 0},
    "tiles that are all overlap": PLAIN | {"tile": 64, "overlap": 64},
    "tiles without overlap": PLAIN | {"tile": 64},
    "fp7": PLAIN | {"precision": "fp7"},
    "a precision that is a list": PLAIN | {"precision": []},
    "a long side of 10^30": PLAIN | {"long_side": 10**30},
    "a long side of half a pixel": PLAIN | {"long_side": 0.5},
    "a long side that is true": PLAIN | {"long_side": True},
    "a list": [1],
    "nothing of it": {},
}


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a training and its evaluation."""
    return Path(shutil.copytree(trained / "my results", tmp_path / "run", symlinks=True))


def rewrite(run: Path, pattern: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON file of `run`, and the checksum beside it to fit."""
    (path,) = run.glob(pattern)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    record = path.parent / "stage.json"
    if path != record:
        content = json.loads(record.read_text())
        content["sha256"][path.name] = sha256(path)
        record.write_text(json.dumps(content))


def put(content: Any, keys: tuple[str, ...], value: Any) -> Any:
    """A copy of nested mappings with another value at `keys`."""
    result = copy.deepcopy(content)
    place = result
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return result


@pytest.mark.parametrize("stage", ["train", "evaluate"])
@pytest.mark.parametrize("name", PREDICTIONS)
def test_settings_that_no_configuration_has_are_refused(run: Path, stage: str, name: str) -> None:
    rewrite(
        run, f"stages/{stage}/*/stage.json", lambda record: put(record, ("settings", "prediction"), PREDICTIONS[name])
    )
    (model,) = run.glob("stages/train/*/last.pt")
    with refused("stage.json", "settings.prediction is"):
        stpp.load(model, "cpu")


RECORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    f"{'.'.join(keys)} of {file}": (pattern, keys)
    for file, pattern, places in (
        (
            "a training",
            "stages/train/*/stage.json",
            [
                ("settings", "prediction"),
                ("settings", "encoding"),
                ("settings", "encoding", "classes"),
                ("settings", "encoding", "label_map"),
                ("settings", "role"),
                ("versions",),
                ("seconds",),
                ("device",),
                ("started",),
                ("commit",),
                ("data",),
                ("warnings",),
            ],
        ),
        ("an evaluation", "stages/evaluate/*/stage.json", [("inputs", "checkpoint"), ("settings", "prediction")]),
        (
            "a measurement",
            "stages/evaluate/*/metrics.json",
            [("miou",), ("iou",), ("iou", "left"), ("images",), ("subset",), ("warnings",)],
        ),
    )
    for keys in places
}
ODD = st.sampled_from(
    [
        7,
        -1,
        10**30,
        float("nan"),
        float("inf"),
        True,
        "",
        "x",
        "\x1b[2J",
        [],
        [[]],
        {},
        {"x": []},
        {"1": 10**30},
        [None],
    ]
)


@pytest.mark.parametrize("name", RECORDS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=ODD)
def test_a_record_that_lies_is_refused_or_harmless(name: str, run: Path, value: Any) -> None:
    from stpp.commands.export_card import model_card

    pattern, keys = RECORDS[name]
    (path,) = run.glob(pattern)
    before = path.read_text()
    (model,) = run.glob("stages/train/*/last.pt")
    try:
        rewrite(run, pattern, lambda record: put(record, keys, value))
        with quick():
            segmenter = stpp.load(model, "cpu")
            segmenter.predict(picture(20, 30))
            assert "\x1b" not in model_card(segmenter, model, {}, {})
    except StppError as error:
        assert str(run) in str(error)
    finally:
        rewrite(run, pattern, lambda record: json.loads(before))


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"null", b"\xff\xfe", b"7"])
@pytest.mark.parametrize("command", ["segment", "evaluate", "export"])
def test_no_record_ends_in_a_traceback(
    run: Path, command: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model,), (record,) = run.glob("stages/train/*/last.pt"), run.glob("stages/train/*/stage.json")
    record.write_bytes(content)
    picture(20, 30).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png a.png\n")
    arguments: Mapping[str, list[str]] = {
        "segment": ["segment", "--model", str(model), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")],
        "evaluate": ["evaluate", str(model), "--list", str(tmp_path / "list.txt"), "--root", str(tmp_path)],
        "export": ["export", str(model), "--out", str(tmp_path / "out")],
    }
    assert main(arguments[command]) == 1
    assert str(record) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_classes_of_the_records_are_those_of_the_model(run: Path) -> None:
    (model,) = run.glob("stages/train/*/last.pt")
    rewrite(run, "stages/evaluate/*/metrics.json", lambda metrics: metrics | {"iou": {"other": 0.5}})
    with refused(str(model), "have others"):
        stpp.load(model, "cpu")
