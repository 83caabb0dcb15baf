"""The training of teachers and students: one loop."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from stpp.data.augmentation import sample_rng
from stpp.data.dataset import EpochBatches, TrainingSet, samples_of
from stpp.data.manifest import Row
from stpp.engine.distributed import Team, team_of
from stpp.engine.inference import network_input
from stpp.engine.initial import initial_network
from stpp.engine.loading import Loading, begin_loading
from stpp.engine.resume import Saver, TrainingState, copied
from stpp.engine.validation import evaluate_network
from stpp.errors import StppError
from stpp.labels import IGNORE
from stpp.models.network import SegmentationNetwork
from stpp.runtime.events import Events
from stpp.runtime.faults import explained, training_advice
from stpp.runtime.process import settle
from stpp.runtime.progress import Progress
from stpp.runtime.stage import Runtime, Stage
from stpp.scoring.metrics import mean_iou
from stpp.store.checkpoint import save_checkpoint

STATE_FILE = "training.pt"
CHECK_EVERY = 20
"""Iterations between looks at the loss: on a GPU, each look waits for all that was queued."""


def run(stage: Stage, runtime: Runtime) -> None:
    """Train the network of `stage`; writes its checkpoints and `metrics.csv`.

    A stage that was stopped goes on where its state was saved, and ends in the same bytes. Raises StppError for a loss
    that is not finite, an epoch without a batch, too little memory or a loader process that died; Stopped if a signal
    asked for it. In a team of several processes, each calls it, and one of them raises what any of them meets.
    """
    settle(runtime.threads)
    with team_of(runtime) as team:
        train(stage, runtime, team)


def train(stage: Stage, runtime: Runtime, team: Team) -> None:
    """This process's part of the training: all of it, where it is alone."""
    settings, training = stage.settings, stage.settings["training"]
    role, seed, epochs = settings["role"], settings["seed"], training["epochs"]
    device = team.device
    dataset, batches = training_data(stage, runtime.cache * 10**6 // team.size)
    per_epoch, total = batches.batches_per_epoch, len(batches)
    validation = stage.rows("val") if training["validate_every"] else []

    torch.manual_seed(int(sample_rng(seed, role, 0, 0, "init").integers(2**63)))
    network, loaded = initial_network(settings, stage.recipe["files"].get("weights"))
    if team.leads:
        print(loaded)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained: Callable[[Tensor], Tensor] = team.together(network)
    if runtime.compile:
        trained = torch.compile(trained, options={"fallback_random": True})  # the dropout of an uncompiled network
    state = TrainingState(network, make_optimizer(network, training), torch.zeros((), device=device))
    save_at = {epochs * k // settings["checkpoints"]: f"checkpoint-{k}.pt" for k in range(1, settings["checkpoints"])}

    with (
        Progress(stage.unfinished, stage.basis, runtime.save_minutes, team.leads) as progress,
        explained(training_advice(role, training["batch_size"], training["crop"])),
        Saver(progress.folder / STATE_FILE, team) as saver,
        Loading() as loading,
    ):
        (saved,) = team.largest(team.leads and (progress.folder / STATE_FILE).exists())
        if saved:
            state.load(progress.folder / STATE_FILE, team)
        events = Events(stage.events, state.history) if team.leads else None
        loader = DataLoader(
            dataset,
            batch_sampler=batches.from_batch(state.iteration).shared(team.share),
            num_workers=runtime.workers,
            worker_init_fn=begin_loading,
            multiprocessing_context="fork" if runtime.workers else None,  # they share the cache, and start at once
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # one of its own: else a loader would draw from that of the dropout
        )
        network.train()
        losses: list[Tensor] = []
        for images, masks in progress_bar(loading.batches(loader), role, batches, state, team, progress):
            set_learning_rate(state.optimizer, training, state.iteration, total)
            logits = forward(trained, network_input(images, device), training["precision"])
            loss = masked_cross_entropy(logits, masks.to(device, non_blocking=True), team)
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            state.optimizer.step()
            state.iteration += 1
            state.loss_sum += loss.detach()
            losses.append(loss.detach())

            stop, due = team.largest(progress.signal, progress.due)
            epoch, rest = divmod(state.iteration, per_epoch)
            if not rest or len(losses) == CHECK_EVERY or due:
                check_finite(losses, state.iteration, batches, dataset)
                losses = []
            if not rest:
                validate = validation and (epoch % training["validate_every"] == 0 or epoch == epochs)
                miou = validate_network(state, validation, settings, team) if validate else None
                end_epoch(state, epoch, per_epoch, miou)
                if events is not None:
                    events.add(state.history[-1])
                if epoch in save_at and team.leads:
                    save_checkpoint(progress.folder / save_at[epoch], network.state_dict(), settings, epoch)
            if due:
                saver.save(state, wait=stop > 0)
                progress.saved(f"after iteration {state.iteration} of {total}", stop)

    if not team.leads:
        return
    for name in save_at.values():
        with stage.writing(name) as path:
            shutil.copyfile(stage.unfinished / name, path)
    save_checkpoint(stage.folder / "last.pt", network.state_dict(), settings, epochs)
    if state.best:
        save_checkpoint(stage.folder / "best.pt", state.best["state_dict"], settings, state.best["epoch"])
    with stage.writing("metrics.csv") as path:
        write_history(state.history, path)
    facts = {"best_epoch": state.best["epoch"], "best_val_miou": state.best["miou"]} if state.best else {}
    how = {"device": str(device), "processes": team.size, "threads": runtime.threads, "compiled": runtime.compile}
    stage.finish(**how, images_per_epoch=len(dataset), iterations=total, **facts)


def training_data(stage: Stage, cache: int) -> tuple[TrainingSet, EpochBatches]:
    """The augmented images of a training, up to `cache` bytes of them kept decoded, and its batches.

    Raises StppError if an epoch has no batch.
    """
    settings, training = stage.settings, stage.settings["training"]
    role, seed = settings["role"], settings["seed"]
    stores = stage.inputs("labels")
    unlabeled = stage.rows("unlabeled") if stores else []
    # Only full supervision reads the true masks of unlabeled images.
    labeled = [row for subset in ("labeled", "truth") if subset in stage.recipe["data"] for row in stage.rows(subset)]
    samples = samples_of(role, labeled, unlabeled, stores, training["labeled_repeat"])
    batches = EpochBatches(len(samples), training["batch_size"], training["epochs"], seed, role)
    if not len(batches):
        raise StppError(
            f"an epoch has {len(samples)} images, too few for one batch of {training['batch_size']}; lower "
            f"training.{role}.batch_size or raise training.{role}.labeled_repeat"
        )
    how = {"crop": training["crop"], "base_size": training["base_size"], "seed": seed, "role": role, "cache": cache}
    return TrainingSet(samples, settings["encoding"], settings["augmentation"], **how), batches


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


def forward(network: Callable[[Tensor], Tensor], images: Tensor, precision: str) -> Tensor:
    """Logits float32 (N, C, H, W) for normalised images (N, 3, H, W); `precision` is "fp32" or "bf16"."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = network(images)
    return logits.float()


def set_learning_rate(optimizer: torch.optim.SGD, training: Mapping[str, Any], iteration: int, total: int) -> None:
    """Give each group of `make_optimizer` its rate for this iteration."""
    for group in optimizer.param_groups:
        group["lr"] = group["factor"] * learning_rate(training, iteration, total)


def masked_cross_entropy(logits: Tensor, masks: Tensor, team: Team) -> Tensor:
    """One cross-entropy over the mixed batch, averaged over all its valid pixels; zero where there are none.

    `logits` float (N, C, H, W) and `masks` uint8 (N, H, W), 255 = ignore, are this process's share of the batch; the
    result is that of the whole team.
    """
    total = F.cross_entropy(logits, masks.long(), ignore_index=IGNORE, reduction="sum")
    return team.sum(total) / team.sum((masks != IGNORE).sum()).clamp(min=1)


def check_finite(losses: Sequence[Tensor], iteration: int, batches: EpochBatches, dataset: TrainingSet) -> None:
    """Raise StppError for the first of the last `losses` (scalars) before `iteration` that is not finite.

    It names the epoch and the images of the batch.
    """
    values = torch.stack(list(losses)).cpu()
    wrong = (~values.isfinite()).nonzero()
    if not len(wrong):
        return
    first = int(wrong[0])
    batch = next(iter(batches.from_batch(iteration - len(values) + first)))
    names = ", ".join(dataset.samples[index].row.id for _, index in batch)
    raise StppError(
        f"the loss is {float(values[first])} in epoch {batch[0][0] + 1}, in the batch of the images {names}; lower "
        f"training.{dataset.role}.learning_rate, or look at these images and their masks"
    )


def end_epoch(state: TrainingState, epoch: int, per_epoch: int, miou: float | None) -> None:
    """Add a row to the history, and remember the weights if their val mIoU is the highest so far."""
    if miou is not None and (state.best is None or miou > state.best["miou"]):
        state.best = {"miou": miou, "epoch": epoch, "state_dict": copied(state.network.state_dict())}
    state.history.append(
        {
            "epoch": epoch,
            "iterations": state.iteration,
            "loss": float(state.loss_sum) / per_epoch,
            "learning_rate": state.optimizer.param_groups[0]["lr"],
            "val_miou": miou,
        }
    )
    state.loss_sum.zero_()


def validate_network(state: TrainingState, rows: list[Row], settings: Mapping[str, Any], team: Team) -> float:
    """mIoU in [0, 1] on the val set, whole images, no test-time augmentation.

    Each process of the team predicts its share of `rows`.
    """
    encoding, prediction = settings["encoding"], settings["prediction"]
    confusion, _ = evaluate_network(state.network, team.share(rows), encoding, prediction, team.device)
    return mean_iou(team.sum(torch.from_numpy(confusion)).numpy())


def progress_bar(
    loaded: Iterator[tuple[Tensor, Tensor]],
    role: str,
    batches: EpochBatches,
    state: TrainingState,
    team: Team,
    progress: Progress,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The `loaded` batches under a progress bar: images/s, time left, and loss and val mIoU of the last epoch.

    `progress` is told the same.
    """
    size = batches.batch_size
    total, done = len(batches) * size, state.iteration * size
    facts = latest(state.history)
    with tqdm(
        total=total, initial=done, unit="img", desc=role, mininterval=1, maxinterval=30, disable=not team.leads
    ) as bar:
        for batch in loaded:
            progress.tell(state.iteration * size, total, epochs=batches.epochs, **facts)
            yield batch
            if state.iteration % batches.batches_per_epoch == 0:
                facts = latest(state.history)
                val = "" if facts["val_miou"] is None else f" val mIoU {100 * facts['val_miou']:.2f}"
                bar.set_postfix_str(f"epoch {facts['epoch']} loss {facts['loss']:.4f}{val}", refresh=False)
            bar.update(size)


def latest(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The number of epochs that are done, the loss of the last one, and the last val mIoU; None where there is none."""
    last = history[-1] if history else {"epoch": 0, "loss": None}
    val = next((row["val_miou"] for row in reversed(history) if row["val_miou"] is not None), None)
    return {"epoch": last["epoch"], "loss": last["loss"], "val_miou": val}


def write_history(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One row an epoch; floats are written so that they read back exactly; a missing val mIoU is empty."""
    columns = list(history[0])
    lines = [",".join(columns)]
    lines += [",".join("" if row[key] is None else repr(row[key]) for key in columns) for row in history]
    path.write_text("\n".join(lines) + "\n")
