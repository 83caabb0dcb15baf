"""The configuration: what is refused and how it is said, what overrides do, and what is generated from it."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from conftest import ROOT

from stpp.common.errors import StppError
from stpp.settings import Section
from stpp.settings.config import Config
from stpp.settings.configfile import load, read, resolved
from stpp.settings.reference import methods, reference, schema


def minimal(**changes: Any) -> dict[str, Any]:
    """A small valid configuration with some keys replaced."""
    data = {"layout": "lists", "root": "r", "labeled": "l.txt", "unlabeled": "u.txt", "classes": ["a", "b"]}
    return {"name": "n", "data": data, "experiments": {"e": {"method": "st"}}} | copy.deepcopy(changes)


def data(**changes: Any) -> dict[str, Any]:
    """The same with some keys of `data` replaced; None removes one."""
    section = {**minimal()["data"], **changes}
    return minimal(data={key: value for key, value in section.items() if value is not None})


def unlabeled(**parts: Any) -> dict[str, Any]:
    """The same with a changed augmentation of pseudo-labeled images."""
    return minimal(augmentation={"student": {"unlabeled": parts}})


FAULTS = {
    "not a mapping": ([], "expected keys and values, but got list"),
    "empty": ({}, "name: this setting is required"),
    "no data": ({k: v for k, v in minimal().items() if k != "data"}, "data: this setting is required"),
    "no experiments": (minimal(experiments={}), "at least 1 item"),
    "unknown top-level key": (minimal(trainning={}), "trainning: unknown setting; did you mean 'training'?"),
    "unknown nested key": (unlabeled(jitter={"hues": 1}), "jitter.hues: unknown setting; did you mean 'hue'?"),
    "unknown experiment key": (minimal(experiments={"e": {"method": "st", "select": {}}}), "did you mean 'selection'?"),
    "unknown key in an override": (
        minimal(experiments={"e": {"method": "st", "selection": {"shares": 0.5}}}),
        "experiments.e: selection.shares: unknown setting; did you mean 'share'?",
    ),
    "unknown method": (minimal(experiments={"e": {"method": "stpp"}}), "experiments.e.method: Input should be '"),
    "no method": (minimal(experiments={"e": {}}), "experiments.e.method: this setting is required"),
    "name with a slash": (minimal(name="a/b"), "name: String should match pattern"),
    "name that begins with a dash": (minimal(name="-a"), "name: String should match pattern"),
    "experiment name with a space": (minimal(experiments={"a b": {"method": "st"}}), "String should match pattern"),
    "no seeds": (minimal(seeds=[]), "seeds: List should have at least 1 item"),
    "equal seeds": (minimal(seeds=[1, 1]), "seeds must differ from each other"),
    "negative seed": (minimal(seeds=[-1]), "greater than or equal to 0"),
    "text for a number": (minimal(training={"teacher": {"epochs": "80"}}), "training.teacher.epochs"),
    "true for a number": (minimal(training={"teacher": {"epochs": True}}), "training.teacher.epochs"),
    "no epochs": (minimal(training={"teacher": {"epochs": 0}}), "greater than or equal to 1"),
    "fewer epochs than checkpoints": (minimal(training={"teacher": {"epochs": 2}}), "3 checkpoints"),
    "a batch of one": (minimal(training={"student": {"batch_size": 1}}), "greater than or equal to 2"),
    "no learning rate": (minimal(training={"student": {"learning_rate": 0}}), "greater than 0"),
    "infinite learning rate": (minimal(training={"student": {"learning_rate": float("inf")}}), "finite number"),
    "unknown precision": (minimal(training={"student": {"precision": "fp16"}}), "'fp32' or 'bf16'"),
    "one checkpoint": (minimal(selection={"checkpoints": 1}), "greater than or equal to 2"),
    "share of all": (minimal(selection={"share": 1.0}), "less than 1"),
    "share of none": (minimal(selection={"share": 0}), "greater than 0"),
    "confidence above one": (minimal(selection={"confidence": 1.5}), "less than or equal to 1"),
    "unknown way to select pixels": (
        minimal(selection={"pixels": "entropy"}),
        "'agreement', 'confidence', 'share' or 'aligned'",
    ),
    "unknown labels of the reliable": (minimal(labeling={"reliable": "both"}), "'teacher' or 'student'"),
    "phases less than the method's": (minimal(training={"further_phases": -1}), "greater than or equal to 0"),
    "no length of phase 1": (minimal(training={"phase1": {}}), "give either `epochs` or `iterations`"),
    "two lengths of phase 1": (
        minimal(training={"phase1": {"epochs": 3, "iterations": 60}}),
        "give either `epochs` or `iterations`",
    ),
    "unknown score": (minimal(selection={"score": "median"}), "'sum', 'mean' or 'all_pairs'"),
    "no scales": (minimal(labeling={"scales": []}), "at least 1 item"),
    "negative scale": (minimal(labeling={"scales": [-1.0]}), "greater than 0"),
    "best without val": (minimal(labeling={"teacher": "best"}), "nothing would choose it"),
    "best without validation": (
        data(val="v.txt") | {"training": {"student": {"validate_every": 0}}, "evaluation": {"checkpoint": "best"}},
        "nothing would choose it",
    ),
    "overlap as large as the tile": (minimal(prediction={"tile": 64, "overlap": 64}), "must be smaller than tile"),
    "unknown architecture": (minimal(network={"architecture": "unet"}), "network.architecture"),
    "wrong number of rates": (minimal(network={"rates": [1, 2]}), "takes 3 rates, but got 2"),
    "weights for the tiny backbone": (minimal(network={"backbone": "tiny"}), "tiny has no torchvision weights"),
    "no block": (minimal(training={"teacher": {"tune": 0}}), "training.teacher.tune"),
    "some blocks": (minimal(training={"teacher": {"tune": "some"}}), "training.teacher.tune: Input should be 'all' or"),
    "output stride 4": (minimal(network={"output_stride": 4}), "network.output_stride"),
    "output stride 32": (minimal(network={"output_stride": 32}), "resnet50 has no output_stride 32; set one of 8, 16"),
    "unknown backbone": (
        minimal(network={"backbone": "resnet9000"}),
        "network.backbone: Input should be 'mobilenet_v2', 'resnet18', 'resnet34', 'resnet50', 'resnet101' or 'tiny' "
        "or `timm/NAME`, but got 'resnet9000'",
    ),
    "another package's weights": (
        minimal(network={"backbone": "timm/test_vit", "architecture": "linear"}),
        "backbone timm/test_vit has no torchvision weights; set `weights: timm`",
    ),
    "timm's weights": (
        minimal(network={"weights": "timm"}),
        "resnet50 has no timm weights; set `weights: torchvision`",
    ),
    "a decoder of more maps": (
        minimal(network={"architecture": "dpt"}),
        "architecture dpt needs 4 feature maps, but backbone resnet50 gives 2; take an encoder of timm's",
    ),
    "more maps than there are": (
        minimal(network={"architecture": "linear", "linear_maps": 3}),
        "linear_maps is 3, but backbone resnet50 gives 2",
    ),
    "scale the wrong way round": (unlabeled(scale=[2.0, 0.5]), "the smaller first"),
    "three scales": (unlabeled(scale=[0.5, 1.0, 2.0]), "at most 2 items"),
    "probability above one": (unlabeled(flip=1.5), "less than or equal to 1"),
    "hue above half a turn": (unlabeled(jitter={"hue": 0.6}), "less than or equal to 0.5"),
    "sigma the wrong way round": (unlabeled(blur={"sigma": [2.0, 0.1]}), "sigma must be two numbers"),
    "box that never fits": (unlabeled(cutout={"area": [0.9, 1.0], "ratio": [3.0, 4.0]}), "fits into the crop"),
    "unknown fill": (unlabeled(cutout={"fill": "black"}), "cutout.fill"),
    "lists without a labeled list": (data(labeled=None), "needs `labeled: a list file`"),
    "lists without an unlabeled list": (data(unlabeled=None), "needs `unlabeled: a list file`"),
    "lists without classes": (data(classes=None), "needs `classes` (names) or `classes_file`"),
    "one class": (data(classes=["a"]), "at least 2 items"),
    "equal class names": (data(classes=["a", "a"]), "class names must differ"),
    "256 classes": (data(classes=[f"c{i}" for i in range(256)]), "at most 255 items"),
    "two val sets": (data(val="v.txt", val_split={"count": 3}), "`val` or `val_split`, not both"),
    "one fold": (minimal(folds=1), "folds must be at least 2, or 0 for none"),
    "no pattern of groups": (data(group_by="video*"), "'video*' is no pattern; expected {group} once"),
    "a fold that there is not": (data(fold={"of": 3, "number": 4}), "number must be one of the 3 folds"),
    "two test sets": (data(test="t.txt", test_split={"count": 3}), "`test` or `test_split`, not both"),
    "partition of no size": (data(partition={}), "exactly one of count and fraction"),
    "partition of two sizes": (data(partition={"count": 1, "fraction": 0.5}), "exactly one of count and fraction"),
    "partition of everything": (data(partition={"fraction": 1.0}), "less than 1"),
    "no colour": (data(palette_map={"red": 0}), "'red' is no colour"),
    "label map to a word": (data(label_map={0: "void"}), "data.label_map.0"),
    "label map of a word": (data(label_map={"void": 0}), "'void' is no mask value: expected a number up to 65535"),
    "range from high to low": (data(label_map={"9-1": 0}), "'9-1' is no mask value"),
    "range beyond 16 bits": (data(label_map={"1-65536": 0}), "'1-65536' is no mask value"),
    "two ways to read values": (data(first_label=1, threshold=9), "first_label and threshold say the same thing"),
    "threshold for three classes": (data(threshold=9, classes=["a", "b", "c"]), "and there are 3; give a label_map"),
    "tolerance without colours": (data(palette_tolerance=9), "palette_tolerance needs a `palette_map`"),
    "zero shards": (minimal(runtime={"shards": 0}), "greater than or equal to 1"),
    "unknown device": (minimal(runtime={"device": "tpu"}), "'auto', 'cpu' or 'cuda'"),
    "no threads": (minimal(runtime={"train": {"threads": 0}}), "greater than or equal to 1"),
}


@pytest.mark.parametrize(("raw", "expected"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_refused_with_a_sentence(raw: Any, expected: str) -> None:
    with pytest.raises(StppError) as error:
        load(raw)
    assert expected in str(error.value)
    assert len(raw) == 0 or "configuration: 1 problem" in str(error.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(StppError) as error:
        load(minimal(name="a b", seeds=[], selection={"share": 2}))
    assert "3 problems" in str(error.value)
    assert all(word in str(error.value) for word in ("name:", "seeds:", "selection.share:"))


def test_a_missing_or_broken_file_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(StppError, match="cannot read the configuration"):
        read(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(StppError, match=r"cannot read the configuration .*broken\.yaml"):
        read(tmp_path / "broken.yaml")


def test_defaults_are_the_papers_for_pascal() -> None:
    config = load(minimal())
    teacher, student = config.training.teacher, config.training.student
    assert teacher == student
    assert (teacher.epochs, teacher.batch_size, teacher.crop, teacher.base_size) == (80, 16, 321, 400)
    assert (teacher.learning_rate, teacher.head_multiplier) == (0.001, 10)
    assert (teacher.momentum, teacher.weight_decay, teacher.poly_power) == (0.9, 1e-4, 0.9)
    assert (config.selection.checkpoints, config.selection.share) == (3, 0.5)
    assert (config.labeling.scales, config.labeling.flip) == ([0.5, 0.75, 1.0, 1.5, 2.0], True)
    for weak in (config.augmentation.teacher.labeled, config.augmentation.student.labeled):
        assert (weak.scale, weak.flip) == ([0.5, 2.0], 0.5)
        assert weak.jitter is weak.grayscale is weak.blur is weak.cutout is None
    strong = config.augmentation.student.unlabeled
    assert strong.jitter and strong.grayscale and strong.blur and strong.cutout
    jitter = strong.jitter
    assert (jitter.p, jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) == (0.8, 0.5, 0.5, 0.5, 0.25)
    assert strong.grayscale.p == 0.2
    assert (strong.blur.p, strong.blur.sigma) == (0.5, [0.1, 2.0])
    assert (strong.cutout.p, strong.cutout.area, strong.cutout.fill) == (0.5, [0.02, 0.4], "random")
    assert strong.cutout.ratio == pytest.approx([0.3, 10 / 3])


def test_overrides_change_one_key_and_leave_its_neighbours() -> None:
    strong = {"jitter": {"hue": 0.1, "p": 0.7}, "blur": {"p": 0.3}}
    override = {"augmentation": {"student": {"unlabeled": {"jitter": {"hue": 0.2}, "blur": None}}}}
    config = load(
        minimal(
            augmentation={"student": {"unlabeled": strong}},
            experiments={"a": {"method": "st"}, "b": {"method": "st++", **override}},
        )
    )
    a, b = (resolved(config, name).augmentation.student.unlabeled for name in "ab")
    assert a.jitter and b.jitter
    assert (a.jitter.hue, b.jitter.hue) == (0.1, 0.2)
    assert a.jitter.p == b.jitter.p == 0.7
    assert a.blur and b.blur is None


def test_an_override_can_make_the_whole_inconsistent() -> None:
    experiments = {"a": {"method": "st"}, "b": {"method": "st", "selection": {"checkpoints": 20}}}
    with pytest.raises(StppError, match=r"experiments\.b: 20 checkpoints"):
        load(minimal(training={"teacher": {"epochs": 10}}, experiments=experiments))


def test_every_setting_is_described() -> None:
    def sections(section: type[Section]) -> list[type[Section]]:
        return [section, *(s for sub in section.__subclasses__() for s in sections(sub))]

    for section in sections(Section):
        assert section.__doc__
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


def test_the_generated_documents_are_up_to_date() -> None:
    assert (ROOT / "docs/config.md").read_text() == reference(), "run `make docs`"
    assert (ROOT / "docs/config.schema.json").read_text() == schema(), "run `make docs`"
    assert (ROOT / "docs/methods.md").read_text() == methods(), "run `make docs`"


def test_the_schema_accepts_what_the_program_accepts() -> None:
    import jsonschema

    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    jsonschema.validate(raw, json.loads(schema()))
    load(raw)


def test_the_dumped_configuration_loads_again() -> None:
    config = load(minimal())
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_a_section_that_is_given_in_part_keeps_the_defaults_of_its_other_settings() -> None:
    """Also where the default of a section is not that of its class, as with the strong augmentation."""

    def sections(section: type[Section], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, field in section.model_fields.items():
            for kind in (field.annotation, *get_args(field.annotation)):
                if isinstance(kind, type) and issubclass(kind, Section) and not field.is_required():
                    default = field.get_default(call_default_factory=True)
                    if isinstance(default, kind):
                        yield (*path, name), (default, kind())
                        yield from sections(kind, (*path, name))

    found = dict(sections(Config))
    assert ("augmentation", "student", "unlabeled") in found and ("runtime", "predict") in found
    assert not {path: pair for path, pair in found.items() if pair[0] != pair[1]}
