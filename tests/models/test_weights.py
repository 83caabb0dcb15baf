"""Weights load by name from every format that a user may hold, or not at all and with every mismatch named."""

import urllib.error
import urllib.request

import pytest
import torch

from stpp.common.errors import Problems, StppError
from stpp.models import build
from stpp.models.weights import WRAPPERS, load_weights, torchvision_weights


def network(architecture="deeplabv3plus", backbone="tiny", classes=4):
    return build(
        {
            "architecture": architecture,
            "backbone": backbone,
            "output_stride": 8,
            "rates": [2, 4],
            "head_channels": 8,
            "decoder_channels": 8,
            "low_level_channels": 8,
            "dropout": 1.0,
        },
        classes,
    )


def snapshot(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_whole_network_loads(prefix):
    source, target = network(), network()
    state = snapshot(source)
    assert not equal(state, snapshot(target))
    message = load_weights(target, {prefix + name: tensor for name, tensor in state.items()}, "best.pt")
    assert equal(state, snapshot(target))
    assert message == f"Loaded the whole network, {len(state)} tensors, from best.pt."


def test_deeplabv2_takes_the_names_of_the_coco_pretrained_file():
    torch.manual_seed(0)
    net = network("deeplabv2", "resnet18", classes=21)
    bare = {f"backbone.{name}": torch.randn_like(t) for name, t in net.backbone.named_parameters()}
    bare |= {f"backbone.{name}": torch.rand_like(t) for name, t in net.backbone.named_buffers() if t.dim()}
    for index in range(2):
        bare |= {f"classifier.{index}.weight": torch.randn(21, 512, 3, 3), f"classifier.{index}.bias": torch.randn(21)}
    load_weights(net, bare, "deeplabv2_coco.pth")
    loaded = net.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in bare.items())


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2"])
def test_names_and_shapes_are_torchvisions_but_for_imagenets_classifier(backbone):
    import torchvision

    with torch.device("meta"):
        theirs = getattr(torchvision.models, backbone)(weights=None).state_dict()
        ours = network(backbone=backbone).backbone
    left_out = [name for name in theirs if name.startswith(ours.imagenet_only)]
    assert {name: t.shape for name, t in ours.state_dict().items()} == {
        name: t.shape for name, t in theirs.items() if name not in left_out
    }
    if backbone == "mobilenet_v2":
        assert {name.rpartition(".")[0] for name in left_out} == {"features.18.0", "features.18.1", "classifier.1"}
    else:
        assert left_out == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(("backbone", "ignored"), [("resnet18", 2), ("mobilenet_v2", 8)])
def test_an_imagenet_file_in_torchvisions_names_loads_into_the_backbone_alone(backbone, ignored, prefix):
    import torchvision

    state = getattr(torchvision.models, backbone)(weights=None).state_dict()
    net = network(backbone=backbone)
    head = snapshot(net.classifier)
    message = load_weights(net, {prefix + name: tensor for name, tensor in state.items()}, "imagenet.pth")
    loaded = net.backbone.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())
    assert equal(head, snapshot(net.classifier))
    assert message == (
        f"Loaded the backbone, {len(loaded)} tensors, from imagenet.pth, without {ignored} others, such as ImageNet's "
        "classifier."
    )


def test_an_imagenet_file_without_its_classifier_loads():
    import torchvision

    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    features = {name: tensor for name, tensor in state.items() if name.startswith("features.")}
    assert "without 6 others" in load_weights(network(backbone="mobilenet_v2"), features, "features.pth")
    body = {name: tensor for name, tensor in features.items() if not name.startswith("features.18.")}
    assert load_weights(network(backbone="mobilenet_v2"), body, "f.pth").endswith(f"{len(body)} tensors, from f.pth.")


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_weights_that_are_wrapped_once_load_as_they_do_without(wrapper):
    source, target = network(), network()
    state = snapshot(source)
    message = load_weights(target, {wrapper: state, "epoch": 3, "optimizer": {"lr": 0.1}}, "nested.pth")
    assert equal(state, snapshot(target))
    assert message == f"Loaded the whole network, {len(state)} tensors, from nested.pth."


def test_of_a_training_and_its_average_the_average_is_loaded():
    source, target = network(), network()
    state = snapshot(source)
    other = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    load_weights(target, {"state_dict": other, "state_dict_ema": state}, "timm.pth")
    assert equal(state, snapshot(target))


@pytest.mark.parametrize(
    "prefix",
    [
        "backbone.",
        "encoder.",
        "module.backbone.",
        "module.encoder.",
        "_orig_mod.",
        "module._orig_mod.",
        "model.",
        "net.encoder.",
        "model.module.",
        "_orig_mod.module.model.",
    ],
)
def test_a_backbone_under_its_prefix_without_a_head_loads_into_the_backbone_alone(prefix):
    import torchvision

    state = torchvision.models.resnet18(weights=None).state_dict()
    net = network(backbone="resnet18")
    head = snapshot(net.classifier)
    message = load_weights(net, {"model": {prefix + name: tensor for name, tensor in state.items()}}, "ssl.pth")
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.backbone.state_dict().items())
    assert equal(head, snapshot(net.classifier))
    assert message.startswith("Loaded the backbone") and "without 2 others" in message


@pytest.mark.parametrize(
    ("prefix", "other"),
    [
        ("module.encoder_q.", "module.encoder_k."),
        ("module.base_encoder.", "module.momentum_encoder."),
        ("teacher.backbone.", "student.backbone."),
        ("student.", "loss."),
    ],
)
def test_of_two_networks_in_a_file_of_self_supervision_the_right_one_loads(prefix, other):
    import torchvision

    state = torchvision.models.resnet18(weights=None).state_dict()
    content = {other + name: torch.zeros_like(tensor) for name, tensor in state.items()}
    content |= {prefix + name: tensor for name, tensor in state.items()}
    content[f"{other.partition('.')[0]}.queue"] = torch.zeros(3)
    net = network(backbone="resnet18")
    load_weights(net, {"state_dict": content}, "ssl.pth")
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.backbone.state_dict().items())


def test_a_file_with_the_options_of_its_training_loads(tmp_path):
    from argparse import Namespace

    from stpp.store.tensorfile import read_tensors

    state = snapshot(network())
    torch.save({"state_dict": state, "args": Namespace(lr=0.1, model="resnet18", sizes=[3])}, tmp_path / "timm.pth")
    assert equal(state, read_tensors(tmp_path / "timm.pth")["state_dict"])
    wide = torch.zeros(1).expand(10**6)
    torch.save({"state_dict": state, "args": Namespace(hidden=[wide])}, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match="its tensors claim"):
        read_tensors(tmp_path / "hostile.pth")


def test_names_with_ever_more_prefixes_end():
    name = "model.net.module.encoder.backbone.teacher.student." * 200
    with pytest.raises(StppError, match="do not fit"):
        load_weights(network(), {name + "weight": torch.zeros(1)}, "hostile.pth")


def test_missing_batch_counters_are_fine():
    source, target = network(), network()
    state = {name: t for name, t in snapshot(source).items() if not name.endswith("num_batches_tracked")}
    load_weights(target, state, "old.pth")
    loaded = target.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_every_mismatch_is_named_and_nothing_is_loaded():
    net = network(classes=4)
    before = snapshot(net)
    state = snapshot(network(classes=6))
    del state["backbone.bn1.bias"]
    state["classifier.extra"] = torch.zeros(2, 3)
    with pytest.raises(Problems) as caught:
        load_weights(net, state, "other.pt")
    assert caught.value.problems == [
        "backbone.bn1.bias: missing -> (16,)",
        "classifier.score.weight: (6, 8, 1, 1) -> (4, 8, 1, 1)",
        "classifier.score.bias: (6,) -> (4,)",
        "classifier.extra: (2, 3) -> unexpected",
    ]
    assert "other.pt" in str(caught.value) and "the network" in str(caught.value)
    assert equal(before, snapshot(net))


def test_another_backbones_file_is_refused_name_by_name():
    net = network(backbone="resnet18")
    state = snapshot(network(backbone="resnet34").backbone)
    with pytest.raises(Problems, match="do not fit the backbone") as caught:
        load_weights(net, state, "resnet34.pth")
    own = net.backbone.state_dict()
    assert caught.value.problems == [f"{n}: {tuple(t.shape)} -> unexpected" for n, t in state.items() if n not in own]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "no state dict: it is empty"),
        ([torch.zeros(1)], "no state dict: they are a list"),
        ({"state_dict": {}, "epoch": 3}, "no state dict: it is empty"),
        ({"epoch": 3}, "no state dict: the entry 'epoch' is a int"),
        ({"model": {"state_dict": {"x": torch.zeros(1)}}}, "no state dict: the entry 'state_dict' is a dict"),
    ],
)
def test_what_is_no_state_dict_is_refused(state, message):
    with pytest.raises(StppError, match=f"weights x.pth are {message}"):
        load_weights(network(), state, "x.pth")


def test_torchvisions_weights_are_taken_from_the_download_cache(tmp_path, monkeypatch):
    import torchvision

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    state = torchvision.models.resnet18(weights=None).state_dict()
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    torch.save(state, tmp_path / "hub/checkpoints" / url.rpartition("/")[2])
    fetched = torchvision_weights("resnet18")
    assert equal(state, fetched)
    load_weights(network(backbone="resnet18"), fetched, "torchvision")


def test_no_network_is_a_clear_error(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    with pytest.raises(
        StppError, match=r"could not fetch .* resnet50 from https:.*no route to host.*`network.weights`"
    ):
        torchvision_weights("resnet50")


def test_tiny_has_no_imagenet_weights():
    with pytest.raises(StppError, match="tiny has no ImageNet weights"):
        torchvision_weights("tiny")
