"""From losses to new weights: forward pass, optimizer and learning rate."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from stpp.models.network import Maps, SegmentationNetwork


def make_optimizer(
    networks: Iterable[SegmentationNetwork], training: Mapping[str, Any], heads: Iterable[nn.Module] = ()
) -> Optimizer:
    """The optimizer that `training` asks for; `set_learning_rate` gives its groups their rates before each step.

    Further `heads`, which are no part of a network, learn as the heads of the networks do.

    One optimizer over several networks does what one for each would do: none of its arithmetic joins two parameters.
    """
    groups = [group for network in networks for group in parameter_groups(network, training)]
    for head in heads:
        groups += groups_of([(training["head_multiplier"], list(head.parameters()))], training)
    common = {"lr": 0.0, "weight_decay": training["weight_decay"], "fused": _fused(groups)}
    if training["optimizer"] == "adamw":
        return AdamW(groups, **common)
    return SGD(groups, momentum=training["momentum"], **common)


def make_adam(module: nn.Module, rate: float, training: Mapping[str, Any]) -> Optimizer:
    """Adam for a module that learns beside the networks, with the moments of discriminators, 0.9 and 0.99.

    At the learning rate `rate`, whatever the batch, times the schedule of the training: by `set_learning_rate`, too.
    """
    groups = [{"params": list(module.parameters()), "factor": rate / base_rate(training)}]
    return Adam(groups, lr=0.0, betas=(0.9, 0.99), fused=_fused(groups))


def _fused(groups: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether one kernel computes many parameters, as on a GPU; each is computed alone, so the bytes repeat."""
    return any(parameter.is_cuda for group in groups for parameter in group["params"]) or None


def parameter_groups(network: SegmentationNetwork, training: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The groups of a network's parameters, each with the `factor` of its learning rate: the backbone, then the head.

    With a decay by layers, the backbone's block k of n has the factor decay ** (n - k), the stem being block 0 (Clark
    et al., ELECTRA, ICLR 2020, with the rate of the last block as the base). For AdamW, what has one dimension (norms
    and biases) and what the encoder names (positions and tokens) is a group of its own without weight decay.
    """
    decay, backbone = training["layer_decay"], network.backbone_parameters()
    if decay == 1:
        parts = [(1.0, list(backbone))]
    else:
        layers = [[network.backbone.get_parameter(name) for name in layer] for layer in network.backbone.layers()]
        parts = [(decay**above, layer) for above, layer in enumerate(reversed(layers))]
    parts.append((training["head_multiplier"], list(network.head_parameters())))
    undecayed: Collection[int] = ()
    if training["optimizer"] == "adamw":
        undecayed = {id(network.backbone.get_parameter(name)) for name in network.backbone.undecayed}
    yield from groups_of(parts, training, undecayed)


def groups_of(
    parts: Iterable[tuple[float, list[nn.Parameter]]], training: Mapping[str, Any], undecayed: Collection[int] = ()
) -> Iterator[dict[str, Any]]:
    """The groups of parameters that come with their factors; `undecayed` are the ids of some without weight decay."""
    if training["optimizer"] == "sgd":
        yield from ({"params": parameters, "factor": factor} for factor, parameters in parts)
        return
    for factor, parameters in parts:
        decayed = [each for each in parameters if each.ndim > 1 and id(each) not in undecayed]
        others = [each for each in parameters if each.ndim <= 1 or id(each) in undecayed]
        yield {"params": decayed, "factor": factor}
        yield {"params": others, "factor": factor, "weight_decay": 0.0}


def learning_rate(training: Mapping[str, Any], iteration: int, total: int) -> float:
    """Rate of the backbone at `iteration` (from 0) of `total`.

    Linear in the global batch size (x batch / 16), times a schedule, per iteration: poly, (1 - iteration / total) **
    power, or cosine, (1 + cos(pi iteration / total)) / 2 (Loshchilov and Hutter, ICLR 2017). Times a linear warm-up
    over the first iterations where that is asked for.
    """
    base = base_rate(training)
    warmup = training["warmup_iterations"]
    ramp = min(1.0, (iteration + 1) / warmup) if warmup else 1.0
    if training["schedule"] == "cosine":
        return ramp * base * (1 + math.cos(math.pi * iteration / total)) / 2
    return ramp * base * (1 - iteration / total) ** training["poly_power"]


def base_rate(training: Mapping[str, Any]) -> float:
    """The rate of the backbone before any schedule: linear in the global batch size."""
    rate: float = training["learning_rate"] * training["batch_size"] / 16
    return rate


def set_learning_rate(optimizer: Optimizer, training: Mapping[str, Any], iteration: int, total: int) -> None:
    """Give each group of `make_optimizer` or `make_adam` its rate for this iteration."""
    for group in optimizer.param_groups:
        group["lr"] = group["factor"] * learning_rate(training, iteration, total)


def shorten_gradients(optimizer: Optimizer, longest: float | None) -> None:
    """Multiply all gradients by one factor so that the norm of all together is at most `longest`; None: never."""
    if longest is not None:
        nn.utils.clip_grad_norm_([each for group in optimizer.param_groups for each in group["params"]], longest)


def forward(network: Callable[[Any], Tensor], images: Tensor | Maps, precision: str) -> Tensor:
    """Logits float32 (N, C, H, W) for normalised images (N, 3, H, W) or their maps; `precision` is "fp32" or "bf16"."""
    if isinstance(images, Maps) and precision == "bf16":
        images = images.to(torch.bfloat16)  # as the encoder would have given them
    with casting(images.device, precision):
        logits = network(images)
    return logits.float()


def casting(device: torch.device, precision: str) -> torch.autocast:
    """A context in which networks compute in that precision, "fp32" or "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
