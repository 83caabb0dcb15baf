"""What a training says of itself: a row an epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stpp.engine.resume import TrainingState, copied

PART = "loss_"
"""Before the names of the columns of a loss's parts."""
OTHERS = 0.005
"""Share of all classes but the most frequent one, below which labels are nearly all of one class."""


def end_epoch(state: TrainingState, epoch: int, per_epoch: int, miou: float | None) -> None:
    """Add a row to the history, and remember the weights if their val mIoU is the highest so far.

    A loss is the mean over the epoch's iterations; where a step has several, each has a column beside their sum, and so
    has each number that a step notes.
    """
    first = state.optimizer.param_groups[0]
    if miou is not None and (state.best is None or miou > state.best["miou"]):
        state.best = {"miou": miou, "epoch": epoch, "state_dict": copied(state.result.state_dict())}
    state.history.append(
        {
            "epoch": epoch,
            "iterations": state.iteration,
            "loss": float(state.loss_sum) / per_epoch,
            **{name: float(total) / per_epoch for name, total in state.sums.items()},
            "learning_rate": first["lr"] / first["factor"],
            "val_miou": miou,
        }
    )
    for total in (state.loss_sum, *state.sums.values()):
        total.zero_()


def collapsed(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nearly all labels of unlabeled images were of one class in the last epoch, but not the true ones.

    That is: the share of all other classes was below `OTHERS`, and below a tenth of their share among true labels,
    which may be small as well. False where a training says nothing of its labels.
    """
    last = history[-1]
    if "largest_class" not in last or "largest_true" not in last:
        return False
    given, true = 1 - last["largest_class"], 1 - last["largest_true"]
    return bool(given < min(OTHERS, true / 10))


def latest(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The number of epochs that are done, the loss of the last one, and the last val mIoU; None where there is none.

    `losses` has its parts by name, where the steps have several.
    """
    last = history[-1] if history else {"epoch": 0, "loss": None}
    val = next((row["val_miou"] for row in reversed(history) if row["val_miou"] is not None), None)
    losses = {name.removeprefix(PART): value for name, value in last.items() if name.startswith(PART)}
    return {"epoch": last["epoch"], "loss": last["loss"], "losses": losses, "val_miou": val}


def write_history(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One row an epoch; floats are written so that they read back exactly; a missing val mIoU is empty."""
    columns = list(history[0])
    lines = [",".join(columns)]
    lines += [",".join("" if row[key] is None else repr(row[key]) for key in columns) for row in history]
    path.write_text("\n".join(lines) + "\n")
