"""The training of teachers and students: one loop."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from stpp.checkpoint import save_checkpoint
from stpp.data.augmentation import sample_rng
from stpp.data.dataset import EpochBatches, TrainingSet, samples_of
from stpp.errors import StppError
from stpp.inference import forward, network_input, pick_device
from stpp.metrics import IGNORE, mean_iou
from stpp.models import build
from stpp.models.network import SegmentationNetwork
from stpp.models.weights import load_weights
from stpp.stage import Runtime, Stage
from stpp.validation import evaluate_network


def run(stage: Stage, runtime: Runtime) -> None:
    """Train the network of `stage`; writes its checkpoints and `metrics.csv`.

    Raises StppError for a loss that is not finite, or an epoch without a batch.
    """
    settings, training = stage.settings, stage.settings["training"]
    role, seed, epochs = settings["role"], settings["seed"], training["epochs"]
    torch.set_num_threads(runtime.threads)
    device = pick_device(runtime.device)

    labeled = stage.rows("labeled")
    stores = stage.inputs("labels")
    unlabeled = stage.rows("unlabeled") if stores else []
    samples = samples_of(role, labeled, unlabeled, stores, training["labeled_repeat"])
    dataset = TrainingSet(
        samples,
        settings["encoding"],
        settings["augmentation"],
        crop=training["crop"],
        base_size=training["base_size"],
        seed=seed,
        role=role,
    )
    batches = EpochBatches(len(samples), training["batch_size"], epochs, seed, role)
    per_epoch, total = batches.batches_per_epoch, len(batches)
    if total == 0:
        raise StppError(
            f"an epoch has {len(samples)} images, too few for one batch of {training['batch_size']}; lower "
            f"training.{role}.batch_size or raise training.{role}.labeled_repeat"
        )
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=runtime.workers, pin_memory=device.type == "cuda")
    validation = stage.rows("val") if training["validate_every"] else []

    torch.manual_seed(int(sample_rng(seed, role, 0, 0, "init").integers(2**63)))
    network = initial_network(settings, stage.recipe["files"].get("weights"))
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(network, training)
    save_at = {epochs * k // settings["checkpoints"]: f"checkpoint-{k}.pt" for k in range(1, settings["checkpoints"])}
    history: list[dict[str, float | int | None]] = []
    best: tuple[float, int, dict[str, Tensor]] | None = None
    loss_sum = torch.zeros((), device=device)

    def save(name: str, state: Mapping[str, Tensor], epoch: int) -> None:
        with stage.writing(name) as path:
            save_checkpoint(path, state, settings["network"], settings["classes"], epoch)

    network.train()
    for iteration, (images, masks) in enumerate(progress(loader, role, training["batch_size"], per_epoch, history)):
        set_learning_rate(optimizer, training, iteration, total)
        logits = forward(network, network_input(images, device), training["precision"])
        loss = masked_cross_entropy(logits, masks.to(device, non_blocking=True))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss_sum += loss.detach()

        epoch, rest = divmod(iteration + 1, per_epoch)
        if rest:
            continue
        mean_loss = float(loss_sum) / per_epoch
        loss_sum.zero_()
        if not math.isfinite(mean_loss):
            raise StppError(f"the loss is {mean_loss} in epoch {epoch}; lower training.{role}.learning_rate")
        miou = None
        if validation and (epoch % training["validate_every"] == 0 or epoch == epochs):
            miou = validate(network, validation, settings, device)
            if best is None or miou > best[0]:
                best = (
                    miou,
                    epoch,
                    {name: value.detach().cpu().clone() for name, value in network.state_dict().items()},
                )
        rate = optimizer.param_groups[0]["lr"]
        history.append(
            {"epoch": epoch, "iterations": iteration + 1, "loss": mean_loss, "learning_rate": rate, "val_miou": miou}
        )
        if epoch in save_at:
            save(save_at[epoch], network.state_dict(), epoch)

    save("last.pt", network.state_dict(), epochs)
    if best is not None:
        save("best.pt", best[2], best[1])
    with stage.writing("metrics.csv") as path:
        write_history(history, path)
    facts = {"best_epoch": best[1], "best_val_miou": best[0]} if best else {}
    stage.finish(device=str(device), threads=runtime.threads, images_per_epoch=len(samples), iterations=total, **facts)


def initial_network(settings: Mapping[str, Any], weights: str | None) -> SegmentationNetwork:
    """A new network: random head, and a backbone from `weights`, the path of a state dict, or random as well."""
    network = build(settings["network"], len(settings["classes"]))
    if weights:
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        except Exception as error:
            raise StppError(f"network.weights: cannot read {weights} as a state dict: {error}") from error
        print(load_weights(network, state, weights))
    return network


def make_optimizer(network: SegmentationNetwork, training: Mapping[str, Any]) -> torch.optim.SGD:
    """SGD with two groups, backbone and head; `set_learning_rate` gives them their rates before each step."""
    groups = [
        {"params": list(network.backbone_parameters()), "factor": 1.0},
        {"params": list(network.head_parameters()), "factor": training["head_multiplier"]},
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


def masked_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """One cross-entropy over the mixed batch, averaged over all its valid pixels; zero where there are none.

    `logits` float (N, C, H, W); `masks` uint8 (N, H, W), 255 = ignore.
    """
    total = F.cross_entropy(logits, masks.long(), ignore_index=IGNORE, reduction="sum")
    return total / (masks != IGNORE).sum().clamp(min=1)


def validate(
    network: SegmentationNetwork, rows: Sequence[Any], settings: Mapping[str, Any], device: torch.device
) -> float:
    """mIoU in [0, 1] on the val set, whole images, no test-time augmentation; leaves the network in training mode."""
    network.eval()
    confusion, _ = evaluate_network(network, rows, settings["encoding"], settings["prediction"], device)
    network.train()
    return mean_iou(confusion)


def progress(
    loader: DataLoader[Any], role: str, batch_size: int, per_epoch: int, history: list[dict[str, Any]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches under a progress bar: images/s, time left, and loss and val mIoU of the last epoch."""
    with tqdm(total=len(loader) * batch_size, unit="img", desc=role, mininterval=1, maxinterval=30) as bar:
        for step, batch in enumerate(loader):
            yield batch
            if (step + 1) % per_epoch == 0 and history:
                last = history[-1]
                val = "" if last["val_miou"] is None else f" val mIoU {100 * last['val_miou']:.2f}"
                bar.set_postfix_str(f"epoch {last['epoch']} loss {last['loss']:.4f}{val}", refresh=False)
            bar.update(batch_size)


def write_history(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One row an epoch; floats are written so that they read back exactly; a missing val mIoU is empty."""
    columns = list(history[0])
    lines = [",".join(columns)]
    lines += [",".join("" if row[key] is None else repr(row[key]) for key in columns) for row in history]
    path.write_text("\n".join(lines) + "\n")
