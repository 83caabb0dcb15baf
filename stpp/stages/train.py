"""The training of all networks: one loop."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from stpp.common import disk
from stpp.common.bands import bands_in
from stpp.common.errors import StppError
from stpp.common.wording import counted
from stpp.data.augmentation import sample_rng
from stpp.data.dataset import Sample, TrainingSet, samples_of
from stpp.data.manifest import Row
from stpp.data.reading import mask_of
from stpp.data.streams import Repeated, StreamBatches, Streams, in_pairs, joined, lengthened, whole_training
from stpp.engine.batch import Batch, Moment, on_device
from stpp.engine.companions import companions_of
from stpp.engine.distributed import Team, team_of
from stpp.engine.history import collapsed, end_epoch, latest, write_history
from stpp.engine.inference import WholeImage
from stpp.engine.loading import Loading, begin_loading
from stpp.engine.losses import supervised_loss
from stpp.engine.networks import Net, average_decay, networks_of, trained
from stpp.engine.optimisation import make_adam, make_optimizer, set_learning_rate, shorten_gradients
from stpp.engine.resume import Saver, TrainingState
from stpp.engine.validation import evaluate_network
from stpp.methods import Average, Step, Views, step_of
from stpp.models.network import SegmentationNetwork
from stpp.runtime.events import Events
from stpp.runtime.faults import explained, training_advice
from stpp.runtime.job import Job, Runtime
from stpp.runtime.process import prepare_process
from stpp.runtime.progress import Progress
from stpp.scoring.balance import class_pixels, class_weights, image_repeats
from stpp.scoring.metrics import mean_iou
from stpp.stages.shown import pictures_of
from stpp.store.checkpoint import save_checkpoint

EMA = "ema"
"""The name of the network that follows the result of a method, beside the networks of the method."""
CHECK_EVERY = 20
"""Iterations between looks at the loss: on a GPU, each look waits for all that was queued."""

NEVER_COUNTED = (
    "No pixel of an unlabeled image was ever confident enough to count, so the training was one on labeled images; "
    "train longer, or lower the method's threshold"
)

COLLAPSED = (
    "In the last epoch, nearly all pixels of unlabeled images were labeled as one and the same class, and those of "
    "labeled images are not, so the network that labels has collapsed or learned nothing; lower the learning rate or "
    "the method's weight, or train longer"
)


def run(job: Job, runtime: Runtime) -> None:
    """Train the network of `job`; writes its checkpoints and `metrics.csv`.

    A stage that was stopped goes on where its state was saved, and ends in the same bytes. Raises StppError for a loss
    that is not finite, an epoch without a batch, too little memory or a loader process that died; Stopped if a signal
    asked for it. In a team of several processes, each calls it, and one of them raises what any of them meets.
    """
    prepare_process(runtime.threads)
    if "length" in job.recipe["inputs"]:
        factor = json.loads(job.input("length").read_text())["factor"]
        job.settings = {**job.settings, "training": lengthened(job.settings["training"], factor)}
    with team_of(runtime) as team:
        train(job, runtime, team)


def train(job: Job, runtime: Runtime, team: Team) -> None:
    """This process's part of the training: all of it, where it is alone."""
    settings, training = job.settings, job.settings["training"]
    role = settings["role"]
    method, own = step_of(settings) or (SELF_TRAINING, None)
    views, loss_on_labels = method.views(own), supervised_loss(training, weights_of_classes(job, team.device))
    dataset, batches = training_data(job, method, views, runtime.cache * 10**6 // team.size, team.size)
    epochs, per_epoch, total = batches.epochs, batches.batches_per_epoch, len(batches)
    validation = job.rows("val") if training["validate_every"] else []
    picture = pictures_of(job, bands_in(settings))
    share = in_pairs(team.share) if method.mixes else team.share

    def rng(stream: str, epoch: int, index: int, part: str) -> np.random.Generator:
        return sample_rng(settings["seed"], f"{role}-{stream}", epoch, index, part)

    def seed_of(part: str) -> int:
        return int(sample_rng(settings["seed"], role, 0, 0, part).integers(2**63))

    weights = job.recipe["files"].get("weights")
    start = job.input("start") if "start" in job.recipe["inputs"] else None
    averaged = {EMA: Average(method.result)} if training["ema"] is not None else {}
    nets = networks_of(
        {**method.networks, **averaged},
        settings,
        weights,
        start,
        team,
        seed_of,
        compile=runtime.compile,
    )
    beside = companions_of(method.companions(own), nets, settings, team, seed_of)
    modules: dict[str, nn.Module] = {name: net.module for name, net in nets.items()}
    modules |= {name: each.module for name, each in beside.items()}
    average = nets.pop(EMA, None)
    result = (nets[method.result] if average is None else average).module
    known: dict[str, Any] = {**nets, **beside}
    heads = [each.module for each in beside.values() if each.rate is None and each.learns]
    optimizer = make_optimizer(trained(nets), training, heads)
    others = {
        name: make_adam(each.module, each.rate, training) for name, each in beside.items() if each.rate is not None
    }
    state = TrainingState(modules, result, optimizer, torch.zeros((), device=team.device), others=others)
    save_at = {epochs * k // settings["checkpoints"]: disk.checkpoint(k) for k in range(1, settings["checkpoints"])}

    with (
        Progress(job.unfinished, job.basis, runtime.save_minutes, team.leads) as progress,
        explained(training_advice(role, training["batch_size"], training["crop"])),
        Saver(progress.folder / disk.TRAINING_STATE, team) as saver,
        Loading() as loading,
    ):
        (saved,) = team.largest(team.leads and (progress.folder / disk.TRAINING_STATE).exists())
        if saved:
            state.load(progress.folder / disk.TRAINING_STATE, team)
        events = Events(job.events, state.history) if team.leads else None
        loader = DataLoader(
            dataset,
            batch_sampler=batches.from_batch(state.iteration).shared(share),
            collate_fn=joined,
            num_workers=runtime.workers,
            worker_init_fn=begin_loading,
            multiprocessing_context="fork" if runtime.workers else None,  # they share the cache, and start at once
            pin_memory=team.device.type == "cuda",
            generator=torch.Generator(),  # one of its own: else a loader would draw from that of the dropout
        )
        for module in modules.values():
            module.train()
        checked: list[Tensor] = []
        for loaded in progress_bar(loading.batches(loader), role, batches, state, team, progress):
            batch = on_device(loaded, views, team.device, result.normalisation, rng)
            loss_of_batch = partial(loss_on_labels, confidence=batch.confidence) if training["loss"] else loss_on_labels
            moment = Moment(state.iteration, per_epoch, total, team, loss_of_batch)
            losses = method.step(batch, known, own, moment)
            if state.iteration < training["unlabeled_from"] * total:
                losses = {name: loss if name == "supervised" else 0 * loss for name, loss in losses.items()}
            loss = reduce(add, losses.values())
            for each in state.optimizers:
                each.zero_grad(set_to_none=True)
            loss.backward()
            shorten_gradients(state.optimizer, training["gradient_clip"])
            for each in state.optimizers:
                set_learning_rate(each, training, state.iteration, total)
                each.step()
            method.after_step(known, own, moment)
            if average is not None:
                decay = average_decay(state.iteration, training["ema"])
                average.follow(nets[method.result], decay, buffers=True)
            state.add(losses, loss, moment.notes)
            checked.append(loss.detach())

            stop, due = team.largest(progress.signal, progress.due)
            epoch, rest = divmod(state.iteration, per_epoch)
            if not rest or len(checked) == CHECK_EVERY or due:
                check_finite(checked, state.iteration, batches, dataset, role)
                checked = []
            if not rest:
                validate = validation and (epoch % training["validate_every"] == 0 or epoch == epochs)
                miou = validate_network(result, validation, settings, team, picture) if validate else None
                end_epoch(state, epoch, per_epoch, miou)
                if events is not None:
                    events.add(state.history[-1])
                if epoch in save_at and team.leads:
                    save_checkpoint(
                        progress.folder / save_at[epoch], result.state_dict(), settings, epoch, result.normalisation
                    )
            if due:
                saver.save(state, wait=stop > 0)
                progress.saved(f"after iteration {state.iteration} of {total}", stop)

    if not team.leads:
        return
    for name in save_at.values():
        with job.writing(name) as path:
            shutil.copyfile(job.unfinished / name, path)
    save_checkpoint(job.folder / disk.LAST, result.state_dict(), settings, epochs, result.normalisation)
    if state.best:
        save_checkpoint(
            job.folder / disk.BEST, state.best["state_dict"], settings, state.best["epoch"], result.normalisation
        )
    with job.writing(disk.HISTORY) as path:
        write_history(state.history, path)
    if all(row.get("counted") == 0 for row in state.history):
        job.warn(NEVER_COUNTED)
    if collapsed(state.history):
        job.warn(COLLAPSED)
    facts = {"best_epoch": state.best["epoch"], "best_val_miou": state.best["miou"]} if state.best else {}
    how = {"device": str(team.device), "processes": team.size, "threads": runtime.threads, "compiled": runtime.compile}
    job.finish(**how, images_per_epoch=dataset.images, iterations=total, **facts)


def supervised(batch: Batch, nets: Mapping[str, Net], settings: None, at: Moment) -> dict[str, Tensor]:
    """The step of teachers and students: one cross-entropy over labeled and pseudo-labeled images."""
    return {"supervised": at.supervised(nets["student"](batch.images), batch.masks)}


SELF_TRAINING = Step(supervised)


def training_data(
    job: Job, method: Step, views: Views, cache: int, processes: int = 1
) -> tuple[Streams, StreamBatches]:
    """The augmented images of a training, up to `cache` bytes of them kept decoded, and its batches.

    With `views` of unlabeled images, these are a stream of their own, and half of each batch. Raises StppError for a
    batch that the method cannot spread over so many processes, and for an epoch without a batch.
    """
    settings, training = job.settings, job.settings["training"]
    role, seed, size = settings["role"], settings["seed"], training["batch_size"]
    names, confident = (f"{role}-labeled", f"{role}-unlabeled"), method.confident or needs_confidence(training["loss"])
    if size % (multiple := method.batch_multiple(processes)):
        raise StppError(
            f"a method that mixes images needs pairs of labeled and of unlabeled ones in each process; set "
            f"training.{role}.batch_size, now {size}, to a multiple of {multiple}"
        )

    def stream(samples: Sequence[Sample], name: str, share: float, views: Views = ("strong",)) -> TrainingSet:
        how = {"crop": training["crop"], "base_size": training["base_size"], "seed": seed, "cache": int(share * cache)}
        how |= {"confident": confident and name != names[1], "maps": maps, "bands": bands_in(settings)}
        return TrainingSet(samples, settings["encoding"], settings["augmentation"], role=name, views=views, **how)

    stores = job.inputs("labels")
    maps = {kind: paths for kind in ("labeled", "unlabeled") if (paths := job.inputs(f"{kind}_maps"))}
    unlabeled = job.rows("unlabeled") if stores or views else []
    known = labeled_rows(job)
    # Beside another stream, a list without pseudo-labels is run through as often as it takes.
    repeat = 1 if views and not stores else training["labeled_repeat"]
    factors = None
    if rare := training["rare_images"]:
        factors = image_repeats(true_class_pixels(job, known), rare).tolist()
    samples = samples_of(role, known, unlabeled, stores, repeat, factors)
    if views:
        bare = [Sample(row, bare=True) for row in unlabeled]
        part = len(samples) / (len(samples) + len(bare))
        dataset = Streams([stream(samples, names[0], part), stream(bare, names[1], 1 - part, views)])
        leading = whole_training(len(bare), size - size // 2, training, seed, names[1])
        batches = StreamBatches(leading, Repeated(len(samples), size // 2, seed, names[0]))
    else:
        dataset = Streams([stream(samples, role, 1)])
        batches = StreamBatches(whole_training(len(samples), size, training, seed, role))
    if not len(batches):
        raise StppError(
            f"an epoch has {counted(dataset.images, 'image')}, too few for the {batches.leading.batch_size} of one "
            f"batch; lower training.{role}.batch_size or raise training.{role}.labeled_repeat"
        )
    return dataset, batches


def labeled_rows(job: Job) -> list[Row]:
    """The images of a training with true masks; only full supervision reads those of unlabeled images."""
    return [row for subset in ("labeled", "truth") if subset in job.recipe["data"] for row in job.rows(subset)]


def weights_of_classes(job: Job, device: torch.device) -> Tensor | None:
    """The weights of the classes that a training asks for, float32 (C,), or None; reads the true masks if it must."""
    asked = (job.settings["training"]["loss"] or {}).get("class_weights")
    if asked is None:
        return None
    if isinstance(asked, Mapping):
        weights = np.array([asked.get(name, 1.0) for name in job.settings["classes"]])
    else:
        weights = class_weights(true_class_pixels(job, labeled_rows(job)), asked)
    return torch.from_numpy(weights).float().to(device)


def true_class_pixels(job: Job, rows: Sequence[Row]) -> NDArray[np.int64]:
    """`class_pixels` of the true masks of `rows`, which are read."""
    encoding = job.settings["encoding"]
    return class_pixels((mask_of(row, encoding) for row in rows), encoding["classes"])


def needs_confidence(loss: Mapping[str, Any] | None) -> bool:
    """Whether a loss tells true labels from pseudo-labels."""
    return loss is not None and (loss["soft"] or loss["pseudo_labeled"] != 1)


def check_finite(losses: Sequence[Tensor], iteration: int, batches: StreamBatches, dataset: Streams, role: str) -> None:
    """Raise StppError for the first of the last `losses` (scalars) before `iteration` that is not finite.

    It names the epoch and the images of the batch.
    """
    values = torch.stack(list(losses)).cpu()
    wrong = (~values.isfinite()).nonzero()
    if not len(wrong):
        return
    first = int(wrong[0])
    batch = next(iter(batches.from_batch(iteration - len(values) + first)))
    names = ", ".join(dataset.id(key) for key in batch)
    raise StppError(
        f"the loss is {float(values[first])} in epoch {batch[-1][1] + 1}, in the batch of the images {names}; lower "
        f"training.{role}.learning_rate, or look at these images and their masks"
    )


def validate_network(
    network: SegmentationNetwork,
    rows: list[Row],
    settings: Mapping[str, Any],
    team: Team,
    picture: Callable[[Row], WholeImage],
) -> float:
    """mIoU in [0, 1] on the val set, whole images, no test-time augmentation.

    Each process of the team predicts its share of `rows`.
    """
    encoding, prediction = settings["encoding"], settings["prediction"]
    confusion, _ = evaluate_network(network, team.share(rows), encoding, prediction, team.device, picture=picture)
    return mean_iou(team.sum(torch.from_numpy(confusion)).numpy())


def progress_bar(
    loaded: Iterator[Any],
    role: str,
    batches: StreamBatches,
    state: TrainingState,
    team: Team,
    progress: Progress,
) -> Iterator[Any]:
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
