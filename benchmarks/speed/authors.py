"""The work as the authors' checkout does it; started by `benchmarks/speed`."""

import os
import shutil
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from turns import BACKBONE, BASE, CROP, WHOLE, Turn, arguments, drawn, serve, taken

from stpp.models.authors import our_name


def data(work: str, scratch: Path) -> Turn:
    """Augmented and normalised images of one epoch. Beside it, `cropped` masks."""
    from dataset.semi import SemiDataset

    augmentation, suffix = work.split("-")
    lists = {"labeled": scratch / f"{suffix}.txt", "unlabeled": scratch / f"{suffix}.txt"}
    if augmentation == "weak":
        dataset = SemiDataset("pascal", str(scratch), "train", CROP, str(lists["labeled"]))
    else:
        dataset = SemiDataset(
            "pascal",
            str(scratch),
            "semi_train",
            CROP,
            str(lists["labeled"]),
            str(lists["unlabeled"]),
            f"{scratch}/masks",
        )
        dataset.ids, dataset.labeled_ids = dataset.unlabeled_ids, []

    masks = cropped(scratch)

    def turn(number: int) -> tuple[int, np.ndarray]:
        for index in range(len(dataset)):
            dataset[index]
        return len(dataset), masks

    return turn


def cropped(scratch: Path) -> np.ndarray:
    """The masks, each rescaled and cropped by the authors' code, as stpp has `drawn` it."""
    from dataset.transform import crop, resize

    found = []
    for number, path in enumerate(sorted((scratch / "masks").iterdir())):
        mask = Image.open(path)
        size, (left, top, *_) = drawn((mask.height, mask.width), number)
        draws = iter((max(size), left, top))
        with patch("random.randint", lambda low, high, draws=draws: next(draws)):
            found.append(np.asarray(crop(*resize(mask.convert("RGB"), mask, BASE, (0.5, 2.0)), CROP)[1]))
    return np.array(found)


def score(scratch: Path) -> Turn:
    """The reliability of images, as `select_reliable` computes it."""
    from utils import meanIOU

    masks = np.load(scratch / "masks.npy").astype(np.int64)  # torch's argmax gives such

    def turn(number: int) -> tuple[int, np.ndarray]:
        found = []
        for image in masks:
            values = []
            for earlier in image[:-1]:
                metric = meanIOU(num_classes=21)
                metric.add_batch(earlier[None], image[-1:])
                values.append(metric.evaluate()[-1])
            found.append(sum(values) / len(values))
        return len(masks), np.array(found)

    return turn


def network(scratch: Path) -> torch.nn.Module:
    """Their DeepLabv3+ with our weights."""
    from model.semseg.deeplabv3plus import DeepLabV3Plus

    start_from_random_weights()
    ours = torch.load(scratch / "weights.pt", weights_only=True)
    model = DeepLabV3Plus("resnet50", len(ours["classifier.score.weight"]))
    model.load_state_dict({name: ours[our_name(name, "deeplabv3plus")] for name in model.state_dict()})
    return model


def start_from_random_weights() -> None:
    """Instead of those of a file that is not there."""
    from model.backbone import resnet

    original = resnet._resnet
    resnet._resnet = lambda arch, block, layers, pretrained, **kw: original(arch, block, layers, False, **kw)


def whole(scratch: Path) -> Turn:
    """All of ST++, as their `main` does it; the mIoU is that of the best epoch of the last student.

    On a CPU, with the loading of data in the same process, where its time is measured.
    """
    import main

    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self: self  # type: ignore[method-assign,assignment]
    main.DataLoader = partial(without_workers, main.DataLoader)
    colours = main.color_map
    main.color_map = lambda dataset: colours(dataset).ravel().tolist()  # today's Pillow takes no array
    if not (scratch / BACKBONE).exists():
        start_from_random_weights()
    out = scratch / "authors"
    command = ["main.py", "--data-root", str(scratch), "--labeled-id-path", "labeled.txt", "--plus"]
    command += ["--unlabeled-id-path", "unlabeled.txt", "--pseudo-mask-path", str(out / "masks")]
    command += ["--save-path", str(out / "models"), "--reliable-id-path", str(out / "reliable")]
    command += ["--batch-size", str(WHOLE["batch"]), "--crop-size", str(WHOLE["crop"])]
    command += ["--epochs", str(WHOLE["epochs"]), "--lr", str(WHOLE["rate"])]

    def turn(number: int) -> tuple[int, np.ndarray]:
        torch.manual_seed(number)
        shutil.rmtree(out, ignore_errors=True)
        sys.argv = command
        with redirect_stdout(sys.stderr):
            main.main(main.parse_args())
        last = max((out / "models").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return 1, np.array([float(last.stem.rpartition("_")[2])])

    return turn


def without_workers(loader: type[DataLoader[Any]], *args: Any, **options: Any) -> "DataLoader[Any]":
    """Their loader, without processes of its own."""
    return loader(*args, **options | {"num_workers": 0})


def predict(scratch: Path, device: str, *, augmented: bool) -> Turn:
    """Masks as `label` and `select_reliable` make them, of other images in each turn."""
    from dataset.transform import normalize

    model = network(scratch).to(device).eval()
    images = [Image.fromarray(image) for image in np.load(scratch / "images.npy")]

    @torch.no_grad()
    def turn(number: int) -> tuple[int, np.ndarray]:
        masks = []
        for image in taken(images, number, 1 if augmented else 4):
            x = normalize(image)[None].to(device)
            masks.append(torch.argmax(model(x, augmented), dim=1).cpu().numpy()[0])
        return len(masks), np.array(masks)

    return turn


def train(scratch: Path, device: str) -> Turn:
    """One step of training after the other, without dropout, which no two programs draw alike."""
    model = network(scratch).to(device).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255)
    rate = 0.001 / 4
    head = [value for name, value in model.named_parameters() if "backbone" not in name]
    groups = [{"params": model.backbone.parameters(), "lr": rate}, {"params": head, "lr": rate * 10.0}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, weight_decay=1e-4)
    batches = np.load(scratch / "batches.npz")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def turn(number: int) -> tuple[int, np.ndarray]:
        pixels, masks = (batches[key][number % len(batches[key])] for key in ("images", "masks"))
        x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255 - mean) / std
        loss = criterion(model(x.to(device)), torch.from_numpy(masks).long().to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return len(pixels), np.array([loss.item()])

    return turn


def main() -> None:
    """Take turns at one kind of work."""
    options = arguments()
    sys.path.insert(0, str(options.reference))
    os.chdir(options.scratch)
    torch.set_num_threads(1)
    kind = options.work.partition("-")[0]
    turns = {
        "weak": lambda: data(options.work, options.scratch),
        "strong": lambda: data(options.work, options.scratch),
        "score": lambda: score(options.scratch),
        "predict": lambda: predict(options.scratch, options.device, augmented=False),
        "tta": lambda: predict(options.scratch, options.device, augmented=True),
        "whole": lambda: whole(options.scratch),
        "train": lambda: train(options.scratch, options.device),
    }
    serve(turns[kind](), "authors", options)


if __name__ == "__main__":
    main()
