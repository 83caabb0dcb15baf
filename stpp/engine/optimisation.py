"""From losses to new weights: forward pass, optimizer and learning rate."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from stpp.models.network import SegmentationNetwork


def make_optimizer(networks: Iterable[SegmentationNetwork], training: Mapping[str, Any]) -> torch.optim.SGD:
    """SGD with two groups a network, backbone and head; `set_learning_rate` gives them their rates before each step.

    One SGD over several networks does what one for each would do: none of its arithmetic joins two parameters.
    """
    groups = [
        {"params": list(parameters), "factor": factor}
        for network in networks
        for parameters, factor in (
            (network.backbone_parameters(), 1.0),
            (network.head_parameters(), training["head_multiplier"]),
        )
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=training["momentum"], weight_decay=training["weight_decay"])


def learning_rate(training: Mapping[str, Any], iteration: int, total: int) -> float:
    """Rate of the backbone at `iteration` (from 0) of `total`.

    Linear in the global batch size (x batch / 16), poly schedule (1 - iteration / total) ** power, per iteration, times
    a linear warm-up over the first iterations where that is asked for.
    """
    base: float = training["learning_rate"] * training["batch_size"] / 16
    warmup = training["warmup_iterations"]
    ramp = min(1.0, (iteration + 1) / warmup) if warmup else 1.0
    return ramp * base * (1 - iteration / total) ** training["poly_power"]


def set_learning_rate(optimizer: torch.optim.SGD, training: Mapping[str, Any], iteration: int, total: int) -> None:
    """Give each group of `make_optimizer` its rate for this iteration."""
    for group in optimizer.param_groups:
        group["lr"] = group["factor"] * learning_rate(training, iteration, total)


def forward(network: Callable[[Tensor], Tensor], images: Tensor, precision: str) -> Tensor:
    """Logits float32 (N, C, H, W) for normalised images (N, 3, H, W); `precision` is "fp32" or "bf16"."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = network(images)
    return logits.float()
