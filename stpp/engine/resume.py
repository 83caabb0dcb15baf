"""The state of an unfinished training: with it, a stopped training ends in the same bytes as one left alone."""

import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from stpp.common.errors import StppError
from stpp.common.files import replacing
from stpp.engine.distributed import Team
from stpp.models.network import SegmentationNetwork
from stpp.store.tensorfile import write_tensors


@dataclass
class TrainingState:
    """All that changes during a training, at the boundary of two iterations.

    `networks` has all networks and companions by name; the `result` is the one that is validated and saved. The
    `optimizer` is that of the training, `others` are those of companions, by name. `iteration` counts
    finished iterations, `loss_sum` adds up the losses of the epoch so far, and `sums` what else a step says, by the
    column of the history: each loss where a step has several, and its notes. `history` has one row an epoch, `best` is
    the epoch with the highest val mIoU so far: its `epoch`, `miou` and the `state_dict` of the result (on the CPU). The
    random numbers of samples need no state: they are functions of the seed, the epoch and the index.
    """

    networks: Mapping[str, nn.Module]
    result: SegmentationNetwork
    optimizer: torch.optim.Optimizer
    loss_sum: Tensor
    sums: dict[str, Tensor] = field(default_factory=dict)
    iteration: int = 0
    history: list[dict[str, float | int | None]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    others: Mapping[str, torch.optim.Optimizer] = field(default_factory=dict)

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """All of them, that of the training first."""
        return [self.optimizer, *self.others.values()]

    def add(self, losses: Mapping[str, Tensor], loss: Tensor, notes: Mapping[str, Tensor]) -> None:
        """Count an iteration, with its losses by name and their sum, and what else it says by name."""
        self.iteration += 1
        self.loss_sum += loss.detach()
        named = {f"loss_{name}": value for name, value in losses.items()} if len(losses) > 1 else {}
        for name, value in {**named, **notes}.items():
            self.sums.setdefault(name, torch.zeros_like(self.loss_sum)).add_(value.detach())

    def copy(self, random: Mapping[str, Tensor]) -> dict[str, Any]:
        """The state as plain values and tensors of its own on the CPU, while the training goes on with its own.

        `random` are the states of the team's generators, from `random_state`.
        """
        content = {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimizer": self.optimizer.state_dict(),
            "others": {name: optimizer.state_dict() for name, optimizer in self.others.items()},
            "loss_sum": self.loss_sum,
            "sums": self.sums,
            "iteration": self.iteration,
            "history": self.history,
            "random": dict(random),
        }
        # The weights of the best epoch never change.
        return {**copied(content), "best": self.best}

    def load(self, path: Path, team: Team) -> None:
        """Take the state from `path`; StppError, with the reason, if it cannot be used.

        The state of a team of another size serves as well; the result agrees with theirs to the same tolerance as they
        with each other. A process for which it has no generator goes on with its new one.
        """
        device = self.loss_sum.device
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            for name, network in self.networks.items():
                network.load_state_dict(content["networks"][name])
            self.optimizer.load_state_dict(content["optimizer"])
            for name, optimizer in self.others.items():
                optimizer.load_state_dict(content["others"][name])
            self.loss_sum = content["loss_sum"].to(device)
            self.sums = {name: total.to(device) for name, total in content["sums"].items()}
            self.iteration, self.history, self.best = content["iteration"], content["history"], content["best"]
            _set_random_state(content["random"], team)
        except Exception as error:  # whatever a damaged file makes of torch's readers
            raise StppError(
                f"cannot go on from {path} ({type(error).__name__}: {error}); remove {path.parent} to begin anew"
            ) from error
        if team.leads:
            print(f"the training continues after iteration {self.iteration}, from {path}", file=sys.stderr)


class Saver:
    """Writes states to `path` in the background, whole or not at all; a context manager that waits for the last one.

    Waiting for a disk would cost a large network several seconds a time. An error of writing is raised by the next
    `save`, or at the end. In a team of several processes, one writes.
    """

    def __init__(self, path: Path, team: Team) -> None:
        self._path = path
        self._team = team
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._pending: Future[None] | None = None

    def save(self, state: TrainingState, wait: bool = False) -> None:
        """Begin to write a copy of `state`; waits only if the one before is not written yet.

        With `wait` the whole team waits until this one is: before it ends, since the first that is gone ends all.
        """
        random = random_state(self._team)
        self._wait()
        if self._team.leads:
            self._pending = self._thread.submit(self._write, state.copy(random))
        if wait:
            self._wait()
            self._team.largest(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._thread:
            self._wait()

    def _wait(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, content: Mapping[str, Any]) -> None:
        with replacing(self._path) as temporary:
            write_tensors(content, temporary)


def copied(value: Any) -> Any:
    """Nested dicts and lists with copies of their tensors, in the same memory layout, on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


def random_state(team: Team) -> dict[str, Tensor]:
    """The states, uint8 (size, bytes), of the generators from which the dropout of each process draws."""
    state = {"cpu": team.gather(torch.get_rng_state())}
    if team.device.type == "cuda":
        state["cuda"] = team.gather(torch.cuda.get_rng_state(team.device))
    return state


def _set_random_state(state: Mapping[str, Tensor], team: Team) -> None:
    for kind, states in state.items():
        # A copy: of a part of a tensor torch would take the wrong bytes.
        own = states.view(-1, states.shape[-1])[team.rank : team.rank + 1].clone()
        if len(own) and kind == "cpu":
            torch.set_rng_state(own[0])
        elif len(own) and kind == team.device.type:
            torch.cuda.set_rng_state(own[0], team.device)
