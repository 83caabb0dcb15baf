"""Masks that are there already are taken over when the list of unlabeled images changes."""

import shutil
from pathlib import Path

import fabricate
import numpy as np
import pytest

from stpp.commands.cli import main
from stpp.stages import predict
from stpp.store.masks import MaskStore

MASKS = "predict/masks-checkpoint1*"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A teacher that is trained, and its first checkpoint's masks of six unlabeled images."""
    folder = fabricate.planned(tmp_path / "place")
    monkeypatch.chdir(folder)
    for pattern in ("train/teacher*", MASKS):
        stage = fabricate.only(folder, pattern)
        assert main([stage.parent.name, str(stage)]) == 0
    return folder


def planned_anew(folder: Path) -> Path:
    """The stage of the same masks after the data changed."""
    before = set(folder.glob(f"my results/stages/{MASKS}"))
    assert main(["index", "config.yaml"]) == 0  # a look at all files; the plan alone looks at lists only
    assert main(["plan", "--recipes", "config.yaml"]) == 0
    (stage,) = set(folder.glob(f"my results/stages/{MASKS}")) - before
    return stage


def predicted(stage: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """Run the stage; returns how many masks it computed."""
    computed = []

    def counting(*arguments, **named):
        computed.extend(predicted := predict_masks(*arguments, **named))
        return predicted

    predict_masks = predict.predict_masks
    with monkeypatch.context() as patch:
        patch.setattr(predict, "predict_masks", counting)
        assert main(["predict", str(stage), *options]) == 0
    return len(computed)


@pytest.mark.parametrize("shards", [1, 2])
def test_only_new_images_are_predicted_and_the_bytes_are_those_of_a_fresh_prediction(
    place: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    rng = np.random.default_rng(1)
    fabricate.write_scene(place / "my scenes", "unlabeled6", rng)
    fabricate.write_scene(place / "my scenes", "another", rng)
    fabricate.write_list(place / "my scenes", "unlabeled", ["another", *(f"unlabeled{n}" for n in range(7))])
    stage = planned_anew(place)
    assert len(list(place.glob("my results/stages/train/teacher*"))) == 1

    parts = [["--shard", str(n), "--shards", str(shards)] for n in range(shards)]
    assert sum(predicted(stage, monkeypatch, *part) for part in parts) == 2
    if shards > 1:
        assert main(["predict", str(stage), "--join", "--shards", str(shards)]) == 0
    taken = (stage / "masks.h5").read_bytes()

    for path in place.glob(f"my results/stages/{MASKS}"):
        if path != stage:
            shutil.rmtree(path)
    (stage / "masks.h5").unlink()
    assert predicted(stage, monkeypatch) == 8
    assert (stage / "masks.h5").read_bytes() == taken


def test_confidence_is_taken_over_with_the_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    confident = {"method": "pixel", "selection": {"pixels": "confidence"}}
    folder = fabricate.planned(tmp_path / "place", experiments={"e": confident, "st": {"method": "st"}})
    monkeypatch.chdir(folder)
    pattern = "predict/labels-teacher-confidence*"
    for wanted in ("train/teacher*", pattern, "predict/labels-teacher-seed*"):
        stage = fabricate.only(folder, wanted)
        assert main([stage.parent.name, str(stage)]) == 0
    assert "masks exist already" not in capsys.readouterr().err, "with and without confidence are two predictions"

    fabricate.write_list(folder / "my scenes", "unlabeled", [f"unlabeled{n}" for n in range(5)])
    before = fabricate.only(folder, pattern)
    assert main(["index", "config.yaml"]) == main(["plan", "--recipes", "config.yaml"]) == 0
    (stage,) = {path.relative_to(folder) for path in folder.glob(f"my results/stages/{pattern}")} - {before}
    assert main(["predict", str(stage)]) == 0
    assert "5 of 5 masks exist already" in capsys.readouterr().err
    with MaskStore(before / "masks.h5") as old, MaskStore(stage / "masks.h5") as new:
        for image in new.ids:
            assert np.array_equal(old.confidence(image), new.confidence(image))
            assert np.array_equal(old[image], new[image])


def test_a_changed_image_another_checkpoint_and_a_damaged_store_are_predicted_anew(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predicted(fabricate.only(place, "predict/masks-checkpoint2*"), monkeypatch) == 6

    fabricate.write_scene(place / "my scenes", "unlabeled3", np.random.default_rng(2))
    stage = planned_anew(place)
    assert predicted(stage, monkeypatch) == 1

    (earlier,) = set(place.glob(f"my results/stages/{MASKS}")) - {stage}
    for folder in (earlier, stage):
        content = bytearray((folder / "masks.h5").read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "masks.h5").write_bytes(content)
    fabricate.write_list(place / "my scenes", "unlabeled", ["unlabeled1", "unlabeled2"])
    assert predicted(planned_anew(place), monkeypatch) == 2
    assert "is skipped" in capsys.readouterr().err
