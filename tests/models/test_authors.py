"""Models that the ST++ authors' code saved: recognised by their names, and in ours."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from trained import picture

import stpp
from stpp.common.errors import StppError
from stpp.data.classes import CITYSCAPES, VOC_CLASSES
from stpp.models import build
from stpp.models.authors import from_authors

# The authors' layers after a backbone of 2048 channels: (outputs, inputs, kernel) of convolutions, the channels of
# batch norms; those with a bias end in "+". C stands for the classes.
LAYERS = {
    "deeplabv3plus": {
        **{f"head.b{n}.0": (256, 2048, 1 if n == 0 else 3) for n in range(4)},
        **{f"head.b{n}.1": (256,) for n in range(4)},
        "head.b4.gap.1": (256, 2048, 1),
        "head.b4.gap.2": (256,),
        "head.project.0": (256, 1280, 1),
        "head.project.1": (256,),
        "reduce.0": (48, 256, 1),
        "reduce.1": (48,),
        "fuse.0": (256, 304, 3),
        "fuse.1": (256,),
        "fuse.3": (256, 256, 3),
        "fuse.4": (256,),
        "classifier+": ("C", 256, 1),
    },
    "pspnet": {
        **{f"head.conv5.0.conv{n}.0": (512, 2048, 1) for n in range(1, 5)},
        **{f"head.conv5.0.conv{n}.1": (512,) for n in range(1, 5)},
        "head.conv5.1": (512, 4096, 3),
        "head.conv5.2": (512,),
        "head.conv5.5+": ("C", 512, 1),
    },
    "deeplabv2": {f"classifier.{n}+": ("C", 2048, 3) for n in range(4)},
}
PAIRS = {  # where shapes alone do not tell which is which
    "deeplabv3plus": {
        "head.b2.0.weight": "classifier.aspp.branches.2.0.weight",
        "head.b3.0.weight": "classifier.aspp.branches.3.0.weight",
        "head.b4.gap.1.weight": "classifier.aspp.pool.1.0.weight",
        "head.b4.gap.2.running_var": "classifier.aspp.pool.1.1.running_var",
        "head.project.1.weight": "classifier.aspp.project.0.1.weight",
        "fuse.1.bias": "classifier.fuse.0.1.bias",
        "fuse.4.bias": "classifier.fuse.1.1.bias",
    },
    "pspnet": {
        "head.conv5.0.conv1.0.weight": "classifier.scales.0.1.0.weight",
        "head.conv5.0.conv4.1.weight": "classifier.scales.3.1.1.weight",
        "head.conv5.2.weight": "classifier.fuse.0.1.weight",
    },
    "deeplabv2": {f"classifier.{n}.weight": f"classifier.{n}.weight" for n in range(4)},
}


def theirs(architecture: str, backbone: str, classes: int) -> Iterator[tuple[str, Tensor]]:
    """A state dict of the authors'; each tensor takes the memory of one number."""
    import torchvision

    def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros((), dtype=dtype).expand(shape)

    with torch.device("meta"):
        imagenet = getattr(torchvision.models, backbone)(weights=None).state_dict()
    for name, value in imagenet.items():
        if not name.startswith("fc."):
            yield f"backbone.{name}", tensor(*value.shape, dtype=value.dtype)
    for layer, (first, *rest) in LAYERS[architecture].items():
        outputs, name = classes if first == "C" else first, layer.removesuffix("+")
        if rest:
            yield f"{name}.weight", tensor(outputs, rest[0], rest[1], rest[1])
        else:
            yield from ((f"{name}.{part}", tensor(outputs)) for part in ("weight", "running_mean", "running_var"))
            yield f"{name}.num_batches_tracked", torch.tensor(0)
        if not rest or layer.endswith("+"):
            yield f"{name}.bias", tensor(outputs)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
@pytest.mark.parametrize("architecture", list(LAYERS))
def test_their_names_and_shapes_become_ours(architecture: str, backbone: str, prefix: str) -> None:
    state = dict(theirs(architecture, backbone, 19))
    description, classes, ours = from_authors({prefix + name: tensor for name, tensor in state.items()})
    assert (description["architecture"], description["backbone"], classes) == (architecture, backbone, 19)
    with torch.device("meta"):
        expected = build(description, classes).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in expected.items()}
    for before, after in PAIRS[architecture].items():
        assert ours[after] is state[before]


@pytest.mark.parametrize(("classes", "names"), [(21, VOC_CLASSES), (19, list(CITYSCAPES)), (3, ["class 0", "class 1"])])
def test_a_file_of_theirs_is_a_model(tmp_path: Path, classes: int, names: list[str]) -> None:
    state = dict(theirs("deeplabv3plus", "resnet50", classes))
    state["classifier.bias"] = torch.eye(classes)[2]
    whole = {name: tensor.clone() for name, tensor in state.items()}  # as large as it claims to be
    torch.save(whole, tmp_path / "deeplabv3plus_resnet50_73.30.pth")
    model = stpp.load(tmp_path / "deeplabv3plus_resnet50_73.30.pth", "cpu")
    assert list(model.classes)[: len(names)] == names
    assert len(model.classes) == classes
    assert np.array_equal(model.predict(picture(20, 30)), np.full((20, 30), 2))
    (tmp_path / "deeplabv3plus_resnet50_73.30.pth").unlink()


def test_another_network_is_refused() -> None:
    for state in ({"backbone.conv1.weight": torch.zeros(1)}, {"conv1.weight": torch.zeros(1)}, {}):
        with pytest.raises(StppError, match="not those of a network of the ST\\+\\+ authors' code"):
            from_authors(state)
