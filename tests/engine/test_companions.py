"""Small networks beside those that segment: who learns from what, how fast, and how they are saved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import Constant

from stpp.engine.companions import Beside, companions_of
from stpp.engine.distributed import Team
from stpp.engine.optimisation import learning_rate, make_adam, make_optimizer, set_learning_rate
from stpp.engine.resume import TrainingState, random_state
from stpp.methods import Companion
from stpp.settings.training import Training
from stpp.store.tensorfile import write_tensors

TEAM = Team(torch.device("cpu"))


def training(**changes: Any) -> dict[str, Any]:
    return Training(**changes).model_dump()


def judge(module: nn.Module) -> Beside:
    return Beside(module, module, "fp32", None)


def test_gradients_of_a_frozen_companion_reach_its_inputs_alone() -> None:
    module, seen = nn.Linear(3, 1), torch.randn(2, 3, requires_grad=True)
    judge(module).frozen(seen).sum().backward()
    assert seen.grad is not None and torch.equal(seen.grad, module.weight.expand(2, 3))
    assert module.weight.grad is None and module.weight.requires_grad
    judge(module)(seen.detach()).sum().backward()
    assert module.weight.grad is not None


def test_both_learn_from_one_backward_pass_what_each_would_from_its_own() -> None:
    module, seen = nn.Linear(3, 1), torch.randn(2, 3, requires_grad=True)
    companion = judge(module)
    (companion.frozen(seen).square().sum() + companion(seen.detach()).exp().sum()).backward()
    together = (seen.grad, module.weight.grad)
    (alone,) = torch.autograd.grad(module(seen).square().sum(), seen)
    (own,) = torch.autograd.grad(module(seen).exp().sum(), module.weight)
    assert together[0] is not None and torch.equal(together[0], alone)
    assert together[1] is not None and torch.equal(together[1], own)


def test_a_part_of_a_companion_gives_gradients_to_its_input_alone() -> None:
    modules = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 4)])
    seen = torch.randn(2, 3, requires_grad=True)
    found = judge(modules).child(1)(seen)
    assert torch.equal(found, modules[1](seen))
    found.sum().backward()
    assert seen.grad is not None and all(each.grad is None for each in modules.parameters())


def drawn(named: dict[str, Companion]) -> dict[str, Beside]:
    settings = {"classes": ["a", "b", "c"], "training": {"precision": "fp32"}}
    return companions_of(named, {"student": Constant()}, settings, TEAM, len)  # type: ignore[dict-item]


def test_a_companion_has_weights_of_its_own_seed_and_changes_no_other_random_number() -> None:
    def make(network: Any, classes: int) -> nn.Module:
        assert network is Constant.module
        return nn.Linear(classes, 2)

    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    found = drawn({"a": Companion(make), "bc": Companion(make, 0.5)})
    assert torch.equal(torch.rand(4), expected)
    torch.manual_seed(len("init bc"))
    assert torch.equal(found["bc"].module.weight, nn.Linear(3, 2).weight)
    assert not torch.equal(found["a"].module.weight, found["bc"].module.weight)
    assert found["a"].rate is None and found["bc"].rate == 0.5


def test_a_companion_learns_as_the_heads_or_at_its_own_rate() -> None:
    asked = training(learning_rate=0.02, batch_size=32, head_multiplier=10.0)
    head, critic = nn.Linear(2, 2), nn.Linear(2, 2)
    for_heads, own = make_optimizer([], asked, [head]), make_adam(critic, 0.003, asked)
    for iteration in (0, 50, 99):
        for optimizer in (for_heads, own):
            set_learning_rate(optimizer, asked, iteration, 100)
        left = (1 - iteration / 100) ** 0.9
        assert for_heads.param_groups[0]["lr"] == pytest.approx(10 * learning_rate(asked, iteration, 100))
        assert own.param_groups[0]["lr"] == pytest.approx(0.003 * left)
    assert own.param_groups[0]["betas"] == (0.9, 0.99)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_all_parameters_of_a_head_are_in_the_optimizer_once(optimizer: str) -> None:
    head = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    groups = make_optimizer([], training(optimizer=optimizer), [head]).param_groups
    found = [id(each) for group in groups for each in group["params"]]
    assert sorted(found) == sorted(id(each) for each in head.parameters())
    without = [group for group in groups if group["weight_decay"] == 0]
    assert len(without) == (optimizer == "adamw")


def test_a_state_has_the_companions_and_their_optimizers(tmp_path: Path) -> None:
    def state() -> TrainingState:
        network, critic = nn.Linear(2, 1), nn.Linear(2, 1)
        networks: Any = {"student": network, "critic": critic}
        optimizer = torch.optim.SGD([{"params": network.parameters(), "factor": 1.0}], lr=0.1, momentum=0.9)
        others = {"critic": make_adam(critic, 0.01, training())}
        return TrainingState(networks, networks["student"], optimizer, torch.zeros(()), others=others)

    def steps(of: TrainingState, seen: Tensor) -> None:
        for optimizer in of.optimizers:
            optimizer.zero_grad()
        sum(network(seen).square().sum() for network in of.networks.values()).backward()  # type: ignore[union-attr]
        for optimizer in of.optimizers:
            set_learning_rate(optimizer, training(), 0, 10)
            optimizer.step()

    torch.manual_seed(0)
    first, other, images = state(), state(), torch.randn(5, 2)
    steps(first, images)
    write_tensors(first.copy(random_state(TEAM)), tmp_path / "state.pt")
    other.load(tmp_path / "state.pt", TEAM)
    for each in (first, other):
        steps(each, 2 * images)
    for name, network in first.networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, other.networks[name].state_dict()[key])
