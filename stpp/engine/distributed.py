"""The processes that train one network together; to the training loop, one process is a team of one.

Each process computes its share of every batch. What the whole batch decides is summed over the team: the loss and its
valid pixels, the statistics of batch norm, the gradients. So the results do not depend on the number of processes, but
for rounding and dropout.
"""

import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stpp.common.errors import StppError
from stpp.engine.inference import pick_device
from stpp.runtime.job import Runtime
from stpp.runtime.launch import STORE
from stpp.runtime.lease import lease
from stpp.runtime.progress import Stopped

Item = TypeVar("Item")


class Team:
    """A team of one process, for which nothing has to be agreed; a context manager around the training.

    `rank` counts the `size` processes from 0; the first one `leads`: it alone writes files and talks. `device` is the
    one that this process computes on.
    """

    def __init__(self, device: torch.device, rank: int = 0, size: int = 1) -> None:
        self.device, self.rank, self.size = device, rank, size
        self.leads = rank == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the team."""

    def share(self, items: list[Item]) -> list[Item]:
        """The part of `items` that is this process's; the sizes of the parts differ by at most one."""
        first, last = (len(items) * k // self.size for k in (self.rank, self.rank + 1))
        return items[first:last]

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values`, of any shape, over the team; gradients are summed as well."""
        return values

    def largest(self, *values: int) -> Sequence[int]:
        """The largest of each value in the team."""
        return values

    def gather(self, values: Tensor) -> Tensor:
        """`values` (...) of all processes, which are of one shape, as (size, ...) in the order of the ranks."""
        return values[None]

    def together(self, network: nn.Module) -> nn.Module:
        """What to call for a forward pass of `network` whose gradients are those of the whole batch.

        Makes its batch norm see the whole batch, in place; its state dict keeps its names. Dropout draws other numbers
        in each process.
        """
        return network


class TeamOfMany(Team):
    """The team of the processes that torchrun started, over NCCL on GPUs and gloo on CPUs.

    When one process fails, its message is the only one: the others, which miss it, end without a word. Raises StppError
    where one was killed.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        self._store = dist.FileStore(os.environ[STORE], self.size)  # type: ignore[attr-defined]
        backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
        # As long as the others may have to wait for the slowest one's share of the val set.
        timeout = timedelta(hours=2)
        dist.init_process_group(backend, store=self._store, rank=self.rank, world_size=self.size, timeout=timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            dist.destroy_process_group()
        elif self._store.add("failed", 1) > 1:
            sys.exit(128 + error.signal if isinstance(error, Stopped) else 1)
        elif isinstance(error, dist.DistError) or "gloo" in str(error):
            raise StppError(
                "a process of this training was killed, often because the machine ran out of memory; raise "
                "runtime.train.memory, and run the workflow again: it goes on where the state was saved last"
            ) from None

    def sum(self, values: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(values)
        return total

    def largest(self, *values: int) -> Sequence[int]:
        # Between the CPUs: a GPU would have to finish all that is queued before it answers.
        found = torch.tensor(values)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return [int(value) for value in found]

    def gather(self, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values)
        return torch.stack(parts)

    def together(self, network: nn.Module) -> nn.Module:
        if self.rank:
            torch.manual_seed(torch.initial_seed() + self.rank)
        if self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        else:
            for layer in network.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.__class__ = BatchNormOfTeam
        # All parameters are used. But with this switch the gradients are summed in the same groups from the first
        # iteration on, and so in the same order after a stop.
        return DistributedDataParallel(network, find_unused_parameters=True)


def team_of(runtime: Runtime) -> Team:
    """The team that this process belongs to: the one that torchrun started, or itself alone."""
    if STORE not in os.environ:
        return Team(pick_device(lease(runtime.gpus, runtime.device)))
    if runtime.device == "cpu":
        return TeamOfMany(torch.device("cpu"))
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return TeamOfMany(device)


class BatchNormOfTeam(nn.BatchNorm2d):
    """Batch norm over the batch of the whole team, on CPUs, where torch's SyncBatchNorm refuses.

    The processes may have different numbers of pixels. The running statistics are those of one process: the variance is
    the unbiased one of the whole batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`x` float (N, C, H, W) of this process -> the same shape and dtype."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = values.new_tensor([values.numel() / values.shape[1]])
        sums: Tensor = _Sum.apply(torch.cat([values.sum((0, 2, 3)), count]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centered = values - mean[:, None, None]
        variance: Tensor = _Sum.apply(centered.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)  # type: ignore[union-attr, arg-type]
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)  # type: ignore[union-attr, arg-type]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        factor = self.weight * torch.rsqrt(variance + self.eps)
        return (centered * factor[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over the processes. Each computes a loss of the same value, so their gradients are summed in turn."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return _summed(values)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(values: Tensor) -> Tensor:
    total = values.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
