"""What of an encoder learns, at which rates and by which optimizer, each against an independent computation."""

import math
from typing import Any

import pytest
import torch

from stpp.common.errors import StppError
from stpp.engine.networks import Net, average_decay
from stpp.engine.optimisation import (
    learning_rate,
    make_optimizer,
    parameter_groups,
    set_learning_rate,
    shorten_gradients,
)
from stpp.models import build
from stpp.models.network import SegmentationNetwork
from stpp.settings.training import Training

ENCODERS = ["tiny", "resnet18", "mobilenet_v2", "timm/test_vit", "timm/test_efficientnet"]
BLOCKS = {"tiny": 4, "resnet18": 8, "mobilenet_v2": 17, "timm/test_vit": 6}


def network(backbone: str) -> SegmentationNetwork:
    torch.manual_seed(0)
    return build({"architecture": "linear", "backbone": backbone, "output_stride": 16}, 3)


def training(**changes: Any) -> dict[str, Any]:
    return Training(**changes).model_dump()


# --- what learns ------------------------------------------------------------------------------------------------------


def learning(net: SegmentationNetwork) -> set[str]:
    return {name for name, parameter in net.backbone.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("backbone", BLOCKS)
def test_the_last_blocks_learn_and_the_others_stay(backbone: str) -> None:
    net = network(backbone)
    layers = net.backbone.layers()
    assert len(layers) == 1 + BLOCKS[backbone]
    net.freeze(2)
    assert learning(net) == {name for layer in layers[-2:] for name in layer}
    assert all(parameter.requires_grad for parameter in net.classifier.parameters())


@pytest.mark.parametrize("backbone", ENCODERS)
@pytest.mark.parametrize("tune", ["none", 1, "all"])
def test_a_training_moves_what_learns_and_no_statistics_of_what_does_not(backbone: str, tune: str | int) -> None:
    net = network(backbone)
    net.freeze(tune)
    net.train()
    optimizer = make_optimizer([net], training(learning_rate=0.1))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    learned = learning(net)
    set_learning_rate(optimizer, training(learning_rate=0.1), 0, 10)
    net(torch.randn(2, 3, 48, 64)).square().mean().backward()
    optimizer.step()
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in moved if name.startswith("classifier.")}
    places = {name.rpartition(".")[0] for name in learned}
    own = {name.removeprefix("backbone.") for name in moved if name.startswith("backbone.")}
    assert {name.rpartition(".")[0] for name in own} <= places
    assert bool(own) == (tune != "none") and bool(learned) == (tune != "none")
    if tune == "all":
        assert learned == {name for name, _ in net.backbone.named_parameters()}
        assert any(name.endswith("running_mean") for name in own) == (backbone != "timm/test_vit")


def test_a_frozen_encoder_gives_the_same_features_in_training_and_in_evaluation() -> None:
    net, x = network("timm/test_efficientnet"), torch.randn(2, 3, 64, 64)
    net.freeze("none")
    found = net.train().backbone(x)
    assert not any(map.requires_grad for map in found)
    for map, other in zip(found, net.eval().backbone(x)):
        assert torch.equal(map, other)


def test_more_blocks_than_there_are_is_refused() -> None:
    with pytest.raises(StppError, match="tune is 5, but the encoder has 4 blocks behind its stem"):
        network("tiny").freeze(5)


# --- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["tiny", "timm/test_vit"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_each_block_learns_at_a_share_of_the_rate_of_the_next(backbone: str, optimizer: str) -> None:
    net = network(backbone)
    asked = training(layer_decay=0.5, head_multiplier=3.0, optimizer=optimizer)
    factors = {
        id(parameter): group["factor"] for group in parameter_groups(net, asked) for parameter in group["params"]
    }
    depth = BLOCKS[backbone]
    assert len(factors) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        if name.startswith("classifier."):
            assert factors[id(parameter)] == 3.0
        elif "layer" in name:  # tiny: layer1 to layer4 of one block each
            assert factors[id(parameter)] == 0.5 ** (4 - int(name.split("layer")[1][0]))
        elif ".blocks." in name:
            assert factors[id(parameter)] == 0.5 ** (depth - 1 - int(name.split(".blocks.")[1].split(".")[0]))
        else:
            assert factors[id(parameter)] == (
                1.0 if name.endswith(("model.norm.weight", "model.norm.bias")) else 0.5**depth
            )


@pytest.mark.parametrize("backbone", ["tiny", "timm/test_vit", "timm/test_efficientnet"])
def test_adamw_decays_no_norm_bias_position_or_token(backbone: str) -> None:
    net = network(backbone)
    asked = training(optimizer="adamw", weight_decay=0.1)
    groups = make_optimizer([net], asked).param_groups
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    norms = (torch.nn.BatchNorm2d, torch.nn.LayerNorm)
    spared = {id(own) for module in net.modules() if isinstance(module, norms) for own in module.parameters()}
    spared |= {id(own) for name, own in net.named_parameters() if name.endswith((".bias", "_embed", "_token"))}
    spared |= {id(own) for name, own in net.named_parameters() if name.endswith(".gamma")}
    assert {key for key, decay in decays.items() if decay == 0} == spared
    assert set(decays.values()) == {0, 0.1} and len(decays) == len(list(net.parameters()))


def test_adamw_takes_the_steps_of_its_definition() -> None:
    """Loshchilov and Hutter, ICLR 2019, algorithm 2, with the rate of each group and step as the multiplier."""
    net = network("tiny")
    asked = training(optimizer="adamw", weight_decay=0.1, learning_rate=0.01, head_multiplier=2.0, batch_size=16)
    optimizer = make_optimizer([net], asked)
    weight = net.classifier.score.weight  # type: ignore[union-attr]
    expected, first, second = weight.detach().clone().double(), 0.0, 0.0
    for step in range(1, 4):
        set_learning_rate(optimizer, asked, step - 1, 10)
        optimizer.zero_grad()
        net(torch.randn(2, 3, 16, 16)).square().sum().backward()
        gradient = weight.grad.double()
        optimizer.step()
        rate = 0.02 * (1 - (step - 1) / 10) ** 0.9
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        update = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        expected = expected * (1 - rate * 0.1) - rate * update
    torch.testing.assert_close(weight.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_cosine_falls_by_half_a_wave_and_warms_up() -> None:
    asked = training(schedule="cosine", learning_rate=0.001, batch_size=32, warmup_iterations=10)
    rates = [learning_rate(asked, iteration, 100) for iteration in range(101)]
    assert rates[50] == pytest.approx(0.001) and rates[100] == pytest.approx(0, abs=1e-18)
    for iteration in range(100):
        wave = 0.002 * math.cos(math.pi * iteration / 200) ** 2  # (1 + cos 2a) / 2 = cos(a) ** 2
        assert rates[iteration] == pytest.approx(wave * min(1, (iteration + 1) / 10), rel=1e-9)


def test_longer_gradients_are_shortened_together_and_shorter_ones_left() -> None:
    net = network("tiny")
    optimizer = make_optimizer([net], training())
    net(torch.randn(2, 3, 16, 16)).square().sum().backward()
    before = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in before))
    shorten_gradients(optimizer, None)
    shorten_gradients(optimizer, 2 * norm)
    after = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    assert all(torch.equal(*pair) for pair in zip(before, after))
    shorten_gradients(optimizer, norm / 4)
    for gradient, shorter in zip(before, after):
        torch.testing.assert_close(shorter, gradient / 4, rtol=1e-4, atol=1e-8)


def test_the_moving_average_is_the_plain_mean_at_first_and_then_forgets() -> None:
    torch.manual_seed(0)
    nets = [Net(network("tiny"), lambda x: x, "fp32") for _ in range(2)]
    follower, leader = nets
    states = []
    for iteration in range(4):
        with torch.no_grad():
            for tensor in (*leader.module.parameters(), *leader.module.buffers()):
                tensor.copy_(
                    torch.randint_like(tensor, 10) if not tensor.is_floating_point() else torch.rand_like(tensor)
                )
        states.append({name: value.clone() for name, value in leader.module.state_dict().items()})
        follower.follow(leader, average_decay(iteration, 0.6), buffers=True)
    for name, found in follower.module.state_dict().items():
        if found.is_floating_point():
            mean = (states[0][name] + states[1][name]) / 2
            expected = 0.6 * (0.6 * mean + 0.4 * states[2][name]) + 0.4 * states[3][name]
            torch.testing.assert_close(found, expected)
        else:
            assert torch.equal(found, states[3][name])
