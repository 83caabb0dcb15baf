"""No step of a training waits for a GPU: with pretended tensors of one here, and where there is one by its own word."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from trained import SMALL

from stpp.data.augmentation import sample_rng
from stpp.engine.batch import Moment, on_device
from stpp.engine.companions import Beside
from stpp.engine.distributed import Team
from stpp.engine.inference import _in_rows
from stpp.engine.losses import supervised_loss
from stpp.engine.networks import Net
from stpp.engine.optimisation import make_adam, make_optimizer, set_learning_rate, shorten_gradients
from stpp.engine.resume import TrainingState
from stpp.methods import Average, Companion, Method, Step, methods
from stpp.models import build
from stpp.settings.training import Loss, Ohem, Training
from stpp.stages.train import SELF_TRAINING

GPU = torch.device("cuda", 0)
CLASSES, SIZE, COUNT = 3, 32, 4
WAITING = ("cct", "pc2seg")
"""`cct` finds objects in masks on the CPU, and how many places `pc2seg` compares depends on their labels."""
OWN_STEP = [each for each in methods() if (each.online or each.own_step) and each.name not in WAITING]
"""The methods with a step of their own that does not wait."""
TIMM = (
    {"backbone": "timm/test_vit", "architecture": "dpt", "weights": "none", "decoder_channels": 8},
    {"backbone": "timm/test_efficientnet", "architecture": "linear", "weights": "none", "output_stride": 16},
)
LOSSES: dict[str, dict[str, Any]] = {
    "plain": {"optimizer": "adamw", "gradient_clip": 1.0},
    "ohem": {"ohem": Ohem(kept=10)},
    "balanced": {"loss": Loss(class_weights="inverse_sqrt", soft=True, focal=2.0, dice=1.0), "ohem": Ohem(kept=10)},
}


class Copies(TorchDispatchMode):
    """Refuses copies between CPU and GPU for which one waits for the other."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default:
            before, after = args[0].device.type, torch.device(kwargs.get("device") or args[0].device).type
            assert before == after or (after == "cuda" and kwargs.get("non_blocking")), "a copy that waits"
        if func is torch.ops.aten.copy_.default:
            before, after = args[1].device.type, args[0].device.type
            assert before == after or (after == "cuda" and len(args) > 2 and args[2]), "a copy that waits"
        return func(*args, **kwargs)


@contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A GPU of tensors that have sizes and no values, so what asks for one raises. Gives what refuses other waits."""
    if torch.version.cuda is None:
        pytest.skip("this PyTorch has no CUDA, not even pretended")
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch, "_fused_sgd_", lambda *given, **how: None)  # torch cannot pretend this one
    _in_rows.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield Copies
    _in_rows.cache_clear()


@contextmanager
def present(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The GPU that there is. Gives what has CUDA itself raise where something waits."""

    @contextmanager
    def watching() -> Iterator[None]:
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    yield watching


class Stepping:
    """A training of tiny networks on `GPU` that does one step after the other, as `stpp.stages.train` does them."""

    def __init__(self, step: Step, own: Any, network: Mapping[str, Any] = SMALL, **changes: Any) -> None:
        self.step, self.own = step, own
        self.training = Training(batch_size=2 * COUNT, **changes).model_dump()
        team = Team(GPU)
        weights = torch.ones(CLASSES, device=GPU)
        self.loss = supervised_loss(self.training, weights if self.training["loss"] else None)
        with GPU:
            modules = {name: build(network, CLASSES).train() for name in step.networks}
        for name, kind in step.networks.items():
            modules[name].requires_grad_(not isinstance(kind, Average))
        self.nets = {name: Net(module, module, self.training["precision"]) for name, module in modules.items()}
        beside = {}
        for name, kind in step.companions(own).items():
            average = isinstance(kind, Average)
            made = step.companions(own)[kind.of] if isinstance(kind, Average) else kind
            assert isinstance(made, Companion)
            with GPU:
                small = made.make(next(iter(modules.values())), CLASSES).requires_grad_(not average)
            beside[name] = Beside(small, small, self.training["precision"], None if average else made.rate)
        result = modules[step.result]
        learning = [modules[name] for name, kind in step.networks.items() if not isinstance(kind, Average)]
        heads = [each.module for each in beside.values() if each.rate is None and each.learns]
        optimizer = make_optimizer(learning, self.training, heads)
        others = {
            name: make_adam(each.module, each.rate, self.training)
            for name, each in beside.items()
            if each.rate is not None
        }
        self.nets |= beside
        self.state = TrainingState(modules, result, optimizer, torch.zeros((), device=GPU), others=others)
        self.at = partial(Moment, per_epoch=2, total=20, team=team)
        views = step.views(own)
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (COUNT, SIZE, SIZE, 3), np.uint8)
        labels = rng.integers(0, CLASSES, (COUNT, SIZE, SIZE), np.uint8)
        if step.confident or self.training["loss"]:
            labels = np.stack([labels, np.full_like(labels, 200)], axis=-1)
        images, masks, seen = (pinned(torch.from_numpy(each)) for each in (pixels, labels, labels))
        keys = SimpleNamespace(tolist=lambda: [[0, number] for number in range(COUNT)])
        self.loaded: Any = [[images, masks, keys], [*(each for _ in views for each in (images, seen)), keys]]
        self.views = views

    def __call__(self) -> None:
        rng = partial(sample_rng, 0)
        batch = on_device(self.loaded, self.views, GPU, self.state.result.normalisation, rng)
        known = {"confidence": batch.confidence} if self.training["loss"] else {}
        at = self.at(self.state.iteration, supervised_loss=partial(self.loss, **known))
        for each in self.state.optimizers:
            set_learning_rate(each, self.training, self.state.iteration, 20)
        losses = self.step.step(batch, self.nets, self.own, at)
        loss = torch.stack(list(losses.values())).sum()
        for each in self.state.optimizers:
            each.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            loss.backward()
        else:  # autograd asks for the device; what it runs is torch's alone
            groups = [group for each in self.state.optimizers for group in each.param_groups]
            for parameter in (each for group in groups for each in group["params"]):
                parameter.grad = torch.zeros_like(parameter)
        shorten_gradients(self.state.optimizer, self.training["gradient_clip"])
        for each in self.state.optimizers:
            each.step()
        self.step.after_step(self.nets, self.own, at)
        self.state.add(losses, loss, at.notes)


def pinned(values: Tensor) -> Tensor:
    """As a loader hands it over, where there is a GPU."""
    return values.pin_memory() if torch.cuda.is_available() else values


def stepped(step: Step, own: Any, gpu: Any, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Four steps of a training, of which those after the first are watched: it makes what is kept."""
    with gpu(monkeypatch) as watching:
        training = Stepping(step, own, **changes)
        training()
        with watching():
            for _ in range(3):
                training()


def settings_of(method: Method) -> tuple[Step, Any]:
    step = method.online or method.own_step
    assert step is not None
    return step, method.settings() if method.settings else None


on_a_gpu = pytest.param(present, marks=pytest.mark.cuda)


@pytest.mark.parametrize("gpu", [pretended, on_a_gpu])
@pytest.mark.parametrize("method", OWN_STEP, ids=lambda method: method.name)
def test_no_step_of_a_method_waits(method: Method, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stepped(*settings_of(method), gpu, monkeypatch)


@pytest.mark.parametrize("gpu", [pretended, on_a_gpu])
@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_of_labels_waits(name: str, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stepped(SELF_TRAINING, None, gpu, monkeypatch, **LOSSES[name])


@pytest.mark.parametrize("gpu", [pretended, on_a_gpu])
@pytest.mark.parametrize("name", ["suponly", "unimatch_v2"])
@pytest.mark.parametrize("network", TIMM, ids=lambda network: network["backbone"])
def test_no_step_waits_with_an_encoder_of_timm(
    network: dict[str, Any], name: str, gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # timm asks a tensor on the CPU for these numbers, which one without values cannot tell.
    monkeypatch.setattr("timm.models.vision_transformer.calculate_drop_path_rates", lambda rate, depth: [0.0] * depth)
    (online,) = (settings_of(each) for each in OWN_STEP if each.name == "unimatch_v2")
    step, own = (SELF_TRAINING, None) if name == "suponly" else online
    stepped(step, own, gpu, monkeypatch, network=network, optimizer="adamw", layer_decay=0.9, tune=1)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_only_a_gpu_has_the_fused_optimizer(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(optimizer=optimizer).model_dump()
    assert make_optimizer([build(SMALL, CLASSES)], training).defaults["fused"] is None  # as a saved state has it
    with pretended(monkeypatch), GPU:
        assert make_optimizer([build(SMALL, CLASSES)], training).defaults["fused"] is True
        assert make_adam(torch.nn.Linear(1, 1), 0.1, training).defaults["fused"] is True
    assert make_adam(torch.nn.Linear(1, 1), 0.1, training).defaults["fused"] is None


WAITS = {
    "item": lambda values: values.sum().item(),
    "bool": lambda values: bool(values.any()),
    "nonzero": lambda values: values.nonzero(),
    "index": lambda values: values[values > 0],
    "cpu": lambda values: values.cpu(),
    "tensor": lambda values: torch.tensor([1.0, 2.0], device=values.device),
    "to": lambda values: torch.ones(2).to(values.device),
}


@pytest.mark.parametrize("name", WAITS)
def test_what_waits_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = (DataDependentOutputException, DynamicOutputShapeException, AssertionError)
    with pretended(monkeypatch) as watching, watching(), pytest.raises(found):
        WAITS[name](torch.ones(4, device=GPU))
